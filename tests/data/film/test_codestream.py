import imagecodecs
import numpy as np
import pytest

from cxrtriage.data.film.codestream import Codestream, decode, read_codestream
from films import film_pixels


@pytest.mark.parametrize(
    ("codec", "bits", "encode"),
    [
        ("jpeg", 8, lambda pixels: imagecodecs.jpeg8_encode(pixels, level=99)),
        ("jpeg", 12, lambda pixels: imagecodecs.jpeg8_encode(pixels, level=99, bitspersample=12)),
        ("jpeg-lossless", 12, lambda pixels: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12)),
        ("jpeg-ls", 16, imagecodecs.jpegls_encode),
        ("jpeg2000", 12, lambda p: imagecodecs.jpeg2k_encode(p, codecformat="j2k", reversible=True, bitspersample=12)),
        ("jpeg2000", 12, lambda p: imagecodecs.jpeg2k_encode(p, codecformat="jp2", reversible=True, bitspersample=12)),
        ("jpeg2000", 16, lambda pixels: imagecodecs.htj2k_encode(pixels, reversible=True)),
    ],
)
def test_the_header_tells_codec_size_and_precision_before_decoding(codec: str, bits: int, encode: object) -> None:
    pixels = film_pixels(height=70, width=50, bits=min(bits, 12))
    data = encode(pixels)  # type: ignore[operator]
    stream = read_codestream(data)
    assert stream == Codestream(codec, width=50, height=70, channels=1, bits=bits, whole=True)
    tolerance = 30 if codec == "jpeg" else 0
    np.testing.assert_allclose(decode(data, stream).astype(int), pixels, atol=tolerance)


def test_a_thumbnail_in_the_header_is_not_taken_for_the_film() -> None:
    thumbnail = imagecodecs.jpeg8_encode(film_pixels(32, 32, bits=8))
    film = imagecodecs.jpeg8_encode(film_pixels(70, 50, bits=8))
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    with_thumbnail = film[:2] + exif + film[2:]
    assert read_codestream(with_thumbnail) == Codestream("jpeg", width=50, height=70, channels=1, bits=8, whole=True)
    assert not read_codestream(with_thumbnail[:-2]).whole, "the thumbnail's end marker does not count"


def test_what_is_no_codestream_is_refused() -> None:
    starts = (b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\xff\x4f\xff\x51\x00", b"\xff\xd8\x00" * 9)
    for data in (b"", b"plain text", *starts):
        with pytest.raises(ValueError, match="stream"):
            read_codestream(data)
