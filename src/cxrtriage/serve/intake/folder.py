"""The watched folder: DICOM files dropped there in, kept films out; a process of its own, without torch.

    FOLDER/any/name      -> copied into HOME, checked and kept like a received film, then removed here
    FOLDER/refused/name  <- what cannot be taken, beside `name.txt` with the reason

A file is removed only after its film is on the disk and in the database; one whose removal a crash prevented
is found to be there already. Links are not followed, and names that begin with a dot are left alone.
File names are never logged: they may hold a patient's name.
"""

import fcntl
import logging
import os
import secrets
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError, CxrTriageError
from cxrtriage.serve import node_state, process
from cxrtriage.serve.database import open_database
from cxrtriage.serve.files import Door, FilmStore
from cxrtriage.serve.intake.taking import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Announced, Answer, take
from cxrtriage.serve.settings import NodeSettings, load_settings

LOGGER = logging.getLogger(__name__)
REFUSED = "refused"
NAME = "FOLDER"  # in place of a calling AE title
LOCK = ".watching"  # under HOME: one process at a time, also of several machines
LOOK_S = 0.5
AGAIN_S = 10.0  # before a file is tried again that could not be taken for a reason that may pass
LONGEST_NAME = 50  # characters that are left of a refused file's name, so that there is room for a number and .txt


@dataclass(slots=True)
class _Seen:
    """A file as it was when first seen so, from when on it may be taken, and what keeps it from being taken."""

    state: tuple[int, ...]
    ripe_at: float
    trouble: str = ""


class WatchedFolder:
    """The folder and what has been seen in it.

    Parameters
    ----------
    folder : to watch; may come and go, as a network share does
    store : where films are kept; entered
    settle_s : a file is taken when it has not changed for so long
    max_bytes : a larger file is refused
    """

    def __init__(self, folder: Path, store: FilmStore, settle_s: float, max_bytes: int) -> None:
        self.folder = folder
        self.store = store
        self.settle_s = settle_s
        self.max_bytes = max_bytes
        self._seen: dict[Path, _Seen] = {}

    def trouble(self) -> str:
        """Say what keeps files from being taken; "" if nothing does."""
        if not self.folder.is_dir():
            return "The watched folder is not there. Make it, or mount its share."
        return self.store.trouble() or next((seen.trouble for seen in list(self._seen.values()) if seen.trouble), "")

    def look(self, stopping: threading.Event) -> int:
        """Take the files that are ripe; return how many films were kept."""
        found = {path: _state(status) for path, status in _files_in(self.folder)}
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        kept = 0
        for path, state in found.items():
            seen = self._seen.get(path)
            if seen is None or seen.state != state:
                self._seen[path] = _Seen(state, time.monotonic() + self.settle_s)
            elif time.monotonic() >= seen.ripe_at and not self.store.trouble() and not stopping.is_set():
                kept += self._try(path, seen)
        return kept

    def _try(self, path: Path, seen: _Seen) -> bool:
        """Take one file and remove it from the folder; tell whether it was kept."""
        kept, trouble = False, ""
        try:
            answer = self._take(path, seen.state)
            if answer is None:
                pass  # it is not at rest
            elif answer.status == OUT_OF_RESOURCES:
                trouble = f"Files wait in the watched folder: {answer.why}"
            elif answer.kept:
                kept = True
                if _state(path.lstat()) == seen.state:  # else somebody put another file in its place
                    path.unlink()
            else:
                self._set_aside(path, answer.why)
        except FileNotFoundError:
            pass  # its writer took it back
        except OSError as error:
            trouble = f"A file in the watched folder cannot be taken or removed ({error.strerror})."
        except CxrTriageError:
            trouble = "A file cannot be moved to refused/, since the disk of the watched folder is full."
        except SQLAlchemyError as error:
            trouble = f"The database does not answer ({type(error).__name__})."
        if trouble and trouble != seen.trouble:
            LOGGER.warning("%s", trouble)
        seen.trouble, seen.ripe_at = trouble, time.monotonic() + (AGAIN_S if trouble else self.settle_s)
        return kept

    def _take(self, path: Path, state: tuple[int, ...]) -> Answer | None:
        """Copy a file into HOME and keep it; None if it is being written to."""
        part = self.store.incoming / f"{secrets.token_hex(8)}.dcm"
        # not followed, should it have become a link since; not waited for, should it be a pipe
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if _state(os.fstat(file.fileno())) != state or _is_being_written(file):
                return None
            if os.fstat(file.fileno()).st_size > self.max_bytes:
                why = f"it is larger than dicom.max_instance_mib = {self.max_bytes // 2**20}."
                LOGGER.warning("refused a file: %s", why)
                return Answer(CANNOT_UNDERSTAND, why, False, Announced("", ""))
            try:
                with part.open("wb") as copy:
                    shutil.copyfileobj(file, copy, 2**20)
                if _state(os.fstat(file.fileno())) != state:
                    return None
                return take(self.store, part, NAME, Announced.in_file(part), door=Door("folder", event="import"))
            finally:
                part.unlink(missing_ok=True)

    def _set_aside(self, path: Path, why: str) -> None:
        """Move a file to `refused`, its reason first, so that a crash leaves no file there without one."""
        refused = self.folder / REFUSED
        refused.mkdir(exist_ok=True)
        name = path.name[:LONGEST_NAME]
        number, target = 1, refused / name
        while target.exists():
            number += 1
            target = refused / f"{name}.{number}"
        with replacing(target.with_name(f"{target.name}.txt")) as temporary:
            temporary.write_text(f"Not taken: {why}\n", encoding="utf-8")
        path.rename(target)


def _files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files in a folder and those below it, but for `refused` and names with a dot in front."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and (root, name) != (str(folder), REFUSED)]
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            try:
                status = path.lstat()
            except OSError:  # taken away meanwhile, or in a folder that this process may list but not enter
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells that a file is still the same and as it was."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_being_written(file: BinaryIO) -> bool:
    """Tell whether somebody of this machine has a file open for writing, where the system can tell.

    A read lease (`fcntl(2)`) is granted only where nobody has. It is given back at once.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # another user's file, or a file system without leases: then `settle_s` alone decides
        return False
    return False


def check_place(folder: Path, home: Path) -> None:
    """Refuse a folder whose files would be the node's own.

    Raises
    ------
    ConfigError
        If HOME lies in the folder, or the folder among the node's films.
    """
    watched, home = folder.resolve(), home.resolve()
    if home.is_relative_to(watched) or any(watched.is_relative_to(home / name) for name in ("films", "incoming")):
        raise ConfigError(
            f"watch.folder = {folder} holds the node's own files, which would be taken and removed. "
            "Choose a folder that does not contain HOME and is not among its films."
        )


def watch(home: Path, settings: NodeSettings, store: FilmStore, stopping: threading.Event) -> None:
    """Watch the folder that the settings name until told to stop."""
    folder = settings.watch.folder
    if folder is None:
        raise ConfigError("there is no watched folder. Set watch.folder in the settings.")
    check_place(folder, home)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent to who holds a lease when a writer comes
    watched = WatchedFolder(folder, store, settings.watch.settle_s, settings.dicom.max_instance_mib * 2**20)
    node_state.keep_beating(store.engine, "folder", stopping, watched.trouble)
    with (home / LOCK).open("w") as lock:
        while not stopping.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                watched.look(stopping)
            except BlockingIOError:
                pass  # another machine's process watches
            stopping.wait(LOOK_S)


def main(home: str) -> None:
    """Take films from the watched folder of the node at `home` until told to stop."""
    stopping = process.begin("folder")
    try:
        settings = load_settings(Path(home))
        engine = open_database(settings.database.url)
        with FilmStore(Path(home), engine, settings.store.min_free_gib) as store:
            watch(Path(home), settings, store, stopping)
    except CxrTriageError as error:
        LOGGER.error("%s", error)
        os._exit(process.CANNOT_START)
