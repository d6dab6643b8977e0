"""Reduced precision: what it changes is measured on films, and too much of it is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cxrtriage import engines
from cxrtriage.config import Recipe
from cxrtriage.engines import choose_engine, computes_in_bf16, openvino_engine
from cxrtriage.errors import ModelError
from cxrtriage.evaluate import precision, recalibrate
from cxrtriage.evaluate.precision import check_precision
from cxrtriage.model import bundle
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model, load_model, save_model
from cxrtriage.model.card import ModelCard, PrecisionCheck, load_card
from cxrtriage.model.quantised import Quantised, can_quantise, quantise
from cxrtriage.predict import abnormal_logit, predict_logits
from prepared_sets import TinyNetwork, make_prepared

GOOD = PrecisionCheck(films=500, auroc_fall=0.002, decisions_changed=0.005)

BAD = GOOD.model_copy(update={"films": 499})

with_nncf = pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")
with_bf16 = pytest.mark.skipif(not computes_in_bf16(), reason="this processor does not compute in bf16")


def untrained(precision: dict[str, PrecisionCheck] | None = None) -> Model:
    torch.manual_seed(0)
    network = build_network("googlenet", 2, 128, auxiliary=False).eval().requires_grad_(False)
    return Model(network, ModelCard(architecture="googlenet", recipe=Recipe(size=128), precision=precision or {}))


def test_fall_and_changed_decisions_are_those_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((200, 128, 128), np.uint8)
    images[:, 0, 0] = np.arange(200)
    truth = rng.integers(0, 2, 200)
    logit = truth + rng.normal(size=200)
    reduced = logit + rng.normal(size=200) * 0.2

    def engine(films: np.ndarray) -> np.ndarray:
        abnormal = reduced[films[:, 0, 0]]
        return np.stack([np.zeros_like(abnormal), abnormal], axis=1).astype(np.float32)

    model = untrained()
    check = check_precision(model, model.card, images, truth, logit, engine)
    assert check.films == 200
    assert check.auroc_fall == pytest.approx(roc_auc_score(truth, logit) - roc_auc_score(truth, reduced), abs=1e-6)
    assert check.decisions_changed == np.mean((logit >= 0) != (reduced >= 0)) > 0


@pytest.mark.parametrize(
    ("change", "passed"),
    [({}, True), ({"films": 499}, False), ({"auroc_fall": 0.0021}, False), ({"decisions_changed": 0.0051}, False)],
)
def test_a_check_passes_up_to_its_limits_and_not_beyond(change: dict[str, float], passed: bool) -> None:
    assert GOOD.model_copy(update=change).passed is passed


@pytest.mark.parametrize(("precision", "condition"), [("bf16", "processor with bf16"), ("int8", "extra 'quantise'")])
def test_reduced_precision_is_refused_without_a_check_and_after_a_failed_one(precision: str, condition: str) -> None:
    name = f"openvino-{precision}"
    with pytest.raises(ModelError, match=f"may not be run in {precision}: its file does not tell .*{condition}"):
        choose_engine(untrained(), name, 1000)  # type: ignore[arg-type]
    bad = GOOD.model_copy(update={"decisions_changed": 0.02})
    with pytest.raises(ModelError, match=r"on 500 films it changes 2\.0% of the decisions"):
        choose_engine(untrained({precision: bad}), name, 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("checks", "in_bf16", "expected"),
    [
        ({}, True, "f32"),
        ({"bf16": GOOD}, True, "bf16"),
        ({"bf16": GOOD}, False, "f32"),
        ({"bf16": GOOD, "int8": GOOD}, True, "int8, bf16 between"),
        ({"bf16": GOOD, "int8": GOOD}, False, "int8, f32 between"),
        ({"bf16": BAD, "int8": GOOD}, True, "int8, f32 between"),
        ({"bf16": GOOD, "int8": BAD}, True, "bf16"),
        ({"int8": BAD}, True, "f32"),
    ],
)
def test_auto_takes_the_fastest_that_passed_and_that_the_processor_has(
    checks: dict[str, PrecisionCheck], in_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "computes_in_bf16", lambda: in_bf16)
    monkeypatch.setattr(engines, "convert", lambda model: "")
    monkeypatch.setattr(engines, "read_quantised", lambda found: "int8, ")
    monkeypatch.setattr(
        engines, "_compiled", lambda network, hint, threads=None: network + hint + (" between" if network else "")
    )
    model = replace(untrained(checks), int8=Quantised(b"", b""))
    assert choose_engine(model, "auto", 1000) == expected  # type: ignore[comparison-overlap]


@with_bf16
def test_auto_computes_in_bf16_where_the_check_passed_and_only_there() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 128, 128), dtype=np.uint8)
    for check, computed in ((GOOD, "bf16"), (BAD, "f32")):
        model = untrained({"bf16": check})
        found = predict_logits(model, images, engine=choose_engine(model, "auto", 1000))
        expected = predict_logits(model, images, engine=openvino_engine(model, computed))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, predict_logits(model, images, engine=openvino_engine(model, "bf16")), rtol=1e-5)


@with_bf16
def test_recalibrating_on_enough_films_records_the_check_and_on_too_few_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, films = tmp_path / "model.safetensors", make_prepared(tmp_path / "set", train=4, validation=24)
    model = untrained({"bf16": GOOD})
    save_model(path, model.network, model.card)
    recalibrate.recalibrate_model(path, films)
    assert load_card(path).precision == {}
    monkeypatch.setattr(recalibrate, "FEWEST_FILMS_TO_CHECK", 24)
    monkeypatch.setattr(precision, "can_quantise", lambda: False)
    with caplog.at_level("INFO", logger="cxrtriage"):
        recalibrate.recalibrate_model(path, films)
    assert "int8 is not tried: NNCF is not installed" in caplog.text
    check = load_card(path).precision["bf16"]
    assert check.films == 24
    assert abs(check.auroc_fall) < 0.1
    loaded = load_model(path)
    assert loaded.card.precision == {"bf16": check}


@with_nncf
@pytest.mark.parametrize("passes", [True, False])
def test_recalibrating_checks_int8_on_films_that_its_ranges_are_not_from_and_keeps_it_only_if_it_passes(
    passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "build_network", lambda *_, **__: network)
    monkeypatch.setattr(recalibrate, "FEWEST_FILMS_TO_CHECK", 24)
    monkeypatch.setattr(PrecisionCheck, "passed", property(lambda check: passes))
    used = []
    monkeypatch.setattr(precision, "quantise", lambda model, films: used.append(films) or quantise(model, films))
    torch.manual_seed(0)
    network = TinyNetwork("googlenet", 2, 64).eval().requires_grad_(False)
    path, films = tmp_path / "model.safetensors", make_prepared(tmp_path / "set", train=6, validation=24, size=64)
    save_model(path, network, ModelCard(architecture="googlenet", recipe=Recipe(size=64)))
    card = recalibrate.recalibrate_model(path, films)
    np.testing.assert_array_equal(used[0], films.images[:6])
    assert card == load_card(path)
    assert card.precision["int8"].films == 24
    model = load_model(path)
    assert (model.int8 is not None) is passes
    if passes:
        images = films.images[6:]
        y_true = films.manifest["label"].to_numpy()[6:] > 0
        logit = abnormal_logit(predict_logits(model, images))
        again = check_precision(model, card, images, y_true, logit, openvino_engine(model, "int8"))
        assert again == card.precision["int8"]
        monkeypatch.setattr(precision, "can_quantise", lambda: False)  # what it has from before is checked again
        assert recalibrate.recalibrate_model(path, films).precision["int8"] == again
        assert load_model(path).int8 == model.int8
