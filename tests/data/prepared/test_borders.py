"""Borders and markers, on films whose borders are known."""

import numpy as np
import pytest

from cxrtriage.data.prepared.borders import MOST_CUT_PER_SIDE, border_and_markers, find_window
from films import film_pixels


def film_without_border(height: int = 600, width: int = 500) -> np.ndarray:
    """A 12-bit film that nowhere reaches the ends of the range and is even along no line."""
    slope = np.linspace(0, 1200, height)[:, None] + np.linspace(0, 800, width)
    return (film_pixels(height, width) * 0.4 + slope + 300).astype(np.uint16)


def film_in_a_border(level: int, noise: float = 0.0, margin: int = 40) -> np.ndarray:
    """A film with a border of `margin` around it."""
    film = np.random.default_rng(1).normal(level, noise, (600 + 2 * margin, 500 + 2 * margin))
    film[margin:-margin, margin:-margin] = film_without_border()
    return film.clip(0, 4095).astype(np.uint16)


@pytest.mark.parametrize(("level", "noise"), [(0, 0), (0, 30), (150, 25), (4095, 0)])
def test_a_constant_or_noisy_border_is_cut(level: int, noise: float) -> None:
    rows, columns = find_window(film_in_a_border(level, noise))
    for found, side in ((rows, 680), (columns, 580)):
        assert abs(found.start - 40) <= 2
        assert abs(found.stop - (side - 40)) <= 2


def test_a_border_of_steps_with_a_marker_in_it_is_cut() -> None:
    film = film_in_a_border(0)
    film[:5] = 4095  # the scanner's frame
    film[10:30, 100:115] = 4000  # a marker
    rows, _ = find_window(film)
    assert abs(rows.start - 40) <= 2


def test_a_film_without_border_stays_whole() -> None:
    assert find_window(film_without_border(300, 260)) == (slice(0, 300), slice(0, 260))


def test_a_bright_even_abdomen_is_no_border() -> None:
    film = film_without_border()
    film[500:] = np.linspace(3600, 3660, 500)  # 2 % of the range: a dark border this even is cut
    assert find_window(film)[0] == slice(0, 600)
    film[500:] -= 3300
    assert find_window(film)[0] == slice(0, 500)


def test_at_most_the_stated_share_is_cut() -> None:
    film = film_in_a_border(0, margin=400)
    rows, columns = find_window(film)
    assert rows == slice(int(MOST_CUT_PER_SIDE * 1400), 1400 - int(MOST_CUT_PER_SIDE * 1400))
    assert columns.start == int(MOST_CUT_PER_SIDE * 1300)


@pytest.mark.parametrize("scale", [1, 3])
def test_border_and_markers_are_left_out_and_nothing_else(scale: int) -> None:
    film = film_in_a_border(0)
    film[100:130, 80:95] = 4095  # a marker on the patient
    film[300:303, 200:203] = 0  # dark, but not at the edge
    film = film.repeat(scale, axis=0).repeat(scale, axis=1)
    expected = np.ones(film.shape, dtype=bool)
    expected[40 * scale : -40 * scale, 40 * scale : -40 * scale] = False
    expected[100 * scale : 130 * scale, 80 * scale : 95 * scale] = True
    assert (border_and_markers(film) != expected).mean() < 0.002


def test_a_film_that_is_mostly_extreme_is_counted_whole() -> None:
    film = film_without_border(300, 260)
    film[:, 100:] = 0
    assert not border_and_markers(film).any()
