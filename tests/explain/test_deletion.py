"""Deletion and insertion curves of scores whose areas are known in closed form."""

import numpy as np
import pytest

from cxrtriage.explain.deletion import areas_under_curves, blur, removal_rank

FILMS = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(16, 16))


def linear(films: np.ndarray) -> np.ndarray:
    return (films * WEIGHTS).sum(axis=(1, 2))


def test_linear_score_has_the_areas_that_its_sorted_evidence_gives() -> None:
    """Each pixel's exchange moves a linear score by weight times (film - blur), whatever the others do."""
    evidence = WEIGHTS * (FILMS.astype(float) - blur(FILMS))
    shares = tuple(np.arange(257) / 256)  # a pixel a step
    areas = areas_under_curves(linear, FILMS, evidence, shares=shares)
    falls = np.sort(evidence.reshape(3, -1), axis=1)[:, ::-1].cumsum(axis=1)
    moved = np.concatenate([np.zeros((3, 1)), falls], axis=1)
    mean = (moved[:, :-1] + moved[:, 1:]).mean(axis=1) / 2  # trapezoids of equal width
    np.testing.assert_allclose(areas.deletion, linear(FILMS) - mean)
    np.testing.assert_allclose(areas.insertion, linear(blur(FILMS)) + mean)


def test_order_by_the_evidence_beats_every_other_order() -> None:
    evidence = WEIGHTS * (FILMS.astype(float) - blur(FILMS))
    best = areas_under_curves(linear, FILMS, evidence)
    for seed in range(5):
        other = areas_under_curves(linear, FILMS, np.random.default_rng(seed).random(FILMS.shape))
        assert (best.deletion < other.deletion).all()
        assert (best.insertion > other.insertion).all()


def test_score_that_never_changes_has_its_own_value_as_area() -> None:
    areas = areas_under_curves(lambda films: np.full(len(films), 0.7), FILMS, FILMS)
    np.testing.assert_allclose([areas.deletion, areas.insertion], 0.7)


def test_even_heat_is_a_random_order_that_the_seed_repeats() -> None:
    even = np.zeros((1, 16, 16))
    rank = removal_rank(even, seed=3)
    assert sorted(rank.ravel()) == list(range(256))
    assert np.array_equal(rank, removal_rank(even, seed=3))
    assert not np.array_equal(rank, removal_rank(even, seed=4))
    top = rank[0, :8].mean()  # not row by row, which would delete the top of the film first
    assert abs(top - 127.5) < 25


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_hottest_pixels_go_first(dtype: type) -> None:
    heat = np.zeros((1, 4, 4), dtype)
    heat[0, 2, 1], heat[0, 3, 3] = 200, 100
    rank = removal_rank(heat, seed=0)
    assert (rank[0, 2, 1], rank[0, 3, 3]) == (0, 1)
