"""What is picked when nothing is asked for."""

from pathlib import Path

from cxrtriage.choices import SMALLEST_SIZE, STUDY_SIZE, choose_size, typical_side
from films import film_pixels, write_png


def test_a_gpu_gets_the_size_of_the_study() -> None:
    assert choose_size(50_000, film_side=3000, on_gpu=True)[0] == STUDY_SIZE


def test_without_a_gpu_the_size_falls_as_films_grow_in_number() -> None:
    sizes = [choose_size(films, film_side=3000, on_gpu=False)[0] for films in (100, 2000, 50_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == STUDY_SIZE
    assert sizes[-1] == SMALLEST_SIZE


def test_films_are_not_enlarged_beyond_what_the_networks_need() -> None:
    assert choose_size(100, film_side=180, on_gpu=True)[0] == 180
    assert choose_size(100, film_side=40, on_gpu=True)[0] == SMALLEST_SIZE


def test_the_typical_side_passes_over_films_that_cannot_be_read(tmp_path: Path) -> None:
    paths = [str(write_png(tmp_path / f"{n}.png", film_pixels(64, 80 + n, bits=8))) for n in range(5)]
    assert typical_side([*paths, str(tmp_path / "missing.png")]) == 64
    assert typical_side([str(tmp_path / "missing.png")]) == float("inf")
