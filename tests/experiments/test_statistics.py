"""Differences between ways of training, against hand calculation, a slow second way and simulation."""

import numpy as np
import pandas as pd
import pytest

from cxrtriage.evaluate.intervals import auroc_with_interval
from cxrtriage.experiments.statistics import ArmScores, arm_scores, delong, difference, mean_over_seeds
from cxrtriage.metrics import auroc


def run_of(label: np.ndarray, logit: np.ndarray, patient: np.ndarray | None = None) -> pd.DataFrame:
    patient = np.arange(len(label)) if patient is None else patient
    return pd.DataFrame({"patient": patient, "label": label, "logit": logit})


def slow_delong(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """DeLong's difference and its standard error, from all pairs, as the paper writes it."""
    components = []
    for score in (first, second):
        won = (score[truth][:, None] > score[~truth]) + 0.5 * (score[truth][:, None] == score[~truth])
        components.append((won.mean(axis=1), won.mean(axis=0)))
    (v10, v01), (w10, w01) = components
    s10, s01 = np.cov(v10, w10), np.cov(v01, w01)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / truth.sum() + s01 / (~truth).sum()) @ contrast
    return v10.mean() - w10.mean(), float(np.sqrt(variance))


@pytest.mark.parametrize("decimals", [0, 8])  # with many ties and with none
def test_delong_from_ranks_is_delong_from_all_pairs(decimals: int) -> None:
    random = np.random.default_rng(1)
    truth = random.random(80) < 0.4
    first = (random.normal(size=80) + truth).round(decimals)
    second = (random.normal(size=80) + 0.5 * truth).round(decimals)
    found = delong(truth, first, second)
    estimate, error = slow_delong(truth, first, second)
    assert found.estimate == pytest.approx(estimate)
    assert found.estimate == pytest.approx(auroc(truth, first) - auroc(truth, second))
    assert found.upper - found.estimate == pytest.approx(1.959964 * error, rel=1e-5)


def test_delong_needs_two_films_of_each_class() -> None:
    assert np.isnan(delong(np.array([True, False, False]), np.arange(3), np.arange(3)).estimate)


def test_bootstrap_and_delong_agree_where_each_film_is_a_patient() -> None:
    random = np.random.default_rng(2)
    truth = random.random(400) < 0.5
    shared = random.normal(size=400) + truth
    first, second = shared + 0.5 * random.normal(size=400), shared + random.normal(size=400)
    by_pairs = delong(truth, first, second)
    arms = [arm_scores([run_of(truth, score)], resamples=3000) for score in (first, second)]
    by_bootstrap = difference(*arms)
    assert by_bootstrap.estimate == pytest.approx(by_pairs.estimate)
    assert by_bootstrap.lower == pytest.approx(by_pairs.lower, abs=0.005)
    assert by_bootstrap.upper == pytest.approx(by_pairs.upper, abs=0.005)


def test_one_seed_gives_the_interval_over_patients_that_evaluate_gives() -> None:
    random = np.random.default_rng(3)
    label, patient = random.integers(0, 2, 120), random.integers(0, 40, 120)
    logit = random.normal(size=120) + label
    found = mean_over_seeds(arm_scores([run_of(label, logit, patient)], resamples=500))
    expected = auroc_with_interval(label, logit, patient, resamples=500)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_seeds_that_differ_widen_the_interval_by_their_variance() -> None:
    """Patients held still, so that all that is left is the mean of S seeds, whose standard error is known."""
    found = np.array([0.70, 0.74, 0.76, 0.80])
    arm = ArmScores(found, np.tile(found, (40_000, 1)))
    estimate = mean_over_seeds(arm)
    drawn = (estimate.upper - estimate.lower) / (2 * 1.96)
    assert estimate.estimate == pytest.approx(0.75)
    assert drawn == pytest.approx(found.std(ddof=1) / np.sqrt(4), rel=0.05)


def test_an_arm_less_itself_is_exactly_nothing() -> None:
    random = np.random.default_rng(5)
    label = random.integers(0, 2, 60)
    arm = arm_scores([run_of(label, random.normal(size=60) + label) for _ in range(3)], resamples=200)
    assert difference(arm, arm).estimate == 0
    assert not np.any(arm.replicates - arm.replicates)


def test_films_of_one_patient_are_drawn_together() -> None:
    """A hundred copies of each film add nothing: the interval is that of the patients."""
    random = np.random.default_rng(6)
    label = np.arange(30) % 2
    logit = random.normal(size=30) + label
    once = mean_over_seeds(arm_scores([run_of(label, logit)], resamples=400))
    patient = np.repeat(np.arange(30), 100)
    copied = mean_over_seeds(arm_scores([run_of(label.repeat(100), logit.repeat(100), patient)], resamples=400))
    np.testing.assert_allclose(once, copied, atol=1e-6)


def test_a_perfect_arm_has_an_interval_below_1() -> None:
    label = np.arange(40) % 2
    found = mean_over_seeds(arm_scores([run_of(label, label.astype(float))] * 2, resamples=100))
    assert (found.estimate, found.upper) == (1, 1)
    assert 0.8 < found.lower < 0.9  # 20 of 20 pairs: Clopper-Pearson says 0.832
