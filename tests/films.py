"""Films built in code for all tests: as arrays, and as files of every format and oddity."""

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

# Public films beside the repository, never in it; tests that need them skip without them.
REAL_FILMS = Path(__file__).resolve().parents[2] / "shared" / "data"


def film_pixels(height: int = 96, width: int = 80, bits: int = 12, seed: int = 0) -> np.ndarray:
    """Return (height, width) uint8 or uint16: two dark lungs in a bright body, with noise, within `bits`."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = 0.8 * np.exp(-((x / 0.9) ** 4))
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 2) - ((y + 0.1) / 0.6) ** 2) for side in (-0.45, 0.45))
    levels = (body - 0.5 * lungs + 0.15 + random.normal(0, 0.01, (height, width))) * (2**bits - 1)
    return levels.clip(0, 2**bits - 1).astype(np.uint8 if bits <= 8 else np.uint16)


def make_dicom(
    path: Path,
    pixels: np.ndarray,
    bits: int = 12,
    photometric_interpretation: str = "MONOCHROME2",
    transfer_syntax: str = ExplicitVRLittleEndian,
    preamble: bool = True,
    **tags: Any,
) -> Path:
    """Write a DX image for presentation; `tags` by keyword add to its header or replace what is in it, None removes.

    Parameters
    ----------
    pixels : (H, W) or (H, W, 3) uint8, uint16, int8 or int16, as they are to be stored
    bits : Bits Stored; 8-bit pixels have 8 at most
    transfer_syntax : native ones, deflated, and each compressed one that `ENCODERS` names
    preamble : without it and the file meta information, the file is a bare data set
    """
    bits = min(bits, pixels.dtype.itemsize * 8)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    meta.TransferSyntaxUID = transfer_syntax
    header = Dataset()
    header.file_meta = meta
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    header.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    header.Modality = "DX"
    header.PresentationIntentType = "FOR PRESENTATION"
    header.PatientName = "Doe^Jane"
    header.PatientID = "P1"
    header.PatientBirthDate = "19700101"
    header.PatientSex = "F"
    header.PatientAge = "054Y"
    header.BodyPartExamined = "CHEST"
    header.ViewPosition = "PA"
    header.ImagerPixelSpacing = [0.143, 0.143]
    header.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        header.PlanarConfiguration = 0
    header.PhotometricInterpretation = photometric_interpretation
    header.Rows, header.Columns = pixels.shape[:2]
    header.BitsAllocated = pixels.dtype.itemsize * 8
    header.BitsStored = bits
    header.HighBit = bits - 1
    header.PixelRepresentation = 1 if pixels.dtype.kind == "i" else 0
    big = transfer_syntax == ExplicitVRBigEndian
    if transfer_syntax in ENCODERS:
        header.PixelData = encapsulate([ENCODERS[transfer_syntax](pixels, bits)])
        header["PixelData"].is_undefined_length = True
    else:
        header.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    header["PixelData"].VR = "OW" if transfer_syntax not in ENCODERS and header.BitsAllocated > 8 else "OB"
    for keyword, value in tags.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    if preamble:
        header.save_as(path, enforce_file_format=True)
    else:
        del header.file_meta
        header.save_as(path, implicit_vr=transfer_syntax == ImplicitVRLittleEndian, little_endian=not big)
    return path


def _unsigned(pixels: np.ndarray, bits: int) -> np.ndarray:
    return pixels.view(f"u{pixels.dtype.itemsize}") & ((1 << bits) - 1)


def _lossless_jpeg(predictor: int) -> Any:
    def encode(pixels: np.ndarray, bits: int) -> bytes:
        return imagecodecs.jpeg8_encode(_unsigned(pixels, bits), lossless=True, predictor=predictor, bitspersample=bits)

    return encode


def _jpeg2000(reversible: bool) -> Any:
    def encode(pixels: np.ndarray, bits: int) -> bytes:
        return imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=reversible, bitspersample=bits)

    return encode


def _rle(pixels: np.ndarray, bits: int) -> bytes:
    return RLELosslessEncoder.encode(
        pixels,
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1 if pixels.ndim == 2 else 3,
        planar_configuration=0,
        bits_allocated=pixels.dtype.itemsize * 8,
        bits_stored=pixels.dtype.itemsize * 8,  # whatever lies above the stored bits is to survive
        pixel_representation=1 if pixels.dtype.kind == "i" else 0,
        photometric_interpretation="MONOCHROME2" if pixels.ndim == 2 else "RGB",
        number_of_frames=1,
    )


ENCODERS = {
    **dict.fromkeys(
        (JPEGBaseline8Bit, JPEGExtended12Bit),
        lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=bits),
    ),
    JPEGLossless: _lossless_jpeg(predictor=6),
    JPEGLosslessSV1: _lossless_jpeg(predictor=1),
    JPEGLSLossless: lambda pixels, bits: imagecodecs.jpegls_encode(_unsigned(pixels, bits)),
    JPEGLSNearLossless: lambda pixels, bits: imagecodecs.jpegls_encode(_unsigned(pixels, bits), level=2),
    JPEG2000Lossless: _jpeg2000(reversible=True),
    JPEG2000: _jpeg2000(reversible=False),
    HTJ2KLossless: lambda pixels, bits: imagecodecs.htj2k_encode(pixels, reversible=True),
    HTJ2K: lambda pixels, bits: imagecodecs.htj2k_encode(pixels, reversible=False),
    RLELossless: _rle,
}


def write_tiff(path: Path, pixels: np.ndarray, photometric: str = "minisblack", **options: Any) -> Path:
    """Write a TIFF; `options` are tifffile's: compression, rowsperstrip, tile, byteorder, bigtiff, predictor, ..."""
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, **options)
    return path


def write_png(path: Path, pixels: np.ndarray) -> Path:
    """Write (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) uint8 or uint16 as PNG."""
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    return path


def write_jpeg(path: Path, pixels: np.ndarray, level: int = 95) -> Path:
    """Write (H, W) or (H, W, 3) uint8 as baseline JPEG."""
    path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=level))
    return path


def png_of(width: int, height: int, bits: int, colour_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG put together by hand, where encoders refuse: odd depths, palettes, lies about the size."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def tiff_of(width: int, height: int, **tags: int) -> bytes:
    """Return a TIFF of a few bytes that claims any size: a decompression bomb, or a strip that is not there."""
    entries = {
        256: width, 257: height, 258: tags.get("bits", 16), 259: tags.get("compression", 8), 262: 1, 273: 8,
        277: tags.get("samples", 1), 278: tags.get("rows", height), 279: tags.get("bytes", 64),
    }  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return (
        b"II*\x00" + struct.pack("<I", 72) + zlib.compress(b"\0" * 10_000).ljust(64, b"\0")
        + struct.pack("<H", len(entries)) + directory + b"\0" * 4
    )  # fmt: skip
