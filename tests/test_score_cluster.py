"""Scoring on a Ray cluster of several nodes on this machine: the rows of one machine."""

import csv
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import worker_functions
from cxrtriage import score_cluster
from cxrtriage.cli import app
from cxrtriage.engines import engine_of_file
from cxrtriage.errors import ModelError
from cxrtriage.records import Prediction
from cxrtriage.score import packaged_model, score_films
from cxrtriage.score_cluster import score_on_cluster
from cxrtriage.scores import write_scores
from films import film_pixels, write_png
from ray_nodes import RAY_LEAVES_BEHIND, Nodes, ray_nodes

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(RAY_LEAVES_BEHIND)

Scorer = Callable[[Sequence[Path]], Iterator[Prediction]]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More than two batches of films, of which one is text and one is missing."""
    folder = tmp_path_factory.mktemp("films")
    paths = [write_png(folder / f"{n:02}.png", film_pixels(150, 120, seed=n)) for n in range(70)]
    paths[7].write_text("not a film")
    paths[40].unlink()
    time.sleep(0.05)  # films are older than rows, also by a file system's coarse clock
    return paths


@pytest.fixture(scope="module")
def here() -> Scorer:
    """Scores on this machine alone, on all its processors."""
    card, run = engine_of_file(packaged_model(), "openvino")
    return partial(score_films, card, engine=run)


@pytest.fixture(scope="module")
def table(films: list[Path], here: Scorer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("one") / "scores.csv"
    assert write_scores(films, out, here, "") == 2
    return out.read_bytes()


@pytest.fixture(scope="module")
def nodes(here: Scorer) -> Iterator[Nodes]:
    with ray_nodes() as started:
        yield started


@pytest.mark.parametrize("count", [1, 3])
def test_the_table_has_the_same_bytes_whatever_the_number_of_nodes(
    nodes: Nodes, films: list[Path], table: bytes, here: Scorer, tmp_path: Path, count: int
) -> None:
    nodes.set_count(count)
    done: list[int] = []
    rows = list(score_on_cluster(nodes.address, None, films, advance=done.append))
    assert rows == list(here(films))  # to the last bit, not only to the digits of the table
    assert sum(done) == len(films)
    write_scores(films, tmp_path / "scores.csv", lambda _: iter(rows), "")
    assert (tmp_path / "scores.csv").read_bytes() == table


def test_the_command_goes_on_where_it_was_on_a_cluster_or_without_one(
    nodes: Nodes, films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = films[0].parent, tmp_path / "scores.csv"

    def interrupted(*arguments: object, **options: object) -> Iterator[Prediction]:
        for number, row in enumerate(score_on_cluster(*arguments, **options)):  # type: ignore[arg-type]
            if number == 41:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(score_cluster, "score_on_cluster", interrupted)
    command = ["score", str(folder), "--out", str(out)]
    CliRunner().invoke(app, [*command, "--cluster", nodes.address])
    assert not out.exists()
    (unfinished,) = tmp_path.glob(".scores.csv.*.partial")
    assert len(list(csv.DictReader(unfinished.read_text().splitlines()))) == 41
    done = CliRunner().invoke(app, [*command, "--engine", "openvino"])
    assert done.exit_code == 0, done.output
    assert not unfinished.exists()  # it went on with these rows
    whole = out.read_bytes()
    out.unlink()
    done = CliRunner().invoke(app, [*command, "--engine", "openvino"])
    assert out.read_bytes() == whole


def test_a_film_over_which_processes_die_costs_its_row(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.set_count(2)
    paths = [tmp_path / ("bad.png" if n == 13 else f"{n}.png") for n in range(40)]
    monkeypatch.setattr(score_cluster, "_score_batch", worker_functions.rows_unless_bad)
    rows = list(score_on_cluster(nodes.address, None, paths))
    reason = f"cannot score {paths[13]}: the process that read it was killed. Leave it out."
    assert rows.pop(13) == Prediction(str(paths.pop(13)), None, "not assessed", reason=reason)
    assert rows == [Prediction(str(path), 0.5, "normal") for path in paths]


def test_a_model_that_a_node_has_not_is_refused(nodes: Nodes, films: list[Path]) -> None:
    with packaged_model().open("rb") as file:
        mine = Path(f"/proc/self/fd/{file.fileno()}")  # an open file of this process, and of no other
        message = rf"of the Ray cluster (does not see the|holds another) model (at )?{mine}\. Put the model"
        with pytest.raises(ModelError, match=message):
            list(score_on_cluster(nodes.address, mine, films))


def test_an_engine_that_each_node_would_choose_for_itself_is_refused(films: list[Path]) -> None:
    with pytest.raises(ValueError, match="must be named"):
        next(score_on_cluster("auto", None, films, engine="auto"))


@pytest.mark.slow  # the same machinery as in data/prepared/test_cluster.py
def test_a_node_killed_in_the_middle_costs_time_only(
    nodes: Nodes,
    films: list[Path],
    here: Scorer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last test, since the node stays dead."""
    nodes.set_count(2)
    monkeypatch.setattr(score_cluster, "_score_batch", worker_functions.score_once_killed)
    monkeypatch.setattr(score_cluster, "BATCH", 2)
    killed = films[0].with_name(worker_functions.KILLED)
    with caplog.at_level(logging.INFO, "cxrtriage"), nodes.killing_last_once_busy(killed):
        rows = list(score_on_cluster(nodes.address, None, films))
    assert "a machine of the cluster is gone" in caplog.text
    assert rows == list(here(films))
