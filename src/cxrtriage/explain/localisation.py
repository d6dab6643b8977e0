"""Does a heat map point at the lesion? Peak and mass, against chance and against a map that never looks at the film.

In come heat maps from `attribution.heat_of` and the lesions drawn on the same films; out goes a number a film.
`measuring` averages them over films.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

TOLERANCE = 0.03  # of the side: 1 cm on a film of 35 cm, and the 15 of about 500 pixels of the pointing game
CENTRE_SPREAD = 0.25  # standard deviation of the Gaussian at the film's centre, of the side


class Localisation(NamedTuple):
    """How well the heat of each film finds its lesion; all (N,) float64 in [0, 1].

    Parameters
    ----------
    peak : 1 where the hottest pixel lies in the lesion or within the tolerance of it, else 0
    mass : share of the heat that lies in the lesion
    peak_by_chance : what a pixel drawn at random reaches, the share of the film within the tolerance
    mass_by_chance : what an even heat reaches, the lesion's share of the film
    """

    peak: np.ndarray
    mass: np.ndarray
    peak_by_chance: np.ndarray
    mass_by_chance: np.ndarray


def localise(heat: np.ndarray, lesions: np.ndarray, tolerance: float = TOLERANCE) -> Localisation:
    """Measure how well heat finds lesions.

    Where several pixels are hottest together, `peak` is the share of them that hits: what drawing one of them would
    give on average. So a heat without any contrast, all zeros included, scores chance in both measures.

    Parameters
    ----------
    heat : (N, S, S) float >= 0
    lesions : (N, S, S) bool, some of each film
    tolerance : how far beside the lesion a peak still counts, as a share of the side S

    Raises
    ------
    ValueError
        If a film has no lesion.

    References
    ----------
    Zhang, Bargal, Lin, Brandt, Shen, Sclaroff. Top-down neural attention by excitation backprop. IJCV 126 (2018):
    the pointing game, a hit within 15 pixels, on photographs of about 500.

    Examples
    --------
    >>> lesions = np.zeros((1, 4, 4), bool)
    >>> lesions[0, 0, 0] = True
    >>> found = localise(lesions.astype(float), lesions, tolerance=0)
    >>> [float(value[0]) for value in found]
    [1.0, 1.0, 0.0625, 0.0625]
    """
    if not lesions.any(axis=(1, 2)).all():
        raise ValueError("each film needs a lesion; leave out films without")
    reach = tolerance * heat.shape[-1]
    near = np.stack([distance_transform_edt(~lesion) <= reach for lesion in lesions])
    hottest = heat == heat.max(axis=(1, 2), keepdims=True)
    total = heat.sum(axis=(1, 2), dtype=np.float64)
    area = lesions.mean(axis=(1, 2))
    inside = np.where(lesions, heat, 0).sum(axis=(1, 2), dtype=np.float64)
    return Localisation(
        peak=(hottest & near).sum(axis=(1, 2)) / hottest.sum(axis=(1, 2)),
        mass=np.divide(inside, total, out=area.copy(), where=total > 0),
        peak_by_chance=near.mean(axis=(1, 2)),
        mass_by_chance=area,
    )


def centre_heat(size: int) -> np.ndarray:
    """Return a Gaussian at the film's centre, (S, S) float32 in (0, 1]: where a photographer puts what matters."""
    across = np.linspace(-0.5, 0.5, size) / CENTRE_SPREAD
    bell = np.exp(-(across**2) / 2)
    return np.outer(bell, bell).astype(np.float32)


def usual_place(lesions: np.ndarray) -> np.ndarray:
    """Return how often each pixel is in a lesion on *other* films, (S, S) float32 in [0, 1].

    The harder of the two fixed maps: of all maps that never look at the film, it has the best place for its peak.

    Parameters
    ----------
    lesions : (M, S, S) bool, of films whose patients are not measured
    """
    return np.asarray(lesions.mean(axis=0, dtype=np.float32))
