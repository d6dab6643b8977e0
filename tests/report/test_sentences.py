"""What the page says in words agrees with the figures, worked out by hand."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cxrtriage.evaluate.evaluation import evaluate_predictions
from cxrtriage.report.films import grouped_reasons
from cxrtriage.report.head import audit_in_words
from cxrtriage.report.results import _worth, calibration_in_words
from cxrtriage.report.svg import Panel, range_mark
from cxrtriage.report.training import gap_in_words, kept_epoch
from cxrtriage.report.words import NARROW, of_100, percent
from prediction_tables import study_predictions


def history(validation_loss: list[float], auroc: list[float]) -> pd.DataFrame:
    epochs = len(auroc)
    return pd.DataFrame(
        {
            "epoch": np.arange(1, epochs + 1),
            "train_loss": np.linspace(0.7, 0.2, epochs),
            "train_accuracy": np.linspace(0.5, 0.9, epochs),
            "validation_loss": validation_loss,
            "validation_accuracy": 0.7,
            "validation_auroc": auroc,
        }
    )


def test_predictive_values_are_bayes_rule() -> None:
    """The study's matrix: sensitivity 430/518, specificity 138/193, 518 of 711 abnormal."""
    rows = _worth(evaluate_predictions(study_predictions(), resamples=20))
    found, cleared = 430 / 518, 138 / 193
    at_5 = 0.05 * found / (0.05 * found + 0.95 * (1 - cleared))
    assert [row["prevalence"].replace(NARROW, " ") for row in rows] == ["1 %", "5 %", "20 %", "73 % (these films)"]
    assert rows[1]["ppv"] == percent(at_5)
    assert rows[3]["ppv"] == percent(430 / 485)
    assert rows[3]["npv"] == percent(138 / 226)


@pytest.mark.parametrize("missed", [1, 2, 3])
def test_a_rate_is_called_100_only_if_nothing_was_missed(missed: int) -> None:
    share = 1 - missed / 1000
    assert of_100({"estimate": share, "lower": None, "upper": None}) == "more than 99"
    assert percent(share).startswith("99.")
    assert of_100({"estimate": 1 - share, "lower": None, "upper": None}) == "fewer than 1"


def test_the_kept_epoch_has_the_highest_auroc_and_of_equal_ones_the_lowest_loss() -> None:
    runs = history([0.6, 0.5, 0.4, 0.7], [0.7, 0.8, 0.8, 0.75])
    assert kept_epoch(runs) == 3
    assert kept_epoch(history([0.6, 0.3, 0.4, 0.7], [np.nan] * 4)) == 2
    assert kept_epoch(history([0.6, 0.5, 0.4, 0.2], [0.7, 0.8, 0.8, 0.75]), "loss") == 4


@pytest.mark.parametrize(
    ("validation_loss", "ending"),
    [
        ([0.7, 0.6, 0.5, 0.4], "was lowest at the end"),
        (
            [0.7, 0.4, 0.5, 0.9],
            "After epoch 2 the validation loss rose from 0.400 to 0.900 while the training loss fell",
        ),
        ([0.7, 0.4, 0.9, 0.42], "ended within 0.05 of its lowest"),
    ],
)
def test_the_end_of_training_is_told_as_it_was(validation_loss: list[float], ending: str) -> None:
    assert ending in gap_in_words(history(validation_loss, [0.6, 0.7, 0.8, 0.75]), 3)[-1]


def test_the_gap_is_validation_less_training() -> None:
    """Epoch 2 of 3 has a training loss of 0.45."""
    sentences = gap_in_words(history([0.7, 0.6, 0.65], [0.6, 0.8, 0.7]), 2)
    assert (
        "0.450 on training and 0.600 on validation films, a gap of 0.150; the accuracy 70 and 70 of 100."
        in sentences[1]
    )


def test_calibration_is_called_wrong_only_where_the_interval_says_so() -> None:
    def figures(slope: tuple[float, float], intercept: tuple[float, float]) -> dict[str, dict[str, float | None]]:
        ends = {"calibration_slope": slope, "calibration_intercept": intercept}
        entries = {name: {"estimate": sum(both) / 2, "lower": both[0], "upper": both[1]} for name, both in ends.items()}
        return entries | {"ece": {"estimate": 0.05, "lower": None, "upper": None}}

    wide = " ".join(calibration_in_words(figures((0.8, 1.4), (-0.1, 0.3))))
    assert "neither shown to be too timid nor too extreme" in wide
    assert "neither shown to be too high nor too low" in wide
    narrow = " ".join(calibration_in_words(figures((1.1, 1.4), (-0.3, -0.1))))
    assert "too timid" in narrow
    assert "too high" in narrow
    assert "5 percentage points" in narrow


@pytest.mark.parametrize(
    ("can_show", "border_lower", "words"),
    [
        (True, 0.45, "better than without anatomy"),
        (True, 0.58, "better than without anatomy, but the border of the film alone tells something too"),
        (False, 0.45, "not shown to read anatomy"),
        (None, 0.45, "not determined"),
    ],
)
def test_the_audit_is_not_called_passed_where_the_border_tells_something(
    can_show: bool | None, border_lower: float, words: str
) -> None:
    border = {"estimate": 0.6, "lower": border_lower, "upper": 0.7}
    assert audit_in_words({"can_show_anatomy": can_show, "border_only": border}) == words


def test_reasons_for_leaving_films_out_are_grouped_without_any_name() -> None:
    rejects = pd.DataFrame(
        {
            "path": ["/a/smith.dcm", "/a/jones.png", "/a/roe.png"],
            "reason": [
                "cannot read /a/smith.dcm: colour",
                "cannot read /a/jones.png: colour",
                "the mask /b/roe_lung.png of roe.png has another shape; see roe_lesion.png.",
            ],
        }
    )
    reasons = grouped_reasons(rejects)
    assert reasons[0] == ("cannot read the film: colour", 2)
    assert not any(name in reason for reason, _ in reasons for name in ("smith", "jones", "roe"))


def test_a_chart_puts_values_where_its_axes_say() -> None:
    panel = Panel("x", "y", (0.0, 10.0), (0.0, 1.0))
    across = [panel.x(value) for value in np.linspace(0, 10, 11)]
    assert np.ptp(np.diff(across)) < 1e-9
    assert all(left < right for left, right in pairwise(across))
    assert panel.y(1.0) < panel.y(0.5) < panel.y(0.0) < panel.height
    assert panel.y(0.5) == pytest.approx((panel.y(0) + panel.y(1)) / 2)


def test_an_interval_lies_on_its_scale_and_never_beyond() -> None:
    mark = range_mark(0.75, 0.3, 1.0, 0.5, 1.0, 0.5, "s0")
    assert 'cx="50.00%"' in mark
    assert 'x1="0.00%" x2="100.00%"' in mark


@pytest.mark.parametrize("highest", [900.0, 9_000.0, 15_000.0, 60_000.0, 65_535.0])
def test_the_last_number_on_an_axis_stays_inside_the_picture(highest: float) -> None:
    panel = Panel("grey level", "pixels", (0.0, highest), width=210, height=160, ticks=(3, 0))
    ticks = re.findall(r'class="tick" x="([\d.]+)"[^>]*>([\d,]+)<', panel.svg("grey levels"))
    assert len(ticks) >= 3
    at, words = ticks[-1]
    assert float(at) + len(words) * 7.4 / 2 <= 210.05  # a digit of 12 pixels is at most 7.4 wide
