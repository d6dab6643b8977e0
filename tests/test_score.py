"""Scoring files: one row a film, whatever the film."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cxrtriage import score
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model, load_model, save_model
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.predict import probabilities
from cxrtriage.records import SourceImage
from cxrtriage.score import BATCH, scope_warning, score_films
from films import film_pixels, make_dicom, write_png, write_tiff


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An untrained GoogLeNet: its scores mean nothing, but they are scores."""
    torch.manual_seed(0)
    card = ModelCard(
        architecture="googlenet",
        recipe=Recipe(size=128),
        scope=Scope(views=("PA",), age_years=(18, 90)),
        validation={"prevalence": 0.5},
    )
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, build_network("googlenet", 2, 128), card)
    return load_model(path)


def test_a_film_scores_as_its_prepared_array_does(model: Model, tmp_path: Path) -> None:
    """Training and serving see the same array."""
    path = write_tiff(tmp_path / "film.tif", film_pixels(300, 280))
    prepared = prepare_film(read_film(path), model.card.recipe)
    (row,) = score_films(model, [path])
    assert row.probability == pytest.approx(probabilities(model, prepared[None])[0], abs=1e-6)
    assert row.decision == ("abnormal" if row.probability >= model.card.threshold else "normal")


def test_every_path_gets_a_row_in_order_and_bad_films_say_why(model: Model, tmp_path: Path) -> None:
    paths = [write_png(tmp_path / f"{n}.png", film_pixels(64, 64, bits=8, seed=n)) for n in range(40)]
    paths[7] = tmp_path / "missing.png"
    (tmp_path / "text.dcm").write_text("not a film")
    paths[35] = tmp_path / "text.dcm"
    rows = list(score_films(model, paths))
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert [n for n, row in enumerate(rows) if row.decision == "not assessed"] == [7, 35]
    assert rows[7].probability is None
    assert "missing.png" in rows[7].reason


def test_the_engine_does_not_change_a_film_s_row(model: Model, tmp_path: Path) -> None:
    paths = [write_png(tmp_path / f"{n}.png", film_pixels(64, 64, bits=8, seed=n)) for n in range(3)]
    plain = list(score_films(model, paths, engine="torch"))
    fast = list(score_films(model, paths, engine="openvino"))
    assert [row.decision for row in fast] == [row.decision for row in plain]
    assert [row.probability for row in fast] == pytest.approx([row.probability for row in plain], abs=1e-4)


def test_films_of_the_next_batch_are_prepared_while_the_network_works(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_png(tmp_path / "film.png", film_pixels(64, 64, bits=8))
    later = write_png(tmp_path / "later.png", film_pixels(64, 64, bits=8))
    network_works, later_is_read = threading.Event(), threading.Event()

    def reading(path: Path) -> SourceImage:
        if path == later:
            assert network_works.wait(timeout=60)
            later_is_read.set()
        return read_film(path)

    def working(films: np.ndarray) -> np.ndarray:
        network_works.set()
        assert later_is_read.wait(timeout=60)
        return np.zeros((len(films), 2), np.float32)

    monkeypatch.setattr(score, "read_film", reading)
    assert len(list(score_films(model, [film] * BATCH + [later], engine=working))) == BATCH + 1


def test_no_more_than_two_batches_are_prepared_ahead_and_none_after_a_stop(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_png(tmp_path / "film.png", film_pixels(64, 64, bits=8))
    read: list[Path] = []

    def reading(path: Path) -> SourceImage:
        read.append(path)
        return read_film(path)

    monkeypatch.setattr(score, "read_film", reading)
    rows = score_films(model, [film] * 10 * BATCH, engine=lambda films: np.zeros((len(films), 2), np.float32))
    next(rows)
    time.sleep(0.5)  # long enough for most films, were they not held back
    rows.close()  # type: ignore[attr-defined]
    assert BATCH <= len(read) <= 3 * BATCH


def test_prevalence_shifts_the_probability_but_not_the_decision(model: Model, tmp_path: Path) -> None:
    path = write_png(tmp_path / "film.png", film_pixels(64, 64, bits=8))
    (plain,) = score_films(model, [path])
    (rare,) = score_films(model, [path], prevalence=0.1)
    assert plain.probability is not None
    odds = plain.probability / (1 - plain.probability) * (0.1 / 0.9)  # Bayes, from a prevalence of 0.5
    assert rare.probability == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert rare.decision == plain.decision


@pytest.mark.parametrize(
    ("tags", "finding"),
    [
        ({"ViewPosition": "LL"}, "view LL"),
        ({"PatientAge": "007Y"}, "age 7"),
        ({"BodyPartExamined": "KNEE"}, "body part KNEE"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for processing"),
        ({"ViewPosition": "PA", "PatientAge": "040Y", "BodyPartExamined": "CHEST"}, ""),
    ],
)
def test_what_is_out_of_scope_is_a_warning(model: Model, tmp_path: Path, tags: dict[str, str], finding: str) -> None:
    source = read_film(make_dicom(tmp_path / "film.dcm", film_pixels(), **tags))
    warning = scope_warning(source, prepare_film(source, model.card.recipe), model.card)
    assert finding in warning
    assert bool(warning) == bool(finding)


def test_a_mask_given_as_a_film_carries_a_warning(model: Model, tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[30:90, 20:50] = 255
    (row,) = score_films(model, [write_png(tmp_path / "mask.png", mask)])
    assert "2 grey levels" in row.warning
