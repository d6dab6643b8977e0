"""The model card's tables, from what `evaluate_model` and `shortcut_audit` wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

SUBGROUPS = ("view_position", "sex", "age_group")


def tables(metrics: Mapping[str, Any], audit: Mapping[str, Any]) -> str:
    """Return Markdown: sources with their baselines, calibration, operating points and subgroups, on the test films."""
    blocks: Mapping[str, Any] = metrics["every_film"]["sources"]
    without_anatomy = ("baseline", "lungs_blanked", "border_only")
    told = [
        [
            name,
            f"{block['films']:,} of {block['patients']:,}",
            f"{block['prevalence']:.0%}",
            _interval(block["figures"]["auroc"]),
            *(_interval(audit["sources"][name].get(kind)) for kind in without_anatomy),
        ]
        for name, block in blocks.items()
    ]
    calibrated = [
        [name, *(_interval(block["figures"][kind]) for kind in ("calibration_slope", "calibration_intercept"))]
        for name, block in blocks.items()
    ]
    points = [
        [name, f"{point['name']}, p >= {point['threshold']:.2f}"]
        + [_interval(point[kind]) for kind in ("sensitivity", "specificity")]
        for name, block in blocks.items()
        for point in block["operating_points"]
    ]
    groups = [
        [group["source"], group["value"], group["films"], group["abnormal"], _interval(group["auroc"])]
        for group in metrics["subgroups"]
        if group["column"] in SUBGROUPS
    ]
    return "\n\n".join(
        [
            _table(["source", "films of patients", "abnormal", "AUROC", "no anatomy", "lungs blanked", "border"], told),
            _table(["source", "calibration slope", "intercept"], calibrated),
            _table(["source", "operating point", "sensitivity", "specificity"], points),
            _table(["source", "group", "films", "abnormal", "AUROC"], groups),
        ]
    )


def probe_table(probe: Sequence[tuple[str, float, float, float]]) -> str:
    """Return Markdown: how well the source is told from what is looked at, of `probe.source_probe`."""
    rows = [[name, f"{right:.2f} ({lower:.2f} to {upper:.2f})"] for name, right, lower, upper in probe]
    return _table(["the source told from", "balanced accuracy (chance 0.33)"], rows)


def _interval(figure: Mapping[str, float | None] | None) -> str:
    if figure is None or figure["estimate"] is None:
        return "too few"
    if figure["lower"] is None:
        return f"{figure['estimate']:.2f}"
    return f"{figure['estimate']:.2f} ({figure['lower']:.2f} to {figure['upper']:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
