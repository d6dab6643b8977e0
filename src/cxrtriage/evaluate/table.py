"""The figures of an evaluation in words and tables, for a terminal of 80 columns.

In comes the dict of `evaluation.evaluate_predictions` (or `metrics.json` read back), with or without the audit; out
goes what `rich` prints. The command line shows it.
"""

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cxrtriage.records import LABEL_NAMES

Figure = dict[str, float | None]

ROWS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "f1_normal": "F1 of normal",
    "f1_abnormal": "F1 of abnormal",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "emergent_sensitivity": "emergent films flagged",
    "emergent_auroc": "AUROC, emergent v rest",
    "brier_score": "Brier score (best 0)",
    "calibration_slope": "calibration slope (best 1)",
    "calibration_intercept": "calibration intercept (0)",
    "ece": "ECE",
}
AUDIT_COLUMNS = {
    "network": "network",
    "baseline": "no anatomy",
    "lungs_blanked": "lungs blanked",
    "border_only": "border only",
}


def metrics_table(metrics: dict[str, Any]) -> RenderableType:
    """Lay the figures of an evaluation out for the terminal.

    Parameters
    ----------
    metrics : from `evaluation.evaluate_predictions`, or read from `metrics.json`; with "audit" where there was one

    Examples
    --------
    >>> import pandas as pd
    >>> from rich.console import Console
    >>> from cxrtriage.evaluate.evaluation import evaluate_predictions
    >>> metrics = evaluate_predictions(pd.DataFrame({"label": [0, 1, 1], "probability": [0.2, 0.7, 0.4]}))
    >>> Console(width=80).print(metrics_table(metrics))  # doctest: +ELLIPSIS
    3 films of 3 patients: 2 abnormal, 1 normal. ...
    """
    parts: list[RenderableType] = [Text(_heading(metrics))]
    if metrics["every_film"]["mean_over_sources"]:
        parts.append(_sources(metrics))
    parts += [_confusion(metrics), _figures(metrics)]
    if metrics["settings"]["operating_points"]:
        parts.append(_points(metrics))
    if metrics["subgroups"]:
        parts.append(_subgroups(metrics))
    if "audit" in metrics:
        parts.append(Group(_audit(metrics["audit"]), Text(metrics["audit"]["verdict"], style="bold")))
    if notes := _notes(metrics):
        parts.append(Group(*(Text(f"- {note}") for note in notes)))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _heading(metrics: dict[str, Any]) -> str:
    block, settings = metrics["every_film"]["all"], metrics["settings"]
    emergent = f" ({block['emergent']} of them emergent)" if block["emergent"] else ""
    decides = f", chosen for {settings['decision']}" if settings["decision"] else ""
    patients = f"{block['patients']} patient{'s' if block['patients'] > 1 else ''}"
    return (
        f"{block['films']} films of {patients}: {block['abnormal']} abnormal{emergent}, "
        f"{block['normal']} normal. Abnormal from a probability of {settings['threshold']:.3f}{decides}."
    )


def _sources(metrics: dict[str, Any]) -> Table:
    """Each source beside the others, and their mean."""
    every_film, audit = metrics["every_film"], metrics.get("audit")
    mean = every_film["mean_over_sources"]
    columns = ["films", "abn.", "AUROC", *(["no anatomy"] if audit else []), "sens.", "spec."]
    table = _table("By source", "", *columns)

    def add(name: str, counts: list[str], figures: dict[str, Figure], audited: dict[str, Figure], style: str) -> None:
        baseline = [_value(audited.get("baseline"))] if audit else []
        rates = [_value(figures[rate]) for rate in ("sensitivity", "specificity")]
        table.add_row(escape(name), *counts, _with_interval(figures["auroc"]), *baseline, *rates, style=style)

    for name, block in every_film["sources"].items():
        counts = [str(block["films"]), f"{block['abnormal'] / block['films']:.0%}"]
        add(name, counts, block["figures"], audit["sources"].get(name, {}) if audit else {}, "")
    add("mean of the sources", ["", ""], mean["figures"], audit["mean_over_sources"] or {} if audit else {}, "bold")
    return table


def _confusion(metrics: dict[str, Any]) -> Table:
    """The matrix as the 2017 study lays it out, and with three classes where there are."""
    block = metrics["every_film"]["all"]
    three = block["three_classes"]
    matrix, names = (three["confusion"], three["classes"]) if three else (block["confusion"], LABEL_NAMES[:2])
    together = ", all sources together" if metrics["every_film"]["mean_over_sources"] else ""
    table = _table(f"Confusion matrix{together}", "", *(f"predicted {name}" for name in names))
    for name, row in zip(names, matrix, strict=True):
        table.add_row(f"truth {name}", *map(str, row))
    return table


def _figures(metrics: dict[str, Any]) -> Table:
    """All figures that lead, with intervals, and again with one film a patient."""
    every_film, one_film = metrics["every_film"], metrics["one_film_a_patient"]
    mean = every_film["mean_over_sources"]
    figures = every_film[metrics["leads"]]["figures"]
    again = one_film[metrics["leads"]]["figures"] if one_film else {}
    title = f"Mean of {len(mean['sources'])} sources" if mean else "Figures"
    table = _table(title, "", "", "95 % interval", *(["one film a patient"] if one_film else []))
    beneath = _beneath(metrics)
    for name, label in _labels(metrics).items():
        if name in figures:
            repeated = [_with_interval(again.get(name))] if one_film else []
            table.add_row(label, _value(figures[name]), _interval(figures[name]), *repeated)
        if name in beneath:
            what, figure = beneath[name]
            table.add_row(f"  {what}", _value(figure), _interval(figure), style="dim")
    return table


def _labels(metrics: dict[str, Any]) -> dict[str, str]:
    """Return what each figure is called, with the prevalence and the bins that it assumes."""
    settings, bins = metrics["settings"], metrics["settings"]["ece_bins"]
    each_its_own = settings["prevalence"] is None and metrics["leads"] != "all"
    at = "own prevalence" if each_its_own else f"prevalence {metrics['every_film']['all']['prevalence']:.3f}"
    return ROWS | {"ppv": f"PPV at {at}", "npv": f"NPV at {at}", "ece": f"ECE of {bins} bins (best 0)"}


def _beneath(metrics: dict[str, Any]) -> dict[str, tuple[str, Figure | None]]:
    """Return what stands beneath a figure, so that nobody reads it without."""
    rows: dict[str, tuple[str, Figure | None]] = {}
    if audit := metrics.get("audit"):
        leading = audit["mean_over_sources"] or next(iter(audit["sources"].values()))
        rows["auroc"] = ("baseline, no anatomy", leading.get("baseline"))
    if metrics["leads"] == "all":
        block = metrics["every_film"]["all"]
        for name, what, value in (
            ("average_precision", "by chance", block["prevalence"]),
            ("accuracy", "always the commoner", block["majority_accuracy"]),
        ):
            rows[name] = (what, {"estimate": value, "lower": None, "upper": None})
    return rows


def _points(metrics: dict[str, Any]) -> RenderableType:
    """Each operating point in plain words."""
    lines: list[RenderableType] = [Text("Operating points, chosen on validation films and applied here", style="bold")]
    for point in metrics["every_film"][metrics["leads"]]["operating_points"]:
        decides = " (decides)" if point["name"] == metrics["settings"]["decision"] else ""
        flagged, flagged_too = _of_100(point["sensitivity"]), _of_100(_complement(point["specificity"]))
        sentence = (
            f"[bold]{point['name']}[/bold]{decides}, abnormal from {point['threshold']:.3f}: of 100 abnormal films "
            f"{flagged} are flagged, of 100 normal ones {flagged_too} too."
        )
        lines.append(Padding(sentence, (0, 0, 0, 2)))
    return Group(*lines)


def _subgroups(metrics: dict[str, Any]) -> Table:
    """AUROC by view, sex, age and finding."""
    several = metrics["leads"] != "all"
    table = _table("AUROC by subgroup", *(["source"] if several else []), "", "", "films", "abnormal", "AUROC")
    for column in table.columns[: 3 if several else 2]:
        column.justify = "left"
    above = ("", "")
    for row in metrics["subgroups"]:
        source = escape(row["source"]) if row["source"] != above[0] else ""
        column_name = row["column"].replace("_", " ") if (row["source"], row["column"]) != above else ""
        figure = _with_interval(row["auroc"]) if row["auroc"] else "too few patients"
        table.add_row(
            *([source] if several else []),
            column_name,
            escape(row["value"]),
            str(row["films"]),
            str(row["abnormal"]),
            figure,
        )
        above = (row["source"], row["column"])
    return table


def _audit(audit: dict[str, Any]) -> Table:
    """What the network scores beside what can be had without anatomy."""
    title = f"Shortcut audit: AUROC on {audit['films']} {audit['split']} films"
    if len(audit["sources"]) > 1:
        table = _table(title, "", *AUDIT_COLUMNS.values())
        for name, block in audit["sources"].items():
            table.add_row(escape(name), *(_value(block.get(kind)) for kind in AUDIT_COLUMNS))
        mean = audit["mean_over_sources"] or {}
        table.add_row("mean of the sources", *(_value(mean.get(kind)) for kind in AUDIT_COLUMNS), style="bold")
        return table
    (block,) = audit["sources"].values()
    table = _table(title, "", "AUROC", "95 % interval")
    for kind, label in (
        ("network", "network"),
        ("baseline", f"no anatomy: {audit['facts']} facts of file, detail, border, brightness"),
        ("telling_fact", f"no anatomy: {audit['telling_fact']} alone"),
        ("lungs_blanked", "network, lungs blanked"),
        ("border_only", "network, only the border kept"),
    ):
        if kind in block:
            table.add_row(label, _value(block[kind]), _interval(block[kind]))
    return table


def _notes(metrics: dict[str, Any]) -> list[str]:
    """Return all notes, those of a source with its name before."""
    every_film = metrics["every_film"]
    if metrics["leads"] == "all":
        return [*metrics["notes"], *every_film["all"]["notes"]]
    of_sources = [f"{name}: {note}" for name, block in every_film["sources"].items() for note in block["notes"]]
    return [*metrics["notes"], *of_sources]


def _table(title: str, *columns: str) -> Table:
    """Return an empty table in the house's style: words to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", header_style="dim")
    return table


def _value(figure: Figure | None) -> str:
    """Return a figure to three decimals, a dash where not defined."""
    return "–" if not figure or figure["estimate"] is None else f"{figure['estimate']:.3f}".replace("-", "−")


def _interval(figure: Figure | None) -> str:
    """Return "0.833–0.853", or "−0.200 to 0.100" where a sign would be lost; a dash where not defined."""
    if not figure or figure["lower"] is None or figure["upper"] is None:
        return "–"
    between = " to " if figure["lower"] < 0 else "–"
    return f"{figure['lower']:.3f}{between}{figure['upper']:.3f}".replace("-", "−")


def _with_interval(figure: Figure | None) -> str:
    """Return "0.843 (0.833–0.853)", a dash where not defined."""
    interval = _interval(figure)
    return _value(figure) if interval == "–" else f"{_value(figure)} ({interval})"


def _complement(figure: Figure) -> Figure:
    """Return the share that is left of a share."""
    estimate, lower, upper = (None if value is None else 1 - value for value in figure.values())
    return {"estimate": estimate, "lower": upper, "upper": lower}


def _of_100(figure: Figure) -> str:
    """Return "96 (93–98)" of a share."""
    if figure["estimate"] is None:
        return "an unknown number"
    interval = "" if figure["lower"] is None else f" ({100 * figure['lower']:.0f}–{100 * (figure['upper'] or 0):.0f})"
    return f"{100 * figure['estimate']:.0f}{interval}"
