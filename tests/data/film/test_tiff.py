import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cxrtriage.data.film.source import read_film
from cxrtriage.data.film.tiff import read_tiff
from cxrtriage.errors import SourceError
from films import film_pixels, tiff_of, write_tiff

COMPRESSIONS = {None: "none", "lzw": "lzw", "zlib": "deflate", "packbits": "packbits"}
LAYOUTS: list[dict[str, Any]] = [{}, {"rowsperstrip": 16}, {"tile": (32, 48)}]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_every_kind_of_tiff_gives_the_grey_levels_as_stored(
    tmp_path: Path, byteorder: str, bigtiff: bool, dtype: str
) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    pixels = film_pixels(bits=bits)
    if dtype.startswith("int"):
        pixels = (pixels.astype(int) - (1 << (bits - 1))).astype(dtype)
    for compression, layout, predictor in itertools.product(COMPRESSIONS, LAYOUTS, [False, True]):
        if predictor and compression in (None, "packbits"):
            continue
        options = {"compression": compression, "predictor": predictor, "byteorder": byteorder, "bigtiff": bigtiff}
        path = write_tiff(tmp_path / "a.tif", pixels, **layout, **options)
        np.testing.assert_array_equal(read_tiff(path, mapped=True).pixels, pixels)
        film = read_tiff(path)
        assert film.pixels.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(film.pixels, pixels)
        assert film.bits == bits
        assert film.provenance == {"format": "tiff", "compression": COMPRESSIONS[compression]}
        assert film.pixels.flags.writeable


@pytest.mark.parametrize(
    ("options", "stays"), [({}, True), ({"compression": "zlib"}, False), ({"tile": (32, 48)}, False)]
)
def test_only_the_pixels_of_a_raw_film_are_left_in_the_file(
    tmp_path: Path, options: dict[str, Any], stays: bool
) -> None:
    pixels = read_tiff(write_tiff(tmp_path / "a.tif", film_pixels(), **options), mapped=True).pixels
    assert isinstance(pixels.base, np.memmap) == stays
    assert pixels.flags.writeable != stays


def test_jpeg_inside_tiff_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    grey = film_pixels(bits=8)
    for photometric, pixels in (("minisblack", grey), ("rgb", np.stack([grey] * 3, axis=-1))):
        for layout in LAYOUTS[:2]:
            path = write_tiff(tmp_path / "a.tif", pixels, photometric, compression="jpeg", **layout)
            with Image.open(path) as image:
                np.testing.assert_array_equal(read_tiff(path).pixels, np.asarray(image.convert("L")))


def test_pillows_own_files_are_read(tmp_path: Path) -> None:
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        for bits in (8, 16):
            if compression == "jpeg" and bits == 16:
                continue
            Image.fromarray(film_pixels(bits=bits)).save(tmp_path / "a.tif", compression=compression)
            with Image.open(tmp_path / "a.tif") as image:
                np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif").pixels, np.asarray(image))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
@pytest.mark.parametrize("mapped", [False, True])
def test_min_is_white_is_turned_round(tmp_path: Path, dtype: str, compression: str | None, mapped: bool) -> None:
    limits = np.iinfo(dtype)
    pixels = film_pixels(bits=limits.bits).view(dtype)
    film = read_tiff(write_tiff(tmp_path / "a.tif", pixels, "miniswhite", compression=compression), mapped=mapped)
    assert film.polarity_inverted
    np.testing.assert_array_equal(film.pixels.astype(int), limits.max + limits.min - pixels.astype(int))


def test_12_bits_in_12_bits_and_4_in_4_are_unpacked(tmp_path: Path) -> None:
    for bits in (4, 12):
        pixels = film_pixels(bits=bits)
        path = write_tiff(tmp_path / "a.tif", pixels, "miniswhite", bitspersample=bits)
        film = read_tiff(path)
        assert film.bits == bits
        np.testing.assert_array_equal(film.pixels, (1 << bits) - 1 - pixels)


def test_colours_and_palettes_are_taken_only_if_grey(tmp_path: Path) -> None:
    grey = film_pixels(bits=8)
    rgb = np.stack([grey] * 3, axis=-1)
    ramp = np.arange(256, dtype=np.uint16) * 257
    for compression in (None, "lzw", "zlib"):
        options = {"compression": compression}
        np.testing.assert_array_equal(read_tiff(write_tiff(tmp_path / "a.tif", rgb, "rgb", **options)).pixels, grey)
        planes = np.moveaxis(rgb, -1, 0)
        path = write_tiff(tmp_path / "b.tif", planes, "rgb", planarconfig="separate", **options)
        np.testing.assert_array_equal(read_tiff(path).pixels, grey)
        with_alpha = np.stack([grey, np.full_like(grey, 255)], axis=-1)
        path = write_tiff(tmp_path / "c.tif", with_alpha, extrasamples=["unassalpha"], **options)
        np.testing.assert_array_equal(read_tiff(path).pixels, grey)
        path = write_tiff(tmp_path / "d.tif", grey, "palette", colormap=np.stack([ramp] * 3), **options)
        film = read_tiff(path)
        assert film.bits == 16
        np.testing.assert_array_equal(film.pixels, grey.astype(np.uint16) * 257)
        path = write_tiff(tmp_path / "e.tif", grey, "palette", colormap=np.stack([ramp, ramp, ramp // 2]), **options)
        with pytest.raises(SourceError, match="colour"):
            read_tiff(path)
        rgb[40, 40, 0] ^= 8
        with pytest.raises(SourceError, match=r"differ by up to 8 levels \(colour\)"):
            read_tiff(write_tiff(tmp_path / "f.tif", rgb, "rgb", **options))
        rgb[40, 40, 0] ^= 8


@pytest.mark.parametrize(
    ("pixels", "finding"),
    [
        (film_pixels().astype(np.float32), "32-bit floating point"),
        (film_pixels().astype(np.uint32), "32-bit integer"),
        (film_pixels() > 2000, "1-bit integer"),
    ],
)
def test_pixels_that_are_no_grey_levels_are_refused(tmp_path: Path, pixels: np.ndarray, finding: str) -> None:
    with pytest.raises(SourceError, match=f"its pixels are {finding}, expected 8- or 16-bit integer"):
        read_tiff(write_tiff(tmp_path / "a.tif", pixels))


def test_other_codecs_and_colour_spaces_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"compression ZSTD is not read. Save it"):
        read_tiff(write_tiff(tmp_path / "a.tif", film_pixels(), compression="zstd"))
    inks = np.stack([film_pixels(bits=8)] * 4, axis=-1)
    with pytest.raises(SourceError, match="its pixels are SEPARATED, expected a grey film"):
        read_tiff(write_tiff(tmp_path / "b.tif", inks, "separated"))


def test_several_pages_are_refused_but_not_a_preview(tmp_path: Path) -> None:
    pixels = film_pixels()
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(pixels, metadata=None)
        tiff.write(pixels[::2, ::2], metadata=None, subfiletype=1)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif").pixels, pixels)
    with tifffile.TiffWriter(tmp_path / "b.tif") as tiff:
        tiff.write(pixels, metadata=None)
        tiff.write(pixels[::-1], metadata=None)
    with pytest.raises(SourceError, match="holds several pages"):
        read_tiff(tmp_path / "b.tif")


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "jpeg"])
def test_every_cut_is_noticed(tmp_path: Path, compression: str | None) -> None:
    pixels = film_pixels(bits=8 if compression == "jpeg" else 16)
    for layout in ({"rowsperstrip": 16}, {"tile": (32, 32)}):
        whole = write_tiff(tmp_path / "a.tif", pixels, compression=compression, **layout).read_bytes()
        for length in (*range(4, len(whole), len(whole) // 23), len(whole) - 1):
            (tmp_path / "cut.tif").write_bytes(whole[:length])
            with pytest.raises(SourceError):
                read_film(tmp_path / "cut.tif")


def test_missing_strips_are_not_filled_in(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of(64, 64, compression=1, bytes=0))
    with pytest.raises(SourceError, match="some of its 1 strips or tiles are missing"):
        read_tiff(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(tiff_of(64, 64, rows=8))
    with pytest.raises(SourceError, match="some of its 8 strips or tiles are missing"):
        read_tiff(tmp_path / "b.tif")


@pytest.mark.parametrize("compression", [8, 32946])  # deflate's old and new number
def test_a_strip_that_unpacks_to_too_little_is_noticed(tmp_path: Path, compression: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of(100, 100, compression=compression))  # holds 10,000 bytes, needs 20,000
    with pytest.raises(SourceError, match="damaged"):
        read_film(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits"])
def test_a_strip_of_too_few_bytes_is_noticed(tmp_path: Path, compression: str) -> None:
    path = write_tiff(tmp_path / "a.tif", film_pixels(bits=16), compression=compression)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        place, count = page.tags["StripByteCounts"].valueoffset, page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[place : place + 4] = (count // 2).to_bytes(4, "little")  # the file is whole, the strip says it is shorter
    path.write_bytes(data)
    with pytest.raises(SourceError):
        read_film(path)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of(60_000, 60_000))
    with pytest.raises(SourceError, match="60000 x 60000 pixels"):
        read_tiff(tmp_path / "a.tif")
    data = bytearray(write_tiff(tmp_path / "b.tif", film_pixels(bits=8), compression="jpeg").read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (60_000).to_bytes(2) * 2  # the film is small, its strip claims to be huge
    (tmp_path / "b.tif").write_bytes(data)
    with pytest.raises(SourceError, match="claims 60000 x 60000 pixels"):
        read_tiff(tmp_path / "b.tif")


def test_oddities_that_tifffile_logs_are_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = write_tiff(tmp_path / "a.tif", film_pixels()).read_bytes()
    for position in range(8, 200):
        (tmp_path / "b.tif").write_bytes(data[:position] + b"\xff" + data[position + 1 :])
        try:
            read_film(tmp_path / "b.tif")
        except SourceError:
            continue
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
