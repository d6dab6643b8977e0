"""The section on results: every figure with its interval, the curves, thresholds in plain words, and subgroups.

In comes a `Run`, out goes what `templates/results.html.j2` shows.
"""

from typing import Any

from cxrtriage import metrics as measures
from cxrtriage.evaluate.evaluation import leading_figures
from cxrtriage.evaluate.subgroups import MINIMUM_PATIENTS
from cxrtriage.evaluate.table import ROWS
from cxrtriage.records import LABEL_NAMES
from cxrtriage.report.charts import calibration_chart, curve_charts, scores_chart
from cxrtriage.report.head import decision_in_words, leading_audit
from cxrtriage.report.reading import Run
from cxrtriage.report.svg import range_mark
from cxrtriage.report.words import Entry, complement, count, interval, of_100, percent, value, with_interval

PREVALENCES = (0.01, 0.05, 0.2)  # screening, primary care, a hospital's ward: where else a flag may be read
COLUMNS = {"view_position": "View", "sex": "Sex", "age_group": "Age group", "age": "Age", "finding": "Finding"}


def results(run: Run) -> dict[str, Any]:
    """Return the section."""
    metrics = run.metrics
    block = metrics["every_film"]["all"]
    calibration = calibration_chart(run.predictions, metrics)
    return {
        "several": metrics["leads"] != "all",
        "confusion": _confusion(block),
        "figures": _figure_rows(metrics),
        "one_film": metrics["one_film_a_patient"] is not None,
        "curves": curve_charts(run.predictions, metrics),
        "probabilities": [
            *([calibration] if calibration else []),
            scores_chart(run.predictions, metrics["settings"]["threshold"]),
        ],
        "calibration": calibration_in_words(leading_figures(metrics)),
        "points": _points(metrics),
        "worth": _worth(metrics),
        "none_missed": leading_figures(metrics)["sensitivity"]["estimate"] == 1,
        "sources": _source_rows(metrics),
        "subgroups": _subgroup_rows(metrics),
        "low": _scale(metrics),
        "minimum": MINIMUM_PATIENTS,
    }


def calibration_in_words(figures: dict[str, dict[str, float | None]]) -> list[str]:
    """Say whether the probabilities can be taken at their word, as far as the intervals allow.

    Parameters
    ----------
    figures : those that lead
    """
    slope, intercept, error = (figures[name] for name in ("calibration_slope", "calibration_intercept", "ece"))
    sentences = []
    if error["estimate"] is not None:
        sentences.append(
            f"On average the probability is {100 * error['estimate']:.0f} percentage points away from the share of "
            "films that is abnormal."
        )
    if slope["lower"] is not None and slope["upper"] is not None:
        sentences.append(
            "The probabilities are too timid: low ones should be lower, high ones higher (slope above 1)."
            if slope["lower"] > 1
            else "The probabilities are too extreme: low ones should be higher, high ones lower (slope below 1)."
            if slope["upper"] < 1
            else "They are neither shown to be too timid nor too extreme (the slope's interval holds 1)."
        )
    if intercept["lower"] is not None and intercept["upper"] is not None:
        sentences.append(
            "On the whole they are too low."
            if intercept["lower"] > 0
            else "On the whole they are too high."
            if intercept["upper"] < 0
            else "On the whole they are neither shown to be too high nor too low (the intercept's interval holds 0)."
        )
    return sentences


def _confusion(block: dict[str, Any]) -> dict[str, Any]:
    """Return the matrix, each cell with its share of the row and how strongly to shade it."""
    three = block["three_classes"]
    matrix, names = (three["confusion"], three["classes"]) if three else (block["confusion"], LABEL_NAMES[:2])
    rows = []
    for name, row in zip(names, matrix, strict=True):
        whole = max(sum(row), 1)
        cells = [
            {"films": count(films), "share": percent(films / whole), "shade": round(films / whole, 2)} for films in row
        ]
        rows.append({"name": name, "cells": cells})
    return {"names": names, "rows": rows}


def _figure_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return each figure with interval and, beneath it, what could be had for nothing."""
    leads, block = metrics["leads"], metrics["every_film"]["all"]
    figures, one_film = leading_figures(metrics), metrics["one_film_a_patient"]
    again = one_film[leads]["figures"] if one_film else {}
    at = f"where {percent(block['prevalence'])} of films are abnormal"
    if leads != "all" and metrics["settings"]["prevalence"] is None:
        at = "at each source's own share of abnormal films"
    labels = ROWS | {
        "average_precision": f"average precision, {at}",
        "ppv": f"PPV, {at}",
        "npv": f"NPV, {at}",
        "ece": f"ECE of {metrics['settings']['ece_bins']} bins (best 0)",
    }
    beneath: dict[str, tuple[str, str, str]] = {}
    if audit := metrics.get("audit"):
        baseline = leading_audit(audit).get("baseline")
        beneath["auroc"] = ("without anatomy", value(baseline), interval(baseline))
    if leads == "all":
        beneath["average_precision"] = ("by chance", f"{block['prevalence']:.3f}", "")
        beneath["accuracy"] = ("always the commoner class", f"{block['majority_accuracy']:.3f}", "")
    rows = []
    for name, label in labels.items():
        if name in figures:
            rows.append(
                {
                    "label": label,
                    "value": value(figures[name]),
                    "interval": interval(figures[name]) or "–",
                    "again": with_interval(again.get(name)),
                    "beneath": "",
                }
            )
        if name in beneath and name in figures:
            label, plain, between = beneath[name]
            rows.append({"label": label, "value": plain, "interval": between, "again": "", "beneath": "yes"})
    return rows


def _points(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each operating point in plain words; the threshold in use comes first where it is none of them."""
    settings, figures = metrics["settings"], leading_figures(metrics)
    points = [point | {"why": decision_in_words(point["name"])} for point in _operating_points(metrics)]
    if settings["decision"] is None:
        rates = {kind: figures[kind] for kind in ("sensitivity", "specificity")}
        in_use = {"name": None, "threshold": settings["threshold"], "why": "the threshold in use", **rates}
        points.insert(0, in_use)
    return [
        {
            "name": point["name"] or f"{point['threshold']:g}",
            "why": point["why"],
            "decides": point["name"] == settings["decision"],
            "threshold": f"{point['threshold']:.3f}",
            "found": of_100(point["sensitivity"]),
            "alarms": of_100(complement(point["specificity"])),
        }
        for point in points
    ]


def _operating_points(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = metrics["every_film"][metrics["leads"]]["operating_points"]
    return points


def _worth(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return what a flag and its absence are worth at several shares of abnormal films."""
    figures = leading_figures(metrics)
    found, cleared = figures["sensitivity"]["estimate"], figures["specificity"]["estimate"]
    if found is None or cleared is None:
        return []
    own = metrics["every_film"]["all"]["prevalence"]
    whose = "these films" if metrics["settings"]["prevalence"] is None else "as stated"
    rows = []
    for share in sorted({*PREVALENCES, own}):
        flagged, unflagged = (float(of(found, cleared, share)) for of in (measures.ppv, measures.npv))
        rows.append(
            {
                "prevalence": percent(share) + (f" ({whose})" if share == own else ""),
                "ppv": "–" if flagged != flagged else percent(flagged),  # nan where nothing is flagged
                "npv": "–" if unflagged != unflagged else percent(unflagged),
            }
        )
    return rows


def _source_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a source where there are several, and their mean."""
    mean = metrics["every_film"]["mean_over_sources"]
    if not mean:
        return []
    low = _scale(metrics)
    rows = [
        {
            "name": name,
            "films": count(block["films"]),
            "abnormal": percent(block["abnormal"] / block["films"]),
            **_rates(block["figures"], low),
        }
        for name, block in metrics["every_film"]["sources"].items()
    ]
    return [*rows, {"name": "mean of the sources", "films": "", "abnormal": "", **_rates(mean["figures"], low)}]


def _rates(figures: dict[str, Entry], low: float) -> dict[str, Any]:
    return {
        "auroc": with_interval(figures["auroc"]),
        "mark": _mark(figures["auroc"], low),
        "sensitivity": with_interval(figures["sensitivity"], 2),
        "specificity": with_interval(figures["specificity"], 2),
    }


def _subgroup_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return subgroups under the name of their column, and of their source where there are several."""
    low, several = _scale(metrics), metrics["leads"] != "all"
    groups: list[dict[str, Any]] = []
    for row in metrics["subgroups"]:
        title = COLUMNS.get(row["column"], row["column"]) + (f", {row['source']}" if several else "")
        if not groups or groups[-1]["title"] != title:
            groups.append({"title": title, "rows": []})
        groups[-1]["rows"].append(
            {
                "value": row["value"].replace("_", " "),
                "films": count(row["films"]),
                "abnormal": count(row["abnormal"]),
                "auroc": with_interval(row["auroc"]) if row["auroc"] else None,
                "mark": _mark(row["auroc"], low) if row["auroc"] else None,
            }
        )
    return groups


def _mark(figure: Entry, low: float) -> Any:
    if figure["estimate"] is None:
        return None
    return range_mark(figure["estimate"], figure["lower"], figure["upper"], low, 1.0, 0.5, "s0")


def _scale(metrics: dict[str, Any]) -> float:
    """Return where the scale of AUROCs begins: the tenth below the lowest interval, 0.4 at the highest."""
    figures = [block["figures"]["auroc"] for block in metrics["every_film"]["sources"].values()]
    figures += [row["auroc"] for row in metrics["subgroups"] if row["auroc"]]
    lowest = min((figure["lower"] for figure in figures if figure["lower"] is not None), default=0.4)
    return max(0.0, min(0.4, int(10 * lowest) / 10))
