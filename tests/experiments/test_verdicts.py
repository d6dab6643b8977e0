"""What an interval means is laid down, at its very ends too."""

import pytest

from cxrtriage.evaluate.intervals import Estimate
from cxrtriage.experiments.verdicts import FALLS, MARGIN, STANDS, UNKNOWN, sentence, signed, verdict

GOOD, CHANCE = Estimate(0.8, 0.75, 0.85), Estimate(0.52, 0.45, 0.59)
NAN = float("nan")


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (-0.01, 0.01, STANDS),
        (-MARGIN, MARGIN, STANDS),  # the ends belong to the margin
        (0.005, 0.015, STANDS),  # surely a difference, and surely a little one
        (-MARGIN, MARGIN + 1e-9, UNKNOWN),
        (MARGIN, 0.05, UNKNOWN),
        (MARGIN + 1e-9, 0.05, FALLS),
        (-0.05, -MARGIN - 1e-9, FALLS),
        (-0.05, -MARGIN, UNKNOWN),
        (-0.1, 0.1, UNKNOWN),
        (NAN, NAN, UNKNOWN),
    ],
)
def test_a_claim_stands_within_the_margin_and_falls_outside(lower: float, upper: float, expected: str) -> None:
    found = Estimate((lower + upper) / 2, lower, upper)
    assert verdict(found, GOOD, GOOD, seeds=3) == expected


def test_one_run_each_settles_nothing() -> None:
    assert verdict(Estimate(0.0, -0.001, 0.001), GOOD, GOOD, seeds=1) == UNKNOWN


def test_two_arms_that_learnt_nothing_settle_nothing() -> None:
    same = Estimate(0.0, -0.01, 0.01)
    assert verdict(same, CHANCE, CHANCE, seeds=3) == UNKNOWN
    assert verdict(Estimate(-0.3, -0.4, -0.2), CHANCE, GOOD, seeds=3) == FALLS


def test_the_sentence_has_the_numbers_and_the_verdict() -> None:
    arms = GOOD, Estimate(0.81, 0.77, 0.86)
    text = sentence(("512 × 512", "224 × 224"), arms, Estimate(-0.01, -0.018, 0.002), "pixels change little", STANDS, 3)
    assert text == (
        "512 × 512: AUROC 0.800, against 0.810 with 224 × 224, a difference of −0.010 (95 % interval −0.018 to +0.002)."
        " The claim that pixels change little stands."
    )


@pytest.mark.parametrize(
    ("lower", "upper", "seeds", "said"),
    [(0.001, 0.1, 3, "better."), (-0.1, -0.001, 3, "worse."), (-0.1, 0.1, 3, UNKNOWN), (0.001, 0.1, 1, UNKNOWN)],
)
def test_without_a_claim_the_sentence_says_which_is_better(lower: float, upper: float, seeds: int, said: str) -> None:
    text = sentence(("a", "b"), (GOOD, GOOD), Estimate(0.0, lower, upper), "", "", seeds)
    assert said in text
    assert ("one run each" in text) == (seeds == 1)


def test_what_is_not_known_is_said_so() -> None:
    assert signed(Estimate(0.1, NAN, NAN)) == "+0.100 (95 % interval unknown to unknown)"
