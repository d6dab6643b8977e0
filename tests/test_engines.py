"""What runs a network: both engines say the same of a film, and neither says anything to anybody else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from cxrtriage import engines
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.engines import FEWEST_FOR_OPENVINO, choose_engine, openvino_engine, torch_engine
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model, load_model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import predict_logits, probabilities
from cxrtriage.score import packaged_model


def untrained(architecture: str) -> Model:
    torch.manual_seed(0)
    network = build_network(architecture, 2, 128, auxiliary=False).eval().requires_grad_(False)
    return Model(network, ModelCard(architecture=architecture, recipe=Recipe(size=128)))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    labels = make_phantoms(tmp_path_factory.mktemp("phantoms"), 12, 512, seed=2, workers=1)
    # one that shows no lungs, for which the packaged network has a box of its own
    tifffile.imwrite(labels.parent / "images" / "flat.tif", np.arange(512 * 512, dtype=np.uint16).reshape(512, 512))
    return sorted((labels.parent / "images").iterdir())


@pytest.mark.parametrize("architecture", ["googlenet", "inception_v3", "resnet152"])
def test_openvino_gives_the_logits_of_pytorch_in_batches_of_any_size(architecture: str) -> None:
    model = untrained(architecture)
    images = np.random.default_rng(0).integers(0, 256, (5, 128, 128), dtype=np.uint8)
    expected = predict_logits(model, images, engine=torch_engine(model))
    run = openvino_engine(model)
    for batch in (1, 2, 5):
        found = predict_logits(model, images, batch, run)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max(), rtol=0)


def test_logits_stay_what_they_were_when_the_next_films_are_scored() -> None:
    run = openvino_engine(untrained("googlenet"))
    films = np.random.default_rng(0).integers(0, 256, (2, 128, 128), dtype=np.uint8)
    logits = run(films)
    before = logits.copy()
    run(255 - films)
    np.testing.assert_array_equal(logits, before)


def test_the_packaged_model_decides_alike_with_both_engines(films: list[Path]) -> None:
    model = load_model(packaged_model())
    images = np.stack([prepare_film(read_film(path), model.card.recipe) for path in films])
    run = openvino_engine(model)
    expected = predict_logits(model, images)
    found = predict_logits(model, images, engine=run)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max(), rtol=0)
    plain, fast = probabilities(model, images), probabilities(model, images, engine=run)
    low, high = np.sort(plain)[5:7]
    for threshold in (model.card.threshold, (low + high) / 2):  # phantoms lie on one side of the model's own
        np.testing.assert_array_equal(fast >= threshold, plain >= threshold)


@pytest.mark.parametrize(
    ("name", "count", "expected"),
    [
        ("auto", FEWEST_FOR_OPENVINO - 1, "torch"),
        ("auto", FEWEST_FOR_OPENVINO, "openvino"),
        ("torch", 10_000, "torch"),
        ("openvino", 1, "openvino"),
    ],
)
def test_openvino_is_chosen_where_the_films_are_worth_its_conversion(
    monkeypatch: pytest.MonkeyPatch, name: engines.EngineName, count: int, expected: str
) -> None:
    monkeypatch.setattr(engines, "torch_engine", lambda model: "torch")
    monkeypatch.setattr(engines, "openvino_engine", lambda model, precision: "openvino")
    assert choose_engine(untrained("googlenet"), name, count) == expected


def test_openvino_is_not_told_to_report_to_its_makers_and_loads_only_when_asked(tmp_path: Path) -> None:
    """Left to itself it writes an identifier into the user's home and sends it with every import and conversion."""
    script = """
import sys
from cxrtriage.engines import openvino_engine
from cxrtriage.model.bundle import load_model
from cxrtriage.score import packaged_model
assert "openvino" not in sys.modules
openvino_engine(load_model(packaged_model()))
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment | {"HOME": str(tmp_path)})
    assert not (tmp_path / "intel").exists()
