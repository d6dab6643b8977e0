"""How fast networks train at 224 in batches of 16: cxrtriage beside a plain PyTorch loop in fp32.

Three loops take turns, step by step, in one process: cxrtriage under Lightning; the same arithmetic in a bare loop,
which tells what Lightning costs; and what a script would do with torchvision's network. Then what reading costs: how
long the network waits for films, and what memory it takes to read from a set larger than memory (a sparse file).
"""

import copy
import itertools
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import Figures, ratio
from benchmarks.scoring import speed
from cxrtriage.config import Recipe, TrainSettings
from cxrtriage.data.batches.augment import augment
from cxrtriage.data.batches.dataset import Batch, FilmDataset, TrainingOrder
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.model.card import ModelCard
from cxrtriage.train.run import _make_trainer, _set_up, _without_remarks
from cxrtriage.train.task import AUXILIARY_WEIGHT, LABEL_SMOOTHING, TrainingTask
from cxrtriage.train.watch import RunState, Watch

SIZE, BATCH = 224, 16
STEPS = {"googlenet": 30, "inception_v3": 16, "resnet152": 8}
WARM_UP = 2  # steps of each loop that do not count
PLAIN, BARE, OURS = "plain PyTorch, fp32", "cxrtriage's arithmetic in a bare loop", "cxrtriage"
MANY_FILMS = 600_000  # 30 GB at 224
FILMS_READ = 20_000
GOALS = {"googlenet": 2.5, "inception_v3": 2.0, "resnet152": 2.0}


def measure() -> Figures:
    figures = Figures(
        title=f"Training at {SIZE} in batches of {BATCH}",
        columns=("", "films/s", "slowest to fastest", f"times {PLAIN}"),
        rows=[],
    )
    for net, steps in STEPS.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds, waited = three_loops(net, steps, Path(folder))
        figures.rows.append((f"{net} (goal: {GOALS[net]} times)", "", "", ""))
        for name, values in seconds.items():
            films = [value / BATCH for value in values]
            figures.rows.append(
                (
                    name,
                    speed(statistics.median(films)),
                    f"{speed(max(films))} to {speed(min(films))}",
                    ratio(seconds[PLAIN], values),
                )
            )
            figures.raw[f"{net}, {name}, seconds a film"] = films
        figures.headlines.append(
            (
                f"training {net} at {SIZE}, batches of {BATCH}",
                f"{BATCH / statistics.median(seconds[OURS]):.1f} films/s",
                f"{ratio(seconds[PLAIN], seconds[OURS])} times {PLAIN}",
            )
        )
        cost = statistics.median(ours / bare for ours, bare in zip(seconds[OURS], seconds[BARE], strict=True)) - 1
        share = sum(waited) / sum(seconds[OURS])
        figures.notes.append(
            f"{net}: Lightning and the record of the run cost {cost:+.1%} (goal: under 3 %); the network waits for "
            f"films {share:.2%} of the time (goal: under 2 %)"
        )
    figures.notes.append(reading_more_than_memory())
    return figures


def three_loops(net: str, steps: int, folder: Path) -> tuple[dict[str, list[float]], list[float]]:
    """Train `net` for some steps; return seconds a step of each loop, and seconds that Lightning's waited for films."""
    prepared = noise(folder, films=BATCH * (steps + WARM_UP))
    settings = TrainSettings(net=net, epochs=1, batch=BATCH, micro_batch=BATCH)  # type: ignore[arg-type]
    plan, task = _set_up(prepared, settings)
    watch = Watch(
        folder / "run",
        settings,
        plan,
        ModelCard(architecture=settings.net, recipe=prepared.recipe),
        RunState({}, plan.total_steps),
        time.monotonic(),
    )
    (folder / "run").mkdir()
    turns = Turns({BARE: bare_loop(task), PLAIN: plain_loop(net, task.train_films)})
    with _without_remarks():
        trainer = _make_trainer(settings, plan, watch, validate=False)
        trainer.callbacks.append(turns)  # type: ignore[attr-defined]
        waiting = Waiting(task.train_films)
        task.train_films = waiting
        trainer.fit(task)
    return {name: values[WARM_UP:] for name, values in turns.seconds.items()}, waiting.seconds[WARM_UP:]


class Turns(lightning.Callback):
    """After each of Lightning's steps, run and time one step of each of the other loops."""

    def __init__(self, others: dict[str, Callable[[], None]]) -> None:
        self.others = others
        self.seconds: dict[str, list[float]] = {name: [] for name in (*others, OURS)}

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.seconds[OURS].append(time.perf_counter() - self.began)
        for name, step in self.others.items():
            start = time.perf_counter()
            step()
            self.seconds[name].append(time.perf_counter() - start)
        self.began = time.perf_counter()


class Waiting(FilmDataset):
    """Films, and how long each batch of them took to come; without readers beside it, the network waits that long."""

    def __init__(self, films: FilmDataset) -> None:
        self.__dict__.update(films.__dict__)
        self.seconds: list[float] = []

    def __getitem__(self, part: Any) -> Batch:
        start = time.perf_counter()
        batch = super().__getitem__(part)
        self.seconds.append(time.perf_counter() - start)
        return batch


def bare_loop(task: TrainingTask) -> Callable[[], None]:
    """Return a step that computes what `TrainingTask` computes, without Lightning and without a record."""
    network, average = copy.deepcopy(task.network).train(), copy.deepcopy(task.network)
    weights = AUXILIARY_WEIGHT[task.settings.net]
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, task.settings.learning_rate, fused=True)
    batches = endless(task.train_films, task.plan.steps_per_epoch)
    bf16 = task.plan.precision == "bf16"

    def step() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = weighted_loss(network(augment(batch.films.float() / 255, "clinical")), batch.targets, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not loss.isfinite():
            raise FloatingPointError("the loss of the bare loop is no number")
        with torch.no_grad():
            ours, theirs = (itertools.chain(n.parameters(), n.buffers()) for n in (average, network))
            for mean, current in zip(ours, theirs, strict=True):
                if mean.is_floating_point():
                    mean.lerp_(current, 0.001)
                else:
                    mean.copy_(current)

    return step


def weighted_loss(output: Any, targets: Tensor, auxiliary: float) -> Tensor:
    logits, *heads = output if isinstance(output, tuple) else (output,)
    loss = cross_entropy(logits.float(), targets, label_smoothing=LABEL_SMOOTHING)
    for head in heads:
        loss = loss + auxiliary * cross_entropy(head.float(), targets, label_smoothing=LABEL_SMOOTHING)
    return loss


def plain_loop(net: str, films: FilmDataset) -> Callable[[], None]:
    """Return a step of what a script would do: torchvision's network on three equal channels, Adam, fp32."""
    auxiliary = {"aux_logits": net == "googlenet", "init_weights": False} if net != "resnet152" else {}
    if net == "inception_v3":  # torchvision's needs an auxiliary head when it is built, and 299 pixels to use it
        network: nn.Module = torchvision.models.inception_v3(weights=None, num_classes=2, init_weights=False)
        network.AuxLogits, network.aux_logits = None, False  # type: ignore[assignment]
    else:
        network = torchvision.models.get_model(net, weights=None, num_classes=2, **auxiliary)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), 0.001)
    batches = endless(films, steps=len(films) // BATCH)

    def step() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        three = (batch.films.float() / 255).expand(-1, 3, -1, -1)
        weighted_loss(network(three), batch.targets, AUXILIARY_WEIGHT[net]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def endless(films: FilmDataset, steps: int) -> Iterator[Batch]:
    order = TrainingOrder(films.weights, 1, steps=steps, parts=1, seed=1)
    while True:
        for part in order:
            yield films[part]


def noise(folder: Path, films: int) -> PreparedSet:
    """Write a prepared set of noise; half the films are abnormal."""
    images = np.random.default_rng(0).integers(0, 256, (films, SIZE, SIZE), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    return opened(folder / "images.npy", films)


def opened(path: Path, films: int) -> PreparedSet:
    manifest = pd.DataFrame({"path": [f"{film}.png" for film in range(films)]})
    manifest["label"] = np.arange(films) % 2
    manifest["split"] = "train"
    return PreparedSet(path.parent, np.load(path, mmap_mode="r"), manifest, Recipe(size=SIZE), "0" * 64)


def reading_more_than_memory() -> str:
    """Read films all over a set larger than memory, as training does; return a line with speed and memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.lib.format.open_memmap(path, "w+", np.uint8, (MANY_FILMS, SIZE, SIZE))  # sparse: it takes no disk
        _, task = _set_up(opened(path, MANY_FILMS), TrainSettings(batch=BATCH))
        batches = endless(task.train_films, MANY_FILMS // BATCH)
        next(batches)  # shuffles
        before, start = own_memory(), time.perf_counter()
        grown = 0
        for _ in range(FILMS_READ // BATCH):
            next(batches)
            grown = max(grown, own_memory() - before)
        took = time.perf_counter() - start
        size = path.stat().st_size
    return (
        f"reading {FILMS_READ:,} films in training's order from all over {MANY_FILMS:,} ({size / 1e9:.0f} GB, memory "
        f"{memory_gib():.0f} GiB): {FILMS_READ / took:,.0f} films/s; the process's own memory grows by "
        f"{grown / 2**20:.0f} MiB"
    )


def own_memory() -> int:
    """Return the bytes of memory that belong to this process alone; the pages of a mapped file do not."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def memory_gib() -> float:
    found = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found
    return int(found[1]) / 2**20
