"""A model's predictions as a table: which films, which columns, which decision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import ModelError, SourceError
from cxrtriage.evaluate.predicting import predictions_table
from cxrtriage.model.bundle import Model, weights_sha256
from cxrtriage.model.card import ModelCard
from cxrtriage.records import LABEL_NAMES, Calibration, OperatingPoint
from prepared_sets import make_prepared

SIZE = 32


class Brightness(nn.Module):
    """Logits (0, b) or (0, b, 2 b) of a film of mean brightness b."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.arange(classes, dtype=torch.float32))

    def forward(self, batch: Tensor) -> Tensor:
        return batch.mean(dim=(1, 2, 3))[:, None] * self.factors


def model(classes: int = 2, **card: object) -> Model:
    named = {"classes": LABEL_NAMES[:classes], "recipe": Recipe(size=SIZE)} | card
    return Model(Brightness(classes).eval(), ModelCard(architecture="googlenet", **named))


def test_a_split_s_films_are_scored_and_calibrated(tmp_path: Path) -> None:
    films = make_prepared(tmp_path, size=SIZE)
    table = predictions_table(model(calibration=Calibration(temperature=0.5, intercept=-1)), films, "validation")
    assert table["path"].tolist() == [f"/films/{number}.png" for number in range(8, 12)]
    assert table["patient_id"].tolist() == ["p8", "p9", "p10", "p11"]
    assert table["label"].tolist() == [0, 1, 0, 1]
    brightness = films.images[8:].mean(axis=(1, 2)) / 255
    assert table["logit"].to_numpy() == pytest.approx(brightness, abs=1e-5)
    assert table["probability"].to_numpy() == pytest.approx(1 / (1 + np.exp(-(2 * brightness - 1))), abs=1e-5)
    assert "p_emergent" not in table


def test_the_decision_is_made_at_the_model_s_operating_point(tmp_path: Path) -> None:
    films = make_prepared(tmp_path, size=SIZE)
    plain = predictions_table(model(), films, None)
    middle = float(plain["probability"].median())
    point = {"abnormal_patients": 9, "normal_patients": 9, "sensitivity": (1, 1, 1), "specificity": (1, 1, 1)}
    points = [OperatingPoint(name="youden", threshold=middle, **point)]
    decided = predictions_table(model(operating_points=points, decision="youden"), films, None)
    assert (plain["decision"] == "abnormal").all()
    assert (decided["decision"] == np.where(decided["probability"] >= middle, "abnormal", "normal")).all()
    assert set(decided["decision"]) == {"normal", "abnormal"}


def test_three_classes_give_the_probability_of_emergent(tmp_path: Path) -> None:
    table = predictions_table(model(classes=3), make_prepared(tmp_path, size=SIZE), None)
    logits = table["logit"].to_numpy()
    brightness = np.log((np.sqrt(1 + 4 * np.exp(logits)) - 1) / 2)  # exp(logit) = exp(b) + exp(2 b)
    softmax = np.exp(2 * brightness) / (1 + np.exp(brightness) + np.exp(2 * brightness))
    assert table["p_emergent"].to_numpy() == pytest.approx(softmax, abs=1e-5)


def test_a_film_with_several_draws_is_scored_once(tmp_path: Path) -> None:
    films = make_prepared(tmp_path, size=SIZE, path=[f"/films/{number // 2}.png" for number in range(12)])
    assert len(predictions_table(model(), films, None)) == 6


def test_other_columns_are_carried_along(tmp_path: Path) -> None:
    table = predictions_table(model(), make_prepared(tmp_path, size=SIZE, sex="F", ward=7, probability=0.1), None)
    assert list(table.columns[:4]) == ["path", "label", "probability", "decision"]
    assert set(table["ward"]) == {7}
    assert not (table["probability"] == 0.1).any()
    assert table.columns.is_unique


def test_films_prepared_otherwise_and_splits_without_films_are_refused(tmp_path: Path) -> None:
    films = make_prepared(tmp_path, size=SIZE)
    with pytest.raises(SourceError, match=r"has no test films to measure a model on; .* has train, validation"):
        predictions_table(model(), films, "test")
    other = PreparedSet(films.path, films.images, films.manifest, Recipe(size=SIZE, fit="pad"), films.source_hash)
    with pytest.raises(ModelError, match="fit=pad"):
        predictions_table(model(), other, None)


def test_films_labelled_by_readers_who_worked_with_these_weights_do_not_measure_them(tmp_path: Path) -> None:
    """Also under another calibration: it is the score that the reader saw, not the file."""
    own = weights_sha256(model())
    films = make_prepared(tmp_path, size=SIZE, reviewed_weights=[own] * 3 + [""] * 9)
    recalibrated = model(calibration=Calibration(temperature=2, intercept=1))
    assert weights_sha256(recalibrated) == own
    assert len(predictions_table(recalibrated, films, None)) == 9
    every = make_prepared(tmp_path / "every", size=SIZE, reviewed_weights=own)
    with pytest.raises(SourceError, match="cannot measure it"):
        predictions_table(model(), every, None)
