"""A network in int8 comes back out of the model file as NNCF made it, and rounds as the formula says."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from cxrtriage.config import Recipe
from cxrtriage.engines import engine_of_file, openvino_engine, torch_engine
from cxrtriage.errors import ModelError
from cxrtriage.model import bundle
from cxrtriage.model.bundle import Model, load_model, replace_card, save_model
from cxrtriage.model.card import ModelCard, PrecisionCheck, load_card
from cxrtriage.model.converted import openvino
from cxrtriage.model.quantised import Quantised, can_quantise, quantise, quantised_of_file, read_quantised
from prepared_sets import TinyNetwork

GOOD = PrecisionCheck(films=500, auroc_fall=0, decisions_changed=0)
FILMS = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)

with_nncf = pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")


def tiny(card: ModelCard | None = None) -> Model:
    torch.manual_seed(0)
    network = TinyNetwork("googlenet", 2, 64).eval().requires_grad_(False)
    return Model(network, card or ModelCard(architecture="googlenet", recipe=Recipe(size=64)))


@pytest.fixture(scope="module")
def int8() -> Quantised:
    return quantise(tiny(), FILMS)


def runs(network: Any, films: np.ndarray) -> list[np.ndarray]:
    """Return all outputs of an OpenVINO network in fp32, without the processor's own int8."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    result = openvino().Core().compile_model(network, "CPU", settings)(films[:, np.newaxis])
    return [np.array(value) for value in result.values()]


@with_nncf
def test_the_network_in_int8_stays_near_that_in_fp32_and_its_weights_take_a_byte_each(int8: Quantised) -> None:
    model = tiny()
    expected = torch_engine(model)(FILMS)
    found = openvino_engine(replace(model, int8=int8), "int8")(FILMS)
    assert found.dtype == np.float32
    step = 1 / 127  # of the largest value, one rounding
    np.testing.assert_allclose(found, expected, atol=10 * step * np.abs(expected).max())
    assert not np.array_equal(found, expected)
    convolutions = [module.weight for module in model.network.modules() if isinstance(module, nn.Conv2d)]
    constants = [node for node in read_quantised(int8).get_ordered_ops() if node.get_type_name() == "Constant"]
    stored = [node.data for node in constants if node.get_element_type() == openvino().Type.i8]
    assert sorted(weights.shape for weights in stored) == sorted(weights.shape for weights in convolutions)


@with_nncf
def test_nncf_reports_to_nobody_either(int8: Quantised) -> None:
    assert "nncf" in sys.modules
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


@with_nncf
def test_values_between_layers_round_as_the_formula_of_fake_quantize_says(int8: Quantised) -> None:
    """OpenVINO's operation set: round((x - low) / (high - low) * (levels - 1)) / (levels - 1) * (high - low) + low."""
    network = read_quantised(int8)
    nodes = [node for node in network.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    assert nodes
    network.add_outputs([nodes[0].output(0), nodes[0].input_value(0)])
    _, found, values = runs(network, FILMS)
    low, high = (nodes[0].input_value(number).get_node().data.item() for number in (1, 2))
    steps = nodes[0].get_attributes()["levels"] - 1
    expected = np.round((np.clip(values, low, high) - low) / (high - low) * steps) / steps * (high - low) + low
    # a value halfway between two steps may go either way
    off = np.abs(found - expected)
    assert np.mean(off > 1e-5) < 1e-3
    assert off.max() < 1.01 * (high - low) / steps


@with_nncf
def test_a_model_file_gives_back_the_network_in_int8_and_scores_with_neither_films_nor_nncf(
    int8: Quantised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "build_network", lambda *_, **__: tiny().network)
    card = tiny().card.model_copy(update={"precision": {"int8": GOOD}})
    path = tmp_path / "model.safetensors"
    save_model(path, tiny().network, card, int8)
    assert load_model(path).int8 == quantised_of_file(path) == int8
    expected = openvino_engine(replace(tiny(card), int8=int8), "int8")(FILMS)
    np.testing.assert_array_equal(engine_of_file(path, "openvino-int8")[1](FILMS), expected)
    np.testing.assert_array_equal(engine_of_file(path, "auto")[1](FILMS), expected)
    script = f"""
import sys
sys.modules["nncf"] = sys.modules["torch"] = None
from pathlib import Path
import numpy as np
from cxrtriage.engines import engine_of_file
print(engine_of_file(Path({str(path)!r}), "auto")[1](np.zeros((1, 64, 64), np.uint8)).shape)
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "(1, 2)\n"


def test_only_files_with_a_network_in_int8_need_a_newer_cxrtriage_and_a_new_card_takes_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "build_network", lambda *_, **__: tiny().network)
    path = tmp_path / "model.safetensors"
    model = tiny()

    def written_format() -> str:
        with safe_open(path, framework="numpy") as file:
            return str(file.metadata()["cxrtriage"])

    save_model(path, model.network, model.card)
    assert '"format": 1' in written_format()
    assert load_model(path).int8 is None
    save_model(path, model.network, model.card, Quantised(b"graph", b"weights"))
    assert '"format": 2' in written_format()
    assert load_model(path).int8 == Quantised(b"graph", b"weights")
    replace_card(path, model.card)
    assert '"format": 1' in written_format()
    assert quantised_of_file(path) is None
    assert load_card(path) == model.card


def test_a_network_in_int8_that_is_damaged_or_missing_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="cannot read the model's network in int8"):
        read_quantised(Quantised(b"not a graph", b""))
    with pytest.raises(ModelError, match="no network in int8"):
        openvino_engine(tiny(), "int8")
