"""What a training run will do, worked out before it starts.

In come a prepared set's manifest and the settings; out goes a `Plan` in which every "auto" and None has
become a number, with a sentence for each choice. Read next by `task` and `run`. Settings that do not fit
the data or the machine are refused here, before any time is spent.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch

from cxrtriage.config import TrainSettings
from cxrtriage.data.batches.dataset import draw_table
from cxrtriage.errors import ConfigError

STUDY_BATCH = 256
FILMS_FOR_STUDY_BATCH = 10_000
FEWEST_STEPS = 20  # optimiser steps in an epoch
SMALLEST_BATCH, LARGEST_SMALL_SET_BATCH = 8, 64  # batch norm needs a few films; a small set needs many steps

FILMS_SEEN = 60_000  # in all epochs together, unless that means fewer or more epochs than these
FEWEST_EPOCHS, MOST_EPOCHS = 8, 40
BUDGET_STRETCH = 3  # with a time budget and no number of epochs, up to so many times the usual number

EMERGENT_PATIENTS = 50  # from so many on, emergent is a class of its own

# Measured: bytes kept for the backward pass, a film's pixel, (fp32, bf16)
KEPT_BYTES = {"googlenet": (1600, 950), "inception_v3": (1700, 950), "resnet152": (6000, 3200)}
CPU_BYTES = 4 * 2**30
CPU_MICRO_BATCH = 32  # more films at once are no faster on a CPU
GPU_SHARE = 0.7  # of the free memory


@dataclass(frozen=True, slots=True)
class Plan:
    """A training run, resolved.

    Parameters
    ----------
    films : training films
    classes : outputs of the network
    batch : films in an optimiser step, at most
    steps_per_epoch : optimiser steps in an epoch; an epoch is cut into equal steps
    epochs : at most; early stopping or a time budget may end the run sooner
    parts : batches that a step is made of, over all processes
    world : processes
    micro_batch : films on a device at once, at most
    precision : "bf16" (autocast) or "fp32"
    accelerator : "cpu" or "gpu"
    workers : processes that read ahead
    remarks : one sentence for each thing that was picked
    """

    films: int
    classes: int
    batch: int
    steps_per_epoch: int
    epochs: int
    parts: int
    world: int
    micro_batch: int
    precision: Literal["bf16", "fp32"]
    accelerator: Literal["cpu", "gpu"]
    workers: int
    remarks: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def accumulate(self) -> int:
        """Batches that each process gathers for a step."""
        return self.parts // self.world


def make_plan(manifest: pd.DataFrame, size: int, settings: TrainSettings) -> Plan:
    """Resolve what the settings leave open.

    Parameters
    ----------
    manifest : of the prepared set
    size : side of the films in pixels
    settings : as the user gave them

    Raises
    ------
    ConfigError
        If there is nothing to learn from, or the machine or the data cannot do what is asked.
    """
    train = manifest[manifest["split"] == "train"]
    _check_films(train, manifest[manifest["split"] == "validation"], settings)
    films = len(draw_table(manifest, "train"))
    classes, about_classes = pick_classes(train, settings.classes)
    accelerator = pick_accelerator(settings)
    precision = pick_precision(settings.precision, accelerator)
    batch, about_batch = pick_batch(films, settings.recipe, settings.batch)
    epochs, about_epochs = pick_epochs(films, settings)
    world = settings.devices * settings.nodes
    steps = math.ceil(films / batch)
    smallest_step = films // steps
    if smallest_step < 2 * world:
        raise ConfigError(
            f"a step of {smallest_step} films cannot be shared by {world} processes, each needs 2. "
            f"Take fewer --devices or --nodes, or a --batch of at least {2 * world}."
        )
    validation = int((manifest["split"] == "validation").sum())
    if 0 < validation < world:
        raise ConfigError(
            f"{validation} validation films cannot be shared by {world} processes. Take fewer --devices or --nodes."
        )
    micro_batch = settings.micro_batch or _pick_micro_batch(settings, size, precision, accelerator)
    micro_batch = min(micro_batch, math.ceil(math.ceil(films / steps) / world))
    gathered = math.ceil(math.ceil(films / steps) / (world * micro_batch))
    parts = world * max(1, min(gathered, smallest_step // (2 * world)))  # no batch of one film: batch norm
    where = f"{world} x {accelerator}" if world > 1 else accelerator
    return Plan(
        films=films,
        classes=classes,
        batch=batch,
        steps_per_epoch=steps,
        epochs=epochs,
        parts=parts,
        world=world,
        micro_batch=math.ceil(math.ceil(films / steps) / parts),
        precision=precision,
        accelerator=accelerator,
        workers=settings.workers if settings.workers is not None else 2 * (accelerator == "gpu"),
        remarks=(about_classes, about_batch, about_epochs, f"{where}, {precision}"),
    )


def pick_batch(n_train: int, recipe: Literal["study", "clinical"], asked: int | None) -> tuple[int, str]:
    """Pick the number of films in an optimiser step, and say why.

    Parameters
    ----------
    n_train : training films
    recipe : of training
    asked : the user's own number

    Returns
    -------
    batch : int
    reason : str

    Examples
    --------
    >>> pick_batch(45000, "study", None)
    (256, "batch 256, the study's: 176 steps an epoch")
    >>> pick_batch(5400, "study", None)[0]
    64
    """
    if asked is not None:
        batch = min(asked, n_train)
        if batch < asked:
            return batch, f"batch {batch}: there are no more training films, {asked} were asked for"
        few = ", few" if math.ceil(n_train / batch) < FEWEST_STEPS else ""
        return batch, f"batch {batch} as asked: {_steps(n_train, batch)}{few}"
    if n_train >= FILMS_FOR_STUDY_BATCH:
        return STUDY_BATCH, f"batch {STUDY_BATCH}, the study's: {_steps(n_train, STUDY_BATCH)}"
    batch = 2 ** int(math.log2(max(1, n_train / FEWEST_STEPS)))
    batch = min(max(batch, SMALLEST_BATCH), LARGEST_SMALL_SET_BATCH, n_train)
    reason = f"batch {batch}: {_steps(n_train, batch)}"
    if recipe == "study":
        reason += f"; the study's {STUDY_BATCH} is kept below {FILMS_FOR_STUDY_BATCH:,} films only on request (--batch)"
    return batch, reason


def _steps(films: int, batch: int) -> str:
    steps = math.ceil(films / batch)
    return f"{steps} step{'s' if steps > 1 else ''} an epoch"


def pick_epochs(n_train: int, settings: TrainSettings) -> tuple[int, str]:
    """Pick the number of epochs, and say why: small sets are seen often, large ones not endlessly.

    Examples
    --------
    >>> pick_epochs(5000, TrainSettings())
    (12, '12 epochs: about 60,000 films seen in all')
    """
    if settings.epochs is not None:
        return settings.epochs, f"{settings.epochs} epochs as asked"
    usual = min(max(round(FILMS_SEEN / n_train), FEWEST_EPOCHS), MOST_EPOCHS)
    if settings.budget_s is None:
        return usual, f"{usual} epochs: about {usual * n_train:,} films seen in all"
    most = BUDGET_STRETCH * usual
    return most, f"as many epochs as fit into {settings.budget_s:.0f} s, {most} at most"


def pick_classes(train: pd.DataFrame, asked: Literal["auto", 2, 3]) -> tuple[int, str]:
    """Pick the number of outputs from how many patients the class "emergent" rests on, and say why.

    Parameters
    ----------
    train : manifest of the training films
    asked : the user's choice

    Raises
    ------
    ConfigError
        If three classes are asked for and one of them has no film.
    """
    emergent = train[train["label"] == 2]
    by = "patient_id" if "patient_id" in train else "path"
    patients = emergent[by].nunique() + int(emergent[by].isna().sum())
    if asked == 3 and not set(train["label"]) >= {0, 1, 2}:
        raise ConfigError(
            "--classes 3 needs training films of all three classes, found labels "
            f"{sorted(int(label) for label in set(train['label']))}. Leave --classes out."
        )
    if asked == 3 or (asked == "auto" and patients >= EMERGENT_PATIENTS and (train["label"] == 1).any()):
        return 3, f"three classes: {patients} emergent training patients"
    if not len(emergent):
        return 2, "two classes: normal and abnormal"
    fewer = f", fewer than {EMERGENT_PATIENTS}" if patients < EMERGENT_PATIENTS else ""
    return 2, f"two classes, emergent counts as abnormal: {patients} emergent training patients{fewer}"


def pick_accelerator(settings: TrainSettings) -> Literal["cpu", "gpu"]:
    """Pick where to train; refuse more GPUs than there are."""
    found = torch.cuda.device_count()
    if settings.accelerator == "cpu" or (settings.accelerator == "auto" and found == 0):
        return "cpu"
    if found < settings.devices:
        raise ConfigError(
            f"{settings.devices} GPUs were asked for (devices), this machine has {found}. "
            "Lower --devices, or train on the CPU with accelerator=cpu."
        )
    return "gpu"


def pick_precision(
    asked: Literal["auto", "fp32", "bf16"], accelerator: Literal["cpu", "gpu"]
) -> Literal["bf16", "fp32"]:
    """Pick bf16 where the hardware computes in it; elsewhere it is emulated and slower than fp32."""
    if asked != "auto":
        return asked
    if accelerator == "gpu":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if any(able.get(name) for name in ("amx_bf16", "avx512_bf16", "sve_bf16")) else "fp32"


def _check_films(train: pd.DataFrame, validation: pd.DataFrame, settings: TrainSettings) -> None:
    if train.empty:
        raise ConfigError(
            "the prepared set has no training films: no row of its manifest has split=train. "
            "Split the manifest and prepare it again."
        )
    if settings.init is not None and not settings.init.exists():
        raise ConfigError(f"there is no file {settings.init} to start from. Check --init.")
    for name, films in (("training", train), ("validation", validation)):
        if "weight" in films and len(films) and not films["weight"].fillna(1.0).sum() > 0:
            raise ConfigError(f"the weights of all {name} films are 0. Correct the column weight of the manifest.")
    abnormal = np.count_nonzero(train["label"] > 0)
    if abnormal in (0, len(train)):
        only = "abnormal" if abnormal else "normal"
        raise ConfigError(
            f"all {len(train)} training films are {only}, so there is nothing to tell apart. Add films of the other "
            "class to the manifest, or check its labels (0 normal, 1 abnormal, 2 emergent)."
        )


def _pick_micro_batch(
    settings: TrainSettings, size: int, precision: Literal["bf16", "fp32"], accelerator: Literal["cpu", "gpu"]
) -> int:
    """Return how many films fit on a device at once, a power of two."""
    kept = KEPT_BYTES[settings.net][precision == "bf16"] * size**2
    if accelerator == "cpu":
        fits = min(CPU_BYTES // kept, CPU_MICRO_BATCH)
    else:
        free, _ = torch.cuda.mem_get_info()
        fits = int(GPU_SHARE * free) // kept
    return int(2 ** int(math.log2(max(2, fits))))
