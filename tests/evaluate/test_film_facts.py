"""Facts of a film that need no anatomy: they tell how it was made, and nothing coarse of what it shows."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxrtriage.evaluate.film_facts import facts_of, film_facts
from cxrtriage.records import SourceImage
from films import film_pixels, make_dicom


def facts(pixels: np.ndarray, bits: int = 8, **more: object) -> dict[str, float]:
    return facts_of(SourceImage(pixels, bits=bits, **more))


def test_every_film_gives_the_same_names_whatever_its_size_and_type() -> None:
    rng = np.random.default_rng(0)
    names = None
    for dtype, bits in ((np.uint8, 8), (np.uint16, 12), (np.int16, 12), (np.int8, 8)):
        for shape in ((300, 400), (64, 64), (1, 3), (2000, 20)):
            found = facts(rng.integers(0, 100, shape).astype(dtype), bits)
            names = names or set(found)
            assert set(found) == names
            assert all(isinstance(value, float) for value in found.values())


def test_size_levels_and_saturation_are_counted() -> None:
    pixels = np.full((100, 200), 128, dtype=np.uint8)
    pixels[:10] = 255
    pixels[-5:] = 0
    found = facts(pixels)
    assert (found["height"], found["width"], found["proportion"]) == (100, 200, 0.5)
    assert found["grey levels"] == 3
    assert found["share brightest"] == pytest.approx(0.10)
    assert found["share darkest"] == pytest.approx(0.05)
    assert found["brightness 50 %"] == pytest.approx(128 / 255)
    assert (found["top border brightness"], found["bottom border brightness"]) == (1.0, 0.0)
    assert found["left border brightness"] == found["right border brightness"]


def test_brightness_is_that_of_numpy() -> None:
    pixels = film_pixels(120, 90, bits=12)
    found = facts(pixels, bits=12)
    for percent in (1, 25, 50, 75, 99):
        expected = np.percentile(pixels, percent, method="inverted_cdf") / 4095
        assert found[f"brightness {percent} %"] == pytest.approx(expected)


def test_signed_films_tell_the_same_brightness_as_their_unsigned_twins() -> None:
    pixels = film_pixels(64, 64, bits=12)
    assert facts(pixels.astype(np.int16), 12) == pytest.approx(facts(pixels, 12), nan_ok=True)


def test_blur_takes_fine_detail_and_jpeg_leaves_its_blocks() -> None:
    rng = np.random.default_rng(0)
    sharp = cv2.GaussianBlur(rng.integers(0, 256, (512, 512)).astype(np.uint8), (3, 3), 0)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    finest = [name for name in facts(sharp) if name.startswith("detail of 2.")]
    assert all(facts(blurred)[name] < facts(sharp)[name] - 1 for name in finest if "full resolution" in name)

    smooth = cv2.GaussianBlur(rng.integers(0, 256, (512, 512)).astype(np.uint8), (0, 0), 6)
    packed = cv2.imdecode(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_GRAYSCALE)
    for name in ("8-pixel blocks down", "8-pixel blocks across"):
        assert facts(smooth)[name] == pytest.approx(0.5, abs=0.05)
        assert facts(packed)[name] > 0.7


def test_coarse_structure_such_as_a_white_lung_leaves_detail_as_it_is() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    film = 100 + rng.normal(0, 3, (512, 512))
    white = film + 60 * np.exp(-((x - 0.4) ** 2 + y**2) / 0.05)
    before, after = facts(film.astype(np.uint8)), facts(white.astype(np.uint8))
    for name in before:
        if name.startswith(("detail", "8-pixel")):
            assert after[name] == pytest.approx(before[name], abs=0.12), name


def test_a_constant_film_has_facts_without_a_warning() -> None:
    found = facts(np.full((50, 50), 7, dtype=np.uint8))
    assert found["grey levels"] == 1
    assert np.isnan(found["8-pixel blocks down"])


def test_the_file_tells_its_size_and_format(tmp_path: Path) -> None:
    dicom = make_dicom(tmp_path / "film.dcm", film_pixels())
    found = film_facts(str(dicom))
    assert found["file bytes"] == dicom.stat().st_size
    assert found["bytes per pixel"] == pytest.approx(dicom.stat().st_size / film_pixels().size)
    cv2.imwrite(str(tmp_path / "film.png"), film_pixels(bits=8))
    assert film_facts(str(tmp_path / "film.png"))["format"] != found["format"]


def test_a_film_that_is_gone_has_no_facts(tmp_path: Path) -> None:
    assert film_facts(str(tmp_path / "gone.png")) == {}


def test_worker_processes_do_not_load_torch() -> None:
    code = "import sys, cxrtriage.evaluate.film_facts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
