"""How a training film is moved, exposed and blurred, so that sharpness, noise and contrast tell nothing.

The sources differ in all of these (films stored at 128, 224 and 512 pixels, scanned and digital ones), and within a
source the classes do, too: what betrays the class without anatomy is made random.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

DEGREES = 10.0
SCALE = 0.12  # in log units, each direction by itself
SHIFT = 0.05  # of the box's side
BLURRED, SHARPENED = 0.5, 0.2  # shares of the films
BLUR = (0.6, 2.2)  # standard deviation in pixels


def uniform(count: int, low: float, high: float) -> Tensor:
    """One number a film, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(count, 1, 1, 1)


def moved(films: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut boxes out of films, each turned, scaled, shifted and mirrored at random.

    Mirrored, too: the packaged model is to say that something is wrong, and half of what is, is on the other side.

    Parameters
    ----------
    films : (B, 1, S, S)
    boxes : (B, 4) left, top, right, bottom as shares of the side
    size : side of the result

    Returns
    -------
    (B, 1, size, size)
    """
    count = len(boxes)
    draw = [uniform(count, -1, 1).view(-1) for _ in range(5)]
    angle = math.radians(DEGREES) * draw[0]
    sides = boxes[:, 2:] - boxes[:, :2]
    scale = sides * torch.exp(SCALE * torch.stack(draw[1:3], dim=1))
    shift = boxes[:, :2] + boxes[:, 2:] - 1 + 2 * SHIFT * sides * torch.stack(draw[3:], dim=1)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    # x and y keep their own scale: the crop maps a box of any proportions onto a square
    rows = [
        torch.stack([torch.cos(angle) * scale[:, 0] * mirror, -torch.sin(angle) * scale[:, 0], shift[:, 0]], dim=1),
        torch.stack([torch.sin(angle) * scale[:, 1] * mirror, torch.cos(angle) * scale[:, 1], shift[:, 1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 1, size, size], align_corners=False)
    return F.grid_sample(films, grid, align_corners=False)


def exposed(films: Tensor) -> Tensor:
    """Change contrast, sharpness and noise of each film, and cover a rectangle of some; (B, 1, S, S) in [0, 1]."""
    count, size = len(films), films.shape[-1]
    films = films.clamp(0, 1) ** torch.exp(uniform(count, -0.5, 0.5))
    films = (films - 0.5) * uniform(count, 0.7, 1.25) + 0.5 + uniform(count, -0.1, 0.1)
    soft = gaussian(films, math.exp(float(torch.empty(()).uniform_(*(math.log(end) for end in BLUR)))))
    films = torch.where(uniform(count, 0, 1) < BLURRED, soft, films)
    sharpened = films + (films - soft) * uniform(count, 0.3, 1.2)
    films = torch.where(uniform(count, 0, 1) < SHARPENED, sharpened, films)
    slope = F.interpolate(torch.randn(count, 1, 3, 3), (size, size), mode="bicubic", align_corners=False)
    films = films + slope * uniform(count, 0, 0.06)
    noisy = uniform(count, 0, 1) < 0.7
    films = films + torch.randn_like(films) * uniform(count, 0, 0.04) * noisy
    rows, columns = torch.arange(size).view(1, 1, size, 1), torch.arange(size).view(1, 1, 1, size)
    covered = (rows - uniform(count, 0, size)).abs() < uniform(count, 0.05, 0.2) * size
    covered = covered & ((columns - uniform(count, 0, size)).abs() < uniform(count, 0.05, 0.2) * size)
    covered = covered & (uniform(count, 0, 1) < 0.3)
    return torch.where(covered, uniform(count, 0, 1), films).clamp(0, 1)


def gaussian(films: Tensor, deviation: float) -> Tensor:
    """Blur films, (B, 1, S, S); beyond the border is black."""
    reach = math.ceil(3 * deviation)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    kernel = kernel / kernel.sum()
    films = F.conv2d(films, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(films, kernel.view(1, 1, -1, 1), padding=(reach, 0))
