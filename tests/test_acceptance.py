"""Acceptance of a node on a site's own films: what it changes, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sqlalchemy import Engine

from cxrtriage.acceptance import accept
from cxrtriage.config import Recipe
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import load_model, save_model, weights_sha256
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.score import score_films
from cxrtriage.serve import models
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.settings import load_settings

FILMS = 60


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for adults whose scores differ from film to film."""
    torch.manual_seed(0)
    network = build_network("googlenet", 2, 128)
    with torch.no_grad():
        network.fc.weight *= 0.05  # type: ignore[union-attr, operator]
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    card = ModelCard(architecture="googlenet", recipe=Recipe(size=128), scope=Scope(age_years=(18, 95)))
    save_model(path, network, card)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's films; the second is a child's, whom the model's scope leaves out."""
    folder = tmp_path_factory.mktemp("site")
    make_phantoms(folder, FILMS, 128, seed=3, workers=1)
    return folder


@pytest.fixture
def home(tmp_path: Path, model_file: Path) -> Path:
    engine = _engine(tmp_path)
    migrate(engine)
    models.add_model(engine, tmp_path, model_file, "active")
    engine.dispose()
    return tmp_path


def _engine(home: Path) -> Engine:
    return open_database(load_settings(home).database.url)


def _active(home: Path) -> models.ModelVersion:
    engine = _engine(home)
    with reading(engine) as connection:
        found = models.active_model(connection)
    engine.dispose()
    assert found is not None
    return found


def _label(films: Path, out: Path, labels: np.ndarray, **columns: object) -> Path:
    out.mkdir()
    table = pd.read_csv(films / "labels.csv")
    table["path"] = [str(films / path) for path in table["path"]]
    table[["path", "patient_id"]].assign(label=labels, **columns).to_csv(out / "labels.csv", index=False)
    return out


def test_a_model_that_ranks_the_sites_films_is_fitted_to_them_and_active(
    home: Path, films: Path, model_file: Path, tmp_path: Path
) -> None:
    """The labels follow the untrained network's own scores, so to it the site is easy."""
    table = pd.read_csv(films / "labels.csv")
    scores = score_films(load_model(model_file), [films / path for path in table["path"]])
    probability = np.array([prediction.probability for prediction in scores])
    ages = np.full(FILMS, 40)
    ages[1] = 4
    site = _label(films, tmp_path / "easy", (probability > np.median(probability)).astype(int), age=ages)
    accepted = accept(home, site)
    active = _active(home)
    assert active.sha256 == accepted.version.sha256
    assert active.acceptance is not None
    assert active.acceptance["figures"]["auroc"]["lower"] > 0.5  # type: ignore[index,call-overload]
    assert active.acceptance["not_assessed"] == 1
    assert next(iter(accepted.not_assessed.values())).count("age 4")
    assert active.card.calibration != load_model(model_file).card.calibration
    assert weights_sha256(load_model(home / active.path)) == weights_sha256(load_model(model_file))


def test_a_model_that_guesses_is_not_accepted_and_nothing_changes(home: Path, films: Path, tmp_path: Path) -> None:
    before = _active(home).sha256
    with pytest.raises(ModelError, match="cannot be told from chance on these films"):
        accept(home, _label(films, tmp_path / "hard", np.arange(FILMS) // 2 % 2))
    assert (_active(home).sha256, _active(home).acceptance) == (before, None)


def test_a_node_without_model_says_so(tmp_path: Path, films: Path) -> None:
    load_settings(tmp_path)
    with pytest.raises(ConfigError, match="has no model yet"):
        accept(tmp_path, films)
