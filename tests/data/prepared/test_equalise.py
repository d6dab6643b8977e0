"""Equalisation, against scikit-image's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.exposure import equalize_hist

from cxrtriage.data.prepared.equalise import EXACT_IN_FLOAT32, codes, count_levels, equalising_table

DTYPES = [np.uint8, np.uint16, np.int8, np.int16]


@st.composite
def films(draw: st.DrawFn) -> np.ndarray:
    """Films of any type and small size: of all levels, of a few, of one."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
    limits = np.iinfo(dtype)
    levels = draw(st.lists(st.integers(limits.min, limits.max), min_size=1, max_size=6))
    kind = draw(st.sampled_from(["all", "few"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "few":
        return random.choice(np.array(levels, dtype=dtype), shape)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@settings(max_examples=150, deadline=None)
@given(films())
def test_equalised_values_are_those_of_scikit_image_to_the_last_bit(film: np.ndarray) -> None:
    table = equalising_table(count_levels(film), film.dtype)
    np.testing.assert_array_equal(table[codes(film)], equalize_hist(film))


@settings(max_examples=60, deadline=None)
@given(films(), st.integers(0, 2**32))
def test_with_pixels_left_out_the_counted_levels_are_those_of_scikit_image(film: np.ndarray, seed: int) -> None:
    left_out = np.random.default_rng(seed).random(film.shape) < 0.3
    left_out[0, 0] = False
    values = equalising_table(count_levels(film, left_out), film.dtype)[codes(film)]
    counted = film[~left_out]
    inside = (film >= counted.min()) & (film <= counted.max())
    np.testing.assert_array_equal(values[inside], equalize_hist(film, mask=~left_out)[inside])
    assert (values[film < counted.min()] == 0).all()
    assert (values[film > counted.max()] == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_are_those_of_a_plain_count(dtype: type) -> None:
    limits = np.iinfo(dtype)
    film = np.random.default_rng(0).integers(limits.min, limits.max, (90, 70), dtype=dtype, endpoint=True)
    levels, counts = np.unique(film, return_counts=True)
    found = count_levels(film)
    assert found.sum() == film.size
    np.testing.assert_array_equal(found[levels.astype(int) - limits.min], counts)


def test_a_level_with_more_pixels_than_float32_can_count_is_counted_exactly() -> None:
    film = np.full((4001, 4900), 7, dtype=np.uint8)  # as large as the largest digitised films
    film[0, :3] = 9
    counts = count_levels(film)
    assert film.size > EXACT_IN_FLOAT32
    assert counts[7] == film.size - 3
    assert counts[9] == 3


def test_films_that_are_views_with_gaps_are_counted_right() -> None:
    film = np.random.default_rng(1).integers(0, 4096, (64, 60), dtype=np.uint16)
    np.testing.assert_array_equal(count_levels(film[5:50, 7:40]), count_levels(film[5:50, 7:40].copy()))
