"""What is kept of a run while it goes on, and when it ends.

After every epoch: a row in `history.csv` and the TensorBoard events, the best weights so far in
`best.safetensors`, and `last.ckpt`, from which an interrupted run goes on. Every file is replaced whole.
Here, too, a run is stopped early, or in time for its budget.
"""

import io
import logging
import math
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.tensorboard import SummaryWriter

from cxrtriage.atomic import replacing
from cxrtriage.config import TrainSettings
from cxrtriage.data.batches.dataset import Batch
from cxrtriage.model.bundle import save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.progress import Advance, progress_bar
from cxrtriage.train.plan import Plan
from cxrtriage.train.schedule import steps_in_time
from cxrtriage.train.task import Figures, TrainingTask

logger = logging.getLogger(__name__)

LAST_CHECKPOINT = "last.ckpt"
BEST_WEIGHTS = "best.safetensors"
HISTORY = "history.csv"
TENSORBOARD = "tensorboard"
CHECKPOINT_KEY = "cxrtriage"
STEPS_BEFORE_STOPPING = 500  # on a small set's few validation films the best of the first epochs is the luckiest


@dataclass(slots=True)
class RunState:
    """What a checkpoint carries besides weights and optimiser; plain values only.

    Parameters
    ----------
    identity : data hash, preparation and settings; a run is only resumed with the same
    total_steps : optimiser steps planned
    history : a row an epoch
    best_epoch : epoch whose weights are kept, counted from 1; 0 before the first
    best_score : what made it the best; higher is better, compared from left to right
    seconds : wall time of all runs so far
    finished : why the run ended; empty while it has not
    """

    identity: dict[str, Any]
    total_steps: int
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: list[float] = field(default_factory=list)
    seconds: float = 0.0
    finished: str = ""


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all; Lightning's own way may move it between file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


class Watch(lightning.Callback):
    """Keeps the record of a run and ends it.

    Parameters
    ----------
    out : folder of the run
    settings, plan : of the run
    card : of the model file, still without validation figures
    films : `known_films.fingerprints` of the training films
    state : fresh, or of the checkpoint that the run goes on from
    began : `time.monotonic()` when this run was started
    """

    def __init__(
        self,
        out: Path,
        settings: TrainSettings,
        plan: Plan,
        card: ModelCard,
        films: frozenset[str],
        state: RunState,
        began: float,
    ) -> None:
        self.out = out
        self.settings = settings
        self.plan = plan
        self.card = card
        self.films = films
        self.state = state
        self.began = began
        self.seconds_before = state.seconds
        self.note = ""
        self.step_ended = 0.0
        self.steps_timed, self.steps_s = -1, 0.0  # the first step pays for warming up and is not counted
        self.validation_s: float | None = None

    # ---- Lightning's hooks, in the order in which they are called

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        assert isinstance(task, TrainingTask)
        task.total_steps = self.state.total_steps
        if self.plan.world > 1:
            # One of several ends at once, for what it would wait for may be gone; whole epochs are on disk. Lightning's
            # own answer, a broadcast from within the signal handler, waits for ever.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
        self.open = ExitStack()
        self.writer: SummaryWriter | None = None
        if trainer.is_global_zero:
            # an epoch that was interrupted is trained again: its events are overwritten
            self.writer = SummaryWriter(self.out / TENSORBOARD, purge_step=trainer.global_step + 1)
            self.open.callback(self.writer.close)
        self.advance: Advance = self.open.enter_context(
            progress_bar(
                "training",
                total=self._films(task.total_steps),
                unit="films",
                start=self._films(trainer.global_step),
                hidden=not trainer.is_global_zero,
            )
        )

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.step_ended = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(task, TrainingTask)
        stepped = (batch_idx + 1) % self.plan.accumulate == 0
        if stepped:
            self.note = self._note(task)
            if self.settings.budget_s is not None:
                self._keep_to_budget(trainer, task, self.settings.budget_s)
            if trainer.global_step >= task.total_steps:
                trainer.should_stop = True
        self.advance(len(batch.films) * self.plan.world, self.note, self._films(task.total_steps))

    def on_validation_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.validation_began = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.validation_s = time.monotonic() - self.validation_began

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        assert isinstance(task, TrainingTask)
        figures = task.figures()
        self.state.seconds = self._elapsed()
        self.state.history.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                **asdict(figures),
                "seconds": round(self.state.seconds, 2),
            }
        )
        best = self._is_best(figures)
        if best:
            self.state.best_epoch = trainer.current_epoch + 1
            self.state.best_score = self._score(figures)
        if self.settings.budget_s is not None and not trainer.should_stop:
            self._plan_again(trainer, task, self.settings.budget_s)
        self.state.finished = self._why_finished(trainer, task)
        trainer.should_stop = bool(self.state.finished)
        if trainer.is_global_zero:
            self._write(task, best)
        trainer.save_checkpoint(self.out / LAST_CHECKPOINT)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[CHECKPOINT_KEY] = asdict(self.state)

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.open.close()

    def on_exception(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "open"):
            self.open.close()

    # ---- the record

    def _write(self, task: TrainingTask, best: bool) -> None:
        row = self.state.history[-1]
        if best:
            validation = {name: row[name] for name in row if name.startswith("validation_")}
            facts: dict[str, Any] = {name: value for name, value in validation.items() if not math.isnan(value)}
            facts |= {"epoch": self.state.best_epoch, "films": len(task.validation_films)}
            card = self.card.model_copy(update={"validation": facts})
            save_model(self.out / BEST_WEIGHTS, task.scorer, card, films=self.films)
        with replacing(self.out / HISTORY) as temporary:
            pd.DataFrame(self.state.history).to_csv(temporary, index=False, float_format="%.6g")
        assert self.writer is not None
        for name, value in row.items():
            if name not in ("epoch", "step") and not math.isnan(value):
                self.writer.add_scalar(name, value, int(row["step"]))
        self.writer.flush()
        if not sys.stderr.isatty():  # where no bar is seen
            logger.info("%s, %.0f s", self._note(task), row["seconds"])

    def _note(self, task: TrainingTask) -> str:
        epochs = math.ceil(task.total_steps / self.plan.steps_per_epoch)
        note = f"epoch {task.current_epoch + 1}/{epochs}  loss {task.loss_so_far():.3f}"
        if self.state.history and not math.isnan(self.state.history[-1]["validation_auroc"]):
            note += f"  AUROC {self.state.history[-1]['validation_auroc']:.3f}"
        return note

    def _films(self, steps: int) -> int:
        return round(steps * self.plan.films / self.plan.steps_per_epoch)

    # ---- the end

    def _score(self, figures: Figures) -> list[float]:
        """Return what the best epoch has most of; nan, where there is no such figure, is lowest."""
        loss, area = -figures.validation_loss, figures.validation_auroc
        score = [loss] if self.settings.monitor == "loss" else [area, loss]
        return [-math.inf if math.isnan(value) else value for value in score]

    def _is_best(self, figures: Figures) -> bool:
        """Without validation films every epoch counts as better than the one before."""
        unknown = math.isnan(figures.validation_loss)
        return unknown or not self.state.best_epoch or self._score(figures) > self.state.best_score

    def _why_finished(self, trainer: lightning.Trainer, task: TrainingTask) -> str:
        if trainer.global_step >= task.total_steps:
            return "all epochs done" if task.total_steps == self.plan.total_steps else "time budget used"
        waited = trainer.current_epoch + 1 - self.state.best_epoch
        learned = trainer.global_step >= STEPS_BEFORE_STOPPING
        if learned and self.settings.patience and waited >= self.settings.patience:
            return f"no better epoch after epoch {self.state.best_epoch}"
        return ""

    # ---- the budget

    def _elapsed(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _keep_to_budget(self, trainer: lightning.Trainer, task: TrainingTask, budget_s: float) -> None:
        """Stop when the time is up; in the first epoch, plan after 2, 4, 8, ... steps."""
        now = time.monotonic()
        self.steps_timed += 1
        self.steps_s += now - self.step_ended if self.steps_timed else 0.0
        self.step_ended = now
        over = self._elapsed() + self._step_and_validation(task)[1] >= budget_s
        if trainer.strategy.reduce_boolean_decision(over, all=False):
            task.total_steps = self.state.total_steps = trainer.global_step
        elif trainer.current_epoch == 0 and trainer.global_step.bit_count() == 1:
            self._plan_again(trainer, task, budget_s)

    def _plan_again(self, trainer: lightning.Trainer, task: TrainingTask, budget_s: float) -> None:
        """Fit the number of steps to the time left; after the first epoch it only shrinks."""
        if self.steps_timed < 1:
            return
        step_s, validation_s = self._step_and_validation(task)
        total = steps_in_time(
            budget_s - self._elapsed(),
            step_s,
            validation_s,
            trainer.global_step,
            self.plan.steps_per_epoch,
            most=self.plan.total_steps if trainer.current_epoch == 0 else task.total_steps,
        )
        # the first process's clock counts
        task.total_steps = self.state.total_steps = trainer.strategy.broadcast(total)

    def _step_and_validation(self, task: TrainingTask) -> tuple[float, float]:
        """Return the seconds that a step and a round of validation take, as far as known."""
        step_s = self.steps_s / max(1, self.steps_timed)
        if self.validation_s is not None:
            return step_s, self.validation_s
        # a film's forward pass is a third of its training step
        return step_s, step_s / 3 * len(task.validation_films) / self.plan.batch
