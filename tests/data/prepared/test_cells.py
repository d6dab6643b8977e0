"""The grid of cells, against slow loops and scikit-image."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.cells import (
    average_cells,
    cell_edges,
    centres,
    enlarge,
    fitted_shape,
    pad_to_square,
    pick_positions,
)


@given(st.integers(1, 400), st.integers(0, 4000))
def test_cells_cover_the_film_and_none_is_empty(cells: int, more: int) -> None:
    edges = cell_edges(cells + more, cells)
    assert edges[0] == 0
    assert edges[-1] == cells + more
    sizes = np.diff(edges)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@settings(deadline=None)
@given(
    st.tuples(st.integers(8, 90), st.integers(8, 90)), st.tuples(st.integers(1, 8), st.integers(1, 8)), st.integers(0)
)
def test_a_picked_pixel_lies_in_its_cell(shape: tuple[int, int], grid: tuple[int, int], seed: int) -> None:
    rows, columns = np.divmod(pick_positions(shape, grid, seed), shape[1])
    tops, lefts = cell_edges(shape[0], grid[0]), cell_edges(shape[1], grid[1])
    assert (rows >= tops[:-1, None]).all()
    assert (rows < tops[1:, None]).all()
    assert (columns >= lefts[:-1]).all()
    assert (columns < lefts[1:]).all()


def test_every_pixel_of_a_cell_is_picked_equally_often() -> None:
    # Cells of 3 x 5 pixels; 6400 cells of each of 30 seeds: 12,800 picks a pixel, standard deviation below 112
    shape, grid = (240, 400), (80, 80)
    picked = np.zeros((3, 5))
    for seed in range(30):
        rows, columns = np.divmod(pick_positions(shape, grid, seed), shape[1])
        np.add.at(picked, (rows % 3, columns % 5), 1)
    assert abs(picked - 12_800).max() < 5 * 112


def test_the_picks_of_a_seed_never_change() -> None:
    """Prepared sets and models outlive versions: these figures were written down once."""
    assert pick_positions((30, 50), (2, 3), seed=7).tolist() == [[465, 677, 592], [913, 966, 1437]]


def test_cells_are_averaged_as_a_slow_loop_does() -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 256, (37, 53), dtype=np.uint8)
    table = np.sort(random.random(256))
    tops, lefts = cell_edges(37, 9), cell_edges(53, 11)
    expected = [
        [table[codes[top:bottom, left:right]].mean() for left, right in pairwise(lefts)]
        for top, bottom in pairwise(tops)
    ]
    np.testing.assert_allclose(average_cells(codes, table, (9, 11)), expected, atol=0.5 / 65535)


@pytest.mark.parametrize(("before", "after"), [((20, 30), (64, 64)), ((40, 64), (64, 64)), ((5, 7), (50, 8))])
def test_enlarging_is_bilinear(before: tuple[int, int], after: tuple[int, int]) -> None:
    values = np.random.default_rng(4).random(before)
    expected = resize(values, after, order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(enlarge(values, after), expected, atol=1e-12)


@given(st.integers(1, 60), st.integers(0, 300), st.integers(0, 60))
def test_centres_lie_in_the_middle_of_their_cells(cells: int, more: int, enlarged: int) -> None:
    found = centres(cells + more, cells, cells)
    edges = cell_edges(cells + more, cells)
    assert (abs(found - (edges[:-1] + edges[1:] - 1) / 2) <= 0.5).all()
    repeated = centres(cells + more, cells, cells + enlarged)
    assert set(repeated) == set(found)
    assert (np.diff(repeated) >= 0).all()


def test_padding_keeps_proportions_and_centres_the_film() -> None:
    recipe = Recipe(size=64, fit="pad")
    assert fitted_shape((3000, 2000), recipe) == (64, 43)
    assert fitted_shape((1, 4000), recipe) == (1, 64)
    assert fitted_shape((3000, 2000), Recipe(size=64)) == (64, 64)
    padded = pad_to_square(np.ones((64, 43), dtype=np.uint8), 64)
    assert padded[:, 10:53].all()
    assert padded.sum() == 64 * 43
