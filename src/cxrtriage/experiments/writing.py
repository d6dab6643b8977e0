"""The pages of an experiment: results.json, table.csv and results.md in its folder, and README.md above them all.

In come the content of `results.json` and the captions of figures; the pages are Markdown that can be committed as it
is. Nothing in them names a path, a film or a patient.
"""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from cxrtriage import __version__
from cxrtriage.atomic import replacing

PLAN, RESULTS, PAGE = "plan.json", "results.json", "results.md"
ORDER = ("volume", "architecture", "resolution", "split", "recipe", "visualise")
HEADINGS = {
    "arm": "",
    "seeds": "seeds",
    "training_films": "training films",
    "films_seen": "films seen",
    "auroc": "AUROC (95 %)",
    "above_no_anatomy": "above no anatomy (95 %)",
    "accuracy": "accuracy",
    "majority_accuracy": "commoner class",
    "f1_normal": "F1 normal",
    "f1_abnormal": "F1 abnormal",
    "swing": "swing",
    "seconds": "minutes a run",
}
WHAT_VERDICTS_MEAN = (
    "A claim *stands* where the whole 95 % interval of the difference lies within ±0.02 AUROC, *falls* where it lies "
    "wholly outside, and otherwise *cannot be told with this much data*; `docs/experiments.md` of cxrtriage says how."
)
LEGEND = (
    "Means over seeds; intervals over patients and seeds. *Above no anatomy*: AUROC less that of the baseline that "
    "sees only file, sharpness, border and brightness. *Commoner class*: the accuracy of always naming it. Accuracy "
    "and F1 from a probability of 0.5. *Swing*: mean change of validation accuracy from epoch to epoch in the second "
    "half."
)


def write_results(results: dict[str, Any], captions: list[tuple[str, str]], out: Path) -> None:
    """Write an experiment's results and its page.

    Parameters
    ----------
    results : from `results.compute_results`
    captions : figures' names and captions, from `figures.draw_experiment`
    out : folder of the experiments
    """
    folder = out / results["kind"]
    _write(folder / RESULTS, json.dumps(_without_nan(results), indent=1) + "\n")
    flat = [
        {name: value for name, value in row.items() if not isinstance(value, dict | list)}
        | {
            f"{name}_{part}": number
            for name in ("auroc", "above_no_anatomy")
            for part, number in (row[name] or {}).items()
        }
        for row in results["table"]
    ]
    with replacing(folder / "table.csv") as temporary:
        pd.DataFrame(flat).to_csv(temporary, index=False, float_format="%.5g")
    judged = (
        f"{results['method']} Judged on {results['films']:,} {results['judged_on']} films of {results['patients']:,} "
        f"patients, {results['abnormal']:,} of them abnormal."
    )
    lines = [
        f"# {results['title']}",
        "",
        *(f"- {row['sentence']}" for row in results["differences"]),
        *(f"- {remark}" for remark in results["remarks"]),
        "",
        judged,
        "",
        *_table(results["table"]),
        "",
        LEGEND,
        "",
        *_second_computation(results["differences"]),
        *_figures(captions),
        *_command(results["command"]),
    ]
    _write(folder / PAGE, "\n".join(lines))


def write_page(
    kind: str, title: str, paragraphs: list[str], captions: list[tuple[str, str]], command: str, out: Path
) -> None:
    """Write the page of an experiment that has no table.

    Parameters
    ----------
    kind, title : of the experiment
    paragraphs : text
    captions : figures' names and captions
    command : that made it
    out : folder of the experiments
    """
    lines = [
        f"# {title}",
        "",
        *(line for text in paragraphs for line in (text, "")),
        *_figures(captions),
        *_command(command),
    ]
    _write(out / kind / PAGE, "\n".join(lines))


def write_overview(out: Path, *, quick: bool) -> Path:
    """Put the pages of all experiments in a folder together.

    Parameters
    ----------
    out : folder of the experiments
    quick : whether they only show that everything runs

    Returns
    -------
    Path
        `README.md`
    """
    parts = ["# The study's experiments", ""]
    if quick:
        parts += ["**Made with --quick: a few films and epochs show that everything runs, and prove nothing.**", ""]
    parts += [WHAT_VERDICTS_MEAN, ""]
    for kind in ORDER:
        page = out / kind / PAGE
        if page.exists():
            text = page.read_text(encoding="utf-8").replace("](", f"]({kind}/")
            parts += [line.replace("# ", "## ", 1) if line.startswith("#") else line for line in text.splitlines()] + [
                ""
            ]
    parts.append(f"cxrtriage {__version__}")
    _write(out / "README.md", "\n".join(parts) + "\n")
    return out / "README.md"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table in Markdown."""
    lines = [f"| {' | '.join(HEADINGS.values())} |", f"|{'---|' * len(HEADINGS)}"]
    return lines + [f"| {' | '.join(_cell(name, row[name]) for name in HEADINGS)} |" for row in rows]


def _cell(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, dict):
        sign = "+" if name == "above_no_anatomy" else ""
        if value["lower"] is None:
            return f"{value['estimate']:{sign}.3f}".replace("-", "−")
        return f"{value['estimate']:{sign}.3f} ({value['lower']:{sign}.3f} to {value['upper']:{sign}.3f})".replace(
            "-", "−"
        )
    if name == "seconds":
        return f"{value / 60:.1f}"
    if name in ("training_films", "films_seen"):
        return f"{value:,.0f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _second_computation(differences: list[dict[str, Any]]) -> list[str]:
    """Return a table of the differences of single pairs of models by DeLong's method."""
    lines = ["Pairs of models of one seed, by DeLong's method (films taken as independent, models as given):", ""]
    lines += ["| comparison | difference by seed (95 %) |", "|---|---|"]
    for row in differences:
        pairs = "; ".join(_cell("above_no_anatomy", pair) for pair in row["delong"])
        lines.append(f"| {row['arm']} v {row['against']} | {pairs} |")
    return [*lines, ""]


def _figures(captions: list[tuple[str, str]]) -> list[str]:
    return [line for name, caption in captions for line in (f"![{caption}]({name}.png)", "", f"*{caption}*", "")]


def _command(command: str) -> list[str]:
    return ["```", command, "```", ""]


def _without_nan(value: Any) -> Any:
    """Return JSON with null in place of nan, which it does not know."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
