"""Films and pictures as data URIs: small WebP files inside the page, without anything a file carries besides pixels.

In come arrays and picture files, out go strings for `<img src>`. `films` and `explained` show them.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from cxrtriage.errors import SourceError

QUALITY = 82  # of WebP; at 80 and above grain stays, below 70 ribs grow blocks
WIDEST = 4  # a picture of several panels may be so much wider than a single film


@dataclass(frozen=True)
class Shown:
    """A picture for `<img>`: its data URI, and its size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def shape(self) -> str:
        """How the page lays it out: "strip" of several panels, "wide" or "film"."""
        return "strip" if self.width > 2.6 * self.height else "wide" if self.width > 1.4 * self.height else "film"


def show_film(pixels: np.ndarray, side: int) -> Shown:
    """Return a film as a grey picture.

    Parameters
    ----------
    pixels : (H, W) of any whole-number type; shown from its darkest to its brightest level
    side : longest side of the picture in pixels; a smaller film stays as it is
    """
    values = pixels.astype(np.float32)
    shrink = min(1.0, side / max(pixels.shape))
    if shrink < 1:
        rows, columns = (max(1, round(shrink * length)) for length in pixels.shape)
        values = np.asarray(cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA))
    darkest, brightest = float(values.min()), float(values.max())
    grey = (values - darkest) * (255 / max(brightest - darkest, 1e-6))
    return _encode(Image.fromarray(np.rint(grey).astype(np.uint8)))


def show_picture(path: Path, side: int) -> Shown:
    """Return a picture file, reduced to `side` pixels in height and four times that in width.

    Raises
    ------
    SourceError
        If the file is missing or is no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (FileNotFoundError, UnidentifiedImageError, OSError) as error:
        raise SourceError(
            f"cannot report on {path}: the picture is missing or damaged. Run 'cxrtriage fit' again with the folder "
            "'explanations' removed."
        ) from error
    picture.thumbnail((WIDEST * side, side), Image.Resampling.LANCZOS)
    return _encode(picture)


def _encode(picture: Image.Image) -> Shown:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=4)
    return Shown("data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii"), *picture.size)
