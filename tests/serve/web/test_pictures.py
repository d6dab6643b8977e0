"""Films as browsers show them."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrtriage.data.film.source import read_film
from cxrtriage.records import SourceImage
from cxrtriage.serve.web.pictures import LONGEST, Pictures, marked, png, window
from films import film_pixels, make_dicom

CONTENT = "ab" * 32


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_both_polarities_and_any_depth_give_the_same_picture(tmp_path: Path) -> None:
    """A MONOCHROME1 film is the same film; two more bits are the same film, four times as fine."""
    pixels = film_pixels(bits=12)
    plain = make_dicom(tmp_path / "2.dcm", pixels)
    turned = make_dicom(tmp_path / "1.dcm", 4095 - pixels, photometric_interpretation="MONOCHROME1")
    deeper = make_dicom(tmp_path / "14.dcm", pixels * np.uint16(4), bits=14)
    pictures = [window(read_film(path)).astype(int) for path in (plain, turned, deeper)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert np.abs(pictures[0] - pictures[2]).max() <= 1


def test_the_window_runs_from_the_half_to_the_last_half_percent() -> None:
    ramp = np.tile(np.arange(1000, 2000, dtype=np.uint16), (20, 1))
    grey = window(SourceImage(ramp, bits=12))
    low, high = 1000 + 0.005 * 999, 1000 + 0.995 * 999
    expected = np.clip((ramp - low) / (high - low), 0, 1) * 255
    assert np.abs(grey - expected).max() <= 0.51
    assert grey.min() == 0
    assert grey.max() == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_large_films_of_every_type_are_reduced_with_their_shape(dtype: type) -> None:
    pixels = np.linspace(0, 100, 3000 * 1500).reshape(3000, 1500).astype(dtype)
    picture = window(SourceImage(pixels, bits=8))
    assert picture.shape == (LONGEST, LONGEST // 2)
    assert np.all(np.diff(picture[:, 100].astype(int)) >= 0)


def test_the_warning_is_in_the_pixels_and_leaves_the_rest_alone() -> None:
    grey = np.full((600, 400), 128, np.uint8)
    drawn = marked(grey)
    changed = drawn != grey
    assert changed.sum() > 1000
    assert not changed[:500].any()
    assert drawn[changed].min() == 0
    assert drawn[changed].max() == 255


def test_a_picture_is_made_once_and_holds_nothing_but_pixels(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels(), PatientName="Unheard^Of")
    pictures = Pictures(tmp_path)
    first = pictures.film(path, CONTENT)
    path.unlink()
    assert pictures.film(path, CONTENT) == first
    assert b"Unheard" not in first
    assert opened(first).shape == film_pixels().shape


def test_a_picture_that_the_disk_does_not_take_is_shown_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dicom(tmp_path / "a.dcm", film_pixels())
    kept = Pictures(tmp_path / "kept").film(path, CONTENT)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert Pictures(tmp_path / "full").film(path, CONTENT) == kept
    assert not [found for found in (tmp_path / "full").rglob("*") if found.is_file()]


def test_those_not_looked_at_for_longest_go_when_there_are_too_many(tmp_path: Path) -> None:
    one = png(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    pictures = Pictures(tmp_path, most_bytes=5 * len(one))
    for number in range(5):
        pictures.keep(f"{number:064}", "film", one)
        os.utime(next(tmp_path.rglob(f"{number:064}-film.png")), (number, number))
    assert pictures.find(f"{0:064}", "film") == one  # looked at: now the youngest
    pictures.keep(f"{5:064}", "film", one)
    left = {number for number in range(6) if pictures.find(f"{number:064}", "film")}
    assert left == {0, 3, 4, 5}


def test_every_picture_of_a_deleted_film_is_forgotten(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    for what in ("film", "0123-grad-cam"):
        pictures.keep(CONTENT, what, b"x")
    pictures.keep("ab" + "c" * 62, "film", b"y")
    pictures.forget(CONTENT)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["ab" + "c" * 62 + "-film.png"]
