"""Histogram equalisation of whole-numbered films as counting and look-up, and what can stand in its place.

In comes a film of 8 or 16 bits, signed or not; out go the counts of its levels and the table that maps
each level to the share of pixels that are as dark or darker: scikit-image's `exposure.equalize_hist`,
value for value, without touching more than the pixels that are kept. `prepare.py` reads both next.

`stretching_table` maps levels linearly instead, and `equalise_locally` is CLAHE on a film that has its size.
"""

import cv2
import numpy as np

# cv2.calcHist returns float32 counts, which are exact only while no level holds more pixels than this.
EXACT_IN_FLOAT32 = 2**24

CLAHE_CLIP = 2.0  # a level counts at most so many times what an even histogram would give it
CLAHE_TILES = 8  # along each side


def codes(film: np.ndarray) -> np.ndarray:
    """Return the film's bits read as unsigned, without copying: what the look-up table is indexed by."""
    return film.view(np.dtype(f"u{film.itemsize}"))


def count_levels(film: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
    """Count the pixels of every grey level.

    Parameters
    ----------
    film : (H, W) uint8, uint16, int8 or int16
    left_out : (H, W) bool, pixels that do not count

    Returns
    -------
    (L,) int64, L = 256 or 65,536, from the lowest level of the type to the highest.
    """
    levels = 2 ** (8 * film.itemsize)
    counted = None if left_out is None else (~left_out).view(np.uint8)
    counts = np.zeros(levels, dtype=np.int64)
    strip = max(1, EXACT_IN_FLOAT32 // film.shape[1])  # rows
    for top in range(0, film.shape[0], strip):
        rows = slice(top, top + strip)
        mask = None if counted is None else counted[rows]
        # The range's upper end is exclusive; OpenCV 4 returns a column, OpenCV 5 a vector.
        counts += cv2.calcHist([codes(film[rows])], [0], mask, [levels], [0, levels]).ravel().astype(np.int64)
    return by_other_order(counts) if film.dtype.kind == "i" else counts


def equalising_table(counts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turn counts into the table that equalises.

    Parameters
    ----------
    counts : (L,) from `count_levels`
    dtype : the film's

    Returns
    -------
    (L,) float64 in [0, 1], to be indexed by `codes(film)`: the share of counted pixels at this level or
    below. Levels below all that were counted become 0, those above become 1.

    Examples
    --------
    >>> film = np.array([[-1, 0], [0, 7]], dtype=np.int8)
    >>> equalising_table(count_levels(film), film.dtype)[codes(film)]
    array([[0.25, 0.75],
           [0.75, 1.  ]])
    """
    cumulative = np.cumsum(counts)
    table = cumulative / cumulative[-1]
    return by_other_order(table) if dtype.kind == "i" else table


def stretching_table(counts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turn counts into the table that stretches levels linearly from the lowest that was counted to the highest.

    Parameters
    ----------
    counts : (L,) from `count_levels`
    dtype : the film's

    Returns
    -------
    (L,) float64 in [0, 1], to be indexed by `codes(film)`. Levels below all that were counted become 0, those above
    become 1; with a single level, that becomes 0.

    Examples
    --------
    >>> film = np.array([[-1, 0], [0, 7]], dtype=np.int8)
    >>> stretching_table(count_levels(film), film.dtype)[codes(film)]
    array([[0.   , 0.125],
           [0.125, 1.   ]])
    """
    occupied = np.flatnonzero(counts)
    lowest, highest = int(occupied[0]), int(occupied[-1])
    table = ((np.arange(len(counts)) - lowest) / max(1, highest - lowest)).clip(0, 1)
    return by_other_order(table) if dtype.kind == "i" else table


def equalise_locally(film: np.ndarray) -> np.ndarray:
    """Equalise each neighbourhood of a film by itself, with a limit (CLAHE), as OpenCV does.

    The film is cut into 8 x 8 tiles, each tile's histogram of 256 levels is clipped at 2 times what an even one would
    hold and equalised, and a pixel takes the mean of the four nearest tiles' tables, by its distance from them.

    Parameters
    ----------
    film : (H, W) uint8

    Returns
    -------
    (H, W) uint8

    References
    ----------
    Zuiderveld. Contrast limited adaptive histogram equalization. Graphics Gems IV (1994), 474-485.
    """
    return np.asarray(cv2.createCLAHE(CLAHE_CLIP, (CLAHE_TILES, CLAHE_TILES)).apply(film))


def by_other_order(table: np.ndarray) -> np.ndarray:
    """Swap between order of level and order of code: read as unsigned, negative levels stand behind the others."""
    return np.roll(table, len(table) // 2)
