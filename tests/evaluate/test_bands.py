"""Curves with bands against scikit-learn's curves."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from cxrtriage.evaluate.bands import GRID, calibration_band, roc_and_precision_bands
from cxrtriage.metrics import auroc


def films(number: int = 300, levels: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, number)
    score = 1 / (1 + np.exp(-(truth * 1.5 - 0.75 + rng.normal(size=number))))
    return truth, np.round(score * levels) / levels, rng.integers(0, number // 2, number)


@pytest.mark.parametrize("levels", [1000, 5])
def test_the_roc_curve_is_scikit_learn_s(levels: int) -> None:
    truth, score, patients = films(levels=levels)
    alarms, found, _ = roc_curve(truth, score, drop_intermediate=False)
    band, _ = roc_and_precision_bands(truth, score, patients)
    assert band.y == pytest.approx(np.interp(GRID, alarms, found))
    assert np.trapezoid(band.y, band.x) == pytest.approx(auroc(truth, score), abs=0.01)


@pytest.mark.parametrize("levels", [1000, 5])
def test_precision_is_that_of_the_strictest_threshold_that_reaches_a_sensitivity(levels: int) -> None:
    truth, score, patients = films(levels=levels)
    precision, sensitivity, _ = precision_recall_curve(truth, score)
    _, band = roc_and_precision_bands(truth, score, patients)
    for at, found in zip(GRID[1:], band.y[1:], strict=True):
        assert found == pytest.approx(precision[np.flatnonzero(sensitivity >= at - 1e-9)[-1]])


def test_bands_hold_the_curve_and_narrow_with_more_patients() -> None:
    widths = []
    for number in (100, 1600):
        for band in roc_and_precision_bands(*films(number)):
            inside = (band.low <= band.y + 1e-9) & (band.y <= band.high + 1e-9)
            assert inside.mean() > 0.97
            widths.append((band.high - band.low).mean())
    assert widths[2] < widths[0] / 2
    assert widths[3] < widths[1] / 2


def test_calibration_points_are_shares_of_bins_with_exact_intervals() -> None:
    truth, probability = np.repeat([1, 0, 1, 0], [2, 8, 30, 10]), np.repeat([0.14, 0.16, 0.92, 1.0], [2, 8, 30, 10])
    band = calibration_band(truth, probability, np.arange(50), bins=10)
    assert band.x == pytest.approx([0.156, 0.94])
    assert band.y == pytest.approx([0.2, 0.75])
    assert (band.low[0], band.high[0]) == pytest.approx((0.0252, 0.5561), abs=1e-3)
    of_one_patient = calibration_band(truth, probability, np.zeros(50), bins=10)
    assert of_one_patient.high[0] - of_one_patient.low[0] > 0.9


def test_a_prevalence_counts_films_as_if_that_share_were_abnormal() -> None:
    truth, score, patients = films(200)
    twice = np.r_[np.arange(200), np.flatnonzero(truth == 0)]  # every normal film again
    prevalence = truth.sum() / len(twice)
    assumed, counted = (
        roc_and_precision_bands(truth, score, patients, prevalence=prevalence),
        roc_and_precision_bands(truth[twice], score[twice], patients[twice]),
    )
    for one, other in zip(assumed, counted, strict=True):
        assert one.y == pytest.approx(other.y, abs=1e-5)
    one = calibration_band(truth, score, patients, bins=5, prevalence=prevalence)
    other = calibration_band(truth[twice], score[twice], patients[twice], bins=5)
    assert (one.x, one.y) == (pytest.approx(other.x, abs=1e-5), pytest.approx(other.y, abs=1e-5))
