"""The Pixel Data of a DICOM file in, its stored grey levels out; `dicom.read_dicom` calls it.

    native or encapsulated bytes -> (H, W) or (H, W, C) unsigned -> the bits stored, sign extended -> one channel

A compressed frame is decoded by what its first bytes say, not by the transfer syntax: RLE, JPEG (8 and 12 bits,
lossless), JPEG-LS, JPEG 2000 and HTJ2K.
"""

from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.encaps import get_frame

from cxrtriage.data.film.admission import JPEG_COLOUR_TOLERANCE, check_size, damaged, grey_channel, refusal
from cxrtriage.data.film.codestream import decode, read_codestream

PHOTOMETRIC_INTERPRETATIONS = {
    1: ("MONOCHROME1", "MONOCHROME2"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),  # taken if their colours are equal
}
RLE_FIRST_OFFSET = b"\x40\x00\x00\x00"  # PS3.5 G.5: the first segment follows the header of 64 bytes
UNDEFINED_LENGTH = 0xFFFFFFFF  # PS3.5 A.4: the pixel data are encapsulated


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels are stored: DICOM PS3.3 C.7.6.3.1 and PS3.5 8.1.1.

    `allocated` bits a sample hold `stored` ones that end at `high_bit`; the rest may be overlays or noise.
    """

    rows: int
    columns: int
    samples: int
    photometric_interpretation: str
    by_plane: bool
    allocated: int
    stored: int
    high_bit: int
    signed: bool

    @property
    def count(self) -> int:
        """Samples in all."""
        return self.rows * self.columns * self.samples

    @property
    def dtype(self) -> np.dtype:
        """Type of a sample as allocated."""
        return np.dtype(f"<u{self.allocated // 8}")


def read_pixels(path: Path, stream: BufferedReader | BytesIO, header: Dataset) -> tuple[np.ndarray, int, str]:
    """Read the stored grey levels of a single-frame image.

    Parameters
    ----------
    path : for messages
    stream : stands at the Pixel Data element (7FE0,0010)
    header : what comes before it

    Returns
    -------
    pixels : (H, W) uint8 or uint16, or int8 or int16 where Pixel Representation (0028,0103) is signed
    bits : Bits Stored (0028,0101), 2-16
    compression : "none", "rle" or a codec of `Codestream`

    Raises
    ------
    SourceError
        If there is no whole single grey film.
    """
    layout = _layout(path, header)
    pixels, compression = _unsigned(path, stream, layout)
    tolerance = 0 if compression in ("none", "rle") else JPEG_COLOUR_TOLERANCE
    return grey_channel(path, _stored(pixels, layout), tolerance), layout.stored, compression


def _layout(path: Path, header: Dataset) -> Layout:
    """Return how the pixels are stored, or refuse what cannot be one grey film."""
    missing = [name for name in ("Rows", "Columns", "BitsAllocated") if header.get(name) is None]
    if missing:
        kind = getattr(header.get("SOPClassUID"), "name", None) or "object without SOP class"
        finding = f"it is a DICOM {kind} without image ({', '.join(missing)} missing)"
        raise refusal(path, finding, "Export its image or leave it out")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise refusal(path, f"it holds {frames} frames, expected a single film", "Export the one that is meant")
    check_size(path, int(header.Columns), int(header.Rows))
    photometric_interpretation = str(header.get("PhotometricInterpretation") or "")
    samples = int(header.get("SamplesPerPixel") or 1)
    if photometric_interpretation not in PHOTOMETRIC_INTERPRETATIONS.get(samples, ()):
        finding = f"it has {samples} samples a pixel of Photometric Interpretation '{photometric_interpretation}'"
        raise refusal(path, f"{finding}, expected 1 of MONOCHROME1 or MONOCHROME2", "Export it as a grey film")
    allocated = int(header.BitsAllocated)
    stored = int(header.get("BitsStored") or allocated)
    if allocated not in (8, 16) or not 2 <= stored <= allocated:
        finding = f"its pixels have {stored} of {allocated} bits (Bits Stored, Bits Allocated)"
        raise refusal(path, f"{finding}, expected 2 to 16 of 8 or 16", "Export it as an 8- or 16-bit film")
    high_bit = int(header.get("HighBit") or 0)
    return Layout(
        rows=int(header.Rows),
        columns=int(header.Columns),
        samples=samples,
        photometric_interpretation=photometric_interpretation,
        by_plane=header.get("PlanarConfiguration") == 1,
        allocated=allocated,
        stored=stored,
        high_bit=high_bit if stored <= high_bit + 1 <= allocated else stored - 1,
        signed=header.get("PixelRepresentation") == 1,
    )


def _unsigned(path: Path, stream: BufferedReader | BytesIO, layout: Layout) -> tuple[np.ndarray, str]:
    """Read the Pixel Data element that `stream` stands at; return (H, W) or (H, W, C) and the compression."""
    tag, following = stream.read(4), stream.read(4)
    if tag not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        raise refusal(path, "it has no Pixel Data (7FE0,0010), or is cut short before it", "Export it with its image")
    order: Literal["little", "big"] = "little" if tag[0] == 0xE0 else "big"
    # Explicit VR: VR, two zero bytes, length. No implicit length is mistaken for a VR, since lengths are even.
    explicit = following[:2] in (b"OB", b"OW", b"UN")
    length = int.from_bytes(stream.read(4) if explicit else following, order)
    if length == UNDEFINED_LENGTH:
        return _decoded(path, get_frame(stream, 0, number_of_frames=1), layout)
    if layout.photometric_interpretation.startswith("YBR"):
        raise refusal(path, "its pixels are YBR (colour), expected a grey film", "Export it as a grey film")
    expected = layout.count * layout.dtype.itemsize
    raw = np.empty(expected + expected % 2, np.uint8)
    found = min(length, stream.readinto(raw.data))
    if found < expected:
        raise damaged(path, f"it is cut short: its pixels need {expected} bytes, {found} are there")
    if order == "big" and (layout.allocated == 16 or following[:2] == b"OW"):
        raw.view(np.uint16).byteswap(inplace=True)  # OW are words, even where they hold two 8-bit pixels
    return _shaped(raw.view(layout.dtype)[: layout.count], layout, layout.by_plane), "none"


def _decoded(path: Path, frame: bytes, layout: Layout) -> tuple[np.ndarray, str]:
    """Decode an encapsulated frame by what it is, since a header may name another transfer syntax."""
    if frame[4:8] == RLE_FIRST_OFFSET:
        expected = layout.count * layout.dtype.itemsize
        raw = imagecodecs.dicomrle_decode(frame, layout.dtype, out=bytearray(expected))
        if len(raw) != expected:
            raise damaged(path, f"its pixels need {expected} bytes, its RLE data hold {len(raw)}")
        return _shaped(np.frombuffer(raw, layout.dtype), layout, by_plane=True), "rle"
    codestream = read_codestream(frame)
    said = f"{layout.columns} x {layout.rows} pixels of {layout.samples} samples"
    found = f"{codestream.width} x {codestream.height} pixels of {codestream.channels} samples"
    if said != found:
        raise damaged(path, f"its header says {said}, its image data {found}")
    if codestream.bits > layout.allocated:
        raise damaged(path, f"its header says {layout.allocated} bits a pixel, its image data {codestream.bits}")
    if not codestream.whole:
        raise damaged(path, f"it is cut short: its {codestream.codec} stream has no end marker")
    pixels = decode(frame, codestream)
    if codestream.codec == "jpeg" and codestream.bits > layout.stored and not layout.signed:
        np.minimum(pixels, (1 << layout.stored) - 1, out=pixels)  # what a lossy codec adds to white must not wrap round
    return pixels.view(f"u{pixels.dtype.itemsize}"), codestream.codec


def _shaped(pixels: np.ndarray, layout: Layout, by_plane: bool) -> np.ndarray:
    """Return flat pixels as (H, W) or (H, W, C)."""
    if layout.samples == 1:
        return pixels.reshape(layout.rows, layout.columns)
    if by_plane:
        return np.moveaxis(pixels.reshape(layout.samples, layout.rows, layout.columns), 0, -1)
    return pixels.reshape(layout.rows, layout.columns, layout.samples)


def _stored(pixels: np.ndarray, layout: Layout) -> np.ndarray:
    """Keep the bits stored and extend their sign; overwrites `pixels`, which must be unsigned."""
    unused = pixels.dtype.itemsize * 8 - layout.stored
    if layout.high_bit + 1 > layout.stored:
        pixels >>= layout.high_bit + 1 - layout.stored
    if layout.signed:
        pixels = pixels.view(f"i{pixels.dtype.itemsize}")
        if unused > 0:
            pixels <<= unused
            pixels >>= unused
    elif unused > 0:
        pixels &= (1 << layout.stored) - 1
    return pixels
