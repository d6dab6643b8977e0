"""A TIFF file in, a grey film out; `source.read_film` calls it.

Taken are 8- and 16-bit integers, signed or not (and fewer bits from 2 up), raw or compressed by LZW,
deflate, PackBits or JPEG, in strips or tiles, of either byte order, as TIFF or BigTIFF. A palette is looked
up, and taken if its colours are grey. The resolution tags describe a print, not the patient, so no pixel
spacing is taken from them, and the orientation tag is not applied.
"""

import logging
import math
from itertools import islice
from pathlib import Path

import imagecodecs
import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage

from cxrtriage.data.film.admission import (
    JPEG_COLOUR_TOLERANCE,
    MAX_PIXELS,
    check_size,
    damaged,
    grey_channel,
    inverted,
    refusal,
)
from cxrtriage.data.film.codestream import read_codestream
from cxrtriage.records import SourceImage

# What tifffile finds odd but can read is no news; without a handler Python would print it to the user.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # Photometric Interpretation (262)
LZW, JPEG = 5, 7  # Compression (259)
COMPRESSIONS = {1: "none", LZW: "lzw", JPEG: "jpeg", 8: "deflate", 32946: "deflate", 32773: "packbits"}
LIBTIFF = (LZW, 8, 32946, 32773)  # compressions that libtiff decodes faster than tifffile
SEPARATE = 2  # Planar Configuration (284): one plane after the other
REDUCED_RESOLUTION = 1  # bit of New Subfile Type (254): a preview of another page
MAX_CHANNELS = 4  # RGBA
MAX_PREVIEWS = 8  # looked at; a chain of pages may run in a circle
JPEG_HEADER_BYTES = 65536  # of a strip or tile, enough to find its frame header


def read_tiff(path: Path, mapped: bool = False) -> SourceImage:
    """Read the one film of a TIFF file; `mapped` as in `source.read_film`.

    Raises
    ------
    SourceError
        If the file holds anything but one whole grey film of 2 to 16 bits.
    """
    with TiffFile(path) as tiff:
        page = tiff.pages.first
        _check_single(path, tiff)
        check_size(path, page.imagewidth, page.imagelength)
        _check_pixels(path, page)
        _check_whole(path, page)
        pixels, bits = _decoded(path, page, mapped), page.bitspersample
        if page.photometric == PALETTE:
            if page.colormap is None:
                raise damaged(path, "it has no palette for its palette colours")
            pixels, bits = page.colormap.T[pixels], 16
        pixels = grey_channel(path, pixels, JPEG_COLOUR_TOLERANCE if page.compression == JPEG else 0)
        min_is_white = page.photometric == MIN_IS_WHITE
        if min_is_white:
            pixels = inverted(pixels, bits)
        provenance = {"format": "tiff", "compression": COMPRESSIONS[page.compression]}
        return SourceImage(pixels, bits, polarity_inverted=min_is_white, provenance=provenance)


def _decoded(path: Path, page: TiffPage, mapped: bool) -> np.ndarray:
    """Return the pixels as (H, W) or (H, W, C) in this machine's byte order."""
    if page.compression in LIBTIFF and page.bitspersample in (8, 16):
        pixels = imagecodecs.tiff_decode(path.read_bytes())  # LZW in half the time, PackBits in a tenth
    else:
        # what is turned round is overwritten, and a map of a file cannot be
        out = "memmap" if mapped and page.is_memmappable and page.photometric != MIN_IS_WHITE else None
        pixels = np.asarray(page.asarray(out=out, maxworkers=1))  # films are read by many processes, not many threads
    if pixels.shape != page.shape:
        raise damaged(path, f"its header says {page.shape} pixels, its image data {pixels.shape}")
    if page.planarconfig == SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _check_single(path: Path, tiff: TiffFile) -> None:
    """Refuse several films in one file; previews of the first one do not count."""
    for page in islice(tiff.pages, 1, MAX_PREVIEWS):
        if isinstance(page, TiffFrame) or not page.subfiletype & REDUCED_RESOLUTION:
            raise refusal(path, "it holds several pages, expected one film", "Save each page as a file of its own")


def _check_pixels(path: Path, page: TiffPage) -> None:
    """Refuse pixels that are no grey levels of 2 to 16 bits, or are stored in a way that is not read."""
    bits, dtype = page.bitspersample, page.dtype
    if page.photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR):
        kind = getattr(page.photometric, "name", page.photometric)
        raise refusal(path, f"its pixels are {kind}, expected a grey film", "Save it as a grey TIFF")
    if dtype is None or dtype.kind not in "bui" or not isinstance(bits, int) or not 2 <= bits <= 16:
        kind = "floating point" if dtype is not None and dtype.kind in "fc" else "integer"
        raise refusal(
            path, f"its pixels are {bits}-bit {kind}, expected 8- or 16-bit integer", "Save it as 16-bit TIFF"
        )
    if page.samplesperpixel > MAX_CHANNELS:
        raise refusal(path, f"its pixels have {page.samplesperpixel} channels, expected one", "Save it as a grey TIFF")
    if page.compression not in COMPRESSIONS:
        kind = getattr(page.compression, "name", page.compression)
        raise refusal(path, f"its compression {kind} is not read", "Save it uncompressed, or with LZW or deflate")


def _check_whole(path: Path, page: TiffPage) -> None:
    """Refuse strips and tiles that are missing or cut off, which tifffile would fill in, or lie about their size."""
    if page.is_tiled:
        segment_pixels = page.tilewidth * page.tilelength
    else:
        segment_pixels = page.imagewidth * min(page.rowsperstrip, page.imagelength)
    if segment_pixels > MAX_PIXELS:
        raise damaged(path, f"its tiles are {page.tilewidth} x {page.tilelength} pixels")
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = math.prod(page.chunked)
    if len(offsets) < expected or len(counts) < expected or not all(counts[:expected]):
        raise damaged(path, f"some of its {expected} strips or tiles are missing")
    file = page.parent.filehandle
    end = max(map(sum, zip(offsets, counts, strict=False)))
    if end > file.size:
        raise damaged(path, f"it is cut short: {file.size} bytes are there, its pixels end at byte {end}")
    if page.compression == JPEG:
        for offset, count in zip(offsets, counts, strict=False):
            file.seek(offset)
            stream = read_codestream(file.read(min(count, JPEG_HEADER_BYTES)))
            if stream.width * stream.height > segment_pixels:
                raise damaged(path, f"a JPEG strip inside it claims {stream.width} x {stream.height} pixels")
