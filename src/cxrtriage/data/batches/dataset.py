"""Batches of films straight from the memory map, in an order that only seed and epoch decide.

In comes a prepared set; out go `Batch`es that `train` moves to the device. A batch is one fancy index
into the memory map: no work in Python for each film. The order does not depend on how many processes
share the work, so a run can be interrupted, resumed and spread out without becoming another run.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler


class Batch(NamedTuple):
    """Films and what they should be called.

    Parameters
    ----------
    films : (B, 1, S, S) uint8
    targets : (B, C) float32, probability of each class; rows sum to 1
    weights : (B,) float32, what each film counts
    truth : (B,) bool, whether the label is abnormal or emergent
    positions : (B,) int64, place of each film in its split
    scale : () float32, see `Part`
    """

    films: Tensor
    targets: Tensor
    weights: Tensor
    truth: Tensor
    positions: Tensor
    scale: Tensor


class Part(NamedTuple):
    """Which films make up a batch.

    Parameters
    ----------
    positions : (B,) int64, places in the split
    draw : which of the films' draws, counted from 0
    scale : what the batch's weighted sum of losses is multiplied by, so that the mean over all parts of an
        optimiser step is the weighted mean over its films
    """

    positions: np.ndarray
    draw: int
    scale: float


class FilmDataset(Dataset[Batch]):
    """The films of one split, served a batch at a time.

    Parameters
    ----------
    images : (N, S, S) uint8, usually a memory map; other processes open it again instead of copying it
    rows : (M, D) int64, where in `images` each of the M films' D draws lies
    targets, weights, truth : (M, C), (M,) and (M,); see `Batch`
    """

    def __init__(
        self, images: np.ndarray, rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, truth: np.ndarray
    ) -> None:
        self.images = images
        self.rows = rows
        self.targets = targets.astype(np.float32)
        self.weights = weights.astype(np.float32)
        self.truth = truth.astype(bool)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: Part) -> Batch:
        rows = self.rows[part.positions, part.draw]
        order = np.argsort(rows)  # so that the disk is read in one direction
        positions = part.positions[order]
        films = np.asarray(self.images[rows[order]])
        return Batch(
            torch.from_numpy(films).unsqueeze(1),
            torch.from_numpy(self.targets[positions]),
            torch.from_numpy(self.weights[positions]),
            torch.from_numpy(self.truth[positions]),
            torch.from_numpy(positions),
            torch.tensor(part.scale, dtype=torch.float32),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Pickle a memory map as its path: workers then share the pages instead of receiving a copy."""
        state = self.__dict__.copy()
        if isinstance(self.images, np.memmap):
            state["images"] = self.images.filename
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state["images"], np.ndarray):
            state["images"] = np.load(state["images"], mmap_mode="r")
        self.__dict__.update(state)


class TrainingOrder(Sampler[Part]):
    """Every film once an epoch, shuffled by (seed, epoch), cut into steps and parts.

    An epoch is cut into `steps` optimiser steps of equal size, give or take one film, so none is left
    with a film or two; each step into `parts` batches that the processes take in turn. Of films with
    several draws, epoch e takes draw e modulo their number.

    Parameters
    ----------
    weights : (M,) what each film counts
    draws : number of draws D
    steps : optimiser steps in an epoch
    parts : batches in a step, over all processes; a multiple of `world`
    seed : of the shuffling
    rank, world : which process this is, of how many
    """

    def __init__(
        self, weights: np.ndarray, draws: int, *, steps: int, parts: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.weights = weights
        self.draws = draws
        self.steps = steps
        self.parts = parts
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps * self.parts // self.world

    def __iter__(self) -> Iterator[Part]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.weights))
        for step in np.array_split(order, self.steps):
            scale = self.parts / max(float(self.weights[step].sum()), 1e-12)
            for part in np.array_split(step, self.parts)[self.rank :: self.world]:
                yield Part(part, self.epoch % self.draws, scale)


class FixedOrder(Sampler[Part]):
    """Every film of a split once, in the split's order; each process takes its share."""

    def __init__(self, films: int, batch: int, *, rank: int = 0, world: int = 1) -> None:
        share = np.array_split(np.arange(films), world)[rank]
        self.parts = [share[start : start + batch] for start in range(0, len(share), batch)]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Part]:
        for positions in self.parts:
            yield Part(positions, 0, 1.0)


def draw_table(manifest: pd.DataFrame, split: str) -> np.ndarray:
    """Return where the draws of each film of a split lie.

    Parameters
    ----------
    manifest : of a prepared set, row for row; `draw` numbers the draws of a film, where it has several
    split : "train", "validation" or "test"

    Returns
    -------
    (M, D) int64, row numbers; a film with fewer draws than others repeats them in turn
    """
    rows = np.arange(len(manifest))[(manifest["split"] == split).to_numpy()]
    if "draw" not in manifest or manifest["draw"].iloc[rows].eq(0).all():
        return rows[:, None]
    films = manifest[["path", "draw"]].iloc[rows].assign(row=rows).sort_values(["path", "draw"], kind="stable")
    counts = films.groupby("path").size().to_numpy()
    starts = np.cumsum(counts) - counts
    table = starts[:, None] + np.arange(counts.max())[None, :] % counts[:, None]
    found: np.ndarray = films["row"].to_numpy()[table]
    return found


def class_targets(manifest: pd.DataFrame, classes: int) -> np.ndarray:
    """Return the probability of each class that the network should learn.

    Parameters
    ----------
    manifest : with `label`, and optionally `p_abnormal`, the reader's certainty, which then replaces a
        plain 0 or 1
    classes : 2, where emergent counts as abnormal, or 3

    Returns
    -------
    (N, C) float64, rows sum to 1

    Examples
    --------
    >>> class_targets(pd.DataFrame({"label": [0, 1, 2], "p_abnormal": [0.1, 1.0, 0.9]}), classes=3)
    array([[0.9, 0.1, 0. ],
           [0. , 1. , 0. ],
           [0.1, 0. , 0.9]])
    """
    label = manifest["label"].to_numpy().astype(int)
    certainty = (label > 0).astype(float)
    if "p_abnormal" in manifest:
        stated = manifest["p_abnormal"].to_numpy(dtype=float, na_value=np.nan)
        certainty = np.where(np.isnan(stated), certainty, stated)
    targets = np.zeros((len(label), classes))
    targets[:, 0] = 1 - certainty
    targets[np.arange(len(label)), np.clip(label, 1, classes - 1)] = certainty
    return targets


def class_weights(
    label: np.ndarray, classes: int, class_weight: Literal["none", "balanced"] | float = "none"
) -> np.ndarray:
    """Return what a film of each class counts in the loss.

    Parameters
    ----------
    label : (N,) int, 0 normal, 1 abnormal, 2 emergent, of the training films
    classes : 2 or 3
    class_weight : "none" counts all alike, "balanced" inversely to how many films the class has, a number
        is what an abnormal or emergent film counts when a normal one counts 1

    Returns
    -------
    (C,) float64

    Examples
    --------
    >>> class_weights(np.array([0, 0, 0, 1]), 2, "balanced")
    array([0.66666667, 2.        ])
    """
    if class_weight == "none":
        return np.ones(classes)
    if class_weight == "balanced":
        counts = np.bincount(np.minimum(label, classes - 1), minlength=classes)
        return len(label) / (classes * np.maximum(counts, 1))
    return np.array([1.0, *[float(class_weight)] * (classes - 1)])


def split_dataset(images: np.ndarray, manifest: pd.DataFrame, split: str, of_class: np.ndarray) -> FilmDataset:
    """Return the films of one split with what they should be called and what they count.

    Parameters
    ----------
    images : (N, S, S) uint8
    manifest : row for row; `weight` and `p_abnormal` are honoured
    split : "train" or "validation"
    of_class : (C,) what a film of each class counts, from `class_weights`
    """
    rows = draw_table(manifest, split)
    films = manifest.iloc[rows[:, 0]]
    label = films["label"].to_numpy().astype(int)
    classes = len(of_class)
    weights = of_class[np.minimum(label, classes - 1)]
    if "weight" in films:
        stated = films["weight"].to_numpy(dtype=float, na_value=np.nan)
        weights = weights * np.where(np.isnan(stated), 1.0, stated)
    return FilmDataset(images, rows, class_targets(films, classes), weights, label > 0)
