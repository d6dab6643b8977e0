"""Equalisation, against scikit-image's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.exposure import equalize_hist, rescale_intensity

from cxrtriage.data.prepared.equalise import (
    EXACT_IN_FLOAT32,
    codes,
    count_levels,
    equalise_locally,
    equalising_table,
    stretching_table,
)

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


@settings(max_examples=100, deadline=None)
@given(films())
def test_stretched_values_are_those_of_scikit_image(film: np.ndarray) -> None:
    if film.min() == film.max():  # where scikit-image divides by 0
        assert (stretching_table(count_levels(film), film.dtype)[codes(film)] == 0).all()
        return
    expected = rescale_intensity(film.astype(np.float64), out_range=(0, 1))
    found = stretching_table(count_levels(film), film.dtype)[codes(film)]
    np.testing.assert_allclose(found, expected, atol=1e-12)  # scikit-image subtracts in another order


def test_levels_left_out_of_the_count_are_cut_off_when_stretching() -> None:
    film = np.array([[0, 10, 20], [30, 40, 255]], dtype=np.uint8)
    left_out = (film == 0) | (film == 255)
    table = stretching_table(count_levels(film, left_out), film.dtype)
    np.testing.assert_allclose(table[film], [[0, 0, 1 / 3], [2 / 3, 1, 1]])


def slow_clahe(film: np.ndarray, tiles: int, clip: float) -> np.ndarray:
    """Zuiderveld's method, pixel by pixel, for films whose sides `tiles` divides."""
    height, width = film.shape[0] // tiles, film.shape[1] // tiles
    most = max(1, int(clip * height * width / 256))
    tables = np.empty((tiles, tiles, 256))
    for row in range(tiles):
        for column in range(tiles):
            tile = film[row * height : (row + 1) * height, column * width : (column + 1) * width]
            counts = np.bincount(tile.ravel(), minlength=256)
            surplus = int((counts - most).clip(0).sum())
            counts = counts.clip(max=most) + surplus // 256
            rest = surplus % 256
            if rest:
                step = max(1, 256 // rest)
                counts[np.arange(0, 256, step)[:rest]] += 1
            tables[row, column] = np.cumsum(counts) * 255 / (height * width)
    result = np.empty(film.shape)
    for y in range(film.shape[0]):
        for x in range(film.shape[1]):
            down, right = y / height - 0.5, x / width - 0.5
            top, left = int(np.floor(down)), int(np.floor(right))
            value = 0.0
            for row, of_row in ((top, top + 1 - down), (top + 1, down - top)):
                for column, of_column in ((left, left + 1 - right), (left + 1, right - left)):
                    table = tables[np.clip(row, 0, tiles - 1), np.clip(column, 0, tiles - 1)]
                    value += of_row * of_column * np.rint(table[film[y, x]])
            result[y, x] = value
    return np.rint(result)


def test_local_equalisation_is_the_published_method() -> None:
    y, x = np.mgrid[:64, :96]
    film = ((x * 2 + y + 30 * np.sin(x / 5.0)) % 256).astype(np.uint8)
    assert np.abs(equalise_locally(film) - slow_clahe(film, tiles=8, clip=2.0)).max() <= 1  # rounding


def test_local_equalisation_spreads_a_dull_film_and_keeps_order_within_a_tile() -> None:
    film = np.tile(np.arange(100, 116, dtype=np.uint8), (128, 8))
    equalised = equalise_locally(film).astype(int)
    assert np.ptp(equalised) > np.ptp(film.astype(int))
    assert (np.diff(equalised[:8, :8], axis=1) >= 0).all()
