"""Functions for worker processes of tests, which must be able to import them."""

import os
import re
import signal
import sys
import time
from pathlib import Path

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.job import FilmJob, PreparedFilm, RejectedFilm, prepare_job
from cxrtriage.errors import SourceError


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
