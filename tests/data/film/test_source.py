import gzip
import io
import itertools
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from cxrtriage.data.film import source
from cxrtriage.data.film.source import find_films, read_film
from cxrtriage.errors import SourceError
from cxrtriage.records import SourceImage
from films import REAL_FILMS, film_pixels, make_dicom, tiff_of, write_jpeg, write_png, write_tiff


def refused(path: Path) -> str:
    """Return the message with which `path` is refused, after checking what every message has."""
    with pytest.raises(SourceError) as error:
        read_film(path)
    message = str(error.value)
    assert message.startswith(f"cannot read {path}: ")
    assert message.endswith(".")
    assert message.count(". ") == 1, "what was found. What to do."
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".dcm", ".txt", ""])
@pytest.mark.parametrize("film_format", ["tiff", "png", "jpeg", "dicom"])
def test_a_film_is_known_by_its_content_whatever_its_name(tmp_path: Path, film_format: str, suffix: str) -> None:
    write = {"tiff": write_tiff, "png": write_png, "jpeg": write_jpeg, "dicom": make_dicom}[film_format]
    path = write(tmp_path / f"film{suffix}", film_pixels(bits=8))
    film = read_film(path)
    assert film.provenance["format"] == film_format
    assert film.provenance["path"] == str(path)
    assert film.provenance["file_bytes"] == path.stat().st_size
    assert film.pixels.flags.writeable


def test_a_path_may_be_given_as_text(tmp_path: Path) -> None:
    assert read_film(str(write_png(tmp_path / "a.png", film_pixels()))).bits == 16  # type: ignore[arg-type]


def test_what_is_no_film_is_named(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.fromarray(film_pixels(bits=8)).save(png, "PNG")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("film.png", png.getvalue())
    bmp, gif = io.BytesIO(), io.BytesIO()
    Image.fromarray(film_pixels(bits=8)).save(bmp, "BMP")
    Image.fromarray(film_pixels(bits=8)).save(gif, "GIF")
    for content, finding, remedy in [
        (b"", "empty", "Copy it again"),
        (b"patient,label\n1,0\n", "holds text", "Leave it out"),
        ("Größe: 12\n".encode(), "holds text", "Leave it out"),
        (gzip.compress(png.getvalue()), "gzip", "gunzip"),
        (archive.getvalue(), "ZIP", "Unpack"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF", "Export the film itself"),
        (bmp.getvalue(), "BMP", "TIFF or PNG"),
        (gif.getvalue(), "GIF", "TIFF or PNG"),
        (bytes(1000), "starts with the bytes 00 00 00 00", "Export it again"),
    ]:
        path = tmp_path / "film.dcm"
        path.write_bytes(content)
        message = refused(path)
        assert finding in message
        assert remedy in message


def test_missing_folder_and_device_are_named(tmp_path: Path) -> None:
    assert "there is no such file" in refused(tmp_path / "none.png")
    assert "it is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert "it is a device or pipe" in refused(tmp_path / "pipe.dcm")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    assert "there is no such file" in refused(tmp_path / "link.png")
    assert "the system cannot open it" in refused(tmp_path / ("n" * 300))
    assert "the system cannot open it" in refused(Path("nul\0.png"))


@pytest.mark.parametrize(
    ("error", "finding"),
    [(PermissionError(13, "Permission denied"), "permission is denied"), (OSError(5, "Input/output error"), "output")],
)
def test_what_the_system_denies_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, finding: str
) -> None:
    path = write_png(tmp_path / "a.png", film_pixels())

    def deny(*_: object, **__: object) -> None:  # root may read everything, so mode bits would not do
        raise error

    monkeypatch.setattr(Path, "open", deny)
    assert finding in refused(path)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("two\nlines"), RecursionError("deep"), KeyError(7)])
def test_whatever_a_decoder_raises_becomes_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def stumble(*_: object) -> None:
        raise error

    monkeypatch.setattr(source, "_decode", stumble)
    message = refused(write_png(tmp_path / "a.png", film_pixels()))
    assert ("memory" in message) == isinstance(error, MemoryError)


def test_a_file_larger_than_any_film_is_not_opened(tmp_path: Path) -> None:
    path = write_png(tmp_path / "huge.png", film_pixels())
    with path.open("r+b") as file:
        file.truncate(2 << 30)  # sparse: takes no room on the disk
    assert "it has 2.0 GiB" in refused(path)


def test_a_blank_film_is_refused_but_not_one_with_a_single_other_pixel(tmp_path: Path) -> None:
    pixels = np.full((200, 200), 7, np.uint16)
    assert "every pixel has the value 7" in refused(write_tiff(tmp_path / "blank.tif", pixels))
    pixels[131, 77] = 8
    assert read_film(write_tiff(tmp_path / "dot.tif", pixels)).pixels.max() == 8


@pytest.mark.parametrize(
    ("width", "height", "finding"),
    [
        (3000, 1, "3000 x 1 pixels"),
        (31, 40, "at least 32"),
        (400, 50, "4 times"),
        (60_000, 60_000, "more than the 100 million"),
    ],
)
def test_sizes_that_no_film_has_are_refused_from_the_header(
    tmp_path: Path, width: int, height: int, finding: str
) -> None:
    path = tmp_path / "film.tif"
    path.write_bytes(tiff_of(width, height))
    assert finding in refused(path)


def test_importing_the_reader_loads_no_decoder_and_never_torch() -> None:
    heavy = "('torch', 'pydicom', 'tifffile')"
    code = f"import sys, cxrtriage.data.film.source; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def damage(data: bytes, random_: random.Random) -> bytes:
    """Cut, remove, insert, blank or flip some bytes, mostly in the header."""
    changed = bytearray(data)
    at = random_.randrange(random_.choice([64, 400, 1200, len(data)])) % len(data)
    match random_.randrange(8):
        case 0:
            del changed[at:]
        case 1:
            del changed[at : at + random_.randrange(1, 64)]
        case 2:
            changed[at:at] = random_.randbytes(random_.randrange(1, 32))
        case 3:
            changed[at : at + 100] = bytes(len(changed[at : at + 100]))
        case _:
            for _ in range(random_.choice([1, 2, 8])):
                changed[min(at + random_.randrange(64), len(changed) - 1)] = random_.choice([0, 127, 128, 255])
    return bytes(changed)


def test_damaged_films_are_read_or_refused_and_never_crash(tmp_path: Path) -> None:
    pixels = film_pixels(bits=12)
    films = [
        write_tiff(tmp_path / "raw.tif", pixels),
        write_tiff(tmp_path / "lzw.tif", pixels, compression="lzw", rowsperstrip=16),
        write_tiff(tmp_path / "tiles.tif", pixels, compression="zlib", tile=(32, 32), byteorder=">"),
        write_tiff(tmp_path / "jpeg.tif", film_pixels(bits=8), compression="jpeg"),
        write_png(tmp_path / "film.png", pixels),
        write_jpeg(tmp_path / "film.jpg", film_pixels(bits=8)),
        make_dicom(tmp_path / "raw.dcm", pixels),
        make_dicom(tmp_path / "bare.dcm", pixels, preamble=False),
        *(
            make_dicom(tmp_path / f"{syntax}.dcm", pixels, transfer_syntax=syntax)
            for syntax in (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless)
        ),
    ]
    originals = [film.read_bytes() for film in films]
    path = tmp_path / "damaged"
    for seed, original in zip(range(1200), itertools.cycle(originals), strict=False):
        path.write_bytes(damage(original, random.Random(seed)))
        try:
            outcome: SourceImage | SourceError = read_film(path)
        except SourceError as error:
            outcome = error
        assert isinstance(outcome, SourceImage) or str(outcome).startswith(f"cannot read {path}: "), seed


def test_films_are_found_in_folders_and_nothing_else(tmp_path: Path) -> None:
    pixels = film_pixels()
    (tmp_path / "b" / ".cache").mkdir(parents=True)
    films = [
        make_dicom(tmp_path / "IM000001", pixels),
        make_dicom(tmp_path / "bare", pixels, preamble=False),
        write_tiff(tmp_path / "b" / "a.TIF", pixels),
        write_png(tmp_path / "b" / "picture.data", pixels),
    ]
    (tmp_path / "b" / "damaged.png").write_bytes(b"")  # the user is to hear of it
    (tmp_path / "b" / "packed.dcm.gz").write_bytes(gzip.compress(films[0].read_bytes()))
    make_dicom(tmp_path / "DICOMDIR", pixels)
    write_png(tmp_path / ".hidden.png", pixels)
    write_png(tmp_path / "b" / ".cache" / "thumb.png", pixels)
    for name in ("labels.csv", "notes.txt", "meta.json", "report.html", "README", "table.parquet"):
        (tmp_path / name).write_bytes(b"PAR1 path,label")
    (tmp_path / "b" / "up").symlink_to(tmp_path)  # a loop
    expected = sorted([*films, tmp_path / "b" / "damaged.png", tmp_path / "b" / "packed.dcm.gz"])
    assert find_films([tmp_path]) == expected
    (tmp_path / "b" / "up").unlink()
    assert find_films([tmp_path / "b", tmp_path, films[0], films[0]]) == expected


def test_a_file_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("path,label\n")
    assert find_films([path]) == [path]


def test_films_are_found_behind_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "study").mkdir()
    write_png(tmp_path / "disk" / "a.png", film_pixels())
    (tmp_path / "study" / "images").symlink_to(tmp_path / "disk")
    assert find_films([tmp_path / "study"]) == [tmp_path / "study" / "images" / "a.png"]


def test_a_missing_or_closed_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        find_films([tmp_path / "none"])

    def deny(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(SourceError, match=r"cannot be listed \(Permission denied\)"):
        find_films([tmp_path])


@pytest.mark.parametrize("folder", ["nih", "nih128", "shenzhen", "guangzhou"])
def test_real_films_are_read_as_pillow_reads_them(folder: str) -> None:
    if not (REAL_FILMS / folder).is_dir():
        pytest.skip(f"the real films of {folder} are not here")
    for path in find_films([REAL_FILMS / folder])[::200]:
        with Image.open(path) as image:
            expected = np.asarray(image.convert("L"))
        np.testing.assert_array_equal(read_film(path).pixels, expected)
