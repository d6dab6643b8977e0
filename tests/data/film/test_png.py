import contextlib
import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrtriage.data.film.png import read_png
from cxrtriage.data.film.source import read_film
from cxrtriage.errors import SourceError
from films import film_pixels, png_of, write_png


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_levels_come_back_as_stored(tmp_path: Path, bits: int) -> None:
    pixels = film_pixels(bits=bits)
    film = read_png(write_png(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(film.pixels, pixels)
    assert film.pixels.dtype == pixels.dtype
    assert film.bits == bits
    assert film.provenance == {"format": "png", "compression": "deflate"}
    assert not film.polarity_inverted


def test_pillow_reads_the_same(tmp_path: Path) -> None:
    for mode in ("L", "I;16", "RGB", "RGBA", "LA", "P"):
        picture = Image.fromarray(film_pixels(bits=16 if mode == "I;16" else 8))
        picture.convert(mode).save(tmp_path / "a.png") if mode != "I;16" else picture.save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            expected = np.asarray(image if mode == "I;16" else image.convert("L"))
        np.testing.assert_array_equal(read_png(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_unpacked_to_their_levels(tmp_path: Path, bits: int) -> None:
    levels = np.arange(64).reshape(1, 64).repeat(40, axis=0) % (1 << bits)
    packed = np.packbits((levels[..., None] >> np.arange(bits)[::-1]) & 1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed.reshape(40, 64 * bits // 8))
    (tmp_path / "a.png").write_bytes(png_of(64, 40, bits, 0, rows))
    film = read_png(tmp_path / "a.png")
    np.testing.assert_array_equal(film.pixels, levels)
    assert film.bits == bits


def test_a_bilevel_picture_is_no_film(tmp_path: Path) -> None:
    Image.fromarray(film_pixels(bits=8) > 100).save(tmp_path / "mask.png")
    with pytest.raises(SourceError, match="1 bit, black or white"):
        read_png(tmp_path / "mask.png")


def test_colours_are_taken_only_if_they_are_equal(tmp_path: Path) -> None:
    grey = film_pixels(bits=16)
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 65535)], axis=-1)
    np.testing.assert_array_equal(read_png(write_png(tmp_path / "a.png", rgba)).pixels, grey)
    np.testing.assert_array_equal(read_png(write_png(tmp_path / "a.png", rgba[..., [0, 3]])).pixels, grey)
    rgba[3, 5, 2] ^= 1
    with pytest.raises(SourceError, match=r"channels differ by up to 1 levels \(colour\)"):
        read_png(write_png(tmp_path / "b.png", rgba))
    palette = bytes([200, 0, 0, 0, 200, 0])
    (tmp_path / "c.png").write_bytes(png_of(32, 32, 1, 3, (b"\0" + b"\x55" * 4) * 32, (b"PLTE", palette)))
    with pytest.raises(SourceError, match="colour"):
        read_png(tmp_path / "c.png")


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of(60_000, 60_000, 16, 0, bytes(1000)))
    with pytest.raises(SourceError, match="60000 x 60000 pixels"):
        read_png(tmp_path / "bomb.png")


def test_damage_costs_no_reference_to_none(tmp_path: Path) -> None:
    """Before Python 3.12 the interpreter aborts once they are used up, which a folder of damaged films could do."""
    whole = write_png(tmp_path / "a.png", film_pixels()).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-2000] + bytes(1000) + whole[-1000:])
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(500):
        with contextlib.suppress(SourceError):
            read_film(tmp_path / "a.png")
    gc.collect()
    assert sys.getrefcount(None) > before - 400


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = write_png(tmp_path / "a.png", film_pixels()).read_bytes()
    for length in range(8, len(whole) - 16, 97):  # the last 12 bytes, IEND, hold no pixels
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(SourceError):
            read_film(tmp_path / "cut.png")
