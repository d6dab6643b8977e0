"""A PNG file in, a grey film out; `source.read_film` calls it.

Taken are grey films of 2, 4, 8 and 16 bits, and palette, RGB and RGBA ones whose colours are equal.
"""

from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from cxrtriage.data.film.admission import check_size, damaged, grey_channel, refusal
from cxrtriage.records import SourceImage

GREY, PALETTE = 0, 3  # colour types, PNG specification 11.2.1


def read_png(path: Path) -> SourceImage:
    """Read a PNG file.

    Raises
    ------
    SourceError
        If the file does not hold one whole grey film of 2 to 16 bits.
    """
    data = path.read_bytes()
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise damaged(path, "it ends within its PNG header")
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    bits, colour_type = data[24], data[25]
    check_size(path, width, height)
    if bits == 1 and colour_type == GREY:
        raise refusal(
            path, "its pixels have 1 bit, black or white, expected a grey film", "Export it with 8 or 16 bits"
        )
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        image.load()  # Pillow notices all damage; imagecodecs alone loses a reference to None whenever it does
        if bits == 16 and colour_type != GREY:
            pixels = imagecodecs.png_decode(data)  # Pillow would halve the depth of colours
        else:
            pixels = np.array(image.convert("RGB") if colour_type == PALETTE else image)
    pixels = grey_channel(path, pixels)
    if colour_type == GREY and bits < 8:
        pixels //= 255 // ((1 << bits) - 1)  # Pillow spreads 2 and 4 bits over 0-255; back to the levels as stored
    elif colour_type == PALETTE:
        bits = 8  # of the palette's colours, whatever the indices into it have
    return SourceImage(pixels, bits, provenance={"format": "png", "compression": "deflate"})
