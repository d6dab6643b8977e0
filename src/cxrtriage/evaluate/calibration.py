"""Whether a probability means what it says, and how to make it so.

In come logits (or probabilities) and the truth; out go a temperature and an intercept fitted on validation films, or
the slope and intercept that tell how far off the probabilities of a test set are. `recalibrate` stores the former in
the model file, `evaluation` reports the latter.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize

from cxrtriage.metrics import Figure, counts_by_score, logit, sigmoid
from cxrtriage.records import Calibration

MINIMUM_FILMS = 10  # of each class; with fewer, two fitted numbers mostly describe chance
EXACT_FILMS = 2000  # up to here a slope is fitted on the logits as they are


def why_not_calibrated(logits: np.ndarray, y_true: np.ndarray) -> str:
    """Say in a sentence why these films cannot calibrate a model; "" where they can.

    Parameters
    ----------
    logits : (N,) float, the network's logit of abnormal
    y_true : (N,) int, above 0 is abnormal

    Examples
    --------
    >>> why_not_calibrated(np.zeros(12), np.ones(12))
    'not calibrated: 12 abnormal and 0 normal films, expected at least 10 of each.'
    """
    truth = np.asarray(y_true) > 0
    abnormal, normal = int(truth.sum()), int((~truth).sum())
    if min(abnormal, normal) < MINIMUM_FILMS:
        return (
            f"not calibrated: {abnormal} abnormal and {normal} normal films, expected at least {MINIMUM_FILMS} of each."
        )
    if np.mean(logits, where=truth) <= np.mean(logits, where=~truth):
        return "not calibrated: the model does not score abnormal films higher than normal ones."
    return ""


def fit_calibration(logits: np.ndarray, y_true: np.ndarray, weight: np.ndarray | None = None) -> Calibration:
    """Fit temperature and intercept by weighted maximum likelihood, on validation films.

    The truth enters slightly shrunk, as (n1 + 1) / (n1 + 2) for abnormal and 1 / (n0 + 2) for normal films (Platt), so
    that films which the logits separate without error still give a finite temperature.

    Parameters
    ----------
    logits : (N,) float, the network's logit of abnormal
    y_true : (N,) int, above 0 is abnormal
    weight : (N,) float, at least 0, or None

    Returns
    -------
    Calibration, temperature above 0: probability = sigmoid(logit / temperature + intercept)

    Raises
    ------
    ValueError
        With the sentence of `why_not_calibrated`, where the films do not allow it.

    References
    ----------
    Platt. Probabilistic outputs for support vector machines. 1999.
    Guo, Pleiss, Sun, Weinberger. On calibration of modern neural networks. ICML 2017.

    Examples
    --------
    >>> logits = np.repeat([-4.0, 4.0], 50)
    >>> truth = np.tile(np.repeat([0, 1], [10, 40]), 2) ^ np.repeat([1, 0], 50)
    >>> fitted = fit_calibration(logits, truth)  # 4 of 5 are right, so the logit should be log(4), not 4
    >>> round(4 / fitted.temperature, 1)
    1.3
    """
    if reason := why_not_calibrated(logits, y_true):
        raise ValueError(reason)
    truth, values = np.asarray(y_true) > 0, np.asarray(logits, dtype=np.float64)
    each = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    abnormal, normal = each[truth].sum(), each[~truth].sum()
    target = np.where(truth, (abnormal + 1) / (abnormal + 2), 1 / (normal + 2))
    share = each / each.sum()

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, intercept = np.exp(parameters[0]), parameters[1]  # exp keeps the temperature above 0
        score = slope * values + intercept
        error = share * (sigmoid(score) - target)
        return float(share @ (np.logaddexp(0, score) - target * score)), np.array(
            [(error @ values) * slope, error.sum()]
        )

    start = np.array([-np.log(max(values.std(), 1e-3)), 0.0])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-12, 12), (None, None)]).x
    return Calibration(temperature=float(np.exp(-found[0])), intercept=float(found[1]))


def calibration_slope_intercept(
    probability: np.ndarray, y_true: np.ndarray, weight: np.ndarray | None = None
) -> tuple[Figure, Figure]:
    """Return how far probabilities are from meaning what they say: slope (ideal 1) and intercept (ideal 0).

    The slope is that of a logistic regression of the truth on logit(probability): below 1 the probabilities are too
    extreme, above 1 too timid. The intercept is that of the same regression with the slope held at 1
    ("calibration in the large"): below 0 they are too high on the whole, above 0 too low.

    Parameters
    ----------
    probability : (N,) float in [0, 1]; 0 and 1 are taken as 1e-6 away from there
    y_true : (N,) int, above 0 is abnormal
    weight : (N,) or (R, N) float, or None

    Returns
    -------
    slope, intercept : float, or (R,) float64. Both are nan where a class is missing. The slope is nan too where all
        probabilities are equal, or where they separate the classes without error (it would be infinite)

    References
    ----------
    Van Calster, McLernon, van Smeden, Wynants, Steyerberg. Calibration: the Achilles heel of predictive analytics.
    BMC Medicine 17 (2019).

    Examples
    --------
    >>> probability = np.repeat([0.2, 0.8], 10)  # and 2 of 10, 8 of 10 are abnormal
    >>> slope, intercept = calibration_slope_intercept(probability, np.repeat([1, 0, 1, 0], [2, 8, 8, 2]))
    >>> round(float(slope), 3), round(abs(float(intercept)), 3)
    (1.0, 0.0)
    """
    values = logit(probability)
    spread = values.std() if values.size else 0.0
    if values.size > EXACT_FILMS and spread > 0:
        # A thousand resamples of 100,000 films need not fit on every film: a grid of a hundredth of the spread
        # leaves under a thousand distinct values and moves the slope by less than one part in 1,000.
        values = np.round(values / (spread / 100)) * (spread / 100)
    score, abnormal, normal = counts_by_score(y_true, values, weight)
    abnormal, normal = np.atleast_2d(abnormal), np.atleast_2d(normal)
    slope = _fit_slope(score, abnormal, normal) if spread > 0 else np.full(len(abnormal), np.nan)
    intercept = _fit_offset(score, abnormal, normal)
    if weight is None or np.ndim(weight) == 1:
        return slope[0], intercept[0]
    return slope, intercept


def _fit_slope(score: np.ndarray, abnormal: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the slope of a logistic regression for each row of counts, by Newton's method; nan where there is none."""
    spread = score.std()
    if spread == 0:
        return np.full(len(abnormal), np.nan)
    centred = (score - score.mean()) / spread
    both = abnormal + normal
    slope, offset = np.zeros(len(both)), np.zeros(len(both))
    active = _determined(score, abnormal, normal)
    for _ in range(50):
        if not active.any():
            break
        fitted = sigmoid(np.outer(slope[active], centred) + offset[active, None])
        error = abnormal[active] - both[active] * fitted
        curve = both[active] * fitted * (1 - fitted)
        h00, h01, h11 = curve.sum(axis=1), curve @ centred, curve @ centred**2
        g0, g1 = error.sum(axis=1), error @ centred
        determinant = np.maximum(h00 * h11 - h01**2, 1e-300)
        # Far from the solution Newton's step can overshoot; no step need be longer than 2 standard deviations.
        step_offset = np.clip((h11 * g0 - h01 * g1) / determinant, -2, 2)
        step_slope = np.clip((h00 * g1 - h01 * g0) / determinant, -2, 2)
        offset[active] += step_offset
        slope[active] += step_slope
        active[active] = np.maximum(np.abs(step_slope), np.abs(step_offset)) > 1e-8
    slope[active | ~_determined(score, abnormal, normal)] = np.nan
    slope /= spread
    return slope


def _determined(score: np.ndarray, abnormal: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Tell for each row of counts whether the classes overlap in score, so that a slope exists."""

    def ends(count: np.ndarray) -> tuple[Any, Any]:
        present = count > 0
        return np.where(present, score, np.inf).min(axis=1), np.where(present, score, -np.inf).max(axis=1)

    (low_abnormal, high_abnormal), (low_normal, high_normal) = ends(abnormal), ends(normal)
    overlap: np.ndarray = (high_normal > low_abnormal) & (high_abnormal > low_normal)
    return overlap


def _fit_offset(score: np.ndarray, abnormal: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the intercept of a logistic regression whose slope is 1, for each row of counts; nan with one class."""
    both = abnormal + normal
    offset = np.zeros(len(both))
    for _ in range(100):
        fitted = sigmoid(score + offset[:, None])
        curve = np.maximum((both * fitted * (1 - fitted)).sum(axis=1), 1e-300)
        step = np.clip((abnormal - both * fitted).sum(axis=1) / curve, -1, 1)
        offset = offset + step
        if np.all(np.abs(step) < 1e-9):
            break
    offset[(abnormal.sum(axis=1) == 0) | (normal.sum(axis=1) == 0)] = np.nan
    return offset
