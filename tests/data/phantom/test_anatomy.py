"""What is built in millimetres: skin, gas, and solids within a lung."""

from dataclasses import replace

import numpy as np
import pytest

from cxrtriage.data.phantom.anatomy import Gas, build_anatomy
from cxrtriage.data.phantom.film import set_scene
from cxrtriage.data.phantom.geometry import Ellipsoid, Placement, turn
from cxrtriage.data.phantom.lungs import _Room
from cxrtriage.data.phantom.patient import LEFT, RIGHT, Change, draw_patient
from cxrtriage.data.phantom.projection import bounds, union
from cxrtriage.data.phantom.skin import skin, upper_arm

PATIENT = replace(draw_patient(np.random.default_rng(0)), age=40.0, sex="M")


def is_inside(bodies: tuple[Ellipsoid, ...], point: np.ndarray) -> bool:
    return any(np.linalg.norm(body.coordinates(point)) <= 1 for body in bodies)


@pytest.mark.parametrize("arms", [5.0, 40.0, 130.0])
def test_bones_and_lungs_lie_inside_the_skin(arms: float) -> None:
    for number in range(12):
        patient = draw_patient(np.random.default_rng(number))
        anatomy = build_anatomy(patient, Change(), arms=arms)
        middles = anatomy.bones.ends.mean(axis=1)
        # what lies below the chest or above the neck is not on the film
        near = np.abs(middles[:, 1]) < 130 * patient.stature
        assert np.mean([is_inside(anatomy.trunk, point) for point in middles[near]]) > 0.97
        for lung in anatomy.lungs:
            assert is_inside(anatomy.trunk, lung.cavity.centre)
            assert is_inside(anatomy.trunk, lung.apex.at(np.array([0.0, -1.0, 0.0])))


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_arms_point_down_hanging_out_held_sideways_and_up_raised(side: int) -> None:
    np.testing.assert_allclose(upper_arm(side, 0), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(upper_arm(side, 90), [side, 0, 0], atol=1e-12)
    np.testing.assert_allclose(upper_arm(side, 180), [0, -1, 0], atol=1e-12)


def test_only_women_have_breasts_and_some_show_none() -> None:
    counts = {}
    for sex, age in (("M", 40.0), ("F", 40.0), ("F", 5.0)):
        patient = replace(PATIENT, sex=sex, age=age)
        counts[sex, age] = {len(skin(patient, 15, np.random.default_rng(number))) for number in range(20)}
    assert len(counts["M", 40.0]) == 1
    assert counts["F", 40.0] == {min(counts["M", 40.0]), min(counts["M", 40.0]) + 2}
    assert len(counts["F", 5.0]) == 1


def test_gas_keeps_its_level_when_the_patient_leans() -> None:
    gas = Gas(Ellipsoid.of((60, 120, 15), (30, 15, 30)), 125.0, 0.8)
    placement = Placement(turn(about_x=10, about_z=-5) @ np.diag([0.9, 1.1, 1.0]), np.array([3.0, -8.0, 0.0]))
    moved = gas.placed(placement)
    expected = placement.points(np.array([60.0, 125.0, 15.0]))[1]
    assert moved.level == pytest.approx(expected)
    assert moved.share == gas.share
    assert abs(moved.level - moved.body.centre[1]) < 15


def test_a_body_is_the_same_in_its_own_window_and_in_the_whole_lungs() -> None:
    scene = set_scene(160, "normal", 0, seed=3, patient=1, film=1)
    view = scene.stance.view(160)
    anatomy = build_anatomy(scene.patient, Change()).placed(scene.stance.placement)
    lung = anatomy.lungs[0]
    room = _Room.of(lung, anatomy.mediastinum, view, bounds([lung.cavity, lung.apex], view))
    rng = np.random.default_rng(0)
    for _ in range(10):
        body = Ellipsoid(lung.cavity.at(rng.uniform(-0.9, 0.9, 3)), np.diag(rng.uniform(8, 40, 3)))
        whole = room.within(room.depths(body))
        found = np.zeros_like(whole)
        seen = room.around(body)
        if seen is not None:
            here, near = seen
            found[here] = near.within(near.depths(body))
        np.testing.assert_allclose(found, whole, atol=0.05)
    far_away = Ellipsoid.of((900, 0, 0), (20, 20, 20))
    assert room.around(far_away) is None
    assert not union([far_away], view, view.whole).hit.any()
