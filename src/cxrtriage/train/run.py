"""Train a network on a prepared set: the one function that the rest of the project calls.

run/
  model.safetensors   the best epoch's weights and their card; there once the run has ended
  history.csv         a row an epoch
  config.toml         settings as given and as resolved
  last.ckpt           from which an interrupted run goes on
  tensorboard/        the history as events
"""

import json
import logging
import os
import pickle
import re
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.multiprocessing.spawn import ProcessRaisedException

from cxrtriage import errors
from cxrtriage.atomic import replacing
from cxrtriage.config import TrainSettings
from cxrtriage.data.batches.dataset import class_weights, split_dataset
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import ConfigError, CxrTriageError, ModelError
from cxrtriage.model.architectures import build_network, load_initial_weights
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.model.known_films import fingerprints
from cxrtriage.records import LABEL_NAMES
from cxrtriage.train.plan import Plan, make_plan
from cxrtriage.train.task import TrainingTask
from cxrtriage.train.watch import (
    BEST_WEIGHTS,
    CHECKPOINT_KEY,
    HISTORY,
    LAST_CHECKPOINT,
    TENSORBOARD,
    AtomicCheckpoints,
    RunState,
    Watch,
)

logger = logging.getLogger(__name__)

MODEL = "model.safetensors"
CONFIG = "config.toml"
FREE_TO_CHANGE = {"workers", "compiled"}  # settings that leave the result as it is, rounding aside


def train(prepared: PreparedSet, settings: TrainSettings, out: Path, *, resume: bool = True) -> Path:
    """Train a network on the films of split "train", choosing the epoch by those of split "validation".

    Without validation films the last epoch is kept and the history has blanks. A run that was interrupted
    goes on after its last whole epoch, and on a CPU ends with the very weights it would have had; one that
    is complete is left as it is.

    With `settings.devices` above 1, processes are started on this machine. With `settings.nodes` above 1,
    start the same command on each machine with MASTER_ADDR, MASTER_PORT and NODE_RANK set (or under
    torchrun or SLURM); all but the first end when training does.

    Parameters
    ----------
    prepared : from `open_prepared`
    settings : what is None or "auto" in them is picked, logged and written to config.toml
    out : folder of the run
    resume : go on with the run found in `out`; otherwise it is replaced

    Returns
    -------
    Path
        `out/model.safetensors`, uncalibrated

    Raises
    ------
    ConfigError
        If settings, films and machine do not fit together, if the run in `out` had other settings, or if
        the loss is no longer a number.
    ModelError
        If `settings.init` cannot be used, or the checkpoint in `out` is damaged.
    KeyboardInterrupt
        If the run was interrupted (SIGINT or SIGTERM); it can be resumed.

    Examples
    --------
    >>> from cxrtriage.data.prepared.store import open_prepared
    >>> train(open_prepared(Path("prepared")), TrainSettings(epochs=30), Path("run"))  # doctest: +SKIP
    PosixPath('run/model.safetensors')
    """
    began = time.monotonic()
    out = Path(out)
    identity = {
        "data_hash": prepared.source_hash,
        "preparation": prepared.recipe.describe(),
        **settings.model_dump(mode="json", exclude=FREE_TO_CHANGE),
    }
    state = _earlier_state(out, identity) if resume else None
    if state and state.finished and (out / MODEL).exists():
        logger.info("%s is trained already (%s)", out / MODEL, state.finished)
        return out / MODEL

    _require_as_many(settings)
    plan, task = _set_up(prepared, settings)
    checkpoint = out / LAST_CHECKPOINT if state else None
    if state is None:
        state = RunState(identity, plan.total_steps)
        if settings.init is not None:
            load_initial_weights(task.network, settings.init)
            task.start_average()
    watch = Watch(out, settings, plan, _card(prepared, settings, plan), _training_films(prepared), state, began)
    with _without_remarks():
        trainer = _make_trainer(settings, plan, watch, validate=len(task.validation_films) > 0)
        if checkpoint:
            logger.info("going on after epoch %d of the run in %s", len(state.history), out)
        elif trainer.is_global_zero:
            _clear(out)
            _write_config(out / CONFIG, settings, plan, prepared)
            for remark in plan.remarks:
                logger.info(remark)
        if not state.finished:
            with _own_errors(trainer, plan), _sigterm_heard(trainer):
                trainer.fit(task, ckpt_path=checkpoint, weights_only=True)
    if not trainer.is_global_zero:
        logger.info("training has ended; the first process goes on")
        raise SystemExit(0)
    (out / BEST_WEIGHTS).replace(out / MODEL)
    return out / MODEL


def _set_up(prepared: PreparedSet, settings: TrainSettings) -> tuple[Plan, TrainingTask]:
    manifest = prepared.manifest
    plan = make_plan(manifest, prepared.recipe.size, settings)
    label = manifest.loc[manifest["split"] == "train", "label"].to_numpy().astype(int)
    of_class = class_weights(label, plan.classes, settings.class_weight)
    torch.manual_seed(settings.seed)
    network = build_network(settings.net, plan.classes, prepared.recipe.size, settings.dropout)
    network.to(memory_format=torch.channels_last)
    train_films, validation_films = (
        split_dataset(prepared.images, manifest, split, of_class) for split in ("train", "validation")
    )
    return plan, TrainingTask(network, settings, plan, train_films, validation_films)


def _make_trainer(settings: TrainSettings, plan: Plan, watch: Watch, *, validate: bool) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=plan.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=_strategy() if plan.world > 1 else "auto",
        precision="bf16-mixed" if plan.precision == "bf16" else "32-true",
        accumulate_grad_batches=plan.accumulate,
        max_epochs=-1,  # `Watch` ends the run
        limit_val_batches=1.0 if validate else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # `TrainingOrder` shares the films out
        callbacks=[watch],
        plugins=[AtomicCheckpoints(), *_scheduler()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _require_as_many(settings: TrainSettings) -> None:
    """Refuse to train in another number of processes than torchrun or srun has started: each would train alone."""
    for launcher, variable in {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_NUM_TASKS"}.items():
        started = os.environ.get(variable)
        asked = settings.devices * settings.nodes
        if started is not None and int(started) != asked:
            raise ConfigError(
                f"{launcher} has started {started} processes, but --devices {settings.devices} on --nodes "
                f"{settings.nodes} are {asked}. Give --devices as many as it starts on each machine, and --nodes as "
                "many as there are machines."
            )


def _scheduler() -> list[SLURMEnvironment]:
    """Keep Lightning from handing the job in again itself: its checkpoint within an epoch is none of ours."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


class QuietDDP(DDPStrategy):
    """Lightning's DDP, whose processes leave out the same remarks as the one that started them."""

    def setup_environment(self) -> None:
        _leave_out_remarks()
        super().setup_environment()


def _strategy() -> Strategy:
    """Start processes of our own, unless torchrun or SLURM has started this one as one of several."""
    if TorchElasticEnvironment.detect() or SLURMEnvironment.detect():
        return QuietDDP()
    return QuietDDP(start_method="spawn")


REMARKS = (
    r"The '\w+' does not have many workers",  # films come from a memory map, which needs none to be fast
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own affair
)


LIGHTNING_LOGGERS = ("lightning.pytorch", "lightning.fabric")


def _leave_out_remarks() -> None:
    for name in LIGHTNING_LOGGERS:  # which hardware was found, and tips
        logging.getLogger(name).setLevel(logging.WARNING)
    for remark in REMARKS:
        warnings.filterwarnings("ignore", remark)


@contextmanager
def _without_remarks() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in LIGHTNING_LOGGERS}
    try:
        with warnings.catch_warnings():
            _leave_out_remarks()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _own_errors(trainer: lightning.Trainer, plan: Plan) -> Iterator[None]:
    """Turn what Lightning and torch raise for an interruption, or from another process, into our own."""
    try:
        yield
    except SystemExit as stop:  # Lightning's answer to SIGINT and SIGTERM
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _MultiProcessingLauncher):
            launcher.kill(signal.SIGKILL)
            for process in launcher.procs:
                process.join()
        raise KeyboardInterrupt from stop
    except (RuntimeError, ProcessRaisedException) as error:
        text = str(error)
        own = re.search(r"^cxrtriage\.errors\.(\w+): (.+)$", text, re.MULTILINE)  # raised in another process
        if own:
            raise getattr(errors, own[1], CxrTriageError)(own[2]) from error
        if "out of memory" in text or "can't allocate memory" in text:
            raise ConfigError(
                f"there is not enough memory for {plan.micro_batch} films at once on the {plan.accelerator}. "
                f"Set micro_batch to {max(2, plan.micro_batch // 2)}; the batch stays {plan.batch}."
            ) from error
        raise


@contextmanager
def _sigterm_heard(trainer: lightning.Trainer) -> Iterator[None]:
    """Let SIGTERM end the parent of the processes as it ends a single one, so that none of them is left behind."""
    if not isinstance(trainer.strategy.launcher, _MultiProcessingLauncher) or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_: object) -> None:
        raise SystemExit

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- what lies in the folder


def _earlier_state(out: Path, identity: dict[str, Any]) -> RunState | None:
    """Return the state of the run in `out`, if there is one; refuse to go on with other settings."""
    path = out / LAST_CHECKPOINT
    if not path.exists():
        return None
    try:
        state = RunState(**torch.load(path, map_location="cpu", weights_only=True, mmap=True)[CHECKPOINT_KEY])
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"cannot go on from {path}: it is damaged or not a checkpoint of this project ({type(error).__name__}). "
            "Remove it to train again from the start."
        ) from error
    for name, asked in identity.items():
        found = state.identity.get(name)
        if found != asked:
            raise ConfigError(
                f"{out} holds a run with {name}={found}, but {name}={asked} was asked for now. "
                "Give another --out, or remove that folder to train anew."
            )
    if state.finished and not (out / MODEL).exists() and not (out / BEST_WEIGHTS).exists():
        return None  # complete, but its model was taken away
    return state


def _clear(out: Path) -> None:
    """Make `out`, without the files of an earlier run."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (LAST_CHECKPOINT, BEST_WEIGHTS, MODEL, HISTORY):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / TENSORBOARD, ignore_errors=True)


def _write_config(path: Path, settings: TrainSettings, plan: Plan, prepared: PreparedSet) -> None:
    """Write the settings as given (what was left open is missing) and as resolved."""
    tables = {
        "settings": settings.model_dump(mode="json", exclude_none=True),
        "resolved": {**asdict(plan), "total_steps": plan.total_steps},
        "recipe": prepared.recipe.model_dump(),
        "data": {"path": str(prepared.path), "hash": prepared.source_hash},
    }
    lines = []
    for table, values in tables.items():
        # a JSON string, number, boolean or array is a TOML one
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()), ""]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def _training_films(prepared: PreparedSet) -> frozenset[str]:
    """Return the fingerprints of the training films; the first draw of each is the one that is scored."""
    films = prepared.manifest
    rows = np.flatnonzero((films["split"] == "train") & ~films["path"].duplicated())
    return fingerprints(prepared.images[row] for row in rows)


def _card(prepared: PreparedSet, settings: TrainSettings, plan: Plan) -> ModelCard:
    """Return the card of the model to come, without its validation figures."""
    films = prepared.manifest[prepared.manifest["split"] == "train"]
    ages = films["age"].dropna() if "age" in films else ()
    scope = Scope(
        films=plan.films,
        patients=films["patient_id"].nunique() if "patient_id" in films else None,
        views=tuple(sorted(films["view_position"].dropna().astype(str).unique())) if "view_position" in films else (),
        age_years=(min(ages), max(ages)) if len(ages) else None,
    )
    return ModelCard(
        architecture=settings.net,
        classes=LABEL_NAMES[: plan.classes],
        recipe=prepared.recipe,
        scope=scope,
        sources=sorted(films["source"].dropna().astype(str).unique()) if "source" in films else [],
        data_hash=prepared.source_hash,
        training={**settings.model_dump(mode="json"), "batch": plan.batch, "precision": plan.precision},
    )
