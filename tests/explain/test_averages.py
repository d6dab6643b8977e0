"""Means over films with intervals over patients."""

import numpy as np
import pytest

from cxrtriage.evaluate.intervals import exact_interval
from cxrtriage.explain.averages import difference_figure, mean_figure, ratio_figure

PATIENTS = np.array(["a", "a", "b", "c", "d", "e"])
VALUES = np.array([0.1, 0.2, 0.5, 0.4, 0.9, 0.3])


def test_mean_lies_in_its_interval_and_leaves_undefined_films_out() -> None:
    figure = mean_figure(np.append(VALUES, np.nan), np.append(PATIENTS, "f"))
    assert figure["estimate"] == pytest.approx(VALUES.mean())
    assert figure["lower"] < figure["estimate"] < figure["upper"]  # type: ignore[operator]
    assert figure == mean_figure(VALUES, PATIENTS)


def test_share_of_all_patients_has_the_exact_interval() -> None:
    figure = mean_figure(np.ones(6), PATIENTS, share=True)
    assert (figure["lower"], figure["upper"]) == exact_interval(5, 5)


def test_ratio_is_that_of_the_sums_so_a_tiny_lesion_does_not_rule() -> None:
    figure = ratio_figure(np.array([0.1, 0.5]), np.array([0.001, 0.5]), np.array(["a", "b"]))
    assert figure["estimate"] == pytest.approx(0.6 / 0.501)


def test_nothing_has_no_figure_and_one_patient_no_interval() -> None:
    nothing = dict.fromkeys(("estimate", "lower", "upper"))
    assert mean_figure(np.array([np.nan]), np.array(["a"])) == nothing
    assert difference_figure(VALUES, VALUES[:0], PATIENTS, PATIENTS[:0]) == nothing
    assert mean_figure(VALUES, np.full(6, "a")) == {"estimate": pytest.approx(0.4), "lower": None, "upper": None}


def test_difference_of_the_same_films_is_surely_nothing_where_patients_are_shared() -> None:
    """Both films of a patient are drawn together, so what patients differ by cancels."""
    figure = difference_figure(VALUES, VALUES, PATIENTS, PATIENTS)
    assert figure["estimate"] == 0
    assert figure["lower"] is None or abs(figure["lower"]) < 1e-6
    apart = difference_figure(VALUES, VALUES, PATIENTS, np.char.add(PATIENTS, "x"))
    assert apart["lower"] < -0.05 < 0.05 < apart["upper"]  # type: ignore[operator]
