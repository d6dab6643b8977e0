"""How alike the left and the right half of a film are, about the midline of the body.

In come films or differences of films as arrays; out goes a number a film. `claim` measures with it whether
opposite-label images become symmetric, as the 2017 study saw by eye.

Symmetry is the correlation of the film with its mirror image, of what the eye sees from afar: both are smoothed first,
since grain is never symmetric, and the study speaks of the macroscopic. Correlation, unlike a difference, does not
change with brightness and contrast, so it compares films of different exposure.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from cxrtriage.evaluate.blanking import lung_template

SMOOTH = 1 / 32  # standard deviation of the Gaussian as a share of the side: 1 cm on a film of 35 cm
WINDOW = 0.1  # how far from the middle of the film, as a share of the side, the midline is looked for


def smooth(films: np.ndarray) -> np.ndarray:
    """Return (N, S, S) films or differences as the eye sees them from afar, float32."""
    spread = SMOOTH * films.shape[-1]
    # edges are repeated: a mirrored edge would put symmetry at the border that the film does not have
    return np.asarray(gaussian_filter(films.astype(np.float32), (0, spread, spread), mode="nearest"))


def find_midlines(films: np.ndarray) -> np.ndarray:
    """Return where each film is most symmetric: the column about which it correlates best with its mirror image.

    The middle of the film is not the midline of the body: patients stand beside it by some centimetres, and a film
    would be called asymmetric for that alone. The search stays within a tenth of the side from the middle, where any
    upright chest that fits on the film has its midline, so that it cannot settle on the spine's edge or a lung's own
    middle. A body that is turned or tilted stays asymmetric.

    Parameters
    ----------
    films : (N, S, S) float, smoothed

    Returns
    -------
    (N,) float64, column in steps of half a pixel; (S - 1) / 2 is the middle

    Examples
    --------
    >>> film = np.zeros((1, 20, 20))
    >>> film[0, 5:15, 6:15] = 1.0
    >>> find_midlines(film).tolist()
    [10.0]
    """
    size = films.shape[-1]
    reach = int(WINDOW * size)
    # nearest to the middle first: where several are equally good, as on an even film, that one is taken
    steps = np.array(sorted(range(-2 * reach, 2 * reach + 1), key=abs))
    candidates = (size - 1 + steps) / 2
    scores = np.stack([symmetry(films, np.full(len(films), column)) for column in candidates])
    return np.asarray(candidates[np.nan_to_num(scores, nan=-2.0).argmax(axis=0)])


def symmetry(films: np.ndarray, midlines: np.ndarray, region: np.ndarray | None = None) -> np.ndarray:
    """Return the correlation of each film with its mirror image about its midline.

    Only columns whose mirror image is on the film too are compared.

    Parameters
    ----------
    films : (N, S, S) float, smoothed: films, or signed differences of films
    midlines : (N,) float, columns in steps of half a pixel, from `find_midlines`
    region : (S, S) bool, symmetric about its own middle and moved to the midline; None takes the whole film

    Returns
    -------
    (N,) float64 in [-1, 1]; nan where a film is even

    Examples
    --------
    >>> film = np.arange(9.0).reshape(1, 3, 3)
    >>> both = np.concatenate([film, film[:, :, ::-1]], axis=2)
    >>> symmetry(both, np.array([2.5])).tolist()
    [1.0]
    """
    return np.array(
        [_correlation(*_halves(film, midline, region)) for film, midline in zip(films, midlines, strict=True)]
    )


def lungs(size: int) -> np.ndarray:
    """Return the region of the lungs, (S, S) bool, symmetric.

    The same generous region for all films, not lungs drawn by hand: a drawn lung ends where disease begins, so its
    outline would bring into the measure what is to be measured.
    """
    return lung_template(size)


def random_change(difference: np.ndarray, seed: int) -> np.ndarray:
    """Return a change of the same norm and the same spectrum, but without any plan.

    The phases of the Fourier transform are drawn at random, its amplitudes stay. White noise of the same norm would be
    no fair opponent: smoothing removes it, and it would leave symmetry as it was whatever the change does.

    Parameters
    ----------
    difference : (N, S, S) float
    seed : of the phases

    Returns
    -------
    (N, S, S) float64, each with the mean and the Euclidean norm of its film's difference

    Examples
    --------
    >>> change = np.random.default_rng(0).normal(size=(1, 8, 8))
    >>> bool(np.isclose(np.linalg.norm(random_change(change, 1)), np.linalg.norm(change)))
    True
    """
    noise = np.random.default_rng(seed).normal(size=difference.shape)
    phase = np.fft.fft2(noise)
    phase /= np.abs(phase)  # of a real picture, so the result is real as well
    phase[:, 0, 0] = 1.0
    spectrum = np.fft.fft2(difference)
    changed = np.abs(spectrum) * phase
    changed[:, 0, 0] = spectrum[:, 0, 0]
    return np.asarray(np.fft.ifft2(changed).real)


def _halves(film: np.ndarray, midline: float, region: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the compared pixels of a film, and for each the pixel on the other side."""
    size = film.shape[-1]
    twice = round(2 * midline)  # column j lies opposite of column twice - j
    columns = np.arange(max(0, twice - size + 1), min(size - 1, twice) + 1)
    left, right = film[:, columns], film[:, twice - columns]
    if region is None:
        return left.ravel(), right.ravel()
    # the region's own columns, moved by half pixels: of the two nearest, both must be inside, which keeps it symmetric
    moved = columns - midline + (size - 1) / 2
    inside = np.zeros(left.shape, bool)
    known = (moved >= 0) & (moved <= size - 1)
    inside[:, known] = region[:, np.floor(moved[known]).astype(int)] & region[:, np.ceil(moved[known]).astype(int)]
    return left[inside], right[inside]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's correlation of two vectors, nan where one is even."""
    first, second = first - first.mean(dtype=np.float64), second - second.mean(dtype=np.float64)
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 0 else float("nan")
