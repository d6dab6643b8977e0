"""Films as browsers show them: a DICOM file in, an 8-bit PNG out, kept under HOME/pictures; the study page asks.

    HOME/pictures/<aa>/<content hash>-<what>.png

"Preview, not for diagnosis" is drawn into the pixels, so that it stays on a picture that is saved or photographed.
A picture is made when it is first looked at and kept while there is room; the name is the hash of the film's
content, so a picture can never be that of another film, and tells nothing about the patient.
"""

import io
import logging
import os
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxrtriage.atomic import replacing
from cxrtriage.data.film.source import read_film
from cxrtriage.errors import CxrTriageError
from cxrtriage.records import SourceImage

LOGGER = logging.getLogger(__name__)
FOLDER = "pictures"
LONGEST = 2048  # pixels of a picture's longer side
DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles of the film that become black and white
SAMPLE = 512  # pixels a side that the percentiles are taken from
MARK = "Preview, not for diagnosis"
MOST_BYTES = 2 * 2**30  # of all pictures
LEFT_AFTER = 0.8  # share of them that stays when they are too many
AT_ONCE = BoundedSemaphore(2)  # a film of 3000 x 3000 pixels takes 40 MB to decode


class Pictures:
    """The pictures under HOME; one for all requests, since it counts what they take.

    Parameters
    ----------
    home : the node's folder
    most_bytes : what all pictures may take; beyond it those not looked at for longest go
    """

    def __init__(self, home: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = home / FOLDER
        self.most_bytes = most_bytes
        self._lock = Lock()
        self._bytes: int | None = None  # of all pictures; None before the first is kept

    def film(self, film: Path, content_sha256: str) -> bytes:
        """Return the PNG of a film.

        Parameters
        ----------
        film : the DICOM file
        content_sha256 : hash of its content, under which the picture is kept

        Raises
        ------
        SourceError
            If it cannot be read.
        """
        kept = self.find(content_sha256, "film")
        if kept is not None:
            return kept
        with AT_ONCE:
            return self.keep(content_sha256, "film", png(marked(window(read_film(film)))))

    def find(self, content_sha256: str, what: str) -> bytes | None:
        """Return a picture that was kept; None if there is none."""
        path = self._path(content_sha256, what)
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            os.utime(path)  # the time it was last looked at
            return content
        return None

    def keep(self, content_sha256: str, what: str, content: bytes) -> bytes:
        """Keep a picture if the disk takes it, and return it: it can be shown all the same."""
        path = self._path(content_sha256, what)
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        except (CxrTriageError, OSError) as error:
            LOGGER.warning("a picture is shown but not kept: %s", error)
            return content
        with self._lock:
            self._bytes = self._sum() if self._bytes is None else self._bytes + len(content)
            if self._bytes > self.most_bytes:
                self._bytes = self._make_room()
        return content

    def forget(self, content_sha256: str) -> None:
        """Remove every picture of a film, for films that are deleted."""
        for path in self._path(content_sha256, "film").parent.glob(f"{content_sha256}-*.png"):
            path.unlink(missing_ok=True)

    def _path(self, content_sha256: str, what: str) -> Path:
        return self.folder / content_sha256[:2] / f"{content_sha256}-{what}.png"

    def _sum(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*/*.png"))

    def _make_room(self) -> int:
        """Remove the pictures not looked at for longest; return how many bytes are left."""
        kept = []
        for path in self.folder.glob("*/*.png"):
            with suppress(FileNotFoundError):  # another process may be at it
                found = path.stat()
                kept.append((found.st_mtime, found.st_size, path))
        left = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if left <= LEFT_AFTER * self.most_bytes:
                break
            path.unlink(missing_ok=True)
            left -= size
        return left


def window(source: SourceImage) -> np.ndarray:
    """Return a film in 8 bits, from its 0.5th to its 99.5th percentile, at most 2,048 pixels long.

    Percentiles serve films of any device and bit depth, and a marker, a collimated border or a dead pixel does not set
    the scale. What lies beyond is black or white and no page can bring it back: this is a preview.

    Parameters
    ----------
    source : from `read_film`, (H, W) with high as white

    Returns
    -------
    (h, w) uint8
    """
    pixels = source.pixels
    rows, columns = pixels.shape
    shrink = min(1.0, LONGEST / max(rows, columns))
    if shrink < 1:
        size = (max(1, round(columns * shrink)), max(1, round(rows * shrink)))
        pixels = np.asarray(cv2.resize(_resizable(pixels), size, interpolation=cv2.INTER_AREA))
    step = max(1, max(pixels.shape) // SAMPLE)
    darkest, brightest = np.percentile(pixels[::step, ::step], [DARKEST, BRIGHTEST])
    scale = 255 / max(float(brightest - darkest), 1.0)
    grey: np.ndarray = cv2.convertScaleAbs(np.maximum(pixels.astype(np.float32) - float(darkest), 0), alpha=scale)
    return grey


def marked(picture: np.ndarray) -> np.ndarray:
    """Return a picture, (h, w) or (h, w, 3) uint8, with the warning drawn into its lower left corner."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    size = max(11, round(min(image.size) / 32))
    font = ImageFont.load_default(size)
    left, top, right, bottom = pen.textbbox((0, 0), MARK, font)
    edge = size // 2
    base = image.height - (bottom - top) - 2 * edge
    black, white = ((0, 0, 0), (255, 255, 255)) if image.mode == "RGB" else (0, 255)
    pen.rectangle((0, base - edge, right - left + 2 * edge, image.height), fill=black)
    pen.text((edge - left, base - top + edge // 2), MARK, fill=white, font=font)
    return np.asarray(image)


def png(picture: np.ndarray) -> bytes:
    """Return a picture as PNG, compressed a little: it goes to a page that waits for it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=2)
    return file.getvalue()


def _resizable(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of a type that OpenCV resizes; it takes int16 and uint16, not int8."""
    return pixels.astype(np.int16) if pixels.dtype == np.int8 else pixels
