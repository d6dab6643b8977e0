"""What a run picks for itself, and what it refuses before it starts."""

import math

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cxrtriage.config import TrainSettings
from cxrtriage.errors import ConfigError
from cxrtriage.train.plan import make_plan, pick_batch, pick_classes, pick_epochs, pick_precision


def manifest_of(normal: int, abnormal: int = 0, emergent: int = 0, validation: int = 0) -> pd.DataFrame:
    label = [0] * normal + [1] * abnormal + [2] * emergent + [i % 2 for i in range(validation)]
    films = len(label)
    return pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(films)],
            "label": label,
            "patient_id": [f"p{i}" for i in range(films)],
            "split": ["train"] * (films - validation) + ["validation"] * validation,
        }
    )


def settings_of(**values: object) -> TrainSettings:
    return TrainSettings(accelerator="cpu", **values)  # type: ignore[arg-type]


@given(st.integers(200, 200_000), st.sampled_from(["study", "clinical"]))
def test_a_picked_batch_gives_at_least_20_steps_an_epoch(films: int, recipe: str) -> None:
    batch, _ = pick_batch(films, recipe, None)  # type: ignore[arg-type]
    assert math.ceil(films / batch) >= 20
    assert batch == 256 if films >= 10_000 else batch <= 64


def test_the_studys_batch_is_kept_on_small_sets_only_on_request_and_that_is_said() -> None:
    batch, reason = pick_batch(5000, "study", None)
    assert batch == 64
    assert "the study's 256 is kept below 10,000 films only on request (--batch)" in reason
    assert pick_batch(5000, "study", 256) == (256, "batch 256 as asked: 20 steps an epoch")
    assert pick_batch(1000, "study", 256) == (256, "batch 256 as asked: 4 steps an epoch, few")
    assert pick_batch(100, "study", 256) == (100, "batch 100: there are no more training films, 256 were asked for")


def test_epochs_follow_the_number_of_films_unless_given() -> None:
    assert pick_epochs(100, TrainSettings())[0] == 40
    assert pick_epochs(50_000, TrainSettings())[0] == 8
    assert pick_epochs(100, TrainSettings(epochs=3)) == (3, "3 epochs as asked")
    assert pick_epochs(100, TrainSettings(budget_s=60)) == (120, "as many epochs as fit into 60 s, 120 at most")


def test_fifty_emergent_patients_make_a_class_of_their_own() -> None:
    assert pick_classes(manifest_of(60, 60, 50), "auto") == (3, "three classes: 50 emergent training patients")
    classes, reason = pick_classes(manifest_of(60, 60, 49), "auto")
    assert classes == 2
    assert reason == "two classes, emergent counts as abnormal: 49 emergent training patients, fewer than 50"
    assert pick_classes(manifest_of(60, 60, 3), 3)[0] == 3
    assert pick_classes(manifest_of(60, 60, 80), 2)[0] == 2
    assert pick_classes(manifest_of(60, 60), "auto") == (2, "two classes: normal and abnormal")


def test_emergent_patients_are_counted_not_their_films() -> None:
    one_patient = manifest_of(60, 60, 80).assign(patient_id="p")
    assert pick_classes(one_patient, "auto")[0] == 2


def test_three_classes_without_emergent_films_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--classes 3 needs training films of all three classes, found labels \[0, 1\]"
    ):
        pick_classes(manifest_of(5, 5), 3)


@given(
    films=st.integers(8, 700),
    batch=st.one_of(st.none(), st.integers(2, 300)),
    micro_batch=st.one_of(st.none(), st.integers(2, 64)),
    devices=st.integers(1, 3),
)
def test_every_part_of_a_step_fits_the_device_and_has_two_films(
    films: int, batch: int | None, micro_batch: int | None, devices: int
) -> None:
    manifest = manifest_of(films - 2, 2)
    settings = settings_of(batch=batch, micro_batch=micro_batch, devices=devices)
    picked, _ = pick_batch(films, "study", batch)
    if films // math.ceil(films / picked) < 2 * devices:
        with pytest.raises(ConfigError, match="cannot be shared by"):
            make_plan(manifest, 128, settings)
        return
    plan = make_plan(manifest, 128, settings)
    smallest, largest = films // plan.steps_per_epoch, math.ceil(films / plan.steps_per_epoch)
    assert largest <= plan.batch
    assert smallest // plan.parts >= 2
    assert plan.parts % devices == 0
    # one film too many only where the alternative were a batch of one
    assert plan.micro_batch <= (micro_batch or 32) or smallest // (2 * devices) <= plan.accumulate


def test_large_films_are_taken_a_few_at_a_time() -> None:
    small = make_plan(manifest_of(500, 500), 224, settings_of(net="googlenet", batch=256))
    large = make_plan(manifest_of(500, 500), 1024, settings_of(net="resnet152", batch=256, precision="fp32"))
    assert small.micro_batch == 32
    assert large.micro_batch == 2
    assert large.accumulate == 125


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (manifest_of(5, 5).assign(split="test"), "no training films: no row of its manifest has split=train"),
        (manifest_of(5), "all 5 training films are normal, so there is nothing to tell apart"),
        (manifest_of(0, 5), "all 5 training films are abnormal, so there is nothing to tell apart"),
        (manifest_of(5, 5).assign(weight=0.0), "the weights of all training films are 0"),
        (
            pd.concat([manifest_of(5, 5).assign(weight=1.0), manifest_of(2, 2).assign(split="validation", weight=0.0)]),
            "the weights of all validation films are 0",
        ),
    ],
)
def test_sets_that_teach_nothing_are_refused(manifest: pd.DataFrame, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(manifest, 128, settings_of())


def test_more_processes_than_films_are_refused() -> None:
    with pytest.raises(ConfigError, match="a step of 8 films cannot be shared by 5 processes, each needs 2"):
        make_plan(manifest_of(4, 4), 128, settings_of(devices=5))
    with pytest.raises(ConfigError, match="1 validation films cannot be shared by 2 processes"):
        make_plan(manifest_of(4, 4, validation=1), 128, settings_of(devices=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"1 GPUs were asked for \(devices\), this machine has 0"):
        make_plan(manifest_of(4, 4), 128, TrainSettings(accelerator="gpu"))


def test_bf16_is_taken_only_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in (({"avx512_bf16": True}, "bf16"), ({"avx2": True, "avx512_bf16": False}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert pick_precision("auto", "cpu") == expected
    assert pick_precision("bf16", "cpu") == "bf16"


@pytest.mark.parametrize(
    "values",
    [
        {"nett": "googlenet"},
        {"net": "vgg"},
        {"batch": 1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"dropout": 1.0},
        {"class_weight": "equal"},
        {"class_weight": -1},
        {"classes": 4},
        {"budget_s": 0},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        TrainSettings(**values)  # type: ignore[arg-type]
