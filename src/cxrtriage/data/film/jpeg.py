"""A JPEG file in, a grey film out; `source.read_film` calls it.

Taken are baseline, progressive and extended (12-bit) JPEG, lossless JPEG and JPEG-LS, grey or with colours
that are equal but for rounding. An orientation noted in EXIF is not applied.
"""

from pathlib import Path

from cxrtriage.data.film.admission import JPEG_COLOUR_TOLERANCE, check_size, damaged, grey_channel, refusal
from cxrtriage.data.film.codestream import decode, read_codestream
from cxrtriage.records import SourceImage


def read_jpeg(path: Path) -> SourceImage:
    """Read a JPEG file.

    Raises
    ------
    SourceError
        If the file does not hold one whole grey film.
    """
    data = path.read_bytes()
    stream = read_codestream(data)
    check_size(path, stream.width, stream.height)
    if stream.channels not in (1, 3):
        raise refusal(path, f"it has {stream.channels} colour channels (CMYK), expected a grey film", "Save it as grey")
    if not stream.whole:  # libjpeg would fill what is missing with grey
        raise damaged(path, "it is cut short: its JPEG stream has no end marker")
    pixels = grey_channel(path, decode(data, stream), JPEG_COLOUR_TOLERANCE)
    return SourceImage(pixels, stream.bits, provenance={"format": "jpeg", "compression": stream.codec})
