"""The model file: what is written is read back, and what is damaged is told in one sentence."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, safe_open, save_file
from torch import nn

from cxrtriage.config import Recipe
from cxrtriage.errors import ModelError
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import load_model, replace_card, save_model
from cxrtriage.model.card import FORMAT, METADATA_KEY, ModelCard, Scope, load_card
from cxrtriage.model.known_films import fingerprints, known_films
from cxrtriage.records import LABEL_NAMES, Calibration, OperatingPoint

CARD = ModelCard(architecture="googlenet", recipe=Recipe(size=128))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("googlenet", 2, 128)


@pytest.fixture
def path(tmp_path: Path, network: nn.Module) -> Path:
    save_model(tmp_path / "model.safetensors", network, CARD)
    return tmp_path / "model.safetensors"


def rewrite(path: Path, *, metadata: dict[str, str] | None = None, **changed: Any) -> None:
    """Change a model file behind the package's back."""
    with safe_open(path, "pt") as file:
        old = file.metadata()
    tensors = load_file(path)
    tensors.update({name: value for name, value in changed.items() if value is not None})
    for name in [name for name, value in changed.items() if value is None]:
        del tensors[name]
    save_file(tensors, path, metadata=old if metadata is None else metadata)


def test_a_loaded_model_gives_the_saved_networks_output(path: Path, network: nn.Module) -> None:
    films = torch.rand(2, 1, 128, 128)
    model = load_model(path)
    assert model.card == CARD
    assert not model.network.training
    with torch.inference_mode():
        # the order of additions differs between memory formats
        torch.testing.assert_close(model.network(films), network.eval()(films), rtol=1e-4, atol=1e-4)


def test_a_model_file_leaves_the_auxiliary_heads_out(path: Path) -> None:
    names = set(load_file(path))
    assert not [name for name in names if name.startswith(("aux1", "aux2"))]
    assert "fc.weight" in names


def test_loading_draws_no_random_numbers(path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(path)
    assert torch.equal(torch.rand(3), expected)


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
interval = st.tuples(finite, finite, finite)
points = st.builds(
    OperatingPoint,
    name=st.text(min_size=1, max_size=20),
    threshold=finite,
    abnormal_patients=st.integers(0, 10**6),
    normal_patients=st.integers(0, 10**6),
    sensitivity=interval,
    specificity=interval,
)
values = st.recursive(
    st.none() | st.booleans() | finite | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
facts = st.dictionaries(st.text(max_size=8), values, max_size=3)

scopes = st.builds(
    Scope,
    films=st.integers(0, 10**6),
    patients=st.none() | st.integers(0, 10**6),
    views=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    age_years=st.none() | st.tuples(finite, finite),
)


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    chosen = draw(st.lists(points, max_size=3))
    return ModelCard(
        architecture=draw(st.sampled_from(["googlenet", "inception_v3"])),
        classes=draw(st.sampled_from([LABEL_NAMES[:2], LABEL_NAMES])),
        recipe=Recipe(size=draw(st.integers(128, 600)), fit=draw(st.sampled_from(["stretch", "pad"]))),
        calibration=Calibration(temperature=draw(finite), intercept=draw(finite)),
        operating_points=chosen,
        decision=draw(st.sampled_from(["0.5", *(point.name for point in chosen)])),
        scope=draw(scopes),
        sources=draw(st.lists(st.text(max_size=10), max_size=3)),
        training=draw(facts),
        validation=draw(facts),
    )


@given(cards())
def test_any_card_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, card: ModelCard) -> None:
    path = tmp_path_factory.getbasetemp() / "card.safetensors"
    save_model(path, {"weight": torch.zeros(1)}, card)
    assert load_card(path) == card


def test_figures_that_could_not_be_determined_survive_the_file(tmp_path: Path) -> None:
    undetermined = OperatingPoint(
        name="youden", threshold=0.4, abnormal_patients=0, normal_patients=3,
        sensitivity=(math.nan, math.nan, math.nan), specificity=(1.0, 0.3, math.inf),
    )  # fmt: skip
    card = CARD.model_copy(update={"operating_points": [undetermined], "decision": "youden"})
    save_model(tmp_path / "m.safetensors", {"weight": torch.zeros(1)}, card)
    point = load_card(tmp_path / "m.safetensors").operating_points[0]
    assert math.isnan(point.sensitivity[0])
    assert point.specificity == (1.0, 0.3, math.inf)


def test_the_deciding_threshold_is_that_of_the_named_operating_point() -> None:
    point = OperatingPoint(
        name="youden", threshold=0.31, abnormal_patients=9, normal_patients=9,
        sensitivity=(0.9, 0.8, 1.0), specificity=(0.9, 0.8, 1.0),
    )  # fmt: skip
    card = ModelCard(architecture="googlenet", recipe=Recipe(), operating_points=[point], decision="youden")
    assert card.threshold == 0.31
    assert CARD.threshold == 0.5
    with pytest.raises(ValidationError, match="decision must be one of"):
        ModelCard(architecture="googlenet", recipe=Recipe(), decision="youden")


def test_a_new_card_leaves_the_weights_as_they_are(path: Path) -> None:
    before = load_file(path)
    card = CARD.model_copy(update={"calibration": Calibration(temperature=2.0, intercept=-0.5)})
    replace_card(path, card)
    assert load_card(path) == card
    after = load_file(path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ValueError, match="a new card cannot change recipe"):
        replace_card(path, CARD.model_copy(update={"recipe": Recipe(size=224)}))


def test_a_model_file_knows_the_films_it_was_made_from(path: Path, network: nn.Module) -> None:
    films = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    assert known_films(path) == frozenset()
    save_model(path, network, CARD, films=fingerprints(films[:3]))
    replace_card(path, CARD, films=fingerprints(films[2:4]))
    assert known_films(path) == fingerprints(films[:4])
    assert known_films(path).isdisjoint(fingerprints(films[4:]))
    assert fingerprints(films.transpose(0, 2, 1)[:1]) == fingerprints(films[:1].transpose(0, 2, 1).copy())


def test_a_failed_write_leaves_the_earlier_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(self: Path, content: bytes) -> int:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="input/output"):
        replace_card(path, CARD)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model file .*none.safetensors"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("size", [0, 5, 1000, -1000])
def test_a_truncated_file_is_told(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cannot read .*model.safetensors: not a whole safetensors file"):
        load_model(path)


def test_another_kind_of_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("label,probability\n1,0.3\n" * 10)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load_model(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load_model(tmp_path)


def test_weights_without_a_card_are_told(path: Path) -> None:
    rewrite(path, metadata={})
    with pytest.raises(ModelError, match=r"without a cxrtriage card.*weights alone go to --init"):
        load_model(path)


def test_a_newer_format_is_told(path: Path) -> None:
    rewrite(path, metadata={METADATA_KEY: json.dumps({"format": FORMAT + 1, "card": {"unheard": "of"}})})
    with pytest.raises(
        ModelError, match=rf"has format {FORMAT + 1}, this cxrtriage .* reads up to {FORMAT}\. Update cxrtriage"
    ):
        load_model(path)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 1, "card": {"architecture": 3}}'])
def test_a_damaged_card_is_told(path: Path, content: str) -> None:
    rewrite(path, metadata={METADATA_KEY: content})
    with pytest.raises(ModelError, match=r"cannot read the card of .*model.safetensors"):
        load_model(path)


def test_an_unknown_architecture_is_told(path: Path) -> None:
    replaced = CARD.model_copy(update={"architecture": "vgg"}).model_dump(mode="json")
    rewrite(path, metadata={METADATA_KEY: json.dumps({"format": 1, "card": replaced})})
    with pytest.raises(ModelError, match=r"model.safetensors cannot be used: there is no network 'vgg'"):
        load_model(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fc.weight": torch.zeros(3, 1024)}, r"fc.weight expected shape \(2, 1024\), found shape \(3, 1024\)"),
        ({"fc.weight": None}, r"fc.weight expected shape \(2, 1024\), found none of that name"),
        ({"extra": torch.zeros(1)}, r"extra expected none of that name, found shape \(1,\)"),
    ],
)
def test_weights_that_do_not_fit_are_told_by_name(path: Path, changed: dict[str, Any], message: str) -> None:
    rewrite(path, **changed)
    with pytest.raises(ModelError, match="do not fit its architecture googlenet with 2 classes: " + message):
        load_model(path)
