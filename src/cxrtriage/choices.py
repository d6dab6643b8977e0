"""What size `fit` prepares films at when it is not told.

In: how many films there are, how large they are, and whether a GPU will train. Out: a number and the reason,
so that nothing is picked in silence. Batch and epochs are picked in `train.plan`, which `cxrtriage train`
goes through too.
"""

from collections.abc import Sequence

import numpy as np

from cxrtriage.data.film.source import read_film
from cxrtriage.errors import SourceError

STUDY_SIZE = 224
SMALLEST_SIZE = 128  # below it the networks run out of pixels


def choose_size(train_films: int, film_side: float, on_gpu: bool) -> tuple[int, str]:
    """Pick the side of the prepared films.

    Parameters
    ----------
    train_films : number of training films
    film_side : median shorter side of the films as stored, in pixels; see `typical_side`
    on_gpu : whether a GPU will train

    Returns
    -------
    Side in pixels, and why.

    Examples
    --------
    >>> choose_size(6000, film_side=128, on_gpu=True)
    (128, 'the films themselves are only 128 pixels wide')
    """
    if on_gpu or train_films <= 1000:
        size, reason = STUDY_SIZE, "the study's smaller size"
    elif train_films <= 3000:
        size, reason = 160, f"{train_films} training films at {STUDY_SIZE} would be slow without a GPU"
    else:
        size, reason = SMALLEST_SIZE, f"{train_films} training films at {STUDY_SIZE} would be slow without a GPU"
    if film_side < size:
        return max(SMALLEST_SIZE, int(film_side)), f"the films themselves are only {film_side:.0f} pixels wide"
    return size, reason


def typical_side(paths: Sequence[str], sample: int = 15) -> float:
    """Return the median shorter side in pixels of up to `sample` readable films, evenly spread over `paths`."""
    sides = []
    for index in np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int):
        try:
            sides.append(min(read_film(paths[index]).pixels.shape))
        except SourceError:
            continue  # `prepare` will reject it with the reason
    return float(np.median(sides)) if sides else float("inf")
