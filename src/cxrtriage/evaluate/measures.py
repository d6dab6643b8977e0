"""Every figure of one group of films, with intervals: all films, one source, or one film a patient.

In comes a regular table (see `predictions`) sorted by probability; out goes a dict that stands in `metrics.json` as it
is, and the bootstrap's replicates for whoever averages groups. `evaluation` puts the groups together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage import metrics
from cxrtriage.evaluate.calibration import calibration_slope_intercept
from cxrtriage.evaluate.intervals import RESAMPLES, Estimate, bootstrap, estimate_with_interval
from cxrtriage.records import LABEL_NAMES

ECE_BINS = 10
FEWEST_CLEARED = 0.1  # specificity below which a flag is as good as none


@dataclass(frozen=True)
class Measuring:
    """What is held the same over all groups.

    Parameters
    ----------
    threshold : float in [0, 1], abnormal when `probability >= threshold`
    prevalence : share of abnormal films to assume; None for the group's own
    operating_points : name -> threshold of further thresholds to try
    resamples, seed : of the bootstrap
    """

    threshold: float = 0.5
    prevalence: float | None = None
    operating_points: Mapping[str, float] = field(default_factory=dict)
    resamples: int = RESAMPLES
    seed: int = 0


def measure(films: pd.DataFrame, how: Measuring) -> tuple[dict[str, Any], dict[str, Estimate], dict[str, np.ndarray]]:
    """Measure one group of films.

    With a prevalence given, PPV and NPV assume it, and Brier score, average precision and the calibration figures count
    the films as if that share of them were abnormal. Confusion matrix, accuracy and F1 are of the films as given.

    Parameters
    ----------
    films : (N rows) from `check_predictions`, sorted by `probability`
    how : the settings

    Returns
    -------
    block : `films`, `patients`, `normal`, `abnormal` (emergent ones included), `emergent` (counts), `prevalence`,
        `confusion` (rows: truth normal, abnormal; columns: called normal, abnormal), `majority_accuracy`, `figures`
        (name -> estimate, lower, upper), `operating_points`, `three_classes` (or None) and `notes` (sentences)
    estimates : Estimate by figure; those of an operating point are called "<point>: sensitivity" and so on
    replicates : (R,) float64 by figure
    """
    label, probability = films["label"].to_numpy(), films["probability"].to_numpy()
    patients, truth = films["patient_id"].to_numpy(), films["label"].to_numpy() > 0
    p_emergent = films["p_emergent"].to_numpy() if "p_emergent" in films.columns and (label == 2).any() else None
    called = probability >= how.threshold
    class_weight = metrics.prevalence_weight(truth, how.prevalence)

    def figures(weight: np.ndarray | None) -> dict[str, Any]:
        matrix = metrics.confusion_matrix(truth, called, weight)
        found, cleared = metrics.sensitivity(matrix), metrics.specificity(matrix)
        prevalence = how.prevalence if how.prevalence is not None else matrix[..., 1, :].sum(-1) / matrix.sum((-2, -1))
        tilted = class_weight if weight is None else weight * class_weight
        slope, intercept = calibration_slope_intercept(probability, truth, tilted)
        result = {
            "auroc": metrics.auroc(truth, probability, weight),
            "average_precision": metrics.average_precision(truth, probability, tilted),
            "accuracy": metrics.accuracy(matrix),
            "f1_normal": metrics.f1_score(matrix, 0),
            "f1_abnormal": metrics.f1_score(matrix, 1),
            "sensitivity": found,
            "specificity": cleared,
            "ppv": metrics.ppv(found, cleared, prevalence),
            "npv": metrics.npv(found, cleared, prevalence),
            "brier_score": metrics.brier_score(truth, probability, tilted),
            "calibration_slope": slope,
            "calibration_intercept": intercept,
            "ece": metrics.ece(truth, probability, tilted, bins=ECE_BINS),
        }
        if (label == 2).any():
            result["emergent_sensitivity"] = metrics.sensitivity(metrics.confusion_matrix(label == 2, called, weight))
        if p_emergent is not None:
            result["emergent_auroc"] = metrics.auroc(label == 2, p_emergent, weight)
        for name, threshold in how.operating_points.items():
            matrix = metrics.confusion_matrix(truth, probability >= threshold, weight)
            result[f"{name}: sensitivity"] = metrics.sensitivity(matrix)
            result[f"{name}: specificity"] = metrics.specificity(matrix)
        return result

    replicates = bootstrap(figures, patients, resamples=how.resamples, seed=how.seed)
    replicates["ece"][:] = np.nan  # resampling adds scatter to each bin and so error: its percentiles miss the estimate
    patients_behind = _patients_behind(label, patients)
    estimates = {
        name: estimate_with_interval(value, replicates[name], patients_behind.get(name.split(": ")[-1]))
        for name, value in figures(None).items()
    }
    matrix = metrics.confusion_matrix(truth, called)
    block = {
        "films": len(films),
        "patients": len(np.unique(patients)),
        "normal": int((label == 0).sum()),
        "abnormal": int(truth.sum()),
        "emergent": int((label == 2).sum()),
        "prevalence": float(truth.mean()) if how.prevalence is None else how.prevalence,
        "confusion": matrix.astype(int).tolist(),
        "majority_accuracy": float(metrics.majority_accuracy(matrix)),
        **as_entries(estimates, how),
        "three_classes": None if p_emergent is None else _three_classes(label, probability, called, p_emergent),
        "notes": _notes(films, estimates, replicates),
    }
    return block, estimates, replicates


def as_entries(estimates: Mapping[str, Estimate], how: Measuring) -> dict[str, Any]:
    """Return figures as they stand in `metrics.json`: `figures` by name, and a list of `operating_points`.

    Parameters
    ----------
    estimates : from `measure`
    how : the settings
    """
    return {
        "figures": {name: figure.for_json() for name, figure in estimates.items() if ": " not in name},
        "operating_points": [
            {"name": name, "threshold": threshold}
            | {kind: estimates[f"{name}: {kind}"].for_json() for kind in ("sensitivity", "specificity")}
            for name, threshold in how.operating_points.items()
        ],
    }


def _patients_behind(label: np.ndarray, patients: np.ndarray) -> dict[str, int]:
    """Return of how many independent patients, or pairs of them, each figure is a share."""

    def count(of: np.ndarray) -> int:
        return len(np.unique(patients[of]))

    normal, abnormal, emergent = count(label == 0), count(label > 0), count(label == 2)
    return {
        "accuracy": len(np.unique(patients)),
        "sensitivity": abnormal,
        "specificity": normal,
        "emergent_sensitivity": emergent,
        "auroc": min(normal, abnormal),
        "emergent_auroc": min(emergent, count(label != 2)),
    }


def _three_classes(
    label: np.ndarray, probability: np.ndarray, called: np.ndarray, p_emergent: np.ndarray
) -> dict[str, Any]:
    """Cross truth and call with three classes; a flagged film is called emergent when that is the likelier half."""
    three = np.where(called, np.where(p_emergent >= probability / 2, 2, 1), 0)
    table = np.zeros((3, 3), dtype=int)
    np.add.at(table, (label, three), 1)
    return {"classes": list(LABEL_NAMES), "confusion": table.tolist()}


def _notes(films: pd.DataFrame, estimates: dict[str, Estimate], replicates: dict[str, np.ndarray]) -> list[str]:
    """Explain in sentences what is not defined for these films, and what a reader must not overlook."""
    truth, probability = films["label"].to_numpy() > 0, films["probability"].to_numpy()
    notes = []
    if truth.all() or not truth.any():
        present, absent = ("abnormal", "normal") if truth.all() else ("normal", "abnormal")
        rate = "specificity" if truth.all() else "sensitivity"
        notes.append(
            f"These films are all {present}: AUROC, average precision and calibration slope need both classes, "
            f"{rate}, PPV and NPV need {absent} films."
        )
    elif np.isnan(estimates["calibration_slope"].estimate):
        why = "are all equal" if len(np.unique(probability)) == 1 else "separate the classes without error"
        notes.append(f"The calibration slope is not defined, because the probabilities {why}.")
    if (cleared := estimates["specificity"].estimate) < FEWEST_CLEARED:
        notes.append(
            f"At the threshold in use {100 * (1 - cleared):.0f} of 100 normal films are flagged as well. A flag on "
            "nearly every film tells nothing: the model may put films in order, but it is too weak to clear them."
        )
    if extreme := int(np.isin(probability, (0, 1)).sum()):
        notes.append(
            f"A probability of exactly 0 or 1 ({extreme} of {len(films)} films) has no logit; calibration slope and "
            f"intercept take it as {metrics.PROBABILITY_MARGIN:g} away from there and mean little where there are many."
        )
    if len(films["patient_id"].unique()) < 2:
        notes.append("All films are of one patient, so there are no intervals.")
    elif not np.isnan(estimates["auroc"].estimate) and np.isnan(replicates["auroc"]).any():
        notes.append(
            f"{np.isnan(replicates['auroc']).sum()} of {len(replicates['auroc'])} resamples held one class only; the "
            "intervals of figures that need both leave them out."
        )
    return notes
