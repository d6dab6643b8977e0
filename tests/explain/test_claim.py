"""The study's claim on films whose step is known to be symmetric, or not."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cxrtriage.explain.claim import claim_sentence, symmetry_by_class, symmetry_of_step

SIZE, FILMS = 64, 8
GENERATOR = np.random.default_rng(0)
PATIENTS = np.array([f"p{i}" for i in range(FILMS)])


def textures() -> np.ndarray:
    """Soft random films, (8, 64, 64) float with values within about 60 to 190."""
    noise = GENERATOR.normal(size=(FILMS, SIZE, SIZE))
    soft = np.stack([gaussian_filter(film, 5) for film in noise])
    return 125 + 25 * soft / soft.std()


def as_films(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)


BEFORE = textures()
MIRRORED = (BEFORE + BEFORE[:, :, ::-1]) / 2


def step_rows(before: np.ndarray, after: np.ndarray) -> list[dict[str, Any]]:
    rows, _ = symmetry_of_step(as_films(before), after, PATIENTS)
    return [{"from": "abnormal", "form": "plain"} | row for row in rows]


def test_step_to_the_mean_of_film_and_mirror_supports_the_claim() -> None:
    spine = 200 * np.exp(-(((np.arange(SIZE) - (SIZE - 1) / 2) / 8) ** 2))  # puts the midline in the middle
    rows = step_rows(0.4 * BEFORE + 0.6 * spine, 0.4 * MIRRORED + 0.6 * spine)
    assert all(row["after"]["estimate"] > 0.99 for row in rows)
    assert all(row["excess"]["lower"] > 0 for row in rows)
    assert "The data support the study's claim" in claim_sentence([], rows)


def test_step_that_is_itself_random_is_no_more_than_a_random_change() -> None:
    change = textures() - 125
    films, differences = symmetry_of_step(as_films(BEFORE), (BEFORE + change).clip(0, 255), PATIENTS)
    for row in films:
        assert row["excess"]["lower"] < 0 < row["excess"]["upper"]
    for row in differences:
        assert abs(row["symmetry"]["estimate"] - row["random"]["estimate"]) < 0.3
    rows = [{"from": "abnormal", "form": "plain"} | row for row in films]
    assert "The data support" not in claim_sentence([], rows)


def test_symmetric_difference_shows_as_one() -> None:
    bump = 40 * np.exp(-(((np.arange(SIZE) - (SIZE - 1) / 2) / 8) ** 2))
    even = np.full((FILMS, SIZE, SIZE), 100, np.uint8)
    _, differences = symmetry_of_step(even, even + bump, PATIENTS)
    for row in differences:
        assert row["films"] == FILMS
        assert row["symmetry"]["estimate"] == pytest.approx(1, abs=1e-3)


def test_difference_by_class_is_that_of_the_means() -> None:
    images = np.concatenate([as_films(MIRRORED), as_films(BEFORE)])
    abnormal = np.arange(2 * FILMS) >= FILMS
    rows = symmetry_by_class(images, abnormal, np.arange(2 * FILMS))
    for region in ("whole", "lungs"):
        normal, diseased, difference = (row for row in rows if row["region"] == region)
        assert normal["symmetry"]["estimate"] == pytest.approx(1, abs=0.01)
        assert difference["symmetry"]["estimate"] == pytest.approx(
            normal["symmetry"]["estimate"] - diseased["symmetry"]["estimate"]
        )
        assert difference["symmetry"]["lower"] > 0
    assert "Untouched normal films are more symmetric than abnormal ones" in claim_sentence(rows, [])


def figure(estimate: float, half: float = 0.01) -> dict[str, float]:
    return {"estimate": estimate, "lower": estimate - half, "upper": estimate + half}


def row(region: str, change: float, excess: float, form: str = "plain") -> dict[str, Any]:
    return {
        "from": "abnormal",
        "form": form,
        "region": region,
        "films": 9,
        "before": figure(0.8),
        "after": figure(0.8 + change),
        "change": figure(change),
        "random_change": figure(change - excess),
        "excess": figure(excess),
    }


@pytest.mark.parametrize(
    ("whole", "lungs", "verdict"),
    [
        (
            (0.1, 0.2),
            (0.1, 0.2),
            "support the study's claim that films driven to normal become more symmetric.",
        ),
        ((0.1, 0.2), (0.0, 0.2), "become more symmetric over the whole film only."),
        ((-0.1, 0.2), (-0.1, 0.2), "The data contradict the study's claim"),
        ((0.0, 0.2), (-0.1, 0.2), "The data do not support the study's claim"),
        ((0.1, 0.0), (0.1, 0.0), "The data do not support the study's claim"),  # no more than a random change
    ],
)
def test_verdict_follows_from_change_and_excess(
    whole: tuple[float, float], lungs: tuple[float, float], verdict: str
) -> None:
    rows = [row("whole", *whole), row("lungs", *lungs), row("whole", 0.5, 0.5, form="film-like")]
    assert verdict in claim_sentence([], rows)


def test_without_films_that_reached_the_label_nothing_is_claimed() -> None:
    assert "Too few films" in claim_sentence([], [])


def test_change_that_is_certain_but_too_small_to_see_is_no_support() -> None:
    normal = [
        {"class": "normal", "region": region, "films": 9, "symmetry": figure(0.9)} for region in ("whole", "lungs")
    ]
    tiny = {name: figure(0.001, half=0.0005) for name in ("change", "excess")}
    rows = [row(region, 0.0, 0.0) | tiny for region in ("whole", "lungs")]
    sentence = claim_sentence(normal, rows)
    assert "The data do not support the study's claim" in sentence
    assert "1% over the whole film and 1% within the lungs of the way to untouched normal films" in sentence
    large = [row(region, 0.05, 0.05) for region in ("whole", "lungs")]
    assert "The data support the study's claim" in claim_sentence(normal, large)
