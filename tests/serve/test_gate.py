from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.errors import SourceError
from cxrtriage.model.bundle import ModelCard, Scope
from cxrtriage.serve import gate
from films import film_pixels, make_dicom

CARD = ModelCard(architecture="googlenet", recipe=Recipe(size=128), scope=Scope(views=("PA", "AP"), age_years=(18, 95)))


@pytest.mark.parametrize(
    ("tags", "age", "finding"),
    [
        ({}, None, ""),
        ({"PatientAge": None}, 40.0, ""),
        ({"PatientAge": None}, 6.0, "age 6, the model was trained on 18 to 95"),
        ({"ViewPosition": "LL"}, None, "view LL"),
        ({"BodyPartExamined": "HAND"}, None, "body part HAND"),
        ({"PresentationIntentType": "FOR PROCESSING"}, None, "raw film for processing"),
    ],
)
def test_what_is_none_for_the_model_is_told(
    tmp_path: Path, tags: dict[str, Any], age: float | None, finding: str
) -> None:
    source = read_film(make_dicom(tmp_path / "a.dcm", film_pixels(), **tags))
    reason = gate.reason_against(source, prepare_film(source, CARD.recipe), CARD, age)
    assert finding in reason
    assert bool(reason) == bool(finding)


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
