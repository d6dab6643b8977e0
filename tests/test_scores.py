"""The table of scores: documented columns, whole or hidden, and taken up where it was cut off."""

import csv
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrtriage.errors import ConfigError
from cxrtriage.records import Prediction
from cxrtriage.scores import write_scores


class Scorer:
    """Scores films by the number in their name; is interrupted after `stop` films."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.scored: list[Path] = []

    def __call__(self, films: Sequence[Path]) -> Iterator[Prediction]:
        for number, film in enumerate(films):
            if number == self.stop:
                raise KeyboardInterrupt
            self.scored.append(film)
            if int(film.stem) % 3 == 2:
                yield Prediction(str(film), None, "not assessed", reason='cannot read "it", says\nthe disk')
            else:
                yield Prediction(str(film), int(film.stem) / 100, "normal", warning="out of scope: view, é")


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "films" / f"{number}.png" for number in range(9)]
    paths[0].parent.mkdir()
    for path in paths:
        path.touch()
    return paths


def cut_off(films: list[Path], out: Path, after: int) -> Path:
    time.sleep(0.05)  # films are older than rows, also by a file system's coarse clock
    with pytest.raises(KeyboardInterrupt):
        write_scores(films, out, Scorer(stop=after), "a model")
    assert not out.exists()
    (unfinished,) = out.parent.glob(".scores.csv.*")
    return unfinished


def test_rows_have_the_documented_columns_and_a_film_not_assessed_no_probability(
    films: list[Path], tmp_path: Path
) -> None:
    assert write_scores(films, tmp_path / "scores.csv", Scorer(), "a model") == 3
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "probability", "decision", "reason", "warning"]
    assert [row["path"] for row in rows] == [str(film) for film in films]
    assert rows[1]["probability"] == "0.0100"
    assert rows[2]["probability"] == ""
    assert rows[2]["decision"] == "not assessed"
    assert not list(tmp_path.glob(".scores*"))


def test_an_interrupted_table_goes_on_where_it_was(films: list[Path], tmp_path: Path) -> None:
    out, whole = tmp_path / "scores.csv", tmp_path / "whole.csv"
    write_scores(films, whole, Scorer(), "a model")
    cut_off(films, out, after=4)
    rest = Scorer()
    assert write_scores(films, out, rest, "a model") == 3
    assert rest.scored == films[4:]
    assert out.read_bytes() == whole.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(kept=st.integers(0, 400))
def test_wherever_the_file_ends_the_table_comes_out_whole(films: list[Path], tmp_path: Path, kept: int) -> None:
    out, whole = tmp_path / "scores.csv", tmp_path / "whole.csv"
    write_scores(films, whole, Scorer(), "a model")
    out.unlink(missing_ok=True)
    unfinished = cut_off(films, out, after=6)
    unfinished.write_bytes(unfinished.read_bytes()[:kept])
    write_scores(films, out, Scorer(), "a model")
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("change", ["model", "films", "content"])
def test_rows_of_another_model_other_films_or_changed_films_are_made_anew(
    films: list[Path], tmp_path: Path, change: str
) -> None:
    out, rest = tmp_path / "scores.csv", Scorer()
    unfinished = cut_off(films, out, after=4)
    if change == "films":
        films = [films[0], *films[2:]]
    if change == "content":
        os.utime(unfinished, ns=(0, films[0].stat().st_ctime_ns - 1))
    write_scores(films, out, rest, "another model" if change == "model" else "a model")
    assert rest.scored == (films[1:] if change == "films" else films)


def test_two_processes_do_not_write_one_table(films: list[Path], tmp_path: Path) -> None:
    unfinished = cut_off(films, tmp_path / "scores.csv", after=4)
    content = unfinished.read_bytes()
    with unfinished.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"another process is writing .*scores\.csv\. Wait"):
            write_scores(films, tmp_path / "scores.csv", Scorer(), "a model")
    assert unfinished.read_bytes() == content
