"""What a film must be to be taken, whatever its format: a sensible size, one grey channel, not blank.

The readers of each format (`tiff`, `png`, `jpeg`, `dicom`) ask here before and after they decode; what
fails comes back as a `SourceError` that names the file, the finding and the remedy.
"""

from pathlib import Path

import numpy as np

from cxrtriage.errors import SourceError

MIN_SIDE = 32  # pixels; below this there is no anatomy left to see
MAX_ASPECT = 4  # longer side over shorter side; a chest film is below 1.5, a whole spine about 3
MAX_PIXELS = 100_000_000  # the largest films known (digitised, 4892 x 4020) have 20 million
MAX_FILE_BYTES = 2**30  # what MAX_PIXELS takes in 16-bit RGBA, with room for a header

# JPEG rounds the two colour planes apart from the grey one. Each can be off by one level, and
# RGB = Y + (1.402 Cr, ..., 1.772 Cb), so the channels of a grey film may differ by 1.402 + 1.772 levels.
JPEG_COLOUR_TOLERANCE = 4


def refusal(path: Path, finding: str, remedy: str) -> SourceError:
    """Return the error that says why the film at `path` is not taken and what to do about it."""
    printable = "".join(sign if sign.isprintable() else "?" for sign in finding)  # it may quote a damaged header
    return SourceError(f"cannot read {path}: {printable}. {remedy}.")


def damaged(path: Path, finding: str) -> SourceError:
    """Return the refusal of a file that is not what its own header says."""
    return refusal(path, finding, "Export or copy it again from its source")


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse a film by the size its header gives, before anything of that size is decoded or allocated.

    Raises
    ------
    SourceError
        If a side is below `MIN_SIDE`, the sides differ by more than `MAX_ASPECT`, or there are more than
        `MAX_PIXELS`.
    """
    size = f"it is {width} x {height} pixels (width x height)"
    if min(width, height) < MIN_SIDE:
        raise refusal(path, f"{size}, expected at least {MIN_SIDE} each way", "Check what was exported")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise refusal(path, f"{size}, expected at most {MAX_ASPECT} times as long as wide", "Crop it to the chest")
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise refusal(path, f"{size}, more than the {limit} million a film may have", "Export it at a lower resolution")


def grey_channel(path: Path, pixels: np.ndarray, tolerance: int = 0) -> np.ndarray:
    """Return the one grey channel of a film that may be stored as grey, grey + alpha, RGB or RGBA.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C) of any integer type; alpha, the last of 2 or 4 channels, is dropped
    tolerance : by how many levels the colours of a pixel may differ

    Returns
    -------
    (H, W) of the same type; of colours the green one, which is the nearest to the grey they were made from

    Raises
    ------
    SourceError
        If the colours differ by more than `tolerance`, or C is not 1 to 4.
    """
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2] if pixels.ndim == 3 else 0
    if channels in (1, 2):
        return np.ascontiguousarray(pixels[:, :, 0])
    if channels not in (3, 4):
        raise refusal(
            path, f"its pixels have the shape {pixels.shape}, expected one grey plane", "Export one film a file"
        )
    red, green, blue = (np.ascontiguousarray(pixels[:, :, index]) for index in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if int(spread.max()) > tolerance:
        finding = f"its three channels differ by up to {int(spread.max())} levels (colour), expected a grey film"
        raise refusal(path, finding, "Export it without colour or leave it out")
    return green


def check_not_blank(path: Path, pixels: np.ndarray) -> None:
    """Raise SourceError if every pixel has the same value."""
    first = pixels[0, 0]
    # nearly every film shows two levels in a coarse sample, which saves looking at all its pixels
    if (pixels[::64, ::64] == first).all() and (pixels == first).all():
        raise refusal(path, f"it is blank: every pixel has the value {int(first)}", "Export it again or leave it out")


def inverted(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Turn the polarity round within `bits`: the lowest possible level becomes the highest and so on.

    Parameters
    ----------
    pixels : (H, W) uint8, uint16, int8 or int16, within `bits`; overwritten
    """
    if pixels.dtype.kind == "i":
        np.invert(pixels, out=pixels)  # two's complement: -1 - p
    else:
        pixels ^= (1 << bits) - 1
    return pixels
