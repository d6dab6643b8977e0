"""The rib cage's shape: lungs fit in, ribs go round them."""

import numpy as np
import pytest

from cxrtriage.data.phantom.bones import ribs
from cxrtriage.data.phantom.cage import draw_cage
from cxrtriage.data.phantom.patient import LEFT, RIGHT, draw_patient

NUMBERS = range(8)


def surface(count: int) -> np.ndarray:
    """Points all over the unit sphere."""
    points = np.random.default_rng(0).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_cage_is_as_wide_as_the_lung_and_a_little_more(number: int) -> None:
    cage = draw_cage(np.random.default_rng(number))
    points = cage.cavity(LEFT).at(surface(200_000))
    for y in (-110.0, -50.0, 0.0, 60.0, 100.0):
        widest = points[np.abs(points[:, 1] - y) < 1.0, 0].max()  # by looking, against the closed form
        assert cage.extent(np.array([y]))[0][0] == pytest.approx(widest + 3, abs=1.5)


def test_the_lungs_are_mirror_images_and_narrower_at_the_top() -> None:
    cage = draw_cage(np.random.default_rng(0))
    left, right = (cage.cavity(side).at(surface(1000) * [side, 1, 1]) for side in (LEFT, RIGHT))
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-9)
    half_width, half_depth = cage.extent(np.array([-110.0, 0.0, 60.0]))
    assert half_width[0] < 0.85 * half_width[2]
    assert half_depth[0] < half_depth[1] <= half_depth[2]


@pytest.mark.parametrize("number", NUMBERS)
def test_ribs_five_to_eleven_run_just_outside_the_lung_as_the_film_shows_it(number: int) -> None:
    rng = np.random.default_rng(number)
    cage, patient = draw_cage(rng), draw_patient(rng)
    pieces = ribs(patient, cage, rng).ends[2 * (11 + 3 * 16) : -2 * 16, 0]  # the first rib has 11 pieces, others 16
    for run in pieces.reshape(-1, 16, 3):
        outermost = run[np.argmax(np.abs(run[:, 0]))]
        lung = cage.cavity(int(np.sign(outermost[0])))
        outline = lung.at(surface(100_000))
        level = np.abs(outline[:, 1] - outermost[1]) < 2
        assert 1 < abs(outermost[0]) - np.abs(outline[level, 0]).max() < 5


def test_chests_differ() -> None:
    cages = [draw_cage(np.random.default_rng(number)) for number in range(40)]
    share = [float(np.divide(*cage.extent(np.array([-110.0, 60.0]))[0])) for cage in cages]
    assert max(share) - min(share) > 0.08
