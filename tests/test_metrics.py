"""Every metric against scikit-learn and against a slow second implementation, ties and single classes included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from cxrtriage import metrics


@st.composite
def predictions(draw: st.DrawFn, both_classes: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Labels 0, 1, 2 and probabilities on a coarse grid, so that ties are common."""
    films = draw(st.integers(2, 40))
    labels = draw(st.lists(st.integers(0, 2), min_size=films, max_size=films))
    if both_classes:
        labels[:2] = [0, 1]
    scores = draw(st.lists(st.integers(0, 8), min_size=films, max_size=films))
    return np.array(labels), np.array(scores) / 8


def auroc_by_pairs(y_true: np.ndarray, y_score: np.ndarray) -> float:
    pairs = [(a > n) + 0.5 * (a == n) for a in y_score[y_true > 0] for n in y_score[y_true == 0]]
    return float(np.mean(pairs))


def average_precision_by_thresholds(y_true: np.ndarray, y_score: np.ndarray) -> float:
    total = reached = 0.0
    for threshold in sorted(set(y_score), reverse=True):
        called = y_score >= threshold
        sensitivity = (called & (y_true > 0)).sum() / (y_true > 0).sum()
        total += (sensitivity - reached) * (called & (y_true > 0)).sum() / called.sum()
        reached = sensitivity
    return total


def ece_by_bins(y_true: np.ndarray, probability: np.ndarray, bins: int) -> float:
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (probability >= low) & ((probability < high) | (number == bins - 1))
        if inside.any():
            error += inside.mean() * abs(probability[inside].mean() - (y_true[inside] > 0).mean())
    return error


@settings(deadline=None)
@given(predictions())
def test_auroc_is_that_of_scikit_learn_and_of_counting_pairs(films: tuple[np.ndarray, np.ndarray]) -> None:
    y_true, y_score = films
    assert metrics.auroc(y_true, y_score) == pytest.approx(reference.roc_auc_score(y_true > 0, y_score))
    assert metrics.auroc(y_true, y_score) == pytest.approx(auroc_by_pairs(y_true, y_score))


@settings(deadline=None)
@given(predictions())
def test_average_precision_is_that_of_scikit_learn_and_of_its_definition(films: tuple[np.ndarray, np.ndarray]) -> None:
    y_true, y_score = films
    found = metrics.average_precision(y_true, y_score)
    assert found == pytest.approx(reference.average_precision_score(y_true > 0, y_score))
    assert found == pytest.approx(average_precision_by_thresholds(y_true, y_score))


@settings(deadline=None)
@given(predictions(both_classes=False))
def test_brier_score_and_calibration_error_agree_with_second_sources(films: tuple[np.ndarray, np.ndarray]) -> None:
    y_true, probability = films
    slow = np.mean([(p - (label > 0)) ** 2 for label, p in zip(y_true, probability, strict=True)])
    assert metrics.brier_score(y_true, probability) == pytest.approx(slow)
    assert metrics.brier_score(y_true, probability) == pytest.approx(
        reference.brier_score_loss(y_true > 0, probability, pos_label=True)
    )
    for bins in (1, 7, 10):
        assert metrics.ece(y_true, probability, bins=bins) == pytest.approx(ece_by_bins(y_true, probability, bins))


@settings(deadline=None)
@given(predictions())
def test_the_confusion_matrix_and_what_is_read_off_it_agree_with_scikit_learn(
    films: tuple[np.ndarray, np.ndarray],
) -> None:
    y_true, score = films
    truth, called = y_true > 0, score >= 0.5
    matrix = metrics.confusion_matrix(y_true, called)
    assert matrix.tolist() == reference.confusion_matrix(truth, called, labels=[False, True]).tolist()
    assert metrics.accuracy(matrix) == pytest.approx(reference.accuracy_score(truth, called))
    assert metrics.sensitivity(matrix) == pytest.approx(reference.recall_score(truth, called))
    assert metrics.specificity(matrix) == pytest.approx(reference.recall_score(truth, called, pos_label=False))
    for label in (0, 1):
        expected = reference.f1_score(truth, called, pos_label=label, zero_division=np.nan)
        assert metrics.f1_score(matrix, label) == pytest.approx(expected, nan_ok=True)
    assert metrics.majority_accuracy(matrix) == pytest.approx(max(truth.mean(), 1 - truth.mean()))


@settings(deadline=None)
@given(predictions())
def test_ppv_and_npv_at_the_films_own_prevalence_are_the_shares_counted(films: tuple[np.ndarray, np.ndarray]) -> None:
    y_true, score = films
    truth, called = y_true > 0, score >= 0.5
    matrix = metrics.confusion_matrix(truth, called)
    rates = metrics.sensitivity(matrix), metrics.specificity(matrix), truth.mean()
    expected = truth[called].mean() if called.any() else np.nan
    assert metrics.ppv(*rates) == pytest.approx(expected, nan_ok=True)
    expected = (~truth[~called]).mean() if not called.all() else np.nan
    assert metrics.npv(*rates) == pytest.approx(expected, nan_ok=True)


def test_the_study_s_confusion_matrix_gives_the_study_s_figures() -> None:
    matrix = np.array([[138, 55], [88, 430]])
    figures = (metrics.accuracy(matrix), metrics.f1_score(matrix, 0), metrics.f1_score(matrix, 1))
    assert [round(float(figure), 3) for figure in figures] == [0.799, 0.659, 0.857]


WEIGHTED = (metrics.auroc, metrics.average_precision, metrics.brier_score, metrics.ece)


@settings(max_examples=50, deadline=None)
@given(predictions(), st.integers(0, 2**32 - 1))
def test_whole_weights_count_a_film_as_often_as_repeating_it(films: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    y_true, y_score = films
    times = np.random.default_rng(seed).integers(0, 4, size=(3, len(y_true)))
    for metric in WEIGHTED:
        for dtype in (np.float32, np.float64):
            rows = metric(y_true, y_score, times.astype(dtype))
            assert rows.shape == (3,)
            for row, found in zip(times, rows, strict=True):
                repeated = metric(np.repeat(y_true, row), np.repeat(y_score, row))
                assert found == pytest.approx(repeated, nan_ok=True, rel=1e-5)
    matrices = metrics.confusion_matrix(y_true, y_score >= 0.5, times)
    for row, matrix in zip(times, matrices, strict=True):
        again = metrics.confusion_matrix(np.repeat(y_true, row), np.repeat(y_score, row) >= 0.5)
        assert matrix.tolist() == again.tolist()


@pytest.mark.parametrize("label", [0, 1, 2])
def test_films_of_one_class_have_no_ranking_figure_and_give_no_warning(label: int) -> None:
    y_true, y_score = np.full(3, label), np.array([0.1, 0.5, 0.5])
    assert np.isnan(metrics.auroc(y_true, y_score))
    assert np.isnan(metrics.average_precision(y_true, y_score))
    matrix = metrics.confusion_matrix(y_true, y_score >= 0.5)
    absent = metrics.sensitivity if label == 0 else metrics.specificity
    assert np.isnan(absent(matrix))


def test_no_films_have_no_figures() -> None:
    nothing = np.array([])
    assert all(np.isnan(metric(nothing, nothing)) for metric in WEIGHTED)
    assert np.isnan(metrics.accuracy(metrics.confusion_matrix(nothing, nothing)))


def test_ranking_figures_do_not_depend_on_the_order_of_films() -> None:
    rng = np.random.default_rng(0)
    y_true, y_score, weight = rng.integers(0, 2, 200), rng.integers(0, 30, 200) / 30, rng.random((2, 200))
    order = np.argsort(y_score)
    for metric in WEIGHTED:
        shuffled = metric(y_true, y_score, weight)
        assert shuffled == pytest.approx(metric(y_true[order], y_score[order], weight[:, order]))


def test_weights_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weights of shape \(2,\) for 3 films"):
        metrics.auroc(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]), np.ones(2))


def test_shifting_the_prevalence_is_bayes_rule() -> None:
    """A test with 80 % sensitivity and 90 % specificity, positive: the share of the ill at either prevalence."""
    at_half = 0.8 * 0.5 / (0.8 * 0.5 + 0.1 * 0.5)
    at_tenth = 0.8 * 0.1 / (0.8 * 0.1 + 0.1 * 0.9)
    assert metrics.shift_prevalence(at_half, 0.5, 0.1) == pytest.approx(at_tenth)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_shifting_the_prevalence_moves_the_logit_by_the_difference_and_back(
    p: float, here: float, there: float
) -> None:
    shifted = metrics.shift_prevalence(p, here, there)
    assert 0 <= shifted <= 1
    assert metrics.shift_prevalence(shifted, there, here) == pytest.approx(p, abs=1e-9)
    if 1e-4 < p < 1 - 1e-4:
        moved = metrics.logit(p) + metrics.logit(there) - metrics.logit(here)
        assert shifted == pytest.approx(metrics.sigmoid(moved), abs=1e-9)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1])
def test_a_prevalence_of_nothing_or_everything_is_refused(prevalence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.shift_prevalence(0.5, 0.5, prevalence)


def test_logit_and_sigmoid_undo_each_other_and_stay_finite() -> None:
    probability = np.array([0.001, 0.3, 0.5, 0.9])
    assert metrics.sigmoid(metrics.logit(probability)) == pytest.approx(probability)
    assert np.isfinite(metrics.logit(np.array([0.0, 1.0]))).all()
    assert metrics.sigmoid(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]
