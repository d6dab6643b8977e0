"""A film of any size and depth in, a small one whose grey levels mean ranks out; `network` reads it.

Only the order of the grey levels is kept, so that bit depth, window and exposure make no difference. Few of
the pixels of a large film are looked at, since 64 x 64 cells need no more.
"""

import cv2
import numpy as np
from scipy.stats import rankdata

SIDE = 64
PICKED_SIDE = 256  # pixels that are looked at along the shorter side


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Make a film small.

    Parameters
    ----------
    pixels : (H, W) of any integer type, high white

    Returns
    -------
    (64, 64) uint8: 255 times the share of the small film's pixels that are darker (half of those that are
    equal), rounded

    Examples
    --------
    >>> ramp = np.arange(4096, dtype=np.int16).reshape(64, 64) - 2048
    >>> thumbnail(ramp)[[0, 32, 63], 0]
    array([  0, 128, 251], dtype=uint8)
    """
    step = max(1, min(pixels.shape) // PICKED_SIDE)
    picked = np.ascontiguousarray(pixels[step // 2 :: step, step // 2 :: step]).astype(np.float32)
    return ranked(cv2.resize(picked, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def ranked(small: np.ndarray) -> np.ndarray:
    """Replace grey levels by ranks; any shape, float or integer in, the same shape out as uint8."""
    ranks = (rankdata(small.ravel()) - 0.5) / small.size
    result: np.ndarray = np.rint(255 * ranks).astype(np.uint8).reshape(small.shape)
    return result
