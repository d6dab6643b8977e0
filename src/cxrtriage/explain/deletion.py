"""Does the network need what a heat map marks? Deletion and insertion curves.

In come films, their heat, and a function that scores films; out goes the area under each curve, a number a film.
Hottest pixels first, a film turns into its blurred copy (deletion), or the blurred copy turns into the film
(insertion). A heat that marks what the network reads makes the score fall fast in the first and rise fast in the
second. `measuring` reads it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

Score = Callable[[np.ndarray], np.ndarray]  # (N, S, S) uint8 films -> (N,) float

# shares of the pixels exchanged; close together at first, where a good map does its work
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
BLUR = 1 / 16  # standard deviation as a share of the side: opacities of up to 4 cm on a film of 35 cm fade


class Areas(NamedTuple):
    """Area under the curves of each film, (N,) float64 in units of the score; better: low deletion, high insertion."""

    deletion: np.ndarray
    insertion: np.ndarray


def areas_under_curves(
    score: Score, images: np.ndarray, heat: np.ndarray, *, shares: tuple[float, ...] = SHARES, seed: int = 0
) -> Areas:
    """Return the area under the deletion and the insertion curve of each film.

    Parameters
    ----------
    score : what the curves show, say the calibrated probability of abnormal
    images : (N, S, S) uint8
    heat : (N, S, S) float; pixels equally hot are exchanged in random order, so an even heat is a random order
    shares : ascending, from 0 to 1, of the pixels exchanged at each step; the trapezoidal rule joins them
    seed : of the order of equally hot pixels

    References
    ----------
    Petsiuk, Das, Saenko. RISE: randomized input sampling for explanation of black-box models. BMVC 2018. There deleted
    pixels turn grey, which is itself a sight that no film shows; here both curves go between the film and its blur.

    Examples
    --------
    >>> film = np.zeros((1, 16, 16), np.uint8)
    >>> film[0, 8, 8] = 255
    >>> areas = areas_under_curves(lambda films: films[:, 8, 8] / 255, film, film, shares=(0, 0.5, 1))
    >>> [round(float(area[0]), 2) for area in areas]
    [0.37, 0.79]
    """
    blurred = blur(images)
    rank = removal_rank(heat, seed)  # 0 is exchanged first
    pixels = rank[0].size
    whole, gone = score(images), score(blurred)
    curves = {"deletion": [whole], "insertion": [gone]}
    for share in shares[1:-1]:
        exchanged = rank < round(share * pixels)
        curves["deletion"].append(score(np.where(exchanged, blurred, images)))
        curves["insertion"].append(score(np.where(exchanged, images, blurred)))
    curves["deletion"].append(gone)
    curves["insertion"].append(whole)
    return Areas(**{name: np.trapezoid(np.stack(curve, axis=1), shares, axis=1) for name, curve in curves.items()})


def blur(images: np.ndarray) -> np.ndarray:
    """Return the films without detail: (N, S, S) uint8, a Gaussian blur of `BLUR` of the side."""
    spread = BLUR * images.shape[-1]
    blurred: np.ndarray = gaussian_filter(images.astype(np.float32), (0, spread, spread)).round().astype(np.uint8)
    return blurred


def removal_rank(heat: np.ndarray, seed: int) -> np.ndarray:
    """Return each pixel's place in the order from hottest to coldest, (N, S, S) int, equally hot ones at random."""
    flat = heat.reshape(len(heat), -1).astype(np.float64)  # unsigned integers have no negative
    random = np.random.default_rng(seed).permutation(flat.shape[1])
    rank = np.empty(flat.shape, np.int64)
    for row, values in zip(rank, flat, strict=True):
        row[np.lexsort((random, -values))] = np.arange(len(values))
    return rank.reshape(heat.shape)
