"""What happens in a training step and a validation step; Lightning supplies the loop around them.

In come a network, the settings, the plan and the films; out come changed weights and, once an epoch, the
`Figures` that `watch` writes down. Every random number of a batch is drawn from (seed, epoch, number of the
batch in the epoch over all processes), so an interrupted run goes on exactly as it would have, and the
same films meet the same noise however many processes share them.
"""

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cxrtriage.config import TrainSettings
from cxrtriage.data.batches.augment import augment
from cxrtriage.data.batches.dataset import Batch, FilmDataset, FixedOrder, TrainingOrder
from cxrtriage.errors import ConfigError
from cxrtriage.metrics import auroc
from cxrtriage.predict import abnormal_logit
from cxrtriage.train.plan import Plan
from cxrtriage.train.schedule import learning_rate

# What an auxiliary classifier counts beside the last: Szegedy 2014, section 5; 0.4 as torchvision trained Inception V3
AUXILIARY_WEIGHT = {"googlenet": 0.3, "inception_v3": 0.4, "resnet152": 0.0}
COUPLED_L2, DECOUPLED_DECAY = 1e-4, 0.05
LABEL_SMOOTHING = 0.05
SLOWEST_AVERAGE = 0.999  # of the averaged weights, the share kept from step to step


@dataclass(frozen=True, slots=True)
class Figures:
    """How an epoch went. The training figures are taken on the augmented films, as they are learnt from.

    Losses are cross-entropy of the last classifier, without label smoothing, weighted as in training;
    accuracy is that of abnormal against normal at probability 0.5. nan where there is no validation.
    """

    train_loss: float
    train_accuracy: float
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    validation_auroc: float = math.nan


class TrainingTask(lightning.LightningModule):
    """A network being trained.

    Parameters
    ----------
    network : from `build_network`
    settings, plan : what was asked for and what became of it
    train, validation : the films; `validation` may be empty
    """

    def __init__(
        self, network: nn.Module, settings: TrainSettings, plan: Plan, train: FilmDataset, validation: FilmDataset
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.plan = plan
        self.train_films = train
        self.validation_films = validation
        self.total_steps = plan.total_steps  # `watch` lowers it where a time budget demands
        self.average: nn.Module | None = None
        self.start_average()
        self.smoothing = LABEL_SMOOTHING if settings.recipe == "clinical" else 0.0
        self.validation_figures: dict[str, float] = {}

    @property
    def scorer(self) -> nn.Module:
        """The network whose weights are validated and kept."""
        return self.network if self.average is None else self.average

    def start_average(self) -> None:
        """Start the averaged weights, which `clinical` scores with, from the current ones."""
        if self.settings.recipe == "clinical":
            self.average = copy.deepcopy(self.network).requires_grad_(False)

    def setup(self, stage: str) -> None:
        if self.settings.compiled:  # here, since a compiled network cannot be sent to another process
            self.network.compile()

    # ---- films

    def train_dataloader(self) -> DataLoader[Batch]:
        order = TrainingOrder(
            self.train_films.weights,
            self.train_films.rows.shape[1],
            steps=self.plan.steps_per_epoch,
            parts=self.plan.parts,
            seed=self.settings.seed,
            rank=self.global_rank,
            world=self.plan.world,
        )
        # Lightning tells the order each epoch, but only after reading ahead has begun when a run resumes
        order.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return self._loader(self.train_films, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        films = len(self.validation_films)
        batch = self.plan.micro_batch
        return self._loader(
            self.validation_films, FixedOrder(films, batch, rank=self.global_rank, world=self.plan.world)
        )

    def _loader(self, films: FilmDataset, order: TrainingOrder | FixedOrder) -> DataLoader[Batch]:
        return DataLoader(
            films,
            batch_size=None,  # the order hands over whole batches
            sampler=order,
            num_workers=self.plan.workers,
            pin_memory=self.plan.accelerator == "gpu",
        )

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = self.settings
        parameters = list(self.network.parameters())
        if settings.recipe == "study":
            decay = COUPLED_L2 if settings.weight_decay is None else settings.weight_decay
            return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=decay, fused=True)
        decay = DECOUPLED_DECAY if settings.weight_decay is None else settings.weight_decay
        groups = [  # decay of a bias or of a batch norm's scale only biases the network
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, settings.learning_rate, fused=True)

    def on_train_epoch_start(self) -> None:
        # weighted loss, weight, films called rightly, films: kept on the device, so that no batch waits for them
        self._sums = torch.zeros(4, device=self.device)
        self._loss_of_step = torch.zeros((), device=self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        number = batch_idx * self.plan.world + self.global_rank
        sequence = np.random.SeedSequence((self.settings.seed, self.current_epoch, number))
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate_now()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        films = augment(batch.films.float() / 255, self.settings.recipe)
        output = self.network(films)
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        plain, loss = self._losses(logits, batch)
        for head in auxiliary:
            loss = loss + AUXILIARY_WEIGHT[self.settings.net] * self._losses(head, batch)[1]
        with torch.no_grad():
            called = logits[:, 1:].float().logsumexp(1) >= logits[:, 0].float()
            right = (called == batch.truth).sum()
            self._sums += torch.stack([plain, batch.weights.sum(), right, right.new_tensor(len(films))])
            self._loss_of_step += loss
        return loss * batch.scale

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if (batch_idx + 1) % self.plan.accumulate:
            return
        self._require_finite(float(self._loss_of_step))
        self._loss_of_step.zero_()
        if self.average is not None:
            self._follow(self.average)

    def learning_rate_now(self) -> float:
        """Return the rate of the step that comes next."""
        settings = self.settings
        return learning_rate(self.trainer.global_step, self.total_steps, settings.learning_rate, settings.recipe)

    def loss_so_far(self) -> float:
        """Return the training loss of the current epoch until now, of this process."""
        return float(self._sums[0] / self._sums[1])

    def _losses(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the films' cross-entropies, plain and with label smoothing."""
        log_probability = F.log_softmax(logits.float(), dim=1)
        plain = -(batch.targets * log_probability).sum(1)
        smoothed = (1 - self.smoothing) * plain - self.smoothing * log_probability.mean(1)
        return (batch.weights * plain).sum(), (batch.weights * smoothed).sum()

    def _follow(self, average: nn.Module) -> None:
        """Move the averaged weights, and batch norm's statistics, towards the current ones.

        The average reaches back over a tenth of the steps so far, so that a short run forgets its start too.
        """
        step = self.trainer.global_step
        kept = min(SLOWEST_AVERAGE, (1 + step) / (10 + step))
        ours, theirs = (itertools.chain(n.parameters(), n.buffers()) for n in (average, self.network))
        with torch.no_grad():
            for mean, current in zip(ours, theirs, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(current, 1 - kept)
                else:
                    mean.copy_(current)

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            epoch = self.current_epoch
            kept = f"What was learnt up to epoch {epoch} is kept" if epoch else "Nothing is kept"
            raise ConfigError(
                f"the training loss became {loss} in epoch {epoch + 1} at step {self.trainer.global_step}. {kept}. "
                f"Start again in another --out with a lower --learning-rate than {self.settings.learning_rate}"
                + (" or with precision=fp32." if self.plan.precision == "bf16" else ".")
            )

    # ---- validation

    def on_validation_epoch_start(self) -> None:
        self._logits = torch.zeros(len(self.validation_films), self.plan.classes, device=self.device)
        if self.plan.world > 1:
            # each process has seen other films, so its batch norms differ; the first one's are those kept
            for buffer in self.scorer.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._logits[batch.positions] = self.scorer(batch.films.float() / 255).float()

    def on_validation_epoch_end(self) -> None:
        # every process has filled in its own films and left zeros elsewhere
        logits = self.trainer.strategy.reduce(self._logits, reduce_op="sum").cpu()
        films = self.validation_films
        losses = -(films.targets * F.log_softmax(logits, dim=1).numpy()).sum(1)
        score = abnormal_logit(logits.numpy())
        self.validation_figures = {
            "validation_loss": float(np.average(losses, weights=films.weights)),
            "validation_accuracy": float(np.mean((score >= 0) == films.truth)),
            "validation_auroc": float(auroc(films.truth, score)),
        }

    def figures(self) -> Figures:
        """Return the figures of the epoch that has ended; all processes must ask for them together."""
        loss, weight, right, films = self.trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        if not all(parameter.isfinite().all() for parameter in self.network.parameters()):
            self._require_finite(math.nan)
        return Figures(loss / weight, right / films, **self.validation_figures)
