"""Random changes to a batch of training films, on the device, all films at once.

In comes a batch of prepared films, out goes one of the same shape in which each film was turned, shifted
or changed in contrast by numbers of its own. `train` calls it once for every batch; nothing else does.

The study turned each film by 0, 90, 180 or 270 degrees, mirrored it or not, and added a little noise to
each pixel. `clinical` stays within what happens in an X-ray room: a patient who stands a little askew,
nearer or off centre, another exposure, noise. It does not mirror: a mirrored chest has its heart and
stomach on the wrong side, which is a finding, not a variation.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Generator, Tensor

STUDY_NOISE = 0.02  # standard deviation, as a share of the range; the study says "small"

CLINICAL_DEGREES = 10.0  # turned by up to this much either way
CLINICAL_SHIFT = 0.05  # of the film's side
CLINICAL_SCALE = 0.10  # enlarged or reduced by up to this share
CLINICAL_CONTRAST = 0.2  # around mid-grey
CLINICAL_GAMMA = 0.3  # in log units: exponents from 0.74 to 1.35
CLINICAL_NOISE = 0.02  # up to, drawn for each film


def augment(films: Tensor, recipe: Literal["study", "clinical"], generator: Generator | None = None) -> Tensor:
    """Change each film of a batch at random.

    Parameters
    ----------
    films : (B, 1, S, S) float32 in [0, 1]
    recipe : "study" or "clinical", see above
    generator : source of the random numbers, on the films' device; torch's own by default

    Returns
    -------
    (B, 1, S, S) float32 in [0, 1]; a new tensor

    Examples
    --------
    >>> augment(torch.rand(4, 1, 8, 8), "study").shape
    torch.Size([4, 1, 8, 8])
    """

    def uniform(low: float, high: float) -> Tensor:
        """One number a film, (B, 1, 1, 1)."""
        draws = torch.rand(len(films), 1, 1, 1, generator=generator, device=films.device)
        return low + (high - low) * draws

    if recipe == "study":
        return _add_noise(_turn_and_mirror(films, uniform), STUDY_NOISE, generator)
    moved = _move(films, uniform)
    exposed = moved ** torch.exp(uniform(-CLINICAL_GAMMA, CLINICAL_GAMMA))
    exposed = (exposed - 0.5) * uniform(1 - CLINICAL_CONTRAST, 1 + CLINICAL_CONTRAST) + 0.5
    return _add_noise(exposed, uniform(0, CLINICAL_NOISE), generator)


Uniform = Callable[[float, float], Tensor]


def _turn_and_mirror(films: Tensor, uniform: Uniform) -> Tensor:
    """Turn by 0-270 degrees and mirror or not: 8 outcomes, equally likely, each pixel kept exactly.

    The eight symmetries of a square are those that transposing, mirroring and flipping compose to,
    each once; three coins a film thus do the study's turn and mirror.
    """
    films = torch.where(uniform(0, 1) < 0.5, films.transpose(2, 3), films)
    films = torch.where(uniform(0, 1) < 0.5, films.flip(3), films)
    return torch.where(uniform(0, 1) < 0.5, films.flip(2), films)


def _move(films: Tensor, uniform: Uniform) -> Tensor:
    """Turn, scale and shift each film a little, in one bilinear resampling; black comes in from outside."""
    angle = torch.deg2rad(uniform(-CLINICAL_DEGREES, CLINICAL_DEGREES)).view(-1)
    scale = uniform(1 - CLINICAL_SCALE, 1 + CLINICAL_SCALE).view(-1)
    # grid_sample's coordinates run from -1 to 1, so a shift by a share of the side counts double
    right, down = (2 * uniform(-CLINICAL_SHIFT, CLINICAL_SHIFT).view(-1) for _ in range(2))
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cosine, -sine, right], dim=1), torch.stack([sine, cosine, down], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(films.shape), align_corners=False)
    return F.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _add_noise(films: Tensor, deviation: float | Tensor, generator: Generator | None) -> Tensor:
    """Add Gaussian noise to each pixel and stay within [0, 1]."""
    noise = torch.randn(films.shape, generator=generator, device=films.device)
    return (films + deviation * noise).clamp_(0, 1)
