"""Chords in closed form agree with hand calculation, and with marching along the rays in small steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrtriage.data.phantom.geometry import Ellipsoid, Placement, Tubes, join, rods, tube, turn
from cxrtriage.data.phantom.projection import View, above, add_tubes, depths, union

PA = View(source=np.array([12.0, -20.0, -1700.0]), detector_z=130.0, spacing=2.5, size=81)
AP = View(source=np.array([-5.0, 30.0, 1000.0]), detector_z=-140.0, spacing=2.5, size=81)
STEP = 0.25  # mm of the marching; a ray's length is then right to about this much
RIM = 0.1  # mm: at the rim the square root magnifies what single precision rounds off
POSITIONS = st.tuples(*[st.floats(-60, 60)] * 3)
ANGLES = st.tuples(*[st.floats(-90, 90)] * 3)


def rays(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return (S, S, 3) points on the detector and unit vectors from the source to them."""
    position = (np.arange(view.size) - (view.size - 1) / 2) * view.spacing
    x, y = np.meshgrid(position, position)
    points = np.stack([x, y, np.full_like(x, view.detector_z)], axis=-1)
    directions = points - view.source
    return points, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def length(body: Ellipsoid, view: View) -> np.ndarray:
    return depths(body, view, view.whole).length() * view.stretch()


def tube_lengths(tubes: Tubes, view: View) -> np.ndarray:
    canvas = np.zeros((view.size, view.size), dtype=np.float32)
    add_tubes(canvas, tubes, view)
    return canvas * view.stretch()


def march(inside, view: View, reach: float = 90.0) -> np.ndarray:
    """Return how much of each ray lies where `inside` (of (S, S, 3) points) is true, counted in steps."""
    points, directions = rays(view)
    start = points + directions * ((-reach - view.detector_z) / directions[..., 2:])  # where the ray is at z = -reach
    total = np.zeros(points.shape[:2])
    sign = np.sign(directions[..., 2:])  # march towards larger z, whichever way the beam goes
    for distance in np.arange(0, 2 * reach * 1.05, STEP):
        total += inside(start + sign * directions * distance)
    return total * STEP


@pytest.mark.parametrize("view", [PA, AP], ids=["PA", "AP"])
def test_the_chord_through_the_middle_of_a_sphere_is_its_diameter(view: View) -> None:
    middle = view.source + 0.9 * (rays(view)[0][40, 40] - view.source)
    found = length(Ellipsoid.of(tuple(middle), (25, 25, 25)), view)
    assert found[40, 40] == pytest.approx(50, abs=1e-3)
    assert found.max() <= 50 + 1e-3


@settings(max_examples=30, deadline=None)
@given(centre=POSITIONS, radius=st.floats(3, 60), from_behind=st.booleans())
def test_chords_of_a_sphere_follow_from_the_rays_distance_to_its_middle(
    centre: tuple[float, float, float], radius: float, from_behind: bool
) -> None:
    view = PA if from_behind else AP
    points, directions = rays(view)
    distance = np.linalg.norm(np.cross(points - np.array(centre), directions), axis=-1)
    expected = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    np.testing.assert_allclose(length(Ellipsoid.of(centre, (radius,) * 3), view), expected, atol=RIM)


@pytest.mark.parametrize("view", [PA, AP], ids=["PA", "AP"])
def test_chords_of_a_tilted_ellipsoid_agree_with_marching(view: View) -> None:
    body = Ellipsoid.of((10, -15, 20), (50, 12, 30), turn(20, 35, -50))
    expected = march(lambda points: np.linalg.norm(body.coordinates(points), axis=-1) <= 1, view)
    np.testing.assert_allclose(length(body, view), expected, atol=2.5 * STEP)


@pytest.mark.parametrize("view", [PA, AP], ids=["PA", "AP"])
def test_a_flat_bent_and_hollow_tube_agrees_with_marching(view: View) -> None:
    """The pieces meet in the plane that halves the angle between them, so the marching must cut there too."""
    points = np.array([[-60.0, -30, -20], [-10, -20, 25], [20, 25, 30], [70, 30, -10]])
    tubes = tube(points, (12, 6), flat=(0, 1, 0), hollow=0.6, fill=0.9, core=0.2)
    frame = tubes.frame()

    def filling(positions: np.ndarray) -> np.ndarray:
        total = np.zeros(positions.shape[:2])
        for piece in range(len(points) - 1):
            between = np.ones(positions.shape[:2], dtype=bool)
            for end in (0, 1):
                between &= (positions - tubes.ends[piece, end]) @ tubes.cuts[piece, end] <= 0
            radius = np.linalg.norm((positions - tubes.ends[piece, 0]) @ (frame[piece, :2] / [[12], [6]]).T, axis=-1)
            total += between * np.where(radius <= 0.6, 0.2, np.where(radius <= 1, 0.9, 0))
        return total

    np.testing.assert_allclose(tube_lengths(tubes, view), march(filling, view), atol=3 * STEP)


def test_a_straight_tube_is_the_same_in_one_piece_and_in_many() -> None:
    ends = np.array([[-80.0, 20, -30], [60, -40, 40]])
    many = ends[0] + np.linspace(0, 1, 9)[:, None] * (ends[1] - ends[0])
    whole, pieces = tube_lengths(tube(ends, 7.0), PA), tube_lengths(tube(many, 7.0), PA)
    np.testing.assert_allclose(pieces, whole, atol=0.02)
    np.testing.assert_allclose(tube_lengths(rods(ends[:1], ends[1:], 7.0), PA), whole, atol=1e-3)


def test_a_cylinder_along_a_ray_is_passed_from_end_to_end() -> None:
    view = View(np.array([0.0, 0, -1800]), 100.0, 1.0, 41)
    found = tube_lengths(tube(np.array([[0.0, 0, -20], [0, 0, 30]]), 8.0), view)
    assert found[20, 20] == pytest.approx(50, abs=1e-2)
    assert found[20, 20 + 12] == 0


@settings(max_examples=10, deadline=None)
@given(first=POSITIONS, second=POSITIONS)
def test_a_union_counts_what_two_bodies_share_once(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    bodies = [Ellipsoid.of((*first[:2], 0), (30, 40, 20)), Ellipsoid.of((*second[:2], 10), (20, 25, 35))]
    one, other = (depths(body, PA, PA.whole) for body in bodies)
    both, shared = union(bodies, PA, PA.whole).length(), (one & other).length()
    np.testing.assert_allclose(both[shared > 0], (one.length() + other.length() - shared)[shared > 0], atol=RIM)
    alone = one.hit & ~other.hit
    np.testing.assert_allclose(both[alone], one.length()[alone], atol=RIM)


def test_bodies_outside_the_film_leave_it_empty() -> None:
    far_away = Ellipsoid.of((900, 0, 0), (20, 20, 20))
    assert not union([far_away], PA, PA.whole).hit.any()
    assert not union([], PA, PA.whole).hit.any()
    assert not tube_lengths(tube(np.array([[900.0, 0, 0], [900, 50, 0]]), 5.0), PA).any()


def test_what_lies_above_a_plane_is_cut_off_there() -> None:
    ball = Ellipsoid.of((0, 0, 0), (40, 40, 40))
    cut = (depths(ball, PA, PA.whole) & above(10, PA, PA.whole)).length() * PA.stretch()
    expected = march(lambda points: (np.linalg.norm(points, axis=-1) <= 40) & (points[..., 1] <= 10), PA)
    np.testing.assert_allclose(cut, expected, atol=2.5 * STEP)


@settings(max_examples=20, deadline=None)
@given(angles=ANGLES, shift=POSITIONS)
def test_a_placed_ellipsoid_is_the_ellipsoid_of_the_placed_points(
    angles: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    placement = Placement(turn(*angles) @ np.diag([0.9, 1.1, 1.0]), np.array(shift))
    body = Ellipsoid.of((5, -8, 12), (20, 30, 10), turn(10, 20, 30))
    inside = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    placed = body.placed(placement)
    np.testing.assert_allclose(placed.at(inside), placement.points(body.at(inside)), atol=1e-9)
    np.testing.assert_allclose(placed.coordinates(placed.at(inside)), inside, atol=1e-9)


def test_joined_tubes_add_up() -> None:
    centred = View(np.array([0.0, 0, -1800]), 100.0, 1.0, 81)
    one = tube(np.array([[-50.0, 0, 0], [50, 0, 0]]), 5.0)
    other = tube(np.array([[0.0, -50, 10], [0, 50, 10]]), 5.0)
    both = tube_lengths(join([one, other]), centred)
    np.testing.assert_allclose(both, tube_lengths(one, centred) + tube_lengths(other, centred), atol=1e-4)
    assert both[40, 40] == pytest.approx(20, abs=0.01)  # where the two cross, the sum of their diameters
