"""Reduced precision: what it changes is measured on films, and too much of it is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cxrtriage.config import Recipe
from cxrtriage.engines import choose_engine, computes_in_bf16, openvino_engine
from cxrtriage.errors import ModelError
from cxrtriage.evaluate import recalibrate
from cxrtriage.evaluate.precision import check_precision
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model, load_model, save_model
from cxrtriage.model.card import ModelCard, PrecisionCheck, load_card
from cxrtriage.predict import predict_logits
from prepared_sets import make_prepared

GOOD = PrecisionCheck(films=500, auroc_fall=0.002, decisions_changed=0.005)

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


def test_bf16_is_refused_without_a_check_and_after_a_failed_one() -> None:
    with pytest.raises(ModelError, match="its file does not tell what that changes"):
        choose_engine(untrained(), "openvino-bf16", 1000)
    bad = GOOD.model_copy(update={"decisions_changed": 0.02})
    with pytest.raises(ModelError, match=r"on 500 films it changes 2\.0% of the decisions"):
        choose_engine(untrained({"bf16": bad}), "openvino-bf16", 1000)


@with_bf16
def test_auto_computes_in_bf16_where_the_check_passed_and_only_there() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 128, 128), dtype=np.uint8)
    for check, precision in ((GOOD, "bf16"), (GOOD.model_copy(update={"films": 499}), "f32")):
        model = untrained({"bf16": check})
        found = predict_logits(model, images, engine=choose_engine(model, "auto", 1000))
        expected = predict_logits(model, images, engine=openvino_engine(model, precision))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected, predict_logits(model, images, engine=openvino_engine(model, "bf16")), rtol=1e-5)


@with_bf16
def test_recalibrating_on_enough_films_records_the_check_and_on_too_few_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, films = tmp_path / "model.safetensors", make_prepared(tmp_path / "set", train=4, validation=24)
    model = untrained({"bf16": GOOD})
    save_model(path, model.network, model.card)
    recalibrate.recalibrate_model(path, films)
    assert load_card(path).precision == {}
    monkeypatch.setattr(recalibrate, "FEWEST_FILMS_TO_CHECK", 24)
    recalibrate.recalibrate_model(path, films)
    check = load_card(path).precision["bf16"]
    assert check.films == 24
    assert abs(check.auroc_fall) < 0.1
    loaded = load_model(path)
    assert loaded.card.precision == {"bf16": check}
