"""From predictions to figures: the whole of `metrics.json`, and the files of an evaluation.

In comes a table with a row a film (`label`, `probability`, optional `patient_id`, `source` and others), from a model
(`predicting`) or from any CSV (`predictions`); out go the dict of all figures and, written, `predictions.csv`,
`metrics.json` and the figures. `table` prints the dict and the report reads the files.

Where films come from several sources, each is measured alone and the unweighted mean of the sources leads; figures over
all films together are there too, but they also reward recognising the source.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.evaluate.figures import draw_evaluation
from cxrtriage.evaluate.intervals import CONFIDENCE, RESAMPLES, mean_over_groups
from cxrtriage.evaluate.measures import ECE_BINS, Measuring, as_entries, measure
from cxrtriage.evaluate.predictions import check_predictions
from cxrtriage.evaluate.subgroups import subgroup_figures
from cxrtriage.metrics import shift_prevalence
from cxrtriage.records import OperatingPoint


def evaluate_predictions(
    table: pd.DataFrame,
    *,
    threshold: float = 0.5,
    prevalence: float | None = None,
    calibrated_at: float | None = None,
    operating_points: Sequence[OperatingPoint] = (),
    decision: str | None = None,
    notes: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure predictions against the truth.

    Parameters
    ----------
    table : one row a film: `label` 0/1/2 or names, `probability` of abnormal in [0, 1]; optional `patient_id`,
        `source`, `p_emergent`, `view_position`, `sex`, `age`, `age_group`, `finding`
    threshold : abnormal when `probability >= threshold`, after any shift of the prevalence
    prevalence : share of abnormal films where the model is to be used, in (0, 1); shifts the probabilities, and PPV,
        NPV, Brier score, average precision and calibration assume it. None: the films' own
    calibrated_at : share of abnormal films at which the probabilities were calibrated; None: that of these films
    operating_points : thresholds chosen on validation films, applied here; a shift of the prevalence moves them along
    decision : name of the operating point that decides, in place of `threshold`
    notes : sentences to be told along with the figures, such as which operating points could not be determined
    resamples, seed : of the bootstrap over patients

    Returns
    -------
    dict
        `settings`; `leads` ("all" or "mean_over_sources"); `every_film` and `one_film_a_patient` (None where no patient
        has two), each with `sources` (name -> block), `mean_over_sources` (None with one source) and `all` (block);
        `subgroups`; `notes`. A block is described at `measures.measure`. None stands for "not defined".

    Raises
    ------
    SourceError
        If the table lacks a column or has a value that it cannot have.
    ConfigError
        If the prevalence is not inside (0, 1).

    Examples
    --------
    >>> study = pd.DataFrame({"label": np.repeat([0, 0, 1, 1], [138, 55, 88, 430])})
    >>> study["probability"] = np.repeat([0.2, 0.8, 0.2, 0.8], [138, 55, 88, 430])
    >>> metrics = evaluate_predictions(study)
    >>> metrics["every_film"]["all"]["confusion"]
    [[138, 55], [88, 430]]
    >>> round(leading_figures(metrics)["accuracy"]["estimate"], 3)
    0.799
    """
    films = check_predictions(table)
    points = {point.name: point.threshold for point in operating_points}
    threshold = points.get(decision or "", threshold)
    notes = [note for note in notes if note]
    if prevalence is None:
        calibrated_at = None
    else:
        calibrated_at = float((films["label"] > 0).mean()) if calibrated_at is None else calibrated_at
        if not 0 < prevalence < 1:
            raise ConfigError(f"prevalence is {prevalence:g}, expected a share between 0 and 1, ends left out.")
        if not 0 < calibrated_at < 1:
            raise SourceError(
                "cannot shift the probabilities to another prevalence: the films they were calibrated on are all of "
                "one class, or, where nothing is known of those, these films are. Leave the prevalence out."
            )
        films["probability"] = shift_prevalence(films["probability"].to_numpy(), calibrated_at, prevalence)
        points = {name: float(shift_prevalence(at, calibrated_at, prevalence)) for name, at in points.items()}
        threshold = points.get(decision or "", threshold)
        notes.append(
            f"Probabilities are shifted from a share of {calibrated_at:.3f} abnormal films to {prevalence:.3f}, which "
            "PPV, NPV, Brier score, average precision and calibration assume; accuracy and F1 are of the films given."
        )
    if "patient_id" not in table.columns:
        notes.append(
            "There is no patient_id, so each film counts as its own patient; if patients have several films, the "
            "intervals are too narrow."
        )
    several_sources = len(films["source"].unique()) > 1
    if several_sources:
        notes.append(
            "The films come from several sources. Each is measured alone, and the unweighted mean of those with both "
            "classes leads: figures over all films together also reward recognising the source."
        )
    films = films.sort_values("probability", kind="stable", ignore_index=True)
    one_film = films.sample(frac=1, random_state=seed).drop_duplicates(["source", "patient_id"]).sort_index()
    how = Measuring(threshold, prevalence, points, resamples, seed)
    return {
        "settings": {
            "threshold": threshold,
            "decision": decision if decision in points else None,
            "operating_points": points,
            "prevalence": prevalence,
            "calibrated_at": calibrated_at,
            "confidence": CONFIDENCE,
            "resamples": resamples,
            "seed": seed,
            "ece_bins": ECE_BINS,
        },
        "leads": "mean_over_sources" if several_sources else "all",
        "every_film": _measure_sources(films, how),
        "one_film_a_patient": _measure_sources(one_film, how) if len(one_film) < len(films) else None,
        "subgroups": subgroup_figures(films, resamples=resamples, seed=seed),
        "notes": notes,
    }


def leading_figures(metrics: dict[str, Any], of: str = "every_film") -> dict[str, dict[str, float | None]]:
    """Return the figures that lead: those of all films, or the mean over sources where there are several.

    Parameters
    ----------
    metrics : from `evaluate_predictions`
    of : "every_film" or "one_film_a_patient"

    Returns
    -------
    dict
        Name -> estimate, lower, upper.
    """
    figures: dict[str, dict[str, float | None]] = metrics[of][metrics["leads"]]["figures"]
    return figures


def write_evaluation(table: pd.DataFrame, metrics: dict[str, Any], out: Path) -> None:
    """Write `predictions.csv`, `metrics.json` and the figures into a folder.

    Parameters
    ----------
    table : the predictions that were measured. All columns are written; `probability` as measured, so shifted where a
        prevalence was given, and `decision` as made at the measured threshold
    metrics : from `evaluate_predictions`; further entries, such as the hash of the model, are written along
    out : folder, made if need be
    """
    films = measured_films(table, metrics)
    first = [name for name in ("path", "label", "probability", "decision") if name in films.columns]
    with replacing(out / "predictions.csv") as temporary:
        films[first + [name for name in films.columns if name not in first]].to_csv(temporary, index=False)
    draw_evaluation(films, metrics, out)
    content = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(out / "metrics.json") as temporary:  # last: where it is, the rest is there too
        temporary.write_text(content + "\n", encoding="utf-8")


def measured_films(table: pd.DataFrame, metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the predictions as they were measured: regular, shifted to the stated prevalence, with `decision`.

    Parameters
    ----------
    table : as given to `evaluate_predictions`
    metrics : what came back
    """
    settings = metrics["settings"]
    films = check_predictions(table)
    if settings["prevalence"] is not None:
        films["probability"] = shift_prevalence(
            films["probability"].to_numpy(), settings["calibrated_at"], settings["prevalence"]
        )
    films["decision"] = np.where(films["probability"] >= settings["threshold"], "abnormal", "normal")
    return films


def _measure_sources(films: pd.DataFrame, how: Measuring) -> dict[str, Any]:
    """Measure all films, and where there are several sources each of them, and the mean of those with both classes."""
    together, _, _ = measure(films, how)
    names = sorted(films["source"].unique())
    if len(names) == 1:
        return {"sources": {names[0]: together}, "mean_over_sources": None, "all": together}
    measured = {  # each source has its own seed, so that their resamples are independent
        name: measure(films[films["source"] == name], replace(how, seed=how.seed + number))
        for number, name in enumerate(names, start=1)
    }
    both_classes = [name for name, (block, _, _) in measured.items() if 0 < block["abnormal"] < block["films"]]
    mean = mean_over_groups([measured[name][1:] for name in both_classes or names])
    return {
        "sources": {name: block for name, (block, _, _) in measured.items()},
        "mean_over_sources": {"sources": both_classes, **as_entries(mean, how)},
        "all": together,
    }
