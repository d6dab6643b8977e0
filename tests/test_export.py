"""A network written as ONNX says, in another program's runtime, what it says here; its metadata tells how to use it."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from cxrtriage.config import Recipe
from cxrtriage.engines import torch_engine
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.export import METADATA_KEY, export_onnx
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import load_model, save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.score import packaged_model


@pytest.fixture
def googlenet(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(
        path,
        build_network("googlenet", 2, 128, auxiliary=False),
        ModelCard(architecture="googlenet", recipe=Recipe(size=128)),
    )
    return path


def runtime_logits(path: Path, films: np.ndarray) -> np.ndarray:
    return np.asarray(InferenceSession(path).run(None, {"films": films[:, np.newaxis]})[0])


def test_onnx_runtime_gives_the_logits_of_pytorch_and_the_card_is_there(googlenet: Path, tmp_path: Path) -> None:
    export_onnx(googlenet, tmp_path / "network.onnx")
    films = np.random.default_rng(0).integers(0, 256, (3, 128, 128), dtype=np.uint8)
    model = load_model(googlenet)
    expected = torch_engine(model)(films)
    found = runtime_logits(tmp_path / "network.onnx", films)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    network = onnx.load(tmp_path / "network.onnx")
    onnx.checker.check_model(network, full_check=True)
    (entry,) = network.metadata_props
    assert (entry.key, ModelCard.model_validate_json(entry.value)) == (METADATA_KEY, model.card)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "network.onnx"]


def test_the_packaged_network_is_written_for_batches_of_any_size(tmp_path: Path) -> None:
    export_onnx(packaged_model(), tmp_path / "packaged.onnx")
    model = load_model(packaged_model())
    size = model.card.recipe.size
    films = np.tile(np.linspace(0, 255, size, dtype=np.uint8), (5, size, 1))
    films[1:] = np.roll(films[1:], 40, axis=2)
    expected = torch_engine(model)(films)
    for batch in (1, 5):
        found = runtime_logits(tmp_path / "packaged.onnx", films[:batch])
        np.testing.assert_allclose(found, expected[:batch], atol=1e-4, rtol=0)


def test_a_network_that_came_out_differently_is_not_written(
    googlenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.onnx").write_text("an earlier one")
    monkeypatch.setattr("cxrtriage.export.TOLERANCE", 0)
    with pytest.raises(ModelError, match=r"gives logits that are off by .* Nothing was written"):
        export_onnx(googlenet, tmp_path / "kept.onnx")
    assert (tmp_path / "kept.onnx").read_text() == "an earlier one"


def test_without_the_package_a_sentence_says_what_to_install(
    googlenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'cxrtriage\[onnx\]'"):
        export_onnx(googlenet, tmp_path / "network.onnx")
