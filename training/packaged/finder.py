"""Train the small network that finds the lungs: on films whose lungs were drawn by hand, and on phantoms."""

import logging

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.model.lungs import FINDER_SIZE, LungFinder
from training.packaged.films import of_split
from training.packaged.views import gaussian, uniform

logger = logging.getLogger("training")

STEPS = 1800
REAL, DRAWN = 12, 6  # films of a step
LEARNING_RATE = 3e-3


def train_finder(films: PreparedSet, phantoms: PreparedSet) -> LungFinder:
    """Return the finder; the log says how well it does on validation films."""
    torch.manual_seed(0)
    real, drawn = _with_masks(films, of_split(films, "train")), _with_masks(phantoms, np.arange(len(phantoms.images)))
    finder = LungFinder()
    optimiser = torch.optim.AdamW(finder.parameters(), LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, STEPS)
    for _ in range(STEPS):
        batch = [torch.cat(both) for both in zip(_some(real, REAL), _some(drawn, DRAWN), strict=True)]
        pictures, masks = changed(*batch)
        with torch.autocast("cpu", torch.bfloat16):
            logits = finder(pictures)
        loss = _loss(logits.float(), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    finder.eval()
    overlap = _overlap(finder, *_with_masks(films, of_split(films, "validation")))
    logger.info("lungs found with a Dice of %.3f on average, %.3f at the 5th percentile", *overlap)
    return finder


def find_lungs(finder: LungFinder, images: np.ndarray) -> np.ndarray:
    """Return (N, 128, 128) uint8, 255 times the probability of lung, of (N, S, S) uint8 films."""
    lungs = np.empty((len(images), FINDER_SIZE, FINDER_SIZE), np.uint8)
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            found = finder(_small(images[start : start + 256])).sigmoid()[:, 0]
            lungs[start : start + len(found)] = (255 * found).round().numpy()
    return lungs


def changed(pictures: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Move both alike, far more than a patient would; change the film's exposure and lay opacities over it."""
    count, size = len(pictures), pictures.shape[-1]
    draw = [uniform(count, -1, 1).view(-1) for _ in range(5)]
    angle, across, down = 0.3 * draw[0], torch.exp(0.35 * draw[1]), torch.exp(0.35 * draw[2])
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    rows = [
        torch.stack([torch.cos(angle) * across * mirror, -torch.sin(angle) * down, 0.25 * draw[3]], dim=1),
        torch.stack([torch.sin(angle) * across * mirror, torch.cos(angle) * down, 0.25 * draw[4]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(pictures.shape), align_corners=False)
    pictures, masks = (F.grid_sample(picture, grid, align_corners=False) for picture in (pictures, masks))
    pictures = pictures.clamp(0, 1) ** torch.exp(uniform(count, -0.7, 0.7))
    pictures = (pictures - 0.5) * uniform(count, 0.5, 1.2) + 0.5 + uniform(count, -0.15, 0.15)
    line = torch.linspace(-1, 1, size)
    for _ in range(2):
        below = (line.view(1, 1, -1, 1) - uniform(count, -0.8, 0.8)) / uniform(count, 0.1, 0.5)
        beside = (line.view(1, 1, 1, -1) - uniform(count, -0.8, 0.8)) / uniform(count, 0.1, 0.5)
        there = uniform(count, 0, 1) < 0.5
        pictures = pictures + there * torch.exp(-(below**2 + beside**2)) * uniform(count, -0.3, 0.6)
    slope = F.interpolate(torch.randn(count, 1, 4, 4), (size, size), mode="bicubic", align_corners=False)
    pictures = pictures + slope * uniform(count, 0, 0.12)
    if torch.rand(()) < 0.5:
        pictures = gaussian(pictures, 1.0)
    return (pictures + torch.randn_like(pictures) * uniform(count, 0, 0.06)).clamp(0, 1), masks


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy, and one less the soft Dice coefficient."""
    found = logits.sigmoid()
    both = (found * masks).sum(dim=(1, 2, 3))
    dice = (2 * both + 1) / (found.sum(dim=(1, 2, 3)) + masks.sum(dim=(1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, masks) + 1 - dice.mean()


def _overlap(finder: LungFinder, pictures: Tensor, masks: Tensor) -> tuple[float, float]:
    with torch.inference_mode():
        found, drawn = finder(pictures) > 0, masks > 0.5
    dice = 2 * (found & drawn).sum(dim=(1, 2, 3)) / (found.sum(dim=(1, 2, 3)) + drawn.sum(dim=(1, 2, 3)))
    return float(dice.mean()), float(np.percentile(dice.numpy(), 5))


def _with_masks(films: PreparedSet, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return pictures and masks, (N, 1, 128, 128) each, of those rows whose lungs are known."""
    assert films.lung_masks is not None
    rows = rows[films.lung_masks[rows, 0, 0] < 2]
    return _small(films.images[rows]), _small(255 * films.lung_masks[rows])


def _small(images: np.ndarray) -> Tensor:
    small = [cv2.resize(image, (FINDER_SIZE, FINDER_SIZE), interpolation=cv2.INTER_AREA) for image in images]
    return torch.from_numpy(np.stack(small)).unsqueeze(1).float() / 255


def _some(films: tuple[Tensor, Tensor], count: int) -> list[Tensor]:
    chosen = torch.randint(len(films[0]), (count,))
    return [tensor[chosen] for tensor in films]
