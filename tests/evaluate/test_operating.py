"""Operating points: what is promised holds, what cannot be promised is refused, thresholds are the best there are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrtriage.evaluate.operating import OperatingChoice, choose_operating_points, patients_needed


def films(abnormal: int, normal: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.repeat([1, 0], [abnormal, normal])
    score = 1 / (1 + np.exp(-rng.normal(truth * 1.5, 1)))
    return truth, score, np.arange(abnormal + normal)


def thresholds(choice: OperatingChoice) -> dict[str, float]:
    return {point.name: point.threshold for point in choice.points}


def test_a_sensitivity_is_promised_from_59_abnormal_patients_on() -> None:
    enough, too_few = choose_operating_points(*films(59, 60)), choose_operating_points(*films(58, 60))
    assert enough.decision == "sensitivity 0.95"
    assert enough.points[0].abnormal_patients == 59
    assert enough.points[0].sensitivity[0] == 1.0
    assert too_few.decision == "youden"
    assert too_few.undetermined["sensitivity 0.95"] == (
        "sensitivity 0.95 cannot be determined: validation has 58 abnormal patients, and 59 of 59 found are the fewest "
        "that show a sensitivity of 0.95 with 95 % confidence."
    )


def test_with_59_patients_no_abnormal_film_may_be_missed_and_with_93_one_may() -> None:
    for abnormal, missed in ((59, 0), (93, 1), (124, 2)):
        truth, score, patients = films(abnormal, 50)
        threshold = thresholds(choose_operating_points(truth, score, patients))["sensitivity 0.95"]
        assert (score[truth == 1] < threshold).sum() == missed


def test_the_promise_holds_for_films_never_seen() -> None:
    """In at least 95 % of validation sets the true sensitivity at the chosen threshold is 0.95 or more."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(150):
        score = np.r_[rng.uniform(size=120), 0.0]
        choice = choose_operating_points(np.r_[np.ones(120), 0], score, np.arange(121))
        held.append(1 - thresholds(choice)["sensitivity 0.95"] >= 0.95)  # the sensitivity for uniform scores
    assert np.mean(held) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)


def test_many_films_of_few_patients_promise_nothing() -> None:
    truth, score, _ = films(300, 300)
    choice = choose_operating_points(truth, score, np.arange(600) // 10)
    assert "sensitivity 0.95" in choice.undetermined
    assert choice.points[0].abnormal_patients == 30


def test_a_patient_whose_films_are_partly_found_counts_in_part() -> None:
    truth, score, patients = films(100, 40)
    lowest = np.argsort(score[:100])[:3]
    one_film_each = thresholds(choose_operating_points(truth, score, patients))["sensitivity 0.95"]
    assert score[lowest[0]] < one_film_each < score[lowest[1]]  # 1 of 100 may be missed
    # With ten more films of that patient, all found, only an eleventh of a patient is missed: another one may be.
    more = np.full(10, 0.99)
    again = choose_operating_points(
        np.r_[truth, np.ones(10, int)], np.r_[score, more], np.r_[patients, np.full(10, lowest[0])]
    )
    assert score[lowest[1]] < thresholds(again)["sensitivity 0.95"] < score[lowest[2]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=30, max_size=60), st.floats(0.2, 20))
def test_youden_and_cost_thresholds_are_the_best_of_all(drawn: list[tuple[bool, int]], cost: float) -> None:
    truth = np.array([abnormal for abnormal, _ in drawn] + [True] * 10 + [False] * 10)
    score = np.array([level for _, level in drawn] + list(range(10)) * 2) / 9
    found = thresholds(choose_operating_points(truth, score, np.arange(len(truth)), cost_of_a_miss=cost))

    def youden(threshold: float) -> float:
        return float((score[truth] >= threshold).mean() + (score[~truth] < threshold).mean())

    def price(threshold: float) -> float:
        return float(cost * (score[truth] < threshold).sum() + (score[~truth] >= threshold).sum())

    candidates = np.unique(score)
    assert youden(found["youden"]) == pytest.approx(max(youden(at) for at in candidates))
    assert price(found[f"cost {cost:g}:1"]) == pytest.approx(min(price(at) for at in candidates))


def test_thresholds_lie_halfway_between_scores() -> None:
    truth, score, patients = films(80, 80)
    for threshold in thresholds(choose_operating_points(truth, score, patients)).values():
        above, below = score[score >= threshold].min(), score[score < threshold].max(initial=0)
        assert threshold == pytest.approx((above + below) / 2)


def test_what_a_point_reached_is_measured_over_films_with_an_interval_over_patients() -> None:
    truth, score, patients = films(120, 150)
    for point in choose_operating_points(truth, score, patients).points:
        assert point.sensitivity[0] == pytest.approx((score[truth == 1] >= point.threshold).mean())
        assert point.specificity[0] == pytest.approx((score[truth == 0] < point.threshold).mean())
        for estimate, low, high in (point.sensitivity, point.specificity):
            assert low <= estimate <= high
        assert (point.abnormal_patients, point.normal_patients) == (120, 150)


@pytest.mark.parametrize("counts", [(9, 40), (40, 9), (0, 40), (5, 0)])
def test_too_few_patients_of_a_class_leave_the_plain_threshold(counts: tuple[int, int]) -> None:
    choice = choose_operating_points(*films(*counts), split="the set")
    assert choice.points == []
    assert choice.decision == "0.5"
    assert "expected at least 10 of each" in choice.undetermined["youden"]
    assert choice.undetermined["cost 5:1"].startswith("cost 5:1 cannot be determined: the set has")


def test_scores_that_are_all_equal_flag_every_film() -> None:
    choice = choose_operating_points(np.repeat([0, 1], 60), np.full(120, 0.4), np.arange(120))
    assert thresholds(choice) == {"sensitivity 0.95": 0.0, "youden": 0.0, "cost 5:1": 0.0}


def test_other_targets_need_other_numbers_of_patients() -> None:
    assert patients_needed(0.9) == 29
    assert patients_needed(0.99) == 299
    choice = choose_operating_points(*films(30, 30), target_sensitivity=0.9)
    assert choice.decision == "sensitivity 0.9"
