"""What can be told of a film without looking at its anatomy: the file, its size, sharpness, border and brightness.

In comes a film file, out goes a row of numbers; `audit` trains a classifier on them. Where that classifier does as well
as the network, the classes differ by how the films were made, and a good figure proves nothing.

Worker processes import this file, so it must not load PyTorch.
"""

import cv2
import numpy as np

from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.equalise import count_levels
from cxrtriage.errors import SourceError
from cxrtriage.records import SourceImage

SIDE = 256  # pixels
MIDDLE = 1024  # pixels; what a film shows of its making, its middle shows too
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
FORMATS = ("tiff", "png", "jpeg", "dicom")

# Rings of the power spectrum, from detail of 6 pixels down to 2. Coarser detail is ribs and vessels, that is anatomy.
FREQUENCY = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))  # (256, 129) per pixel
EDGES = np.linspace(1 / 6, 1 / 2, 17)
RING = np.searchsorted(EDGES[:-1], FREQUENCY, side="right")  # 0 is coarser than all rings
WAVELENGTHS = 1 / EDGES[:-1]
WINDOW = np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32)


def film_facts(path: str) -> dict[str, float]:
    """Read a film and return its facts without anatomy; none if it can no longer be read.

    Parameters
    ----------
    path : any file that `read_film` takes

    Returns
    -------
    dict
        Name -> number, nan where not defined. All readable films give the same names.
    """
    try:
        return facts_of(read_film(path))
    except SourceError:
        return {}


def facts_of(film: SourceImage) -> dict[str, float]:
    """Return the facts of a film that has been read.

    Parameters
    ----------
    film : from `read_film`

    Returns
    -------
    dict
        As `film_facts`.

    Examples
    --------
    >>> facts = facts_of(SourceImage(np.arange(4096, dtype=np.uint16).reshape(64, 64), bits=12))
    >>> facts["height"], facts["bits"], round(facts["brightness 50 %"], 2)
    (64.0, 12.0, 0.5)
    """
    pixels, full = film.pixels, float(2**film.bits - 1)
    height, width = pixels.shape
    counts = count_levels(np.ascontiguousarray(pixels))
    present = np.flatnonzero(counts)
    lowest, highest = present[0], present[-1]
    percentiles = np.searchsorted(np.cumsum(counts), np.array(PERCENTILES) / 100 * pixels.size)
    zero_level = -int(np.iinfo(pixels.dtype).min)  # in `counts`, of the grey level 0
    facts = {
        "file bytes": film.provenance.get("file_bytes", np.nan),
        "bytes per pixel": film.provenance.get("file_bytes", np.nan) / pixels.size,
        "format": FORMATS.index(film.provenance["format"]) if film.provenance.get("format") in FORMATS else np.nan,
        "height": height,
        "width": width,
        "proportion": height / width,
        "pixel spacing": film.pixel_spacing_mm[0] if film.pixel_spacing_mm else np.nan,
        "bits": film.bits,
        "polarity inverted": film.polarity_inverted,
        "grey levels": len(present),
        "share of levels used": len(present) / (highest - lowest + 1),
        "darkest": (lowest - zero_level) / full,
        "brightest": (highest - zero_level) / full,
        "share darkest": counts[lowest] / pixels.size,
        "share brightest": counts[highest] / pixels.size,
    }
    facts |= {
        f"brightness {percent} %": (level - zero_level) / full
        for percent, level in zip(PERCENTILES, percentiles, strict=True)
    }
    facts |= _border_facts(pixels, full)
    middle = _middle(pixels).astype(np.float32) / full
    facts |= _block_facts(middle)
    facts |= _fine_power(_square(middle), "at full resolution")
    facts |= _fine_power(_thumbnail(pixels).astype(np.float32) / full, "at 256 pixels")
    return {name: float(value) for name, value in facts.items()}


def _border_facts(pixels: np.ndarray, full: float) -> dict[str, float]:
    """Brightness and unevenness of the outermost 3 % of each side, and of the corners."""
    rows, columns = (max(1, round(0.03 * length)) for length in pixels.shape)
    sides = {
        "top border": pixels[:rows],
        "bottom border": pixels[-rows:],
        "left border": pixels[:, :columns],
        "right border": pixels[:, -columns:],
    }
    rows, columns = (max(1, round(0.08 * length)) for length in pixels.shape)
    corners = {
        "top left corner": pixels[:rows, :columns],
        "top right corner": pixels[:rows, -columns:],
        "bottom left corner": pixels[-rows:, :columns],
        "bottom right corner": pixels[-rows:, -columns:],
    }
    facts: dict[str, float] = {}
    for name, part in (sides | corners).items():
        values = part.astype(np.float32) / full
        facts |= {f"{name} brightness": values.mean(), f"{name} unevenness": values.std()}
        if name in sides:
            facts |= {f"{name} darkest": values.min(), f"{name} brightest": values.max()}
    return facts


def _middle(pixels: np.ndarray) -> np.ndarray:
    """Return up to 1024 x 1024 pixels from the middle, cut on the 8-pixel grid that JPEG counts from the corner."""
    top, left = (max(0, length - MIDDLE) // 2 // 8 * 8 for length in pixels.shape)
    return pixels[top : top + MIDDLE, left : left + MIDDLE]


def _block_facts(values: np.ndarray) -> dict[str, float]:
    """How much neighbours differ, and traces of JPEG: which part of it lies at the edges of 8 x 8 blocks."""
    facts: dict[str, float] = {}
    for axis, name in ((0, "down"), (1, "across")):
        step = np.abs(np.diff(values, axis=axis)).mean(axis=1 - axis)
        at_edge = np.arange(len(step)) % 8 == 7
        within = float(step[~at_edge].mean()) if len(step) else np.nan
        edge = float(step[at_edge].mean()) if at_edge.any() else np.nan
        facts[f"neighbours' difference {name}"] = within
        facts[f"8-pixel blocks {name}"] = edge / (edge + within) if edge + within > 0 else np.nan
    return facts


def _square(values: np.ndarray) -> np.ndarray:
    """Return the middle 256 x 256 pixels; a smaller film is reflected at its edges."""
    missing = [max(0, SIDE - length) for length in values.shape]
    padded = np.pad(values, [(0, length) for length in missing], mode="symmetric") if any(missing) else values
    top, left = ((length - SIDE) // 2 for length in padded.shape)
    return padded[top : top + SIDE, left : left + SIDE]


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the whole film averaged (or enlarged) to 256 x 256."""
    readable = pixels.astype(np.int16) if pixels.dtype == np.int8 else pixels  # OpenCV does not resize int8
    return cv2.resize(readable, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _fine_power(square: np.ndarray, name: str) -> dict[str, float]:
    """Return the log power of a (256, 256) square in rings of high spatial frequency."""
    power = np.abs(np.fft.rfft2((square - square.mean()) * WINDOW)) ** 2
    rings = np.bincount(RING.ravel(), power.ravel())[1:] / np.bincount(RING.ravel())[1:]
    return {f"detail of {WAVELENGTHS[at]:.1f} pixels {name}": np.log10(ring + 1e-12) for at, ring in enumerate(rings)}
