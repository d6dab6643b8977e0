"""How good predictions are: pure functions of the truth and a score.

What comes in are arrays over films; what goes out are numbers. `evaluate` reads them into a report, and the
training loop watches one of them.

Three rules hold throughout:

- Truth is binary: `y_true > 0` is abnormal, so labels 0, 1, 2 can be passed as they are.
- The last axis of `weight` runs over films. `None` counts every film once; (N,) gives each film a weight; (R, N)
  holds R resamples, and R figures come back. That is how a bootstrap of a thousand resamples costs one call.
- A figure that is not defined, such as the AUROC of films that are all normal, is nan, without a warning.
"""

from typing import Any, TypeAlias

import numpy as np

# A float; or (R,) float64 where `weight` has R rows.
Figure: TypeAlias = Any

# Probabilities are kept this far from 0 and 1 where their logit is needed.
PROBABILITY_MARGIN = 1e-6


def logit(probability: np.ndarray | float) -> Any:
    """Return log(p / (1 - p)), with `probability` first kept 1e-6 away from 0 and 1.

    Examples
    --------
    >>> float(logit(0.5))
    0.0
    """
    kept = np.clip(np.asarray(probability, dtype=np.float64), PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    return np.log(kept / (1 - kept))


def sigmoid(value: np.ndarray | float) -> Any:
    """Return 1 / (1 + exp(-value)) without overflow.

    Examples
    --------
    >>> float(sigmoid(0.0))
    0.5
    """
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(value, dtype=np.float64)))


def shift_prevalence(probability: np.ndarray | float, calibrated_at: float, prevalence: float) -> Any:
    """Move probabilities to a place where abnormal films are rarer or commoner.

    The logit moves by the difference of the two prevalences' logits, which is exact as long as the films of each class
    look the same in both places (prior shift).

    Parameters
    ----------
    probability : (N,) float in [0, 1], calibrated where a share `calibrated_at` of films is abnormal
    calibrated_at, prevalence : float inside (0, 1), share of abnormal films there and here

    Returns
    -------
    (N,) float64 in [0, 1]; 0 stays 0 and 1 stays 1

    Raises
    ------
    ValueError
        If a prevalence is not inside (0, 1).

    References
    ----------
    Saerens, Latinne, Decaestecker. Adjusting the outputs of a classifier to new a priori probabilities.
    Neural Computation 14 (2002).

    Examples
    --------
    >>> float(shift_prevalence(0.5, calibrated_at=0.5, prevalence=0.1).round(12))
    0.1
    """
    for name, value in (("calibrated_at", calibrated_at), ("prevalence", prevalence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}, expected a share of abnormal films between 0 and 1, ends left out.")
    abnormal = np.asarray(probability, dtype=np.float64) * (prevalence / calibrated_at)
    normal = (1 - np.asarray(probability, dtype=np.float64)) * ((1 - prevalence) / (1 - calibrated_at))
    return abnormal / (abnormal + normal)


def prevalence_weight(y_true: np.ndarray, prevalence: float | None) -> np.ndarray:
    """Return weights of films that make a stated share of them abnormal.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    prevalence : float inside (0, 1); None for the films' own

    Returns
    -------
    (N,) float32 with mean 1; all 1 for `None`, and where there is one class only

    Examples
    --------
    >>> prevalence_weight(np.array([0, 0, 1, 1]), 0.1).round(1)
    array([1.8, 1.8, 0.2, 0.2], dtype=float32)
    """
    truth = np.asarray(y_true) > 0
    if prevalence is None or truth.all() or not truth.any():
        return np.ones(len(truth), dtype=np.float32)
    share = truth.mean()
    weight: np.ndarray = np.where(truth, prevalence / share, (1 - prevalence) / (1 - share)).astype(np.float32)
    return weight


def confusion_matrix(y_true: np.ndarray, y_called: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Count films by truth (rows: normal, abnormal) and call (columns: normal, abnormal), as the 2017 study did.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    y_called : (N,) bool, whether the film was called abnormal
    weight : (N,) or (R, N) float, or None

    Returns
    -------
    (2, 2) or (R, 2, 2) float64

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1, 1, 2]), np.array([False, True, True, True, False]))
    array([[1., 1.],
           [1., 2.]])
    """
    cell = 2 * (np.asarray(y_true) > 0) + np.asarray(y_called, dtype=bool)
    counts: np.ndarray = _weights(cell, weight) @ np.eye(4)[cell]
    return counts.reshape(*counts.shape[:-1], 2, 2)


def accuracy(matrix: np.ndarray) -> Figure:
    """Return the share of films called rightly.

    Parameters
    ----------
    matrix : (2, 2) or (R, 2, 2), from `confusion_matrix`

    Examples
    --------
    >>> float(accuracy(np.array([[138, 55], [88, 430]])).round(3))
    0.799
    """
    return _ratio(matrix[..., 0, 0] + matrix[..., 1, 1], matrix.sum(axis=(-2, -1)))


def majority_accuracy(matrix: np.ndarray) -> Figure:
    """Return the accuracy of always naming the commoner class: what an accuracy has to be held against.

    Parameters
    ----------
    matrix : (2, 2) or (R, 2, 2), from `confusion_matrix`

    Examples
    --------
    >>> float(majority_accuracy(np.array([[138, 55], [88, 430]])).round(3))
    0.729
    """
    return _ratio(matrix.sum(axis=-1).max(axis=-1), matrix.sum(axis=(-2, -1)))


def f1_score(matrix: np.ndarray, label: int) -> Figure:
    """Return the F1 score with one of the two classes as the positive one.

    Parameters
    ----------
    matrix : (2, 2) or (R, 2, 2), from `confusion_matrix`
    label : 0 for the F1 of normal, 1 for the F1 of abnormal

    Returns
    -------
    float in [0, 1]; nan where no film is of that class and none was called so

    Examples
    --------
    >>> study = np.array([[138, 55], [88, 430]])
    >>> float(f1_score(study, 0).round(3)), float(f1_score(study, 1).round(3))
    (0.659, 0.857)
    """
    right = matrix[..., label, label]
    return _ratio(2 * right, matrix[..., label, :].sum(axis=-1) + matrix[..., :, label].sum(axis=-1))


def sensitivity(matrix: np.ndarray) -> Figure:
    """Return the share of abnormal films that were called abnormal; nan without abnormal films.

    Examples
    --------
    >>> float(sensitivity(np.array([[138, 55], [88, 430]])).round(3))
    0.83
    """
    return _ratio(matrix[..., 1, 1], matrix[..., 1, :].sum(axis=-1))


def specificity(matrix: np.ndarray) -> Figure:
    """Return the share of normal films that were called normal; nan without normal films.

    Examples
    --------
    >>> float(specificity(np.array([[138, 55], [88, 430]])).round(3))
    0.715
    """
    return _ratio(matrix[..., 0, 0], matrix[..., 0, :].sum(axis=-1))


def ppv(sensitivity: Figure, specificity: Figure, prevalence: Figure) -> Figure:
    """Return how many of the films called abnormal are abnormal, at a stated prevalence.

    Parameters
    ----------
    sensitivity, specificity, prevalence : float in [0, 1], or arrays that broadcast

    Returns
    -------
    float in [0, 1]; nan where nothing would be called abnormal

    Examples
    --------
    >>> float(ppv(0.9, 0.9, prevalence=0.1).round(3))
    0.5
    """
    found = np.asarray(sensitivity) * prevalence
    return _ratio(found, found + (1 - np.asarray(specificity)) * (1 - np.asarray(prevalence)))


def npv(sensitivity: Figure, specificity: Figure, prevalence: Figure) -> Figure:
    """Return how many of the films called normal are normal, at a stated prevalence.

    Parameters
    ----------
    sensitivity, specificity, prevalence : float in [0, 1], or arrays that broadcast

    Returns
    -------
    float in [0, 1]; nan where nothing would be called normal

    Examples
    --------
    >>> float(npv(0.9, 0.9, prevalence=0.1).round(3))
    0.988
    """
    cleared = np.asarray(specificity) * (1 - np.asarray(prevalence))
    return _ratio(cleared, cleared + (1 - np.asarray(sensitivity)) * np.asarray(prevalence))


def counts_by_score(
    y_true: np.ndarray, y_score: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count abnormal and normal films at each distinct score: all that a ranking figure needs.

    Scores that are sorted already are not sorted again, so whoever resamples the same films many times sorts once.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    y_score : (N,) float, higher is more abnormal; ties allowed
    weight : (N,) or (R, N) float, or None

    Returns
    -------
    scores : (G,) the distinct scores, ascending
    abnormal, normal : (G,) or (R, G) float64, the weight of each class at that score

    Examples
    --------
    >>> scores, abnormal, normal = counts_by_score(np.array([0, 1, 1, 0]), np.array([0.2, 0.9, 0.2, 0.1]))
    >>> scores.tolist(), abnormal.tolist(), normal.tolist()
    ([0.1, 0.2, 0.9], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0])
    """
    truth, score = np.asarray(y_true) > 0, np.asarray(y_score)
    each = _weights(truth, weight)
    if np.any(score[1:] < score[:-1]):
        order = np.argsort(score, kind="stable")
        truth, score, each = truth[order], score[order], each[..., order]
    if score.size == 0:
        return score, each, each
    starts = np.flatnonzero(np.concatenate(([True], score[1:] != score[:-1])))
    abnormal, both = each * truth, each
    if len(starts) < len(score):
        abnormal, both = np.add.reduceat(abnormal, starts, axis=-1), np.add.reduceat(both, starts, axis=-1)
    return score[starts], abnormal, both - abnormal


def auroc(y_true: np.ndarray, y_score: np.ndarray, weight: np.ndarray | None = None) -> Figure:
    """Return the chance that an abnormal film scores above a normal one, a tie counting half.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    y_score : (N,) float, higher is more abnormal
    weight : (N,) or (R, N) float, or None

    Returns
    -------
    float in [0, 1]; nan where a class is missing

    References
    ----------
    Hanley, McNeil. The meaning and use of the area under a receiver operating characteristic curve.
    Radiology 143 (1982).

    Examples
    --------
    >>> float(auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])))
    0.75
    """
    _, abnormal, normal = counts_by_score(y_true, y_score, weight)
    normal_below = np.cumsum(normal, axis=-1) - normal
    won = (abnormal * (normal_below + 0.5 * normal)).sum(axis=-1)
    return _ratio(won, abnormal.sum(axis=-1) * normal.sum(axis=-1))


def average_precision(y_true: np.ndarray, y_score: np.ndarray, weight: np.ndarray | None = None) -> Figure:
    """Return the area under the precision-recall curve as the sum of its steps, without interpolation.

    A film list with no skill scores the share of abnormal films, so hold it against that.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    y_score : (N,) float, higher is more abnormal
    weight : (N,) or (R, N) float, or None

    Returns
    -------
    float in [0, 1]; nan where a class is missing

    Examples
    --------
    >>> float(average_precision(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])).round(3))
    0.833
    """
    _, abnormal, normal = counts_by_score(y_true, y_score, weight)
    found = np.cumsum(abnormal[..., ::-1], axis=-1)[..., ::-1]
    false_alarms = np.cumsum(normal[..., ::-1], axis=-1)[..., ::-1]
    called = found + false_alarms
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    total = abnormal.sum(axis=-1)
    return np.where(normal.sum(axis=-1) > 0, _ratio((abnormal * precision).sum(axis=-1), total), np.nan)[()]


def brier_score(y_true: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> Figure:
    """Return the mean squared distance between probability and truth; 0 is perfect.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    probability : (N,) float in [0, 1]
    weight : (N,) or (R, N) float, or None

    Examples
    --------
    >>> float(brier_score(np.array([0, 1]), np.array([0.0, 0.5])))
    0.125
    """
    truth = np.asarray(y_true) > 0
    each = _weights(truth, weight)
    return _ratio(each @ (np.asarray(probability) - truth) ** 2, each.sum(axis=-1))


def ece(y_true: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None, *, bins: int = 10) -> Figure:
    """Return the expected calibration error: how far probabilities lie from observed shares, in bins of equal width.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    probability : (N,) float in [0, 1]; a bin is [k / bins, (k + 1) / bins), the last one includes 1
    weight : (N,) or (R, N) float, or None
    bins : number of bins; a figure without it means nothing

    Returns
    -------
    float in [0, 1]

    References
    ----------
    Guo, Pleiss, Sun, Weinberger. On calibration of modern neural networks. ICML 2017.

    Examples
    --------
    >>> float(ece(np.array([0, 1, 1, 1]), np.array([0.5, 0.5, 0.9, 0.9])).round(3))
    0.05
    """
    truth = np.asarray(y_true) > 0
    in_bin = np.eye(bins)[probability_bin(probability, bins)]
    each = _weights(truth, weight)
    gap = each @ (in_bin * (np.asarray(probability) - truth)[:, None])
    return _ratio(np.abs(gap).sum(axis=-1), each.sum(axis=-1))


def probability_bin(probability: np.ndarray, bins: int) -> np.ndarray:
    """Return which of `bins` equally wide bins each probability falls into.

    Parameters
    ----------
    probability : (N,) float in [0, 1]
    bins : number of bins

    Returns
    -------
    (N,) int in [0, bins)

    Examples
    --------
    >>> probability_bin(np.array([0.0, 0.1, 0.99, 1.0]), 10).tolist()
    [0, 1, 9, 9]
    """
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, np.asarray(probability), side="right")


def _weights(films: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the weights as floats, one for each film if none were given."""
    if weight is None:
        return np.ones(len(films))
    each = np.asarray(weight)
    if each.dtype != np.float32:  # kept as it is: a resample's counts are small whole numbers, and it is twice as fast
        each = each.astype(np.float64)
    if each.shape[-1] != len(films):
        raise ValueError(f"got weights of shape {each.shape} for {len(films)} films.")
    return each


def _ratio(part: Any, whole: Any) -> Any:
    """Return part / whole, and nan where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)[()]
