"""How sure a difference between two ways of training is: over patients, and over seeds.

In come the scores of several runs on the same films; out go AUROCs of arms (an arm is one way of training, run with
several seeds) and differences of arms, each with a 95 % interval. `results` puts them into tables.

A model that was trained once says nothing of the next one trained the same way. So each resample draws patients, the
same for all runs, and then seeds; the interval is that of the mean over seeds. Seeds are drawn in pairs, as an arm's
seed and the other's share the subset of films.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from cxrtriage.evaluate.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Estimate,
    estimate_with_interval,
    resampled_weights,
)
from cxrtriage.metrics import auroc


@dataclass(frozen=True, slots=True)
class ArmScores:
    """AUROCs of the runs of an arm.

    Parameters
    ----------
    found : (S,) float64, AUROC by seed
    replicates : (R, S) float64, the same on each resample of the patients
    pairs : disjoint pairs of an abnormal and a normal patient, which a perfect AUROC is a share of; None for a
        difference
    """

    found: np.ndarray
    replicates: np.ndarray
    pairs: int | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(self.found.mean())


def arm_scores(runs: Sequence[pd.DataFrame], *, resamples: int = RESAMPLES, seed: int = 0) -> ArmScores:
    """Compute the AUROC of each run of an arm, on all films and on every resample of the patients.

    Parameters
    ----------
    runs : by seed: `patient`, `label`, `logit`, indexed by film number. Patients are resampled once for the whole
        experiment: two arms that were tested on the same patients get the same resamples
    resamples, seed : of the bootstrap

    Returns
    -------
    ArmScores
    """
    patients = np.unique(np.concatenate([run["patient"].to_numpy() for run in runs]))
    ordered = [run.sort_values("logit", kind="stable") for run in runs]  # sorted once, not once a resample
    truths = [run["label"].to_numpy() > 0 for run in ordered]
    logits = [run["logit"].to_numpy() for run in ordered]
    places = [np.searchsorted(patients, run["patient"].to_numpy()) for run in ordered]
    found = np.array([auroc(truth, logit) for truth, logit in zip(truths, logits, strict=True)])
    parts = [
        np.stack(
            [auroc(truth, logit, weight[:, place]) for truth, logit, place in zip(truths, logits, places, strict=True)],
            axis=1,
        )
        for weight in resampled_weights(patients, resamples=resamples, seed=seed)
    ]
    by_class = [
        np.unique(np.concatenate([run["patient"][(run["label"] > 0) == kind] for run in runs])) for kind in (0, 1)
    ]
    return ArmScores(found, np.concatenate(parts), min(len(of_class) for of_class in by_class))


def mean_over_seeds(scores: ArmScores, *, seed: int = 0) -> Estimate:
    """Return the mean AUROC of an arm with its 95 % interval over patients and seeds.

    With one seed, the interval is over patients alone.

    Parameters
    ----------
    scores : from `arm_scores`, or a difference of two
    seed : of the draw of seeds
    """
    return estimate_with_interval(scores.mean, _seeds_drawn(scores.replicates, seed), scores.pairs)


def difference(arm: ArmScores, against: ArmScores, *, seed: int = 0) -> Estimate:
    """Return by how much the mean AUROC of an arm exceeds that of another, with its 95 % interval.

    Parameters
    ----------
    arm, against : from `arm_scores`, with the same seeds, films and resamples
    seed : of the draw of seeds
    """
    return mean_over_seeds(ArmScores(arm.found - against.found, arm.replicates - against.replicates), seed=seed)


def _seeds_drawn(replicates: np.ndarray, seed: int) -> np.ndarray:
    """Draw seeds with replacement in each resample and return the means, (R,) float64.

    The mean of S values drawn from S varies (S - 1) / S times as much as it should, which is a third less with three
    seeds. So its distance from the mean of all is widened by the root of S / (S - 1).
    """
    resamples, seeds = replicates.shape
    if seeds == 1:
        return replicates[:, 0]
    drawn = np.random.default_rng([seed, seeds]).integers(0, seeds, (resamples, seeds))
    mean = replicates.mean(axis=1)
    found = np.take_along_axis(replicates, drawn, axis=1).mean(axis=1)
    return np.asarray(mean + np.sqrt(seeds / (seeds - 1)) * (found - mean))


def delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> Estimate:
    """Return by how much the AUROC of one model exceeds another's on the same films, by DeLong's method.

    It takes each film as independent and each model as given: a second computation beside the bootstrap, narrower where
    patients have several films.

    Parameters
    ----------
    truth : (N,) bool, abnormal
    first, second : (N,) float, scores of the two models, higher is more abnormal

    Returns
    -------
    Estimate
        nan where a class has fewer than two films.

    References
    ----------
    DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated receiver operating characteristic
    curves. Biometrics 44 (1988). Computed from ranks as in Sun, Xu. IEEE Signal Processing Letters 21 (2014).

    Examples
    --------
    >>> truth = np.array([False, False, True, True])
    >>> delong(truth, np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])).estimate
    0.25
    """
    truth = np.asarray(truth, dtype=bool)
    abnormal, normal = int(truth.sum()), int((~truth).sum())
    if min(abnormal, normal) < 2:
        return Estimate(float("nan"), float("nan"), float("nan"))
    of_abnormal, of_normal = (
        np.subtract(*pair) for pair in zip(_placements(truth, first), _placements(truth, second), strict=True)
    )
    estimate = float(of_abnormal.mean())
    spread = float(np.sqrt(of_abnormal.var(ddof=1) / abnormal + of_normal.var(ddof=1) / normal))
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) * spread
    return Estimate(estimate, estimate - reach, estimate + reach)


def _placements(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of normal films below each abnormal one, and of abnormal films above each normal one."""
    score = np.asarray(score)
    ranks = rankdata(score)
    abnormal, normal = score[truth], score[~truth]
    below = (ranks[truth] - rankdata(abnormal)) / len(normal)
    above = 1 - (ranks[~truth] - rankdata(normal)) / len(abnormal)
    return below, above
