"""Functions for worker processes of tests, which must be able to import them."""

import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.job import FilmJob, PreparedFilm, RejectedFilm, prepare_job
from cxrtriage.errors import SourceError
from cxrtriage.records import Prediction

KILLED = "killed.txt"  # beside the films, once a test has killed what it is about


def double(item: int) -> int:
    return 2 * item


def slow_if_first(item: int) -> int:
    time.sleep(0.3 if item == 0 else 0)
    return item


def die_on_13(item: int) -> int:
    if item == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    return item


def die_once(item: tuple[int, str]) -> int:
    number, note = item
    if number == 2 and not Path(note).exists():
        Path(note).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def raise_on_3(item: int) -> int:
    if item == 3:
        raise LookupError("three")
    return item


def process_id(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def large_result(item: int) -> bytes:
    return bytes([item]) * 5_000_000


def cut_while_mapped(path: str) -> str:
    try:
        film = read_film(Path(path), mapped=True)
    except SourceError as error:
        return str(error)
    os.truncate(path, 4096)
    return str(film.pixels.sum())


def loaded_modules(item: tuple[Recipe, FilmJob]) -> list[str]:
    prepare_job(*item)
    return list(sys.modules)


def peak_memory_mb(item: tuple[Recipe, FilmJob]) -> float:
    assert isinstance(prepare_job(*item), PreparedFilm)
    # not getrusage: its figure is inherited from the process that forked, which may hold torch
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000  # type: ignore[index]


def job_that_kills_on_bad(recipe: Recipe, job: FilmJob) -> PreparedFilm | RejectedFilm:
    if "bad" in job.path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return prepare_job(recipe, job)


def slow_job(recipe: Recipe, job: FilmJob) -> PreparedFilm | RejectedFilm:
    time.sleep(0.05)
    return prepare_job(recipe, job)


def job_that_waits_until_killed(recipe: Recipe, job: FilmJob) -> PreparedFilm | RejectedFilm:
    wait_until_killed(Path(job.path))
    return prepare_job(recipe, job)


def wait_until_killed(film: Path) -> None:
    """Be in the middle of something until the test has killed a node, however long that one takes to start."""
    deadline = time.monotonic() + 120
    while not film.with_name(KILLED).exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def rows_unless_bad(
    model: object, digest: str, engine: str, prevalence: object, paths: Sequence[Path]
) -> list[Prediction]:
    """Stands for scoring a batch, which takes a while and dies of a film called bad."""
    time.sleep(0.2)
    if any("bad" in path.name for path in paths):
        os.kill(os.getpid(), signal.SIGSEGV)
    return [Prediction(str(path), 0.5, "normal") for path in paths]


def score_once_killed(*arguments: Any) -> list[Prediction]:
    from cxrtriage.score_cluster import _score_batch  # not for the workers whose memory is measured

    wait_until_killed(arguments[-1][0])
    return _score_batch(*arguments)
