"""The learning rate of each step, and the steps that a time budget allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrtriage.train.schedule import FLOOR, learning_rate, steps_in_time


def test_the_studys_rate_is_constant() -> None:
    assert {learning_rate(step, 100, 0.001, "study") for step in range(100)} == {0.001}


def test_the_clinical_rate_rises_then_falls_along_a_cosine() -> None:
    rates = [learning_rate(step, 1000, 0.001, "clinical") for step in range(1000)]
    assert rates[:50] == pytest.approx([0.001 * (step + 1) / 50 for step in range(50)])
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[525] == pytest.approx(0.001 * (1 + FLOOR) / 2)  # half-way down
    assert rates[-1] == pytest.approx(0.001 * FLOOR, rel=0.001)


@given(st.integers(1, 50), st.integers(0, 60))
def test_the_rate_is_never_zero_or_above_the_highest(total: int, step: int) -> None:
    assert 0 < learning_rate(step, total, 0.01, "clinical") <= 0.01


@given(
    remaining=st.floats(0, 10_000),
    step_s=st.floats(0.01, 100),
    validation_s=st.floats(0, 100),
    step=st.integers(0, 1000),
    per_epoch=st.integers(1, 500),
)
def test_the_steps_in_time_and_their_validations_end_in_time(
    remaining: float, step_s: float, validation_s: float, step: int, per_epoch: int
) -> None:
    total = steps_in_time(remaining, step_s, validation_s, step, per_epoch, most=10**9)
    assert total >= step
    further = total - step
    if further:
        assert further * step_s + (further // per_epoch) * validation_s + validation_s <= remaining
    wasted = remaining - further * (step_s + validation_s / per_epoch) - validation_s
    assert wasted <= 0.03 * remaining + step_s + validation_s / per_epoch + 1e-6


def test_a_budget_never_lengthens_a_run() -> None:
    assert steps_in_time(1e9, 1, 1, 5, 10, most=70) == 70
