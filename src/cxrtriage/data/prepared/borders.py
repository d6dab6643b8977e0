"""What of a film is not the patient: collimation, scanner bed, markers.

In comes a film; out go the window inside its constant borders and the pixels to leave out of the histogram.
`prepare.py` reads them next, when the recipe says `crop_edges` or `mask_border`.
"""

import cv2
import numpy as np

MOST_CUT_PER_SIDE = 0.25  # of the film's height or width
# Spread within a line of the border, as a share of the film's range. An even, bright line may be abdomen.
NEARLY_CONSTANT_DARK = 0.04
NEARLY_CONSTANT_BRIGHT = 0.01
EXTREME = 0.02  # how close to the film's darkest or brightest level a border is, as a share of the range
SATURATED = 0.005  # the same for a marker, which is as bright as the file can hold
LARGEST_MARKER = 0.01  # of the film's area
MOST_LEFT_OUT = 0.5  # of the film's area
SAMPLES = 512  # pixels looked at per line


def find_window(film: np.ndarray) -> tuple[slice, slice]:
    """Find the part of a film inside its borders.

    A row or column at the edge is border when the middle 90 % of its pixels are nearly the same: noise and
    a marker in the border do no harm, a border of several steps is followed. A bright line must be more
    even than a dark one, since an abdomen is nearly even too. At most a quarter is cut from each side.

    Parameters
    ----------
    film : (H, W) of any whole-numbered type

    Returns
    -------
    Slices of the rows and columns to keep.
    """
    low, high = np.percentile(sample(film)[0], (1, 99))
    rows, columns = slice(0, film.shape[0]), slice(0, film.shape[1])
    for _ in range(2):  # again, because a row reads as constant only once the side borders are off
        rows = inside_borders(film[:, columns], low, high)
        columns = inside_borders(film[rows].T, low, high)
    return rows, columns


def inside_borders(lines: np.ndarray, low: float, high: float) -> slice:
    most = int(MOST_CUT_PER_SIDE * len(lines))
    return slice(
        count_border_lines(lines[:most], low, high),
        len(lines) - count_border_lines(lines[::-1][:most], low, high),
    )


def count_border_lines(lines: np.ndarray, low: float, high: float) -> int:
    """Count from the first line on until one is not nearly constant; `low` to `high` is the film's range."""
    step = max(1, lines.shape[1] // SAMPLES)
    for number, line in enumerate(lines):
        darkest, middle, brightest = np.percentile(line[::step], (5, 50, 95))
        allowed = NEARLY_CONSTANT_DARK if middle < (low + high) / 2 else NEARLY_CONSTANT_BRIGHT
        if brightest - darkest > allowed * (high - low):
            return number
    return len(lines)


def border_and_markers(film: np.ndarray) -> np.ndarray:
    """Find the pixels that say nothing about the patient.

    Those are the regions of extreme level (nearly the darkest or brightest of the film) that touch its
    edge, and small regions of the brightest level inside: side markers and burnt-in letters. When they
    would make up more than half of the film, the film is not of that kind and nothing is left out.

    Parameters
    ----------
    film : (H, W) of any whole-numbered type

    Returns
    -------
    (H, W) bool
    """
    small, steps = sample(film)  # regions are found in this, thirty times faster and just as well
    low, high = np.percentile(small, (0.01, 99.99))  # a few dead pixels are not the range
    span = high - low
    left_out = touching_edge(small <= low + EXTREME * span)
    left_out |= touching_edge(small >= high - EXTREME * span)
    left_out |= small_regions(small >= high - SATURATED * span, LARGEST_MARKER * small.size)
    if left_out.mean() > MOST_LEFT_OUT:
        left_out[:] = False
    enlarged = (small.shape[1] * steps[1], small.shape[0] * steps[0])
    enlarged_mask = cv2.resize(left_out.view(np.uint8), enlarged, interpolation=cv2.INTER_NEAREST)
    return enlarged_mask[: film.shape[0], : film.shape[1]].view(bool)


def touching_edge(extreme: np.ndarray) -> np.ndarray:
    """Keep the connected regions of `extreme` (H, W) bool that reach the film's edge."""
    count, regions = cv2.connectedComponents(extreme.view(np.uint8))
    chosen = np.zeros(count, dtype=bool)
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        chosen[edge] = True
    chosen[0] = False  # region 0 is what is not extreme
    return np.take(chosen, np.asarray(regions, dtype=np.int32))


def small_regions(extreme: np.ndarray, largest: float) -> np.ndarray:
    """Keep the connected regions of `extreme` (H, W) bool of at most `largest` pixels."""
    _, regions, facts, _ = cv2.connectedComponentsWithStats(extreme.view(np.uint8))
    chosen = facts[:, cv2.CC_STAT_AREA] <= largest
    chosen[0] = False  # region 0 is what is not extreme
    return np.take(chosen, np.asarray(regions, dtype=np.int32))


def sample(film: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return every n-th row and column, so that about SAMPLES of each are left, and the two n."""
    steps = max(1, film.shape[0] // SAMPLES), max(1, film.shape[1] // SAMPLES)
    return film[:: steps[0], :: steps[1]], steps
