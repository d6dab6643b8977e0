"""The section on shortcuts: what the network scores beside what can be had without looking at the anatomy.

In comes a `Run`, out goes what `templates/audit.html.j2` shows.
"""

from typing import Any

from cxrtriage.report.head import leading_audit
from cxrtriage.report.reading import Run
from cxrtriage.report.svg import range_mark
from cxrtriage.report.words import count, with_interval

SERIES = {"network": "s0", "baseline": "s1", "telling_fact": "s1", "lungs_blanked": "s2", "border_only": "s2"}


def audit(run: Run) -> dict[str, Any] | None:
    """Return the section, or None where there was no audit."""
    found = run.metrics.get("audit")
    if not found:
        return None
    blocks = {name: block for name, block in found["sources"].items() if block["network"]["estimate"] is not None}
    if found["mean_over_sources"]:
        blocks = {f"mean of {len(blocks)} sources": found["mean_over_sources"]} | blocks
    low = _scale(blocks)
    return {
        "films": count(found["films"], f"{found['split']} film"),
        "learned": count(found["training_films"], "training film"),
        "verdict": found["verdict"],
        "difference": with_interval(leading_audit(found).get("network_less_baseline")),
        "blocks": [
            {"name": name if len(blocks) > 1 else "", "rows": _rows(block, found, low)}
            for name, block in blocks.items()
        ],
        "low": low,
    }


def _rows(block: dict[str, Any], found: dict[str, Any], low: float) -> list[dict[str, Any]]:
    """Return a bar each of the network, of what sees no anatomy, and of the network with films taken away."""
    labels = {
        "network": "The network, whole film",
        "baseline": f"No anatomy: {found['facts']} facts of file, sharpness, border and brightness",
        "telling_fact": f"No anatomy: one fact alone, {found['telling_fact']}",
        "lungs_blanked": "The network, lungs blanked",
        "border_only": "The network, only the border kept",
    }
    rows = []
    for kind, label in labels.items():
        if kind in block and block[kind]["estimate"] is not None:
            figure = block[kind]
            mark = range_mark(figure["estimate"], figure["lower"], figure["upper"], low, 1.0, 0.5, SERIES[kind])
            rows.append({"label": label, "auroc": with_interval(figure), "mark": mark, "leads": kind == "network"})
    return rows


def _scale(blocks: dict[str, dict[str, Any]]) -> float:
    """Return where the scale begins: the tenth below the lowest interval, 0.4 at the highest."""
    lowest = [block[kind]["lower"] for block in blocks.values() for kind in SERIES if kind in block]
    return max(0.0, min(0.4, int(10 * min((low for low in lowest if low is not None), default=0.4)) / 10))
