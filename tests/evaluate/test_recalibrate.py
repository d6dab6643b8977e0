"""Recalibration writes what the films can determine into the model file, and says what they cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.evaluate import recalibrate
from cxrtriage.evaluate.calibration import calibration_slope_intercept
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import load_model, save_model
from cxrtriage.model.card import ModelCard, Scope, load_card
from cxrtriage.predict import calibrate
from cxrtriage.records import Calibration
from prepared_sets import make_prepared

SIZE = 128


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = build_network("googlenet", 2, SIZE, auxiliary=False)
    save_model(path, network, ModelCard(architecture="googlenet", recipe=Recipe(size=SIZE), scope=Scope(views=("PA",))))
    return path


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the model have scored films with the logits given."""

    def score(films: int, seed: int = 0, label: np.ndarray | None = None) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 2, films) if label is None else label
        logit = 4 * label + 3 + 3 * rng.normal(size=films)  # too extreme, and too high on the whole
        table = pd.DataFrame(
            {"path": [f"{n}.png" for n in range(films)], "label": label, "logit": logit, "probability": 0.5}
        )
        table["patient_id"] = [f"p{number}" for number in range(films)]
        monkeypatch.setattr(recalibrate, "predictions_table", lambda model, prepared, split: table)
        return table

    return score


def test_calibration_and_operating_points_are_fitted_and_stored(written: Path, scored: Any, tmp_path: Path) -> None:
    table, films = scored(200), make_prepared(tmp_path, size=SIZE)
    card = recalibrate.recalibrate_model(written, films)
    assert load_card(written) == card
    probability = calibrate(table["logit"].to_numpy(), card.calibration)
    slope, intercept = calibration_slope_intercept(probability, table["label"].to_numpy())
    assert slope == pytest.approx(1, abs=0.1)
    assert intercept == pytest.approx(0, abs=0.1)
    assert card.decision == "sensitivity 0.95"
    assert card.threshold == card.operating_points[0].threshold
    assert [point.split for point in card.operating_points] == ["validation"] * 3
    assert card.validation["prevalence"] == pytest.approx(table["label"].mean())
    assert card.validation["not_calibrated"] == ""
    assert card.validation["figures"]["sensitivity"]["estimate"] == pytest.approx(
        card.operating_points[0].sensitivity[0]
    )
    assert card.scope == Scope(views=("PA",))  # what does not depend on these films stays


def test_few_films_are_calibrated_but_promise_no_sensitivity(written: Path, scored: Any, tmp_path: Path) -> None:
    scored(60)
    card = recalibrate.recalibrate_model(written, make_prepared(tmp_path, size=SIZE), split=None)
    assert card.decision == "youden"
    assert "cannot be determined" in card.validation["undetermined"]["sensitivity 0.95"]
    assert card.calibration != Calibration()
    assert card.operating_points[0].split == "the set"


def test_films_of_one_class_leave_the_model_uncalibrated_and_say_so(
    written: Path, scored: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scored(40, label=np.ones(40, dtype=int))
    with caplog.at_level("INFO", logger="cxrtriage"):
        card = recalibrate.recalibrate_model(written, make_prepared(tmp_path, size=SIZE))
    assert card.calibration == Calibration()
    assert (card.operating_points, card.decision, card.threshold) == ([], "0.5", 0.5)
    assert card.validation["not_calibrated"].startswith("not calibrated: 40 abnormal and 0 normal films")
    assert "not calibrated: 40 abnormal and 0 normal films" in caplog.text
    assert load_card(written) == card


def test_a_real_network_scores_as_its_new_card_says(written: Path, tmp_path: Path) -> None:
    films: PreparedSet = make_prepared(tmp_path, train=4, validation=60, size=SIZE)
    card = recalibrate.recalibrate_model(written, films)
    again = recalibrate.recalibrate_model(written, films)  # from the logits, so doing it twice changes nothing
    assert again.calibration == card.calibration
    assert load_model(written).card == again
