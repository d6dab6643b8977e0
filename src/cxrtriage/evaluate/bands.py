"""Curves with 95 % bands over patients: ROC, precision-recall and calibration, ready to be drawn by `figures`."""

from dataclasses import dataclass

import numpy as np

from cxrtriage.evaluate.intervals import CONFIDENCE, exact_interval, resampled_weights
from cxrtriage.metrics import counts_by_score, prevalence_weight, probability_bin

RESAMPLES = 400  # a band is read by eye
GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class Band:
    """A curve and its band.

    Parameters
    ----------
    x, y : (G,) float64, the curve
    low, high : (G,) float64, the 95 % interval of y at each x
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc_and_precision_bands(
    y_true: np.ndarray, y_score: np.ndarray, patient_id: np.ndarray, *, prevalence: float | None = None, seed: int = 0
) -> tuple[Band, Band]:
    """Return the ROC curve (sensitivity over false positive rate) and the precision-recall curve.

    The precision at a sensitivity is that of the strictest threshold which reaches it; at 0, that of the first abnormal
    film found.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal; both classes present
    y_score : (N,) float, higher is more abnormal
    patient_id : (N,)
    prevalence : share of abnormal films that the precision assumes; None for the films' own
    seed : of the bootstrap

    Examples
    --------
    >>> roc, precision = roc_and_precision_bands(np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.2, 0.15]), np.arange(4))
    >>> float(roc.y[0]), float(roc.y[-1]), float(precision.y[0]), round(float(precision.y[-1]), 3)
    (0.5, 1.0, 1.0, 0.667)
    """
    order = np.argsort(y_score, kind="stable")
    truth, score, patients = np.asarray(y_true)[order] > 0, np.asarray(y_score)[order], np.asarray(patient_id)[order]
    each = prevalence_weight(truth, prevalence)
    whole_roc, whole_precision = _curves(truth, score, each[None])
    resamples = resampled_weights(patients, resamples=RESAMPLES, seed=seed)
    drawn = [_curves(truth, score, weight * each) for weight in resamples]
    return (
        Band(GRID, whole_roc[0], *_ends(np.concatenate([roc for roc, _ in drawn]))),
        Band(GRID, whole_precision[0], *_ends(np.concatenate([precision for _, precision in drawn]))),
    )


def calibration_band(
    y_true: np.ndarray, probability: np.ndarray, patient_id: np.ndarray, *, bins: int, prevalence: float | None = None
) -> Band:
    """Return the observed share of abnormal films (y) over the mean probability (x), in bins of equal width.

    The intervals are exact ones of a share of the bin's patients.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    probability : (N,) float in [0, 1]
    patient_id : (N,)
    bins : number of bins; empty ones are left out of the curve
    prevalence : share of abnormal films as which they count; None for the films' own

    Examples
    --------
    >>> curve = calibration_band(np.array([0, 1]), np.array([0.12, 0.96]), np.array([1, 2]), bins=10)
    >>> curve.x.tolist(), curve.y.tolist(), curve.low.round(3).tolist()
    ([0.12, 0.96], [0.0, 1.0], [0.0, 0.025])
    """
    truth, bin_of = np.asarray(y_true) > 0, probability_bin(probability, bins)
    each = prevalence_weight(truth, prevalence)
    points = []
    for at in np.unique(bin_of):
        films = bin_of == at
        share, patients = np.average(truth[films], weights=each[films]), len(np.unique(patient_id[films]))
        mean_probability = np.average(np.asarray(probability)[films], weights=each[films])
        points.append((mean_probability, share, *exact_interval(share * patients, patients)))
    return Band(*np.array(points).T)


def _curves(truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ROC and precision-recall curves on the grid, (r, G) each; nan for resamples with one class."""
    _, abnormal, normal = counts_by_score(truth, score, weight)
    start = np.zeros((len(weight), 1))
    found = np.hstack([start, np.cumsum(abnormal[:, ::-1], axis=1)])  # flagging nothing, then from each score up
    alarms = np.hstack([start, np.cumsum(normal[:, ::-1], axis=1)])
    precision = np.divide(found, found + alarms, out=np.ones_like(found), where=found + alarms > 0)
    roc, precision_recall = np.full((2, len(weight), len(GRID)), np.nan)
    for row in np.flatnonzero((found[:, -1] > 0) & (alarms[:, -1] > 0)):
        roc[row] = np.interp(GRID, alarms[row] / alarms[row, -1], found[row] / found[row, -1])
        reached = np.searchsorted(found[row], np.maximum(GRID * found[row, -1], 1e-9) * (1 - 1e-9))
        precision_recall[row] = precision[row, reached]
    return roc, precision_recall


def _ends(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the band at each point of the grid, over the resamples with both classes."""
    defined = curves[~np.isnan(curves[:, 0])]
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high
