"""Means over films with 95 % intervals over patients, for the figures of `measuring` and `claim`."""

import numpy as np

from cxrtriage.evaluate.intervals import Estimate, bootstrap, estimate_with_interval

Figure = dict[str, float | None]  # estimate, lower, upper, as `Estimate.for_json` gives them


def mean_figure(values: np.ndarray, patient_id: np.ndarray, *, share: bool = False, seed: int = 0) -> Figure:
    """Return the mean over films with its interval over patients; films whose value is nan are left out.

    Parameters
    ----------
    values : (N,) float
    patient_id : (N,)
    share : whether the mean is a share of patients, so that 0 and 1 have an exact interval
    seed : of the bootstrap

    Examples
    --------
    >>> mean_figure(np.array([0.0, 1.0, np.nan]), np.array(["a", "b", "c"]))
    {'estimate': 0.5, 'lower': 0.0, 'upper': 1.0}
    """
    defined = ~np.isnan(values)
    return ratio_figure(values[defined], np.ones(defined.sum()), patient_id[defined], share=share, seed=seed)


def ratio_figure(
    part: np.ndarray, whole: np.ndarray, patient_id: np.ndarray, *, share: bool = False, seed: int = 0
) -> Figure:
    """Return sum(part) / sum(whole) with its interval over patients.

    Parameters
    ----------
    part, whole : (N,) float, of each film
    patient_id : (N,)
    share, seed : as for `mean_figure`

    Returns
    -------
    dict
        `estimate`, `lower`, `upper`; None where there are no films, and no interval for a single patient.
    """
    if not len(part):
        return Estimate(float("nan"), float("nan"), float("nan")).for_json()
    replicates = bootstrap(lambda weight: {"ratio": weight @ part / (weight @ whole)}, patient_id, seed=seed)
    patients = len(np.unique(patient_id)) if share else None
    return estimate_with_interval(part.sum() / whole.sum(), replicates["ratio"], patients).for_json()


def difference_figure(
    first: np.ndarray, second: np.ndarray, first_patients: np.ndarray, second_patients: np.ndarray, *, seed: int = 0
) -> Figure:
    """Return mean(first) - mean(second) of two groups of films with its interval over patients.

    A patient may have films in both groups: both are drawn together, so the interval knows of it.

    Parameters
    ----------
    first, second : (N,), (M,) float without nan
    first_patients, second_patients : (N,), (M,)
    seed : of the bootstrap

    Examples
    --------
    >>> patients = np.arange(2)
    >>> difference_figure(np.ones(2), np.zeros(2), patients, patients + 2)["estimate"]
    1.0
    """
    if not len(first) or not len(second):
        return Estimate(float("nan"), float("nan"), float("nan")).for_json()
    in_first = np.arange(len(first) + len(second)) < len(first)
    values = np.concatenate([first, second])

    def difference(weight: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no film of one group: nan
            means = [weight[:, group] @ values[group] / weight[:, group].sum(axis=1) for group in (in_first, ~in_first)]
        return {"difference": means[0] - means[1]}

    replicates = bootstrap(difference, np.concatenate([first_patients, second_patients]), seed=seed)["difference"]
    return estimate_with_interval(first.mean() - second.mean(), replicates).for_json()
