"""Calibration against scikit-learn's logistic regression, and what happens where it has no answer."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cxrtriage.evaluate.calibration import calibration_slope_intercept, fit_calibration, why_not_calibrated
from cxrtriage.metrics import logit, sigmoid


def films(number: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and truth, where the true chance of abnormal is sigmoid(slope * logit + intercept)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, number)
    return logits, (rng.random(number) < sigmoid(slope * logits + intercept)).astype(int)


@pytest.mark.parametrize(("number", "slope", "intercept"), [(60, 0.8, 0.5), (500, 0.4, -1.0), (3000, 2.5, 0.2)])
def test_the_slope_is_that_of_a_logistic_regression(number: int, slope: float, intercept: float) -> None:
    logits, truth = films(number, slope, intercept)
    expected = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(logits[:, None], truth).coef_[0, 0]
    found, _ = calibration_slope_intercept(sigmoid(logits), truth)
    assert found == pytest.approx(expected, rel=1e-4 if number <= 2000 else 1e-3)  # beyond, logits are put on a grid


def test_the_intercept_makes_the_mean_probability_the_share_of_abnormal_films() -> None:
    logits, truth = films(400, 1.0, -0.7)
    _, intercept = calibration_slope_intercept(sigmoid(logits), truth)
    assert sigmoid(logits + intercept).mean() == pytest.approx(truth.mean(), abs=1e-4)


def test_probabilities_that_mean_what_they_say_have_slope_1_and_intercept_0() -> None:
    logits, truth = films(100_000, 1.0, 0.0)
    slope, intercept = calibration_slope_intercept(sigmoid(logits), truth)
    assert slope == pytest.approx(1, abs=0.03)
    assert intercept == pytest.approx(0, abs=0.03)


def test_each_row_of_weights_is_fitted_as_if_it_were_alone() -> None:
    logits, truth = films(200, 0.7, 0.3)
    times = np.random.default_rng(1).integers(0, 3, (4, 200))
    slopes, intercepts = calibration_slope_intercept(sigmoid(logits), truth, times)
    for row, slope, intercept in zip(times, slopes, intercepts, strict=True):
        alone = calibration_slope_intercept(np.repeat(sigmoid(logits), row), np.repeat(truth, row))
        assert (slope, intercept) == pytest.approx(alone, rel=1e-6)


def test_what_has_no_slope_is_nan_without_a_warning() -> None:
    separated = calibration_slope_intercept(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    touching = calibration_slope_intercept(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0, 0, 1, 1]))
    all_equal = calibration_slope_intercept(np.full(4, 0.3), np.array([0, 0, 1, 1]))
    saturated = calibration_slope_intercept(np.ones(30), np.repeat([0, 1], 15), np.ones((3, 30)))
    assert np.isnan(saturated[0]).all()
    for slope, intercept in (separated, touching, all_equal):
        assert np.isnan(slope)
        assert np.isfinite(intercept)
    assert all_equal[1] == pytest.approx(-logit(0.3))
    for truth in (np.zeros(4), np.ones(4)):
        assert np.isnan(calibration_slope_intercept(np.array([0.1, 0.5, 0.6, 0.9]), truth)).all()
    assert np.isnan(calibration_slope_intercept(np.array([]), np.array([]))).all()


def test_decisions_in_place_of_probabilities_give_finite_figures() -> None:
    slope, intercept = calibration_slope_intercept(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 1, 0, 1]))
    assert slope == pytest.approx(0, abs=1e-6)
    assert intercept == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("temperature", "intercept"), [(1.0, 0.0), (3.0, -0.5), (0.4, 1.0)])
def test_fitting_recovers_temperature_and_intercept(temperature: float, intercept: float) -> None:
    logits, truth = films(50_000, 1 / temperature, intercept)
    fitted = fit_calibration(logits, truth)
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.intercept == pytest.approx(intercept, abs=0.05)


def test_fitted_probabilities_are_calibrated_on_the_films_they_were_fitted_on() -> None:
    logits, truth = films(5000, 0.3, -1.0)
    fitted = fit_calibration(logits, truth)
    slope, offset = calibration_slope_intercept(sigmoid(logits / fitted.temperature + fitted.intercept), truth)
    assert (slope, offset) == pytest.approx((1, 0), abs=0.01)


def test_a_weight_counts_a_film_as_often_as_repeating_it() -> None:
    logits, truth = films(80, 1.0, 0.0)
    times = np.random.default_rng(2).integers(1, 4, 80)
    weighted, repeated = (
        fit_calibration(logits, truth, times),
        fit_calibration(np.repeat(logits, times), truth.repeat(times)),
    )
    assert weighted.temperature == pytest.approx(repeated.temperature, rel=1e-4)
    assert weighted.intercept == pytest.approx(repeated.intercept, abs=1e-4)


def test_films_that_logits_separate_without_error_give_a_finite_temperature() -> None:
    fitted = fit_calibration(np.r_[np.full(20, -3.0), np.full(20, 3.0)], np.repeat([0, 1], 20))
    highest = sigmoid(3 / fitted.temperature + fitted.intercept)
    assert highest == pytest.approx(21 / 22, abs=1e-3)  # Platt's target of 20 films


def test_scale_of_the_logits_does_not_matter() -> None:
    logits, truth = films(300, 1.0, 0.3)
    small, large = fit_calibration(logits * 1e-3, truth), fit_calibration(logits * 1e3, truth)
    assert large.temperature / small.temperature == pytest.approx(1e6, rel=1e-2)


@pytest.mark.parametrize(
    ("logits", "truth", "reason"),
    [
        (np.zeros(30), np.ones(30), "30 abnormal and 0 normal films, expected at least 10 of each"),
        (np.arange(15.0), np.repeat([0, 1], [6, 9]), "9 abnormal and 6 normal films"),
        (np.arange(40.0), np.repeat([1, 0], 20), "does not score abnormal films higher"),
        (np.zeros(40), np.repeat([1, 0], 20), "does not score abnormal films higher"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_with_the_reason(
    logits: np.ndarray, truth: np.ndarray, reason: str
) -> None:
    assert why_not_calibrated(logits, truth).startswith("not calibrated: ")
    with pytest.raises(ValueError, match=reason):
        fit_calibration(logits, truth)
