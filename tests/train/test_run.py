"""Whole training runs: record, resuming, interruption, early stopping, time budget, two processes.

They train a tiny network on eight films: what is tested is the run, not what it learns (see `test_learning`).
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.multiprocessing.spawn import ProcessRaisedException

from cxrtriage.config import Recipe, TrainSettings
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.card import Scope, load_card
from cxrtriage.train import run as run_module
from cxrtriage.train import train
from cxrtriage.train import watch as watch_module
from cxrtriage.train.run import _own_errors
from cxrtriage.train.task import Figures, TrainingTask
from prepared_sets import TinyNetwork, make_prepared

pytestmark = pytest.mark.usefixtures("tiny")

COLUMNS = [
    "epoch", "step", "learning_rate", "train_loss", "train_accuracy",
    "validation_loss", "validation_accuracy", "validation_auroc", "seconds",
]  # fmt: skip


def settings_of(**values: object) -> TrainSettings:
    """Two steps of four films, each in two parts, an epoch."""
    given = {"epochs": 3, "batch": 4, "micro_batch": 2, "accelerator": "cpu", "recipe": "clinical", **values}
    return TrainSettings(**given)  # type: ignore[arg-type]


def history_of(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv")


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_prepared(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "build_network", TinyNetwork)
        yield


@pytest.fixture(scope="module")
def uninterrupted(prepared: PreparedSet, tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    train(prepared, settings_of(), out)
    return out


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Send this process the signal in the list during the second epoch."""
    number: list[int] = []
    step = TrainingTask.training_step

    def interrupted_step(task: TrainingTask, batch: object, batch_idx: int) -> torch.Tensor:
        if number and task.current_epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), number[0])
        return step(task, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingTask, "training_step", interrupted_step)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield number
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_a_run_leaves_its_record(
    uninterrupted: Path, prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {path.name for path in uninterrupted.iterdir()} == {
        "model.safetensors", "history.csv", "config.toml", "last.ckpt", "tensorboard",
    }  # fmt: skip
    history = history_of(uninterrupted)
    assert list(history.columns) == COLUMNS
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["step"].tolist() == [2, 4, 6]
    assert not history.isna().any(axis=None)
    events = EventAccumulator(str(uninterrupted / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [2, 4, 6]
    config = tomllib.loads((uninterrupted / "config.toml").read_text())
    assert config["settings"]["batch"] == 4
    assert config["resolved"]["total_steps"] == 6
    assert config["recipe"] == prepared.recipe.model_dump()
    card = load_card(uninterrupted / "model.safetensors")
    assert card.recipe == prepared.recipe
    assert card.data_hash == prepared.source_hash
    assert card.scope == Scope(films=8, patients=8)
    assert card.training["learning_rate"] == 0.001
    best = history.loc[history["epoch"] == card.validation["epoch"]].iloc[0]
    assert card.validation["validation_auroc"] == pytest.approx(best["validation_auroc"])


def test_the_cards_scope_tells_what_was_trained_on(prepared: PreparedSet, tmp_path: Path) -> None:
    facts = {"view_position": ["PA"] * 6 + ["AP", None] + ["LL"] * 4, "age": [30.0] * 7 + [61.5] + [5.0] * 4}
    described = make_prepared(tmp_path / "set", source="nih", **facts)
    card = load_card(train(described, settings_of(epochs=1), tmp_path / "run"))
    assert card.scope == Scope(films=8, patients=8, views=("AP", "PA"), age_years=(30, 61.5))
    assert card.sources == ["nih"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_the_very_same_weights(
    prepared: PreparedSet, uninterrupted: Path, tmp_path: Path, interrupt: list[int], number: signal.Signals
) -> None:
    interrupt.append(number)
    with pytest.raises(KeyboardInterrupt):
        train(prepared, settings_of(), tmp_path)
    assert history_of(tmp_path)["epoch"].tolist() == [1]
    interrupt.clear()
    path = train(prepared, settings_of(), tmp_path)
    assert same_weights(path, uninterrupted / "model.safetensors")
    pd.testing.assert_frame_equal(
        history_of(tmp_path).drop(columns="seconds"), history_of(uninterrupted).drop(columns="seconds")
    )


def test_a_run_that_is_complete_is_left_as_it_is(prepared: PreparedSet, uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()}
    assert train(prepared, settings_of(), uninterrupted) == uninterrupted / "model.safetensors"
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()} == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.01}, r"holds a run with learning_rate=0.001, but learning_rate=0.01 was asked for now"),
        ({"net": "resnet152"}, r"holds a run with net=googlenet, but net=resnet152 was asked for now"),
    ],
)
def test_going_on_with_other_settings_is_refused_by_name(
    prepared: PreparedSet, uninterrupted: Path, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message + r".*Give another --out, or remove that folder"):
        train(prepared, settings_of(**changed), uninterrupted)


def test_going_on_with_films_prepared_otherwise_is_refused(prepared: PreparedSet, uninterrupted: Path) -> None:
    padded = replace(prepared, recipe=Recipe(size=128, fit="pad"))
    with pytest.raises(ConfigError, match=r"holds a run with preparation=size=128.*fit=stretch.* but .*fit=pad"):
        train(padded, settings_of(), uninterrupted)


def test_going_on_with_other_films_is_refused(uninterrupted: Path, tmp_path: Path) -> None:
    other = make_prepared(tmp_path, source_hash="f" * 64)
    with pytest.raises(ConfigError, match="holds a run with data_hash=000"):
        train(other, settings_of(), uninterrupted)


def test_a_damaged_checkpoint_is_told(prepared: PreparedSet, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"half a checkpoint")
    with pytest.raises(ModelError, match=r"cannot go on from .*last.ckpt: it is damaged.*Remove it"):
        train(prepared, settings_of(), tmp_path)


def test_without_resume_an_earlier_run_is_replaced(prepared: PreparedSet, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"half a checkpoint")
    (tmp_path / "notes.txt").write_text("mine")
    train(prepared, settings_of(epochs=1), tmp_path, resume=False)
    assert history_of(tmp_path)["epoch"].tolist() == [1]
    assert (tmp_path / "notes.txt").exists()


def test_a_loss_that_is_no_number_stops_the_run_with_epoch_and_step(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(prepared, settings_of(recipe="study", learning_rate=1e30, precision="fp32"), tmp_path)
    assert "the training loss became nan in epoch 1 at step 2. Nothing is kept." in str(caught.value)
    assert "lower --learning-rate than 1e+30" in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(("stop_after", "epochs"), [(8, 4), (9, 5)])  # two steps an epoch
def test_training_stops_early_though_not_too_early_and_keeps_the_best_epoch(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int, epochs: int
) -> None:
    areas = iter([0.6, 0.9, 0.9, 0.8, 0.7])
    losses = iter([0.7, 0.5, 0.6, 0.4, 0.4])
    scored: list[torch.Tensor] = []

    def scripted(task: TrainingTask) -> Figures:
        scored.append(task.scorer.state_dict()["fc.bias"].clone())
        return Figures(0.5, 0.5, next(losses), 0.5, next(areas))

    monkeypatch.setattr(TrainingTask, "figures", scripted)
    monkeypatch.setattr(watch_module, "STEPS_BEFORE_STOPPING", stop_after)
    path = train(prepared, settings_of(epochs=9, patience=2), tmp_path)
    assert history_of(tmp_path)["epoch"].tolist() == list(range(1, epochs + 1))
    assert load_card(path).validation["epoch"] == 2  # the lower loss of two equal areas
    assert torch.equal(load_file(path)["fc.bias"], scored[1])


def test_without_validation_films_the_last_epoch_is_kept(tmp_path: Path) -> None:
    alone = make_prepared(tmp_path / "set", validation=0)
    path = train(alone, settings_of(epochs=2, patience=1), tmp_path / "run")
    history = history_of(tmp_path / "run")
    assert history[["validation_loss", "validation_accuracy", "validation_auroc"]].isna().all(axis=None)
    assert load_card(path).validation == {"epoch": 2, "films": 0}


def test_validation_films_of_one_class_have_no_auroc_and_the_loss_chooses(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "set", label=[0, 1] * 4 + [0] * 4)
    path = train(prepared, settings_of(epochs=2), tmp_path / "run")
    history = history_of(tmp_path / "run")
    assert history["validation_auroc"].isna().all()
    assert load_card(path).validation["epoch"] == history["validation_loss"].idxmin() + 1


def test_three_classes_weights_certainty_and_draws_are_learnt_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = make_prepared(
        tmp_path / "set",
        label=[0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 2, 0],
        p_abnormal=[0.1, None, 1.0, 0.3] * 3,
        weight=[1.0, 2.0, None] * 4,
        path=["a", "b", "c", "d"] * 2 + ["e", "f", "g", "h"],
        draw=[0] * 4 + [1] * 4 + [0] * 4,
    )
    settings = settings_of(epochs=2, classes=3, class_weight="balanced", batch=2)
    with caplog.at_level(logging.INFO, "cxrtriage"):
        path = train(prepared, settings, tmp_path / "run")
    assert load_card(path).classes == ("normal", "abnormal", "emergent")
    assert history_of(tmp_path / "run")["step"].tolist() == [2, 4]  # four films, two draws of each
    assert "three classes: " in caplog.text


def test_a_time_budget_shortens_the_run_and_its_schedule(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    step = TrainingTask.training_step

    def slow_step(task: TrainingTask, batch: object, batch_idx: int) -> torch.Tensor:
        clock.now += 5.0  # ten seconds a step of two batches
        return step(task, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingTask, "training_step", slow_step)
    monkeypatch.setattr(watch_module, "time", clock)
    monkeypatch.setattr(run_module, "time", clock)
    train(prepared, settings_of(epochs=50, budget_s=75), tmp_path)
    history = history_of(tmp_path)
    assert history["step"].tolist() == [2, 4, 6, 7]  # 75 s less the reserve
    assert history["seconds"].iloc[-1] == 70
    assert history["learning_rate"].iloc[-1] < 0.1 * 0.001  # the cosine has come down


def test_a_budget_shorter_than_a_step_still_gives_a_model(prepared: PreparedSet, tmp_path: Path) -> None:
    path = train(prepared, settings_of(epochs=50, budget_s=0.01), tmp_path)
    assert history_of(tmp_path)["step"].tolist() == [1]
    assert load_card(path).validation["epoch"] == 1


# ---- two processes, on numbers of films that do not divide by two

TOGETHER = {"recipe": "study", "batch": 6, "epochs": 12, "patience": 0, "precision": "fp32"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_prepared(tmp_path_factory.mktemp("odd"), train=13, validation=5)


@pytest.fixture(scope="module")
def together(odd: PreparedSet, tiny: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("together")
    train(odd, settings_of(**TOGETHER, devices=2), out)
    return out


def test_two_processes_train_like_one(odd: PreparedSet, together: Path, tmp_path: Path) -> None:
    """Each part of a step meets the same films, noise and dropout; only batch norm's averages see half the films."""
    train(odd, settings_of(**TOGETHER), tmp_path)
    one, two = history_of(tmp_path), history_of(together)
    assert two["epoch"].tolist() == list(range(1, 13))
    exact = ["epoch", "step", "learning_rate", "train_loss", "train_accuracy"]
    np.testing.assert_allclose(two[exact], one[exact], rtol=1e-3)  # float32, added in another order
    ours, theirs = (torch.load(out / "last.ckpt", weights_only=True)["state_dict"] for out in (tmp_path, together))
    for name in ours:
        if name.endswith((".weight", ".bias")):
            torch.testing.assert_close(theirs[name], ours[name], rtol=1e-3, atol=1e-5)


def test_two_processes_count_every_validation_film_once(odd: PreparedSet, together: Path) -> None:
    card = load_card(together / "model.safetensors")
    network = TinyNetwork("googlenet", 2, 128).eval()
    network.load_state_dict(load_file(together / "model.safetensors"))
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.array(odd.images[13:])).unsqueeze(1) / 255)
    label = torch.tensor(odd.manifest["label"].tolist()[13:])
    loss = torch.nn.functional.cross_entropy(logits, label)
    accuracy = (logits.argmax(1) == label).float().mean()
    assert card.validation["films"] == 5
    assert card.validation["validation_loss"] == pytest.approx(float(loss), rel=1e-4)
    assert card.validation["validation_accuracy"] == pytest.approx(float(accuracy))


@pytest.mark.slow  # 20 s of processor time: four processes load PyTorch
def test_two_processes_end_at_sigterm_and_go_on_where_they_were(
    odd: PreparedSet, together: Path, tmp_path: Path
) -> None:
    def terminate() -> None:
        while not (tmp_path / "history.csv").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(odd, settings_of(**TOGETHER, devices=2), tmp_path)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert not multiprocessing.active_children()
    assert 1 <= len(history_of(tmp_path)) < 12
    path = train(odd, settings_of(**TOGETHER, devices=2), tmp_path)
    assert same_weights(path, together / "model.safetensors")
    pd.testing.assert_frame_equal(
        history_of(tmp_path).drop(columns="seconds"), history_of(together).drop(columns="seconds")
    )


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_another_number_of_processes_than_was_started_is_refused(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "4")
    with pytest.raises(ConfigError, match=r"has started 4 processes, but --devices 1 on --nodes 1 are 1\. Give --dev"):
        train(prepared, settings_of(), tmp_path)


@pytest.mark.slow  # compiling takes half a minute
def test_a_compiled_network_learns_like_one_that_is_not_and_its_file_is_the_same_kind(
    tiny: None, tmp_path: Path
) -> None:
    films = make_prepared(tmp_path / "set", validation=0)  # the last epoch is kept, in both
    common = {"epochs": 2, "precision": "fp32", "dropout": 0.0}  # compiled, dropout draws other numbers
    plain = load_file(train(films, settings_of(**common), tmp_path / "plain"))
    compiled = load_file(train(films, settings_of(**common, compiled=True), tmp_path / "compiled"))
    assert plain.keys() == compiled.keys()
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-3, atol=1e-5)


def test_errors_of_another_process_come_through_as_our_own() -> None:
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    plan = SimpleNamespace(micro_batch=32, batch=256, accelerator="gpu")
    text = "-- Process 1 terminated:\nTraceback ...\ncxrtriage.errors.ConfigError: the training loss became nan."
    with pytest.raises(ConfigError, match=r"^the training loss became nan\.$"), _own_errors(trainer, plan):  # type: ignore[arg-type]
        raise ProcessRaisedException(text, 1, 1)
    with (
        pytest.raises(ConfigError, match=r"not enough memory for 32 films at once on the gpu. Set micro_batch to 16"),
        _own_errors(trainer, plan),  # type: ignore[arg-type]
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="something else"), _own_errors(trainer, plan):  # type: ignore[arg-type]
        raise RuntimeError("something else")
