"""Markers and writing lie where they are on real films, and stay on the film."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxrtriage.data.phantom.confounders import WORDS, burn_in, side_marker
from cxrtriage.data.phantom.projection import View, add_tubes

LOOKS = arrays(np.float64, 5, elements=st.floats(0, 0.999))
PA = View(np.array([5.0, -10.0, -1700.0]), 130.0, 0.8, 512)
AP = View(np.array([5.0, -10.0, 1000.0]), -130.0, 0.8, 512)


@settings(max_examples=40, deadline=None)
@given(look=LOOKS, from_behind=st.booleans())
def test_l_lies_on_the_left_and_r_on_the_right_in_an_upper_corner(look: np.ndarray, from_behind: bool) -> None:
    view = PA if from_behind else AP
    canvas = np.zeros((view.size, view.size), dtype=np.float32)
    add_tubes(canvas, side_marker(view, look), view)
    rows, columns = np.nonzero(canvas)
    assert len(rows) > 0
    assert rows.max() < 0.3 * view.size
    is_left = look[0] < 0.55
    assert (columns.min() > view.size / 2) if is_left else (columns.max() < view.size / 2)


@settings(max_examples=40, deadline=None)
@given(look=LOOKS, size=st.sampled_from([64, 200, 512]), view_position=st.sampled_from(sorted(WORDS)))
def test_writing_is_white_and_lies_in_an_upper_corner(look: np.ndarray, size: int, view_position: str) -> None:
    pixels = np.full((size, size), 300, dtype=np.uint16)
    burn_in(pixels, 12, view_position, look)
    rows, columns = np.nonzero(pixels != 300)
    assert len(rows) > 0
    assert 300 < pixels.max() < 2**12
    assert pixels.min() == 300  # it covers, and darkens nothing
    assert rows.max() < 0.25 * size
    if size > 64:  # on the smallest films the letters cannot get any smaller
        assert columns.max() < size / 2 or columns.min() > size / 2


@pytest.mark.parametrize("view_position", sorted(WORDS))
def test_writing_is_the_same_share_of_a_film_of_any_size(view_position: str) -> None:
    shares = []
    for size in (512, 1024, 2048):
        pixels = np.zeros((size, size), dtype=np.uint16)
        burn_in(pixels, 14, view_position, np.full(5, 0.4))
        shares.append((pixels > 0).mean())
    assert max(shares) < 1.6 * min(shares)
