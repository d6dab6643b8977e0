"""Signs of disease drawn onto films: what makes a film abnormal whatever the hospital, the view and the film's making.

A normal film of any source becomes an abnormal one of the same source, so that nothing but the sign itself tells them
apart. Consolidations, nodules, reticular and miliary patterns and effusions, in the lungs that the finder found.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from training.packaged.views import gaussian, uniform

FEWEST_PIXELS = 20  # of lung; with less, signs may lie anywhere


def with_opacity(films: Tensor, lungs: Tensor) -> Tensor:
    """Draw one sign onto each film.

    Parameters
    ----------
    films : (B, 1, S, S) in [0, 1], cropped to the lungs
    lungs : (B, 1, S, S) probability of lung

    Returns
    -------
    (B, 1, S, S): brighter where the sign is
    """
    count, size = len(films), films.shape[-1]
    kinds = torch.stack([draw(lungs) for draw in (_patches, _nodule, _reticular, _miliary, _effusion)])
    chosen = torch.randint(len(kinds), (count,))
    opacity = kinds[chosen, torch.arange(count)].view(count, 1, size, size)
    return films + opacity * (uniform(count, 0.7, 0.97) - films).clamp(min=0)


def _patches(lungs: Tensor) -> Tensor:
    """Up to three soft, cloudy patches: consolidation, infiltrate."""
    count = len(lungs)
    patches = torch.zeros_like(lungs)
    for number in range(3):
        down, right = _offsets(lungs)
        angle = uniform(count, 0, math.pi)
        along = right * torch.cos(angle) + down * torch.sin(angle)
        across = down * torch.cos(angle) - right * torch.sin(angle)
        patch = torch.exp(-0.5 * ((along / uniform(count, 0.06, 0.3)) ** 2 + (across / uniform(count, 0.06, 0.3)) ** 2))
        there = uniform(count, 0, 1) < (1.0 if number == 0 else 0.4)
        patches = torch.maximum(patches, patch * there)
    cloudy = (patches * (1 + 0.5 * _fractal(lungs, 6))).clamp(0, 1.2)
    return cloudy * gaussian(lungs, 1.5) * uniform(count, 0.2, 0.75)


def _nodule(lungs: Tensor) -> Tensor:
    count = len(lungs)
    down, right = _offsets(lungs)
    radius = torch.exp(uniform(count, -3.4, -2.0))
    distance = (down**2 + right**2).sqrt()
    disc = torch.sigmoid((radius - distance) / (0.15 * radius + 0.008))
    return disc * gaussian(lungs, 1.5) * uniform(count, 0.2, 0.6)


def _reticular(lungs: Tensor) -> Tensor:
    texture = (0.5 * _fractal(lungs, 20).clamp(-1, 2) + 0.3).clamp(0, 1)
    return texture * _zone(lungs) * uniform(len(lungs), 0.3, 0.9)


def _miliary(lungs: Tensor) -> Tensor:
    grains = gaussian((_fractal(lungs, 32) > 0.9).float(), 0.8)
    return grains * _zone(lungs) * uniform(len(lungs), 0.3, 0.9)


def _effusion(lungs: Tensor) -> Tensor:
    """Brightness up to a level on one side, rising outwards as in a meniscus."""
    count = len(lungs)
    rows, columns = _coordinates(lungs)
    side = torch.where(uniform(count, 0, 1) < 0.5, columns < 0, columns > 0)
    level = uniform(count, 0.35, 0.9) - uniform(count, -0.3, 0.6) * (columns.abs() - 0.5)
    below = torch.sigmoid((rows - level) / 0.05)
    near = torch.maximum(gaussian(lungs, 1.5), (gaussian(lungs, 6) > 0.15).float())
    return below * side * near * uniform(count, 0.5, 1.0)


def _zone(lungs: Tensor) -> Tensor:
    """A soft region of the lungs, upper, lower or nearly all."""
    count = len(lungs)
    down, right = _offsets(lungs)
    soft = torch.exp(-0.5 * ((down / uniform(count, 0.2, 0.8)) ** 2 + (right / uniform(count, 0.2, 1.0)) ** 2))
    return soft * gaussian(lungs, 1.5)


def _offsets(lungs: Tensor) -> tuple[Tensor, Tensor]:
    """How far each pixel lies below and right of a random point in the lungs; the film runs from -1 to 1."""
    inside = (lungs.flatten(1) > 0.5).float()
    inside[inside.sum(dim=1) < FEWEST_PIXELS] = 1
    place = torch.multinomial(inside, 1)[:, 0]
    size = lungs.shape[-1]
    rows, columns = _coordinates(lungs)
    row = 2 * (place // size) / (size - 1) - 1
    column = 2 * (place % size) / (size - 1) - 1
    return rows - row.view(-1, 1, 1, 1), columns - column.view(-1, 1, 1, 1)


def _coordinates(lungs: Tensor) -> tuple[Tensor, Tensor]:
    line = torch.linspace(-1, 1, lungs.shape[-1])
    return line.view(1, 1, -1, 1), line.view(1, 1, 1, -1)


def _fractal(like: Tensor, cells: int) -> Tensor:
    """Noise of four octaves, unit variance, of the shape of `like`."""
    shape = like.shape[-2:]
    octaves = [(cells * 2**octave, amplitude) for octave, amplitude in enumerate((1.0, 0.7, 0.5, 0.35))]
    noise = sum(
        amplitude * F.interpolate(torch.randn(len(like), 1, side, side), shape, mode="bicubic", align_corners=False)
        for side, amplitude in octaves
    )
    return torch.as_tensor(noise) / 1.36
