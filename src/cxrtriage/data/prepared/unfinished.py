"""A prepared set while it grows: rows are appended in the manifest's order, and a journal says how far it is.

In come the results of `job.prepare_job`, film by film; out go the array files of `store.py`, and after an
interruption the films that need not be done again. `build.prepare_set` drives it.

Every few seconds the arrays are flushed to disk, and only then a line is added to the journal, so what the
journal claims is there, whatever ended the run. The arrays get their NumPy header last: until then nothing
opens them by mistake. They are written with `write`, never through a memory map, because a full disk is an
error there and a crash here.
"""

import hashlib
import io
import json
import os
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

from cxrtriage.atomic import disk_full_told, lock_or_refuse
from cxrtriage.data.prepared.job import UNKNOWN, FilmJob, PreparedFilm
from cxrtriage.data.prepared.store import CARD, IMAGES, MASKS, SetOrder, other_order
from cxrtriage.data.remote.address import is_url
from cxrtriage.data.remote.fetch import stamp
from cxrtriage.errors import ConfigError, SourceError

JOURNAL = "unfinished.jsonl"
SECONDS_BETWEEN_CHECKPOINTS = 5.0
HEADER_BYTES = 128  # what NumPy's format 1.0 takes for three dimensions

Outcome = dict[str, Any]  # of one film: {"facts": ...} or {"rejected": reason, "stamps": of its files}


class UnfinishedSet:
    """The set in the making; used as a context, which closes its files.

    Parameters
    ----------
    folder : where the set is to be; made if need be
    order : what it is to be
    jobs : every film of the manifest, in order
    mask_columns : those of MASKS that the manifest has

    Attributes
    ----------
    outcomes : one for each film done, earlier runs included
    seconds : spent on them

    Raises
    ------
    ConfigError
        If another process is at it, or an unfinished set of another order is in the folder.
    """

    def __init__(self, folder: Path, order: SetOrder, jobs: list[FilmJob], mask_columns: list[str]) -> None:
        self.outcomes: list[Outcome] = []
        self.seconds = 0.0
        self._folder = folder
        self._order = order
        self._jobs = jobs
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._journal = (folder / JOURNAL).open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot write into {folder}: {error.strerror}. Choose another --out.") from error
        try:
            self._lock()
            self._read_journal()
            rows = sum(job.draws for job, outcome in zip(jobs, self.outcomes, strict=False) if "facts" in outcome)
            self._images = GrowingArray(folder / IMAGES, order.recipe.size, rows)
            self._masks = {
                column: GrowingArray(folder / MASKS[column], order.recipe.size, rows) for column in mask_columns
            }
        except BaseException:
            self._journal.close()
            raise
        self._unwritten: list[Outcome] = []
        self._last_checkpoint = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for array in (self._images, *self._masks.values()):
            array.close()
        self._journal.close()

    def add(self, film: PreparedFilm) -> None:
        """Append the rows of the next film."""
        self._images.append(film.images)
        unknown = np.full(film.images.shape[1:], UNKNOWN, dtype=np.uint8)
        for column, array in self._masks.items():
            array.append(np.stack([film.masks.get(column, unknown)] * len(film.images)))
        self._note({"facts": film.facts})

    def reject(self, reason: str) -> None:
        """Note that the next film is left out."""
        self._note({"rejected": reason, "stamps": stamps(self._jobs[len(self.outcomes)])})

    def checkpoint(self) -> None:
        """Make sure that all films added so far survive whatever happens next."""
        for array in (self._images, *self._masks.values()):
            array.flush()
        now = time.monotonic()
        self.seconds += now - self._last_checkpoint
        self._write_line({"films": self._unwritten, "seconds": now - self._last_checkpoint})
        self._unwritten = []
        self._last_checkpoint = now

    def complete(self) -> None:
        """Turn the array files into ones that NumPy opens."""
        for array in (self._images, *self._masks.values()):
            array.complete()

    def remove_journal(self) -> None:
        """Forget the way here, once the set is finished."""
        (self._folder / JOURNAL).unlink()

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._unwritten.append(outcome)
        if time.monotonic() - self._last_checkpoint > SECONDS_BETWEEN_CHECKPOINTS:
            self.checkpoint()

    def _lock(self) -> None:
        lock_or_refuse(
            self._journal,
            f"another process is preparing {self._folder} at this moment. Wait for it or choose another --out.",
        )
        if (self._folder / CARD).exists():
            raise ConfigError(f"another process has just finished {self._folder}. Run the same command again.")

    def _read_journal(self) -> None:
        """Take over what an earlier run of the same order has done, as far as it still holds."""
        self._journal.seek(0)
        lines = self._journal.read().splitlines(keepends=True)
        jobs_hash = hashlib.sha256(repr(self._jobs).encode()).hexdigest()  # the order's hash knows no order of rows
        try:
            whole = [json.loads(line) for line in lines if line.endswith(b"\n")]  # a power cut tears the last line
            earlier = SetOrder.model_validate(whole[0]["order"]) if whole else self._order
        except (ValueError, KeyError) as error:
            raise ConfigError(
                f"{self._folder} holds an unfinished set of another version. Remove that folder."
            ) from error
        if earlier != self._order:
            raise other_order(self._folder, "an unfinished set", earlier, self._order)
        if not whole or whole[0]["jobs_hash"] != jobs_hash:
            self._journal.truncate(0)
            self._write_line({"order": self._order.model_dump(mode="json"), "jobs_hash": jobs_hash})
            return
        end = len(lines[0])
        for line, entry in zip(lines[1:], whole[1:], strict=False):
            films = entry["films"]
            jobs = self._jobs[len(self.outcomes) : len(self.outcomes) + len(films)]
            if any("rejected" in film and film["stamps"] != stamps(job) for film, job in zip(films, jobs, strict=True)):
                break  # a rejected film has been mended: go on from here
            self.outcomes += films
            self.seconds += entry["seconds"]
            end += len(line)
        self._journal.truncate(end)

    def _write_line(self, content: dict[str, Any]) -> None:
        write_whole(self._journal, json.dumps(content).encode() + b"\n", self._folder / JOURNAL)
        os.fsync(self._journal.fileno())


class GrowingArray:
    """An (N, S, S) uint8 NumPy file that grows by rows and has no header until it is complete."""

    def __init__(self, path: Path, size: int, rows: int) -> None:
        self._path = path
        self._size = size
        self._rows = rows
        end = HEADER_BYTES + rows * size * size
        path.touch()
        if rows and path.stat().st_size < end:
            raise SourceError(
                f"{path} is shorter than its journal says. Remove {path.parent} and run the command again."
            )
        self._file = path.open("r+b", buffering=0)
        self._file.truncate(end)  # what came after the last checkpoint is done again
        self._file.write(bytes(HEADER_BYTES))
        self._file.seek(0, os.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        write_whole(self._file, np.ascontiguousarray(rows).data, self._path)
        self._rows += len(rows)

    def flush(self) -> None:
        with disk_full_told(self._path):  # some file systems find out only now
            os.fsync(self._file.fileno())

    def complete(self) -> None:
        self._file.seek(0)
        shape = (self._rows, self._size, self._size)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.flush()

    def close(self) -> None:
        self._file.close()


def write_whole(file: io.FileIO, content: bytes | memoryview, path: Path) -> None:
    """Write all of `content`: an unbuffered file may take less at a time."""
    left = memoryview(content).cast("B")
    with disk_full_told(path):
        while left:
            left = left[file.write(left) :]


def stamps(job: FilmJob) -> list[list[int | str] | None]:
    """Return size and time of change of a film's files, None for one that is missing: do they differ, try again."""
    found: list[list[int | str] | None] = []
    for path in job.files:
        if is_url(path):
            found.append(stamp(path))
            continue
        try:
            status = Path(path).stat()
            found.append([status.st_size, status.st_mtime_ns])
        except OSError:
            found.append(None)
    return found
