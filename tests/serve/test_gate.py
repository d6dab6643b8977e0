from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom.film import draw_phantom, set_scene, take_film
from cxrtriage.data.phantom.geometry import Placement, turn
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.errors import SourceError
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.serve import gate
from films import film_pixels, make_dicom

CARD = ModelCard(architecture="googlenet", recipe=Recipe(size=128), scope=Scope(views=("PA", "AP"), age_years=(18, 95)))
ADULT = next(patient for patient in range(100) if draw_phantom(64, patient=patient, film=patient).facts.age >= 30)


def reason_of(path: Path, age: float | None = None) -> str:
    source = read_film(path)
    return gate.reason_against(source, prepare_film(source, CARD.recipe), CARD, age)


@pytest.mark.parametrize(
    ("tags", "age", "finding"),
    [
        ({}, None, ""),
        ({"PatientAge": None}, 40.0, ""),
        ({"ViewPosition": None}, None, ""),
        ({"PatientAge": None}, 6.0, "age 6, the model was trained on 18 to 95"),
        ({"ViewPosition": "LL"}, None, "view LL"),
        ({"BodyPartExamined": "HAND"}, None, "body part HAND"),
        ({"PresentationIntentType": "FOR PROCESSING"}, None, "raw film for processing"),
    ],
)
def test_what_the_header_says_against_a_film_is_told(
    tmp_path: Path, tags: dict[str, Any], age: float | None, finding: str
) -> None:
    pixels = draw_phantom(256, patient=ADULT, film=ADULT).pixels
    reason = reason_of(make_dicom(tmp_path / "a.dcm", pixels, bits=14, **tags), age)
    assert finding in reason
    assert bool(reason) == bool(finding)
    assert "the film looks" not in reason


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (np.rot90, "turned by 90 degrees"),
        (lambda film: np.rot90(film, 3), "turned by 90 degrees"),
        (lambda film: np.rot90(film, 2), "upside down"),
        (lambda film: film.max() - film, "inverted"),
        (lambda film: film[:100, :100], "cut off"),
    ],
)
def test_what_the_pixels_say_against_a_film_is_told_whatever_the_header_says(
    tmp_path: Path, spoil: Callable[[np.ndarray], np.ndarray], finding: str
) -> None:
    pixels = np.ascontiguousarray(spoil(draw_phantom(256, patient=ADULT, film=ADULT).pixels))
    assert finding in reason_of(make_dicom(tmp_path / "a.dcm", pixels, bits=14))


def lateral_phantom() -> np.ndarray:
    """A phantom seen from its left side; the network learnt from others of the kind, no real laterals being there."""
    scene = set_scene(256, "normal", 0.5, seed=99, patient=ADULT, film=ADULT)
    turned = Placement(turn(about_y=90), np.zeros(3))
    stance = replace(scene.stance, placement=turned, source=np.array([0, 0, -1580]), detector_z=220.0, arms=150.0)
    return take_film(replace(scene, stance=stance)).pixels


def test_a_lateral_that_its_header_calls_frontal_is_told(tmp_path: Path) -> None:
    reason = reason_of(make_dicom(tmp_path / "a.dcm", lateral_phantom(), bits=14, ViewPosition="PA"))
    assert reason == "the film looks like a lateral, its header says view PA"
    assert reason_of(make_dicom(tmp_path / "b.dcm", lateral_phantom(), bits=14, ViewPosition=None)).endswith("lateral")


def test_a_film_whose_header_says_that_it_is_inverted_is_turned_round_and_assessed(tmp_path: Path) -> None:
    phantom = draw_phantom(256, patient=ADULT, film=ADULT)
    bits = phantom.facts.bits
    inverted = (2**bits - 1 - phantom.pixels.astype(int)).astype(np.uint16)
    assert reason_of(make_dicom(tmp_path / "a.dcm", inverted, bits, "MONOCHROME1")) == ""


def test_a_film_whose_header_says_so_wrongly_is_told(tmp_path: Path) -> None:
    phantom = draw_phantom(256, patient=ADULT, film=ADULT)
    reason = reason_of(make_dicom(tmp_path / "a.dcm", phantom.pixels, phantom.facts.bits, "MONOCHROME1"))
    assert reason == "the film looks inverted, black for white, its header says MONOCHROME1"


def test_findings_of_header_and_pixels_are_both_told(tmp_path: Path) -> None:
    pixels = np.rot90(draw_phantom(256, patient=ADULT, film=ADULT).pixels, 2).copy()
    reason = reason_of(make_dicom(tmp_path / "a.dcm", pixels, bits=14, BodyPartExamined="HAND"))
    assert "body part HAND" in reason
    assert "upside down" in reason


def test_the_films_of_the_other_tests_pass(tmp_path: Path) -> None:
    assert reason_of(make_dicom(tmp_path / "a.dcm", film_pixels())) == ""


def test_the_age_of_the_received_header_outweighs_that_of_the_read_one(tmp_path: Path) -> None:
    source = read_film(make_dicom(tmp_path / "a.dcm", film_pixels()))
    young = replace(source, provenance={**source.provenance, "patient_age_years": 6})
    film = prepare_film(source, CARD.recipe)
    assert "age 6" in gate.reason_against(young, film, CARD, None)
    assert gate.reason_against(young, film, CARD, 50.0) == ""


def test_an_unreadable_film_is_told_without_its_path(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((64, 64), np.uint16))
    with pytest.raises(SourceError) as caught:
        read_film(path)
    assert gate.reason_unreadable(caught.value).startswith("unreadable: it is blank")
    assert str(tmp_path) not in gate.reason_unreadable(caught.value)
    assert not gate.may_pass(caught.value)


def test_a_failing_disk_is_worth_another_attempt(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_film(tmp_path / "gone.dcm")
    assert gate.may_pass(caught.value)
