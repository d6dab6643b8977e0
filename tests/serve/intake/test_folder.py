"""The watched folder: what is taken, what is refused, and what is there after a kill at any moment."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.intake import folder as watching
from cxrtriage.serve.intake.folder import WatchedFolder, check_place
from cxrtriage.serve.tables import audit, heartbeat, instance
from serve.peers import film
from serve.test_files import counts, die_at, kept

PLENTY = 0.001
MIB = 2**20


class Folder:
    """A watched folder under `tmp_path`, its store, and a way to look into it as if time had passed."""

    def __init__(self, tmp_path: Path, engine: Engine) -> None:
        self.folder = tmp_path / "in"
        self.folder.mkdir(exist_ok=True)
        self.home = tmp_path / "home"
        self.store = FilmStore(self.home, engine, PLENTY)

    def look(self, times: int = 2, settle_s: float = 0, max_bytes: int = 64 * MIB) -> str:
        """Look so often; return what troubles the folder."""
        with self.store:
            watched = WatchedFolder(self.folder, self.store, settle_s, max_bytes)
            for _ in range(times):
                watched.look(threading.Event())
            return watched.trouble()

    def names(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def watched(tmp_path: Path, sqlite: Engine) -> Folder:
    return Folder(tmp_path, sqlite)


def test_films_of_any_name_and_depth_are_kept_and_removed(watched: Folder, sqlite: Engine, tmp_path: Path) -> None:
    (watched.folder / "a" / "b").mkdir(parents=True)
    contents = [
        film(watched.folder / name, seed).read_bytes()
        for seed, name in enumerate(("IM0001", "a/film.dcm", "a/b/x y.tmp"))
    ]
    assert watched.look() == ""
    assert watched.names() == []
    assert counts(sqlite) == [3, 3, 3, 3]
    assert {path.read_bytes() for path in kept(watched.home)} == set(contents)
    with reading(sqlite) as connection:
        rows = connection.execute(select(audit.c.event, audit.c.actor)).all()
        assert set(connection.execute(select(instance.c.calling_ae)).scalars()) == {"FOLDER"}
    assert rows == [("import", "folder")] * 3


def test_a_file_is_taken_once_it_has_not_changed_for_the_settling_time(watched: Folder, sqlite: Engine) -> None:
    path = film(watched.folder / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content[:5000])
    with watched.store as store:
        folder = WatchedFolder(watched.folder, store, 0.3, MIB)
        began = time.monotonic()
        for end in (20000, len(content)):
            folder.look(threading.Event())
            time.sleep(0.2)
            with path.open("ab") as file:
                file.write(content[file.tell() : end])
        while not folder.look(threading.Event()):
            assert time.monotonic() < began + 60
            time.sleep(0.02)
        assert time.monotonic() - began >= 0.4 + 0.3
    assert [only.read_bytes() for only in kept(watched.home)] == [content]


def test_a_file_that_somebody_has_open_for_writing_waits_however_long_he_pauses(
    watched: Folder, sqlite: Engine
) -> None:
    path = film(watched.folder / "a.dcm")
    with path.open("ab"):
        assert watched.look(5) == ""
        assert counts(sqlite)[1] == 0
    watched.look()
    assert counts(sqlite)[1] == 1


def test_a_film_that_is_there_already_is_removed_and_not_kept_twice(watched: Folder, sqlite: Engine) -> None:
    path = film(watched.folder / "a.dcm")
    shutil.copy(path, watched.folder / "b.dcm")
    watched.look()
    assert watched.names() == []
    assert counts(sqlite) == [1, 1, 1, 1]


def test_links_hidden_files_and_pipes_are_left_alone(watched: Folder, sqlite: Engine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = film(outside / "secret.dcm")
    (watched.folder / "link.dcm").symlink_to(secret)
    (watched.folder / "linked").symlink_to(outside)
    film(watched.folder / ".arriving.dcm")
    os.mkfifo(watched.folder / "pipe")
    assert watched.look(3) == ""
    assert counts(sqlite)[1] == 0
    assert secret.exists()


def refusals(watched: Folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in (watched.folder / "refused").glob("*.txt")}


def test_what_is_refused_is_set_aside_with_the_reason(watched: Folder, sqlite: Engine) -> None:
    (watched.folder / "sub").mkdir()
    (watched.folder / "notes").write_text("no film")
    (watched.folder / "sub" / "notes").write_text("other notes")
    film(watched.folder / "ct", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    other = film(watched.folder / "uid", SOPInstanceUID="1.2.3.4")
    other.write_bytes(other.read_bytes().replace(b"1.2.3.4", b"1.2.3.5", 1))  # in the file meta information alone
    (watched.folder / "large").write_bytes(bytes(MIB + 1))
    assert watched.look(max_bytes=MIB) == ""
    assert counts(sqlite)[1] == 0
    told = refusals(watched)
    assert sorted(told) == ["ct.txt", "large.txt", "notes.2.txt", "notes.txt", "uid.txt"]
    assert "no CR or DX image" in told["ct.txt"]
    assert "larger than dicom.max_instance_mib = 1" in told["large.txt"]
    assert "header cannot be read" in told["notes.txt"]
    assert "another SOP Instance UID than was announced" in told["uid.txt"]
    texts = {(watched.folder / "refused" / name).read_text() for name in ("notes", "notes.2")}
    assert texts == {"no film", "other notes"}
    before = watched.names()
    watched.look()
    assert watched.names() == before  # the folder of the refused is not watched


def test_a_name_as_long_as_names_may_be_is_set_aside_too(watched: Folder) -> None:
    (watched.folder / ("x" * 255)).write_text("no film")
    assert watched.look() == ""
    assert list(refusals(watched)) == ["x" * 50 + ".txt"]


def test_files_wait_while_the_disk_is_low_and_are_taken_after(watched: Folder, sqlite: Engine) -> None:
    film(watched.folder / "a.dcm")
    watched.store.min_free_bytes = 2**60
    assert "store.min_free_gib" in watched.look(3)
    assert watched.names() == ["a.dcm"]
    watched.store.min_free_bytes = 0
    assert watched.look() == ""
    assert counts(sqlite)[1] == 1


def test_files_wait_while_the_database_fails(watched: Folder, sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    film(watched.folder / "a.dcm")

    def fails(*_: object) -> bool:
        raise OperationalError("", {}, Exception())

    with monkeypatch.context() as patched:
        patched.setattr("cxrtriage.serve.files._insert", fails)
        assert "the database does not answer" in watched.look()
    assert watched.names() == ["a.dcm"]
    assert watched.look() == ""
    assert counts(sqlite)[1] == 1


def test_another_file_put_in_place_of_a_taken_one_is_taken_too(
    watched: Folder, sqlite: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(watched.folder / "a.dcm", 1)
    second = film(tmp_path / "second.dcm", 2)
    take = watching.take

    def take_and_replace(*arguments: Any, **options: Any) -> Any:
        answer = take(*arguments, **options)
        if second.exists():
            second.rename(watched.folder / "a.dcm")
        return answer

    monkeypatch.setattr(watching, "take", take_and_replace)
    watched.look(5)
    assert counts(sqlite)[1] == 2
    assert watched.names() == []


def test_a_folder_that_is_not_there_is_told_and_watched_when_it_comes(watched: Folder, sqlite: Engine) -> None:
    watched.folder.rmdir()
    assert "not there" in watched.look()
    watched.folder.mkdir()
    film(watched.folder / "a.dcm")
    assert watched.look() == ""
    assert counts(sqlite)[1] == 1


@pytest.mark.parametrize("place", [".", "..", "films", "incoming/x", "films/aa"])
def test_the_nodes_own_files_are_never_watched(tmp_path: Path, place: str) -> None:
    home = tmp_path / "home"
    with pytest.raises(ConfigError, match="the node's own files"):
        check_place(home / place, home)


def test_a_folder_under_home_may_be_watched(tmp_path: Path) -> None:
    check_place(tmp_path / "home" / "drop", tmp_path / "home")


def test_file_names_and_patients_are_not_logged(watched: Folder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    film(watched.folder / "VERYSECRET^NAME.dcm", PatientName="Verysecret^Name", PatientID="SECRETID")
    (watched.folder / "VERYSECRET^NOTES").write_text("SECRETID")
    watched.look()
    assert "kept instance" in caplog.text
    assert "refused instance" in caplog.text
    assert "SECRET" not in caplog.text.upper()
    assert "SECRET" not in "".join(refusals(watched).values()).upper()


# calls of the functions below and commits, from the store's opening to the removal of the file
STEPS = 22


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_killed_at_any_step_it_loses_nothing_and_keeps_nothing_twice(
    database_url: str, engine: Engine, tmp_path: Path, step: int
) -> None:
    place = Folder(tmp_path, engine)
    content = film(place.folder / "a.dcm").read_bytes()
    engine.dispose()

    def work(step_done: Callable[..., Any]) -> None:
        from sqlalchemy import event

        from cxrtriage.serve import files

        own = open_database(database_url)
        event.listen(own, "commit", step_done)

        def before(function: Any) -> Any:
            def stepped(*arguments: Any, **options: Any) -> Any:
                step_done()
                return function(*arguments, **options)

            return stepped

        for owner, name in (
            (watching.os, "open"), (watching.shutil, "copyfileobj"), (watching, "take"), (files, "_sync"),
            (Path, "hardlink_to"), (files, "_insert"), (files.audit, "record"), (Path, "lstat"), (Path, "unlink"),
        ):  # fmt: skip
            setattr(owner, name, before(getattr(owner, name)))
        Folder(tmp_path, own).look()

    assert die_at(step, work) == (9 if step < STEPS else 0), "the steps are those that were counted"
    assert len(kept(place.home)) >= (not (place.folder / "a.dcm").exists())
    Folder(tmp_path, engine).look()  # the next start
    assert place.names() == []
    assert counts(engine) == [1, 1, 1, 1]
    assert [found.read_bytes() for found in kept(place.home)] == [content]


def test_the_process_takes_films_beats_and_stops(tmp_path: Path, sqlite: Engine) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "cxrtriage.toml").write_text(
        f'[watch]\nfolder = "drop"\nsettle_s = 0.1\n[store]\nmin_free_gib = 0.01\n[database]\nurl = "{sqlite.url}"\n'
    )
    drop = home / "drop"
    drop.mkdir()
    film(drop / "a.dcm", SOPClassUID=DigitalXRayImageStorageForPresentation)
    command = [sys.executable, "-m", "cxrtriage.serve", "folder", str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        deadline = time.monotonic() + 90
        while (drop / "a.dcm").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with reading(sqlite) as connection:
            assert connection.execute(select(heartbeat.c.name, heartbeat.c.note)).all() == [("folder", "")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stderr.close()
    assert counts(sqlite)[1] == 1
    assert not list((home / "incoming").iterdir())


def test_the_process_loads_no_torch() -> None:
    code = "import sys, cxrtriage.serve.intake.folder; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
