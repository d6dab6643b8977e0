"""Intervals over patients: the resampling, the exact bounds, and what a bootstrap cannot see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from cxrtriage.evaluate.intervals import (
    Estimate,
    auroc_with_interval,
    bootstrap,
    estimate_with_interval,
    exact_interval,
    mean_over_groups,
    percentile_interval,
    resampled_weights,
    surely_reached,
)


def weights(patients: np.ndarray, resamples: int = 200, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(resampled_weights(patients, resamples=resamples, seed=seed)))


def test_all_films_of_a_patient_are_drawn_together_and_as_many_patients_as_there_are() -> None:
    patients = np.array(["a", "b", "a", "c", "a", "d"])
    drawn = weights(patients)
    assert drawn.shape == (200, 6)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, 0] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3, 5]].sum(axis=1) == 4).all()
    assert drawn[:, 1].mean() == pytest.approx(1, abs=0.2)


def test_resamples_depend_on_the_seed_alone_and_not_on_how_many_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = np.arange(50) // 2
    whole = weights(patients)
    monkeypatch.setattr("cxrtriage.evaluate.intervals.FILMS_AT_ONCE", 500)
    assert (weights(patients) == whole).all()
    assert (weights(patients, seed=1) != whole).any()


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_the_exact_interval_is_scipy_s(patients: int, data: st.DataObject) -> None:
    found = data.draw(st.integers(0, patients))
    expected = binomtest(found, patients).proportion_ci(0.95, "exact")
    assert exact_interval(found, patients) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("patients", "missed"), [(59, 0), (93, 1), (124, 2)])
def test_59_of_59_is_the_least_that_shows_a_sensitivity_of_95_percent(patients: int, missed: int) -> None:
    """The well-known sample sizes of acceptance testing at 95 % confidence."""
    assert surely_reached(np.array([patients - missed]), patients, 0.95).all()
    assert not surely_reached(np.array([patients - 1 - missed]), patients - 1, 0.95).any()
    assert not surely_reached(np.array([patients - missed - 1]), patients, 0.95).any()


def test_a_bootstrap_of_a_mean_has_the_textbook_width() -> None:
    values = np.random.default_rng(0).normal(size=400)
    replicates = bootstrap(
        lambda weight: {"mean": weight @ values / weight.sum(axis=1)}, np.arange(400), resamples=2000
    )
    low, high = percentile_interval(replicates["mean"])
    assert (high - low) == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_repeating_each_film_of_a_patient_does_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth, patients = rng.integers(0, 2, 120), np.arange(120)
    score = truth + rng.normal(size=120)
    once = auroc_with_interval(truth, score, patients)
    ten_times = auroc_with_interval(truth.repeat(10), score.repeat(10), patients.repeat(10))
    assert ten_times == pytest.approx(once)


def test_the_auroc_interval_has_hanley_and_mcneil_s_width() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], [300, 200])
    auroc, low, high = auroc_with_interval(truth, truth + rng.normal(size=500), np.arange(500))
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    error = np.sqrt((auroc * (1 - auroc) + 199 * (q1 - auroc**2) + 299 * (q2 - auroc**2)) / (200 * 300))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.12)


def test_resamples_of_one_class_are_left_out() -> None:
    truth, score = np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.6, 0.4])
    estimate = auroc_with_interval(truth, score, np.arange(4))
    assert estimate.estimate == pytest.approx(2 / 3)
    assert 0 <= estimate.lower < estimate.estimate < estimate.upper <= 1


def test_an_interval_that_only_a_few_resamples_define_is_not_given() -> None:
    replicates = np.full(1000, np.nan)
    replicates[:400] = 0.5
    assert np.isnan(percentile_interval(replicates)).all()
    replicates[:600] = 0.5
    assert percentile_interval(replicates) == (0.5, 0.5)


def test_a_perfect_figure_gets_the_exact_interval_of_its_patients() -> None:
    perfect = estimate_with_interval(1.0, np.ones(100), 20)
    assert perfect == pytest.approx((1, 0.025 ** (1 / 20), 1))
    assert np.isnan(estimate_with_interval(1.0, np.ones(100)).lower)
    nothing = estimate_with_interval(0.0, np.zeros(100), 20)
    assert nothing == pytest.approx((0, 0, 1 - 0.025 ** (1 / 20)))


def test_a_perfect_auroc_is_judged_by_its_disjoint_pairs_of_patients() -> None:
    truth = np.repeat([0, 1], [30, 12])
    estimate = auroc_with_interval(truth, truth * 1.0, np.arange(42))
    assert estimate == pytest.approx((1, 0.025 ** (1 / 12), 1))


def test_one_patient_gives_no_interval() -> None:
    estimate = auroc_with_interval(np.array([0, 1]), np.array([0.2, 0.7]), np.array(["a", "a"]))
    assert estimate.estimate == 1
    assert np.isnan(estimate.lower)


def test_undefined_figures_stand_as_none_in_json() -> None:
    assert estimate_with_interval(np.nan, np.full(10, np.nan)).for_json() == {
        "estimate": None,
        "lower": None,
        "upper": None,
    }


def test_the_mean_over_groups_is_unweighted_and_narrower_than_each() -> None:
    rng = np.random.default_rng(0)
    here = {"auroc": Estimate(0.7, 0.66, 0.74)}, {"auroc": rng.normal(0.7, 0.02, 1000)}
    there = (
        {"auroc": Estimate(0.9, 0.86, 0.94), "only there": Estimate(1, 1, 1)},
        {"auroc": rng.normal(0.9, 0.02, 1000)},
    )
    mean = mean_over_groups([here, there])
    assert set(mean) == {"auroc"}
    assert mean["auroc"].estimate == pytest.approx(0.8)
    assert mean["auroc"].upper - mean["auroc"].lower == pytest.approx(2 * 1.96 * 0.02 / np.sqrt(2), rel=0.1)
