"""How sure a figure is: 95 % intervals over patients, not over films.

Films of one patient resemble each other, so patients are what is drawn: each resample takes as many patients as there
are, with replacement, and every film counts as often as its patient was drawn. Resamples are therefore rows of weights,
and the functions of `metrics` take them all at once. `evaluation`, `operating` and `audit` read the intervals.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta

from cxrtriage.metrics import auroc

RESAMPLES = 1000
CONFIDENCE = 0.95
FILMS_AT_ONCE = 2_000_000  # films times resamples held in memory together, 8 MB


class Estimate(NamedTuple):
    """A figure with its 95 % interval; nan where not defined."""

    estimate: float
    lower: float
    upper: float

    def for_json(self) -> dict[str, float | None]:
        """Return estimate, lower and upper by name, None where not defined."""
        return {name: None if math.isnan(value) else value for name, value in self._asdict().items()}


def resampled_weights(patient_id: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield resamples of patients as weights of films, several resamples at a time.

    Parameters
    ----------
    patient_id : (N,) any type that can be sorted
    resamples : number of resamples in all, R
    seed : the same seed gives the same resamples

    Yields
    ------
    (r, N) float32, how often each film counts in each of r resamples; the r add up to `resamples`

    Examples
    --------
    >>> weights = next(resampled_weights(np.array(["a", "a", "b"]), resamples=2))
    >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())
    ((2, 3), True)
    """
    patients, patient = np.unique(patient_id, return_inverse=True)
    rng = np.random.default_rng(seed)
    at_once = max(1, FILMS_AT_ONCE // max(1, len(patient)))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, len(patients), size=(rows, len(patients))) + len(patients) * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)
        yield times[:, patient]


def bootstrap(
    statistic: Callable[[np.ndarray], dict[str, Any]],
    patient_id: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Compute figures on every resample of the patients; with a single patient there is none, and all are nan.

    Parameters
    ----------
    statistic : takes weights (r, N) and returns figures of shape (r,) by name
    patient_id : (N,)
    resamples, seed : as for `resampled_weights`

    Returns
    -------
    (resamples,) float64 by name, nan where a resample leaves a figure undefined (say, holds one class only)

    Examples
    --------
    >>> share = bootstrap(lambda weight: {"share": weight @ [0, 1] / weight.sum(axis=1)}, np.array(["a", "b"]))
    >>> sorted(set(share["share"].tolist()))
    [0.0, 0.5, 1.0]
    """
    if len(np.unique(patient_id)) < 2:
        return {name: np.full(resamples, np.nan) for name in statistic(np.ones((1, len(patient_id))))}
    parts = [statistic(weight) for weight in resampled_weights(patient_id, resamples=resamples, seed=seed)]
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}


def percentile_interval(replicates: np.ndarray) -> tuple[float, float]:
    """Return the central 95 % of the replicates of a figure.

    Replicates that are nan are left out. Where fewer than half are defined, the interval would describe the lucky
    resamples only, and is (nan, nan).

    Parameters
    ----------
    replicates : (R,) float64, from `bootstrap`

    Examples
    --------
    >>> low, high = percentile_interval(np.arange(1001) / 1000)
    >>> round(low, 3), round(high, 3)
    (0.025, 0.975)
    """
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) < max(1, len(replicates)):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def exact_interval(found: float, patients: int) -> tuple[float, float]:
    """Return the two-sided 95 % Clopper-Pearson interval of a share.

    Parameters
    ----------
    found : how many of `patients`; need not be whole where a patient counts in part
    patients : number of independent patients; (0, 1) comes back when there are none

    References
    ----------
    Clopper, Pearson. The use of confidence or fiducial limits illustrated in the case of the binomial.
    Biometrika 26 (1934).

    Examples
    --------
    >>> low, high = exact_interval(59, 59)
    >>> round(low, 3), round(high, 3)
    (0.939, 1.0)
    """
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, found, patients - found + 1)) if found > 0 else 0.0
    high = float(beta.ppf(1 - tail, found + 1, patients - found)) if found < patients else 1.0
    return low, high


def surely_reached(found: np.ndarray, patients: int, share: float) -> np.ndarray:
    """Tell where a share is reached with 95 % confidence (one-sided Clopper-Pearson lower bound).

    Parameters
    ----------
    found : (K,) float above 0, how many of `patients`
    patients : number of independent patients
    share : float in (0, 1)

    Returns
    -------
    (K,) bool

    Examples
    --------
    >>> surely_reached(np.array([58.0, 59.0]), 59, 0.95).tolist()
    [False, True]
    """
    reached: np.ndarray = beta.cdf(share, found, patients - found + 1) <= 1 - CONFIDENCE
    return reached


def estimate_with_interval(estimate: Any, replicates: np.ndarray, patients: int | None = None) -> Estimate:
    """Put a figure and its 95 % interval together.

    Where a figure is 0 or 1 and so is every resample's, a bootstrap cannot see how sure it is: 5 of 5 found would read
    "1.000 (1.000-1.000)". The exact interval stands in where the figure is a share of patients; for an AUROC the share
    is that of disjoint abnormal-normal pairs of patients ranked rightly. For other figures the interval is then nan.

    Parameters
    ----------
    estimate : float
    replicates : (R,) float64, from `bootstrap`
    patients : how many independent patients (or pairs) the figure is a share of; None if it is not a share

    Examples
    --------
    >>> round(estimate_with_interval(1.0, np.ones(1000), patients=59).lower, 3)
    0.939
    """
    value = float(estimate)
    low, high = percentile_interval(replicates) if not np.isnan(value) else (float("nan"), float("nan"))
    if low == high and value in (0.0, 1.0):
        low, high = exact_interval(value * patients, patients) if patients else (float("nan"), float("nan"))
    return Estimate(value, low, high)


def auroc_with_interval(
    y_true: np.ndarray,
    y_score: np.ndarray,
    patient_id: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the AUROC with its 95 % interval over patients.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    y_score : (N,) float, higher is more abnormal
    patient_id : (N,)
    resamples, seed : as for `resampled_weights`

    Examples
    --------
    >>> auroc_with_interval(np.array([0, 1] * 50), np.arange(100), np.arange(100)).estimate
    0.51
    """
    order = np.argsort(y_score, kind="stable")  # sorted once, not once a resample
    truth, score, patients = np.asarray(y_true)[order] > 0, np.asarray(y_score)[order], np.asarray(patient_id)[order]
    replicates = bootstrap(
        lambda weight: {"auroc": auroc(truth, score, weight)}, patients, resamples=resamples, seed=seed
    )
    pairs = min(len(np.unique(patients[truth])), len(np.unique(patients[~truth])))
    return estimate_with_interval(auroc(truth, score), replicates["auroc"], pairs)


def mean_over_groups(groups: Sequence[tuple[Mapping[str, Estimate], Mapping[str, np.ndarray]]]) -> dict[str, Estimate]:
    """Return the unweighted mean over groups of films, such as hospitals, of each figure that all groups have.

    Parameters
    ----------
    groups : for each group its figures by name, and their replicates from a `bootstrap` with a seed of its own

    Returns
    -------
    dict
        Name -> Estimate; nan where a group leaves the figure undefined.

    Examples
    --------
    >>> here = {"auroc": Estimate(0.8, 0.7, 0.9)}, {"auroc": np.linspace(0.7, 0.9, 9)}
    >>> there = {"auroc": Estimate(0.6, 0.5, 0.7)}, {"auroc": np.linspace(0.5, 0.7, 9)}
    >>> round(mean_over_groups([here, there])["auroc"].estimate, 3)
    0.7
    """
    shared = [name for name in groups[0][0] if all(name in figures for figures, _ in groups)]
    return {
        name: estimate_with_interval(
            np.mean([figures[name].estimate for figures, _ in groups]),
            np.mean([replicates[name] for _, replicates in groups], axis=0),
        )
        for name in shared
    }
