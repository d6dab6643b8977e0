"""Pictures of explanations: colours, size, and that they can be opened."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrtriage.explain.opposite import OppositeImages, noise_films
from cxrtriage.explain.overlay import MOST_BYTES, colour_overlay, draw_opposite, draw_saliency, strongest_of

FILM = np.full((32, 32), 100, np.uint8)


def changed_noise(size: int, steps: int) -> OppositeImages:
    before, after = noise_films(1, size, seed=1), noise_films(1, size, seed=2)
    probability = np.linspace(0.1, 0.96, steps + 1)[None]
    return OppositeImages(
        before, after, np.array([1]), probability, np.array([0.95]), np.array([steps]), np.array([True])
    )


def test_evidence_for_abnormal_is_warm_for_normal_cool_and_none_is_grey() -> None:
    evidence = np.zeros((32, 32))
    evidence[0, 0], evidence[1, 1], evidence[2, 2] = 1, -1, 0.5
    overlay = colour_overlay(FILM, evidence, strongest=1.0).astype(int)
    red, _, blue = (overlay[..., channel] for channel in range(3))
    assert red[0, 0] > blue[0, 0] + 50
    assert blue[1, 1] > red[1, 1] + 50
    assert 0 < red[2, 2] - blue[2, 2] < red[0, 0] - blue[0, 0]
    assert (overlay[5, 5] == 80).all()


def test_evidence_beyond_the_strongest_gets_no_more_colour_and_none_divides_by_no_zero() -> None:
    np.testing.assert_array_equal(
        colour_overlay(FILM, np.full((32, 32), 9.0), 1.0), colour_overlay(FILM, np.ones((32, 32)), 1.0)
    )
    nothing = np.zeros((32, 32))
    assert (colour_overlay(FILM, nothing, strongest_of(nothing)) == 80).all()


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_pictures_can_be_opened_and_are_dark(tmp_path: Path, suffix: str) -> None:
    draw_saliency(FILM, np.eye(32), "integrated-gradients", tmp_path / f"saliency{suffix}")
    draw_opposite(changed_noise(32, 3), 0, tmp_path / f"opposite{suffix}")
    for name, panels in (("saliency", 2), ("opposite", 4)):
        with Image.open(tmp_path / f"{name}{suffix}") as picture:
            assert picture.width / picture.height > 0.8 * panels
            assert max(picture.convert("RGB").getpixel((0, 0))) < 40


def test_a_webp_of_noise_too_stays_small_enough_for_a_report(tmp_path: Path) -> None:
    draw_opposite(changed_noise(224, 30), 0, tmp_path / "noise.webp")
    assert (tmp_path / "noise.webp").stat().st_size <= MOST_BYTES


def test_the_same_explanation_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_saliency(FILM, np.eye(32), "grad-cam", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
