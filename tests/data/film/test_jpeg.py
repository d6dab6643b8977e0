from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cxrtriage.data.film.jpeg import read_jpeg
from cxrtriage.errors import SourceError
from films import film_pixels, write_jpeg


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"optimize": True}])
def test_pillow_reads_the_same(tmp_path: Path, options: dict[str, object]) -> None:
    for mode in ("L", "RGB"):
        Image.fromarray(film_pixels(bits=8)).convert(mode).save(tmp_path / "a.jpg", **options)
        film = read_jpeg(tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as image:
            np.testing.assert_array_equal(film.pixels, np.asarray(image.convert("L")))
        assert (film.bits, film.pixels.dtype) == (8, np.uint8)
        assert film.provenance == {"format": "jpeg", "compression": "jpeg"}


def test_lossless_and_12_bit_jpeg_are_read(tmp_path: Path) -> None:
    pixels = film_pixels(bits=12)
    (tmp_path / "lossless.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12))
    film = read_jpeg(tmp_path / "lossless.jpg")
    np.testing.assert_array_equal(film.pixels, pixels)
    assert film.bits == 12
    (tmp_path / "lossy.jpg").write_bytes(imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12))
    np.testing.assert_allclose(read_jpeg(tmp_path / "lossy.jpg").pixels.astype(int), pixels, atol=16)


def test_a_tint_within_rounding_is_taken_and_colour_refused(tmp_path: Path) -> None:
    grey = film_pixels(bits=8)
    tinted = np.stack([grey, grey, np.minimum(grey, 252) + 3], axis=-1)
    film = read_jpeg(write_jpeg(tmp_path / "tint.jpg", tinted, level=100))
    np.testing.assert_allclose(film.pixels.astype(int), grey, atol=2)
    tinted[..., 2] = np.minimum(grey, 215) + 40
    with pytest.raises(SourceError, match=r"channels differ by up to \d+ levels \(colour\)"):
        read_jpeg(write_jpeg(tmp_path / "blue.jpg", tinted))
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "cmyk.jpg")
    with pytest.raises(SourceError, match="colour"):
        read_jpeg(tmp_path / "cmyk.jpg")


def test_a_cut_film_is_refused_although_libjpeg_would_fill_it_with_grey(tmp_path: Path) -> None:
    whole = write_jpeg(tmp_path / "a.jpg", film_pixels(bits=8)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="cut short"):
        read_jpeg(tmp_path / "cut.jpg")


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    data = bytearray(write_jpeg(tmp_path / "a.jpg", film_pixels(bits=8)).read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (60_000).to_bytes(2) * 2
    (tmp_path / "bomb.jpg").write_bytes(data)
    with pytest.raises(SourceError, match="60000 x 60000 pixels"):
        read_jpeg(tmp_path / "bomb.jpg")
