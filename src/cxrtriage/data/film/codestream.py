"""What a compressed pixel stream says of itself: its codec and its size, read without decoding it.

In come the bytes of a JPEG file, a strip of a TIFF or a frame of a DICOM object; `jpeg`, `tiff` and `dicom`
compare what goes out with their own limits and headers, since a decoder allocates whatever the stream
claims, and choose the decoder by it, since a file's own label of its codec can be wrong.
"""

from dataclasses import dataclass

import imagecodecs
import numpy as np

END_OF_IMAGE = b"\xff\xd9"  # also JPEG 2000's end of codestream; cannot occur inside the coded data

# Start-of-frame markers, ITU-T T.81 table B.1 and T.87: the codec that each announces
START_OF_FRAME = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC9, 0xCA), "jpeg"),
    **dict.fromkeys((0xC3, 0xCB), "jpeg-lossless"),
    0xF7: "jpeg-ls",
}
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}  # markers that stand alone


@dataclass(frozen=True, slots=True)
class Codestream:
    """The header of a compressed pixel stream.

    Parameters
    ----------
    codec : "jpeg" (baseline, extended or progressive), "jpeg-lossless", "jpeg-ls" or "jpeg2000" (and HTJ2K)
    width, height : in pixels
    channels : samples of a pixel
    bits : precision of a sample, 2-16 (JPEG 2000: up to 38)
    whole : whether the stream has its end marker
    """

    codec: str
    width: int
    height: int
    channels: int
    bits: int
    whole: bool


def read_codestream(data: bytes) -> Codestream:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 stream.

    Raises
    ------
    ValueError
        If `data` is none of them, or ends within its header.
    """
    if data.startswith(b"\xff\xd8"):
        return _read_jpeg(data)
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # some writers wrap it in a JP2 file
    if start >= 0:
        return _read_jpeg2000(data, start)
    raise ValueError(f"no JPEG, JPEG-LS or JPEG 2000 stream, but bytes that start with {data[:4].hex(' ')}")


def decode(data: bytes, stream: Codestream) -> np.ndarray:
    """Decode a whole stream to (H, W) or (H, W, C) uint8 or uint16 (int8 or int16: signed JPEG 2000).

    Raises
    ------
    Exception
        Whatever the decoder finds wrong, or ValueError if the image is not of the size its header says.
    """
    if stream.codec == "jpeg-ls":
        pixels = np.asarray(imagecodecs.jpegls_decode(data))
    elif stream.codec == "jpeg2000":
        pixels = np.asarray(imagecodecs.jpeg2k_decode(data))
    else:
        pixels = np.asarray(imagecodecs.jpeg8_decode(data))  # 8 and 12 bits lossy, 2 to 16 bits lossless
    if pixels.shape[:2] != (stream.height, stream.width):
        raise ValueError(f"its {stream.codec} stream holds an image of shape {pixels.shape}")
    return pixels


def _read_jpeg(data: bytes) -> Codestream:
    """Walk the marker segments up to the frame header: ITU-T T.81 B.1.1."""
    position = 2
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"its JPEG stream has no marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in START_OF_FRAME:
            bits = data[position + 4]
            height, width = _integers(data, position + 5, 2, 2)
            channels, whole = data[position + 9], data.rfind(END_OF_IMAGE, position) > 0
            return Codestream(START_OF_FRAME[marker], width, height, channels, bits, whole)
        elif marker in WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise ValueError("its JPEG stream ends within its header")


def _read_jpeg2000(data: bytes, start: int) -> Codestream:
    """Read the SIZ segment: ITU-T T.800 A.5.1."""
    if len(data) < start + 43:
        raise ValueError("its JPEG 2000 stream ends within its header")
    right, bottom, left, top = _integers(data, start + 8, 4, 4)
    (channels,) = _integers(data, start + 40, 2, 1)
    bits, whole = (data[start + 42] & 0x7F) + 1, data.rfind(END_OF_IMAGE, start) > 0
    return Codestream("jpeg2000", right - left, bottom - top, channels, bits, whole)


def _integers(data: bytes, position: int, size: int, count: int) -> list[int]:
    """Read `count` big-endian unsigned integers of `size` bytes."""
    return [int.from_bytes(data[p : p + size]) for p in range(position, position + size * count, size)]
