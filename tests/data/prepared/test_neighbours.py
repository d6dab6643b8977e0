"""Pairs of close points are those that a k-d tree finds."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from cxrtriage.data.prepared.neighbours import BLOCK, close_pairs


def found(points: np.ndarray, distance: float) -> list[tuple[int, int]]:
    return sorted(tuple(sorted(pair)) for pairs in close_pairs(points, distance) for pair in pairs.tolist())


def sphere(count: int, axes: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, axes)) / np.arange(1, axes + 1)
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "axes", "distance"),
    [(1, 24, 0.11), (2, 24, 2.1), (800, 24, 0.11), (3000, 6, 0.05), (3000, 5, 0.2), (500, 4, 0.5), (300, 2, 0.01)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_pairs_are_those_of_a_k_d_tree(count: int, axes: int, distance: float, seed: int) -> None:
    points = sphere(count, axes, seed)
    expected = KDTree(points.astype(np.float64)).query_pairs(distance)
    assert found(points, distance) == sorted(expected)
    assert expected or count < 300 or axes == 24


def test_a_crowd_of_more_points_than_a_block_holds_is_paired_once_each() -> None:
    points = np.zeros((BLOCK[1] + BLOCK[0] // 2, 5), np.float32)
    pairs = np.concatenate(list(close_pairs(points, 0.1)))
    ordered = np.unique(np.sort(pairs, axis=1), axis=0)
    assert len(pairs) == len(ordered) == len(points) * (len(points) - 1) // 2
    assert (ordered[:, 0] < ordered[:, 1]).all()


def test_points_on_both_sides_of_a_border_are_seen() -> None:
    steps = np.linspace(-0.5, 0.5, 41, dtype=np.float32)
    points = np.column_stack((steps, -steps, np.zeros((41, 4), np.float32)))
    apart = np.hypot(0.025, 0.025)
    assert found(points, apart * 1.01) == [(at, at + 1) for at in range(40)]
    assert found(points, apart * 2.01) == sorted(
        [(at, at + 1) for at in range(40)] + [(at, at + 2) for at in range(39)]
    )
