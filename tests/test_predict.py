"""Scoring: logits do not depend on company, probabilities are calibrated, other recipes are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cxrtriage.config import Recipe
from cxrtriage.errors import ModelError
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import (
    abnormal_logit,
    calibrate,
    emergent_share,
    predict_logits,
    probabilities,
    require_recipe,
)
from cxrtriage.records import LABEL_NAMES, Calibration


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = build_network("googlenet", 3, 128, auxiliary=False).eval()
    card = ModelCard(
        architecture="googlenet",
        classes=LABEL_NAMES,
        recipe=Recipe(size=128),
        calibration=Calibration(temperature=2.0, intercept=-1.0),
    )
    return Model(network, card)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 128, 128), dtype=np.uint8)


def test_logits_do_not_depend_on_how_films_are_batched(model: Model, films: np.ndarray) -> None:
    together = predict_logits(model, films)
    assert together.shape == (5, 3)
    assert together.dtype == np.float32
    scale = np.abs(together).max()
    for batch in (1, 2):
        np.testing.assert_allclose(predict_logits(model, films, batch) / scale, together / scale, atol=1e-4)


def test_logits_are_those_of_the_network_on_films_from_0_to_1(model: Model, films: np.ndarray) -> None:
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(films[:2, None] / np.float32(255)))
    np.testing.assert_allclose(predict_logits(model, films[:2]), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_read_only_memory_map_is_scored_like_an_array(model: Model, films: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", films)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(predict_logits(model, mapped), predict_logits(model, films))


def test_no_films_give_no_logits(model: Model) -> None:
    assert predict_logits(model, np.zeros((0, 128, 128), np.uint8)).shape == (0, 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 64, 64), np.uint8), np.zeros((128, 128), np.uint8), np.zeros((1, 128, 128), np.float32)]
)
def test_films_of_another_shape_or_type_are_a_callers_mistake(model: Model, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, 128, 128\) uint8 films, got"):
        predict_logits(model, wrong)


def test_the_abnormal_logit_is_the_softmaxs_own_odds() -> None:
    for classes in (2, 3):
        logits = np.random.default_rng(0).normal(0, 5, (50, classes))
        softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        odds = np.log((1 - softmax[:, 0]) / softmax[:, 0])
        np.testing.assert_allclose(abnormal_logit(logits), odds, rtol=1e-9)
    assert np.isfinite(abnormal_logit(np.float32([[-1e4, 1e4], [1e4, -1e4]]))).all()


def test_the_emergent_share_splits_the_abnormal_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    emergent = calibrate(abnormal_logit(logits), Calibration()) * emergent_share(logits)
    np.testing.assert_allclose(emergent, softmax[:, 2], rtol=1e-9)


def test_probabilities_are_calibrated_with_the_cards_temperature_and_intercept(model: Model, films: np.ndarray) -> None:
    logit = abnormal_logit(predict_logits(model, films))
    np.testing.assert_allclose(probabilities(model, films), 1 / (1 + np.exp(-(logit / 2 - 1))), rtol=1e-9)


def test_films_of_another_recipe_are_refused_with_both_named(model: Model) -> None:
    require_recipe(model, Recipe(size=128))
    with pytest.raises(ModelError) as caught:
        require_recipe(model, Recipe(size=224, fit="pad"))
    message = str(caught.value)
    assert "size=128, downsample=random, fit=stretch" in message
    assert "size=224, downsample=random, fit=pad" in message
    assert "cxrtriage prepare MANIFEST --like model.safetensors" in message
