"""One phantom film: what it shows is where its masks say, and nothing but the finding tells the label."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from cxrtriage.data.phantom import Phantom, draw_phantom
from cxrtriage.data.phantom.abnormalities import EMERGENT_FROM, FINDINGS
from cxrtriage.data.phantom.anatomy import build_anatomy
from cxrtriage.data.phantom.bones import ribs
from cxrtriage.data.phantom.cage import draw_cage
from cxrtriage.data.phantom.confounders import SHARES
from cxrtriage.data.phantom.film import set_scene
from cxrtriage.data.phantom.patient import Change, Patient, draw_patient

SIZE = 160
IN_THE_LUNG = ("nodule", "consolidation", "effusion", "pneumothorax")


@cache
def film(finding: str = "normal", severity: float = 0.6, number: int = 0, size: int = SIZE) -> Phantom:
    return draw_phantom(size, finding, severity, seed=7, patient=number, film=number)


def levels(phantom: Phantom) -> np.ndarray:
    return phantom.pixels / (2**phantom.facts.bits - 1)


def test_the_same_numbers_give_the_same_film() -> None:
    first, second = (draw_phantom(SIZE, "effusion", 0.6, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.lesion_mask, second.lesion_mask)
    assert first.facts == second.facts


def test_another_seed_patient_or_film_gives_another_film() -> None:
    pixels = film().pixels
    for changed in ({"seed": 8}, {"patient": 1}, {"film": 1}):
        other = draw_phantom(SIZE, **{"seed": 7, "patient": 0, "film": 0, **changed})
        assert (other.pixels != pixels).mean() > 0.5


def test_arrays_have_the_stated_form() -> None:
    phantom = film("nodule")
    assert phantom.pixels.shape == phantom.lung_mask.shape == phantom.lesion_mask.shape == (SIZE, SIZE)
    assert phantom.pixels.dtype == np.uint16
    assert phantom.lung_mask.dtype == phantom.lesion_mask.dtype == bool
    assert phantom.pixels.max() < 2**phantom.facts.bits


def test_anatomy_does_not_depend_on_the_size() -> None:
    small, large = film("nodule", 0.9, size=128), film("nodule", 0.9, size=256)
    for name in ("lung_mask", "lesion_mask"):
        coarse, fine = getattr(small, name), getattr(large, name)[::2, ::2]
        assert (coarse & fine).sum() > 0.9 * (coarse | fine).sum()


def test_a_film_above_the_finest_grid_is_the_same_film_enlarged() -> None:
    small, large = film("effusion", size=450), film("effusion", size=1800)
    assert large.pixels.shape == large.lung_mask.shape == (1800, 1800)
    coarse, fine = small.lung_mask, large.lung_mask[::4, ::4]
    assert (coarse & fine).sum() > 0.95 * (coarse | fine).sum()
    averaged = levels(large).reshape(450, 4, 450, 4).mean(axis=(1, 3))
    assert np.abs(averaged - levels(small)).mean() < 0.01


def test_a_normal_film_has_no_lesion() -> None:
    phantom = film()
    assert not phantom.lesion_mask.any()
    assert (phantom.facts.label, phantom.facts.finding, phantom.facts.severity, phantom.facts.side) == (
        0,
        "normal",
        0,
        "",
    )


@pytest.mark.parametrize("finding", FINDINGS)
@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_labels_follow_finding_and_severity(finding: str, severity: float) -> None:
    facts = film(finding, severity, size=64).facts
    emergent = finding in ("effusion", "pneumothorax") and severity >= EMERGENT_FROM
    assert facts.label == (2 if emergent else 1)
    assert facts.severity == severity
    assert facts.side in (("",) if finding in ("cardiomegaly", "interstitial") else ("left", "right"))


@pytest.mark.parametrize("finding", FINDINGS)
def test_an_abnormality_changes_nothing_else_that_is_drawn(finding: str) -> None:
    """Exposure, noise, position, view and confounders cannot tell the label: they are drawn without knowing it."""
    for number in range(20):
        ill, well = (set_scene(SIZE, what, 0.9, seed=3, patient=number, film=number) for what in (finding, "normal"))
        assert ill.technique == well.technique
        assert ill.patient == well.patient
        assert ill.devices.names == well.devices.names
        np.testing.assert_array_equal(ill.stance.source, well.stance.source)
        np.testing.assert_array_equal(ill.stance.placement.matrix, well.stance.placement.matrix)
        kept = {"age", "sex", "view_position", "confounders", "pixel_spacing_mm", "bits"}
        assert {asdict(ill.facts)[name] for name in kept} == {asdict(well.facts)[name] for name in kept}


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("finding", ["nodule", "consolidation", "effusion"])
def test_a_lesion_shows_where_its_mask_says_and_nearly_nowhere_else(finding: str, number: int) -> None:
    ill, well = film(finding, 0.6, number), film("normal", number=number)
    change = levels(ill) - levels(well)
    mask = ill.lesion_mask
    # what scatter and the contrast of details carry into the surroundings is left out of "elsewhere"
    elsewhere = ~binary_dilation(mask, iterations=SIZE // 8)
    assert change[mask].mean() > 0.03
    assert np.abs(change[elsewhere]).mean() < 0.1 * np.abs(change[mask]).mean()


@pytest.mark.parametrize("number", range(4))
def test_air_around_a_collapsed_lung_is_darker_than_the_lung_was(number: int) -> None:
    ill, well = film("pneumothorax", 0.6, number), film("normal", number=number)
    change = levels(ill) - levels(well)
    assert change[ill.lesion_mask].mean() < -0.02
    other_side = np.arange(SIZE) < SIZE // 2 if ill.facts.side == "left" else np.arange(SIZE) > SIZE // 2
    assert np.abs(change[:, other_side]).mean() < 0.2 * np.abs(change[ill.lesion_mask]).mean()


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("finding", IN_THE_LUNG)
def test_lesions_of_the_lung_lie_in_it_on_the_side_stated(finding: str, number: int) -> None:
    phantom = film(finding, 0.5, number)
    rows, columns = np.nonzero(phantom.lesion_mask)
    assert len(rows) > 20
    assert (columns.mean() > SIZE / 2) == (phantom.facts.side == "left")  # the patient's left is right on the film
    # part of a nodule or consolidation may lie behind heart or diaphragm
    within = phantom.lung_mask[phantom.lesion_mask].mean()
    assert within > (0.25 if finding in ("nodule", "consolidation") else 0.999)


@pytest.mark.parametrize("severity", [0.0, 1.0])
@pytest.mark.parametrize("finding", FINDINGS)
def test_every_abnormal_film_shows_its_lesion(finding: str, severity: float) -> None:
    for number in range(12):
        ill, well = film(finding, severity, number, size=64), film("normal", number=number, size=64)
        assert ill.lesion_mask.any(), number
        assert np.abs(levels(ill) - levels(well))[ill.lesion_mask].max() > 0.005, number


@pytest.mark.parametrize("number", range(4))
def test_severity_makes_lesions_larger(number: int) -> None:
    for finding in FINDINGS:
        areas = [film(finding, severity, number, size=96).lesion_mask.sum() for severity in (0.05, 0.95)]
        assert areas[1] > 1.2 * areas[0], finding


def heart_to_chest(phantom: Phantom) -> float:
    """Return the width of the lesion's mask relative to that of the lungs' masks: the cardiothoracic ratio."""
    heart, lungs = (np.flatnonzero(mask.any(axis=0)) for mask in (phantom.lesion_mask, phantom.lung_mask))
    return (heart[-1] - heart[0]) / (lungs[-1] - lungs[0])


def test_a_large_heart_takes_more_than_half_of_the_chest() -> None:
    for severity, expected in ((0.0, 0.55), (1.0, 0.70)):
        ratios = [heart_to_chest(film("cardiomegaly", severity, number)) for number in range(8)]
        assert np.median(ratios) == pytest.approx(expected, abs=0.06)


def test_healthy_hearts_take_less_than_half_of_the_chest() -> None:
    scenes = [set_scene(64, "normal", 0, seed=1, patient=number, film=number) for number in range(200)]
    assert all(0.38 <= scene.patient.heart_width < 0.5 for scene in scenes)


def test_the_chest_looks_like_a_chest() -> None:
    films = [film(number=number) for number in range(10)]
    for phantom in films:
        picture, lungs = levels(phantom), phantom.lung_mask
        columns = np.flatnonzero(lungs.any(axis=0))
        middle = (columns[0] + columns[-1]) // 2
        between = slice(middle - SIZE // 60, middle + SIZE // 60)
        rows = np.flatnonzero(lungs.any(axis=1))
        # lungs are darker than what lies between them and below them
        assert picture[lungs].mean() < 0.8 * picture[rows[0] + SIZE // 10 : rows[-1], between].mean()
        assert 0.1 < lungs.mean() < 0.5
    # the heart takes more of the patient's left lung, and the left dome stands lower
    left, right = (np.array([half.sum() for half in halves]) for halves in zip(*map(lung_halves, films), strict=True))
    assert left.mean() < right.mean()
    domes = [[lowest_of_the_middle(half) for half in lung_halves(phantom)] for phantom in films]
    assert np.mean([left - right for left, right in domes]) > 0


def lung_halves(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of the left and of the right lung."""
    columns = np.flatnonzero(phantom.lung_mask.any(axis=0))
    left = phantom.lung_mask.copy()
    left[:, : (columns[0] + columns[-1]) // 2] = False
    return left, phantom.lung_mask & ~left


def lowest_of_the_middle(mask: np.ndarray) -> int:
    """Return the row where the dome begins, two thirds of the way out: there the heart does not reach."""
    columns = np.flatnonzero(mask.any(axis=0))
    outer_first = columns if columns[0] < SIZE / 2 else columns[::-1]
    return int(np.flatnonzero(mask[:, outer_first[len(columns) // 3]])[-1])


@pytest.mark.parametrize("severity", [0.0, 1.0])
@pytest.mark.parametrize("number", range(4))
def test_tuberculosis_lies_in_the_upper_half_of_one_lung(number: int, severity: float) -> None:
    phantom = film("tuberculosis", severity, number)
    side = lung_halves(phantom)[phantom.facts.side == "right"]
    rows = np.flatnonzero(side.any(axis=1))
    assert np.median(np.nonzero(phantom.lesion_mask)[0]) < rows[0] + 0.5 * (rows[-1] - rows[0])


@pytest.mark.parametrize("number", range(4))
def test_an_interstitial_pattern_covers_both_lungs_and_nothing_else(number: int) -> None:
    ill, well = film("interstitial", 0.8, number), film("normal", number=number)
    assert not (ill.lesion_mask & ~ill.lung_mask).any()
    change = levels(ill) - levels(well)
    for lung in lung_halves(ill):
        assert (ill.lesion_mask & lung).sum() > 0.3 * lung.sum()
        assert change[ill.lesion_mask & lung].mean() > 0.005


def people(count: int) -> list[Patient]:
    return [draw_patient(np.random.default_rng([1, number])) for number in range(count)]


def test_one_patient_in_ten_is_a_child_of_a_childs_build() -> None:
    children = [one for one in people(1500) if one.age < 16]
    adults = [one for one in people(1500) if one.age >= 18]
    assert len(children) + len(adults) == 1500
    assert len(children) / 1500 == pytest.approx(0.1, abs=0.025)
    small = [one for one in children if one.age < 8]

    def middle(group: list[Patient], value: Callable[[Patient], float]) -> float:
        return float(np.median([value(one) for one in group]))

    # smaller, rounder, with a larger heart, which is still a healthy one
    assert middle(small, lambda one: one.breadth) < 0.75 * middle(adults, lambda one: one.breadth)
    assert middle(small, lambda one: one.depth / one.breadth) > 1.05 * middle(
        adults, lambda one: one.depth / one.breadth
    )
    assert middle(small, lambda one: one.heart_width) > middle(adults, lambda one: one.heart_width)
    assert max(one.heart_width for one in children) < 0.5


def test_a_childs_ribs_lie_more_level() -> None:
    adult = next(one for one in people(100) if one.age >= 18)
    cage = draw_cage(np.random.default_rng(0))
    steepness = []
    for patient in (adult, replace(adult, age=3.0)):
        run = ribs(patient, cage, np.random.default_rng(0)).ends
        run = run[:, 1] - run[:, 0]
        steepness.append(np.abs(run[:, 1]).sum() / np.linalg.norm(run, axis=1).sum())
    assert steepness[1] < 0.8 * steepness[0]


def test_only_a_small_child_has_a_thymus() -> None:
    adult = next(one for one in people(100) if one.age >= 18)
    parts = {age: len(build_anatomy(replace(adult, age=age), Change()).mediastinum) for age in (2.0, 12.0, 40.0)}
    assert parts[2.0] > parts[12.0] == parts[40.0]


def test_views_and_confounders_come_in_the_stated_shares() -> None:
    facts = [set_scene(64, "normal", 0, seed=2, patient=number, film=number).facts for number in range(600)]
    assert np.mean([one.view_position == "AP" for one in facts]) == pytest.approx(0.3, abs=0.06)
    for name, share in SHARES.items():
        assert np.mean([name in one.confounders for one in facts]) == pytest.approx(share, abs=0.05)


def test_films_of_one_patient_share_the_implant_and_the_place_of_the_lesion() -> None:
    scenes = [set_scene(64, "nodule", 0.5, seed=4, patient=9, film=number) for number in range(5)]
    assert len({scene.lesion.side for scene in scenes if scene.lesion}) == 1
    assert len({"pacemaker" in scene.devices.names for scene in scenes}) == 1
    assert len({scene.stance.field for scene in scenes}) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 32}, "at least 64 pixels, got 32"),
        ({"finding": "fracture"}, "one of nodule, .*, got 'fracture'"),
        ({"finding": "nodule", "severity": 1.5}, r"in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_phantom(**arguments)
