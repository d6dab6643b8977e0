"""The grid of cells laid over a film: one cell becomes one prepared pixel.

In come a film's shape and the recipe's size; out go which pixels are kept, averages of cells, and the way
from the grid to the finished square. `prepare.py` reads them next. Everything here is whole-number
arithmetic or plain float64 steps, so that every machine gets the same bytes.
"""

import numpy as np

from cxrtriage.config import Recipe

LOW_32_BITS = np.uint64(2**32 - 1)
SHIFT_32 = np.uint64(32)


def fitted_shape(shape: tuple[int, ...], recipe: Recipe) -> tuple[int, int]:
    """Return height and width that a film of `shape` (H, W) takes up within the S x S square."""
    if recipe.fit == "stretch":
        return recipe.size, recipe.size
    longest = max(shape)
    height, width = (max(1, round(recipe.size * side / longest)) for side in shape)
    return height, width


def cell_edges(length: int, cells: int) -> np.ndarray:
    """Return the (cells + 1,) int64 edges of `cells` cells along `length` >= `cells` pixels; none is empty."""
    return np.arange(cells + 1) * length // cells


def pick_positions(shape: tuple[int, ...], grid: tuple[int, int], seed: int) -> np.ndarray:
    """Draw one pixel uniformly from each cell.

    Parameters
    ----------
    shape : (H, W) of the film
    grid : rows and columns of cells, at most H and W
    seed : int >= 0

    Returns
    -------
    `grid`-shaped int64: positions in the flattened film.

    Notes
    -----
    Only the raw output of PCG64 is used, because NumPy keeps that stream the same in every version
    (NEP 19), which it does not promise of `Generator.integers`. One 64-bit number serves a cell: its halves,
    times the cell's height and width, shifted down by 32 bits.
    """
    tops, lefts = cell_edges(shape[0], grid[0]), cell_edges(shape[1], grid[1])
    heights, widths = np.diff(tops).astype(np.uint64), np.diff(lefts).astype(np.uint64)
    right = np.random.PCG64(seed).random_raw(grid[0] * grid[1]).reshape(grid)
    down = right >> SHIFT_32
    right &= LOW_32_BITS
    for offset, sizes in ((down, heights[:, None]), (right, widths)):  # in place: half of the time is memory
        offset *= sizes
        offset >>= SHIFT_32
    positions = down.view(np.int64)
    positions += tops[:-1, None]
    positions *= shape[1]
    positions += right.view(np.int64)
    positions += lefts[:-1]
    return positions


def average_cells(codes: np.ndarray, table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Average the equalised pixels of each cell.

    Parameters
    ----------
    codes : (H, W) uint8 or uint16, what `table` is indexed by
    table : (L,) float64 in [0, 1], from `equalise.equalising_table`
    grid : rows and columns of cells, at most H and W

    Returns
    -------
    `grid`-shaped float64 in [0, 1]. The sums are of 16-bit whole numbers, so they depend on no order.
    """
    whole = np.rint(65535 * table).astype(np.uint16)
    tops, lefts = cell_edges(codes.shape[0], grid[0]), cell_edges(codes.shape[1], grid[1])
    sums = np.empty((grid[0], codes.shape[1]), dtype=np.uint64)
    for top, bottom, row in zip(tops[:-1], tops[1:], sums, strict=True):
        whole.take(codes[top:bottom]).sum(axis=0, dtype=np.uint64, out=row)
    sums = np.add.reduceat(sums, lefts[:-1], axis=1)
    means: np.ndarray = sums / (65535.0 * np.diff(tops)[:, None] * np.diff(lefts))
    return means


def centres(length: int, cells: int, size: int) -> np.ndarray:
    """Return the (size,) int64 pixel in the centre of each cell, repeated where `size` exceeds `cells`."""
    edges = cell_edges(length, cells)
    middle = (edges[:-1] + edges[1:] - 1) // 2
    return np.take(middle, (2 * np.arange(size) + 1) * cells // (2 * size))


def enlarge(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Enlarge bilinearly, pixel centres at half whole numbers and edges repeated.

    Parameters
    ----------
    values : (H, W) float64
    shape : at least H and W; the same shape returns `values` itself

    Returns
    -------
    `shape`-shaped float64
    """
    for axis in (0, 1):
        length, size = values.shape[axis], shape[axis]
        if length == size:
            continue
        position = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
        before = position.astype(np.int64)
        after = np.minimum(before + 1, length - 1)
        share = position - before
        share = share[:, None] if axis == 0 else share
        values = values.take(before, axis) * (1 - share) + values.take(after, axis) * share
    return values


def pad_to_square(fitted: np.ndarray, size: int) -> np.ndarray:
    """Put a (h, w) array in the middle of a (size, size) one of zeros."""
    if fitted.shape == (size, size):
        return fitted
    square = np.zeros((size, size), dtype=fitted.dtype)
    top, left = (size - fitted.shape[0]) // 2, (size - fitted.shape[1]) // 2
    square[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return square
