"""Keeping films: what is there after every way it can go wrong."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import OperationalError

from cxrtriage.serve import files
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.files import DiskLowError, FilmStore
from cxrtriage.serve.header import read_header
from cxrtriage.serve.tables import instance, job, patient, study
from serve.peers import film

PLENTY = 0.001  # GiB that must be free


def arrive(store: FilmStore, path: Path, name: str = "part.dcm") -> Path:
    return Path(shutil.copy(path, store.incoming / name))


def keep(store: FilmStore, path: Path, name: str = "part.dcm") -> bool:
    part = arrive(store, path, name)
    new = store.keep(part, read_header(part), "SENDER")
    part.unlink()
    return new


def counts(engine: Engine) -> list[int]:
    """Return how many studies, instances, patients and jobs there are."""
    with reading(engine) as connection:
        return [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (study, instance, patient, job)
        ]


def kept(home: Path) -> list[Path]:
    return sorted((home / "films").rglob("*.dcm"))


def test_a_film_is_kept_byte_for_byte_under_a_name_made_of_hashes(engine: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm", SOPInstanceUID="1.2.3")
    with FilmStore(tmp_path / "home", engine, PLENTY) as store:
        assert keep(store, path)
    (only,) = kept(tmp_path / "home")
    assert only.read_bytes() == path.read_bytes()
    assert only.name.startswith(hashlib.sha256(b"1.2.3").hexdigest())
    with reading(engine) as connection:
        row = connection.execute(select(instance)).one()
    assert tmp_path / "home" / row.path == only
    assert row.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row.calling_ae, row.file_bytes) == ("SENDER", path.stat().st_size)
    assert counts(engine) == [1, 1, 1, 1]


def test_the_same_film_again_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    with FilmStore(tmp_path / "home", engine, PLENTY) as store:
        assert keep(store, path)
        before = kept(tmp_path / "home")[0].stat()
        assert not keep(store, path)
    assert kept(tmp_path / "home")[0].stat().st_mtime_ns == before.st_mtime_ns
    assert counts(engine) == [1, 1, 1, 1]


def test_the_same_uid_with_other_pixels_is_kept_and_queued_beside_the_first(engine: Engine, tmp_path: Path) -> None:
    uids = {"SOPInstanceUID": "1.2.1", "StudyInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.3"}
    first, second = film(tmp_path / "a.dcm", 1, **uids), film(tmp_path / "b.dcm", 2, **uids)
    with FilmStore(tmp_path / "home", engine, PLENTY) as store:
        assert keep(store, first)
        assert keep(store, second)
    assert {path.read_bytes() for path in kept(tmp_path / "home")} == {first.read_bytes(), second.read_bytes()}
    assert counts(engine) == [1, 2, 2, 2]


def test_the_same_film_eight_times_at_once_is_kept_once(engine: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    with FilmStore(tmp_path / "home", engine, PLENTY) as store, ThreadPoolExecutor(8) as threads:
        new = list(threads.map(lambda number: keep(store, path, f"{number}.dcm"), range(8)))
    assert sum(new) == 1
    assert len(kept(tmp_path / "home")) == 1
    assert counts(engine) == [1, 1, 1, 1]


def test_a_film_whose_file_has_gone_is_kept_again(sqlite: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    with FilmStore(tmp_path / "home", sqlite, PLENTY) as store:
        keep(store, path)
        kept(tmp_path / "home")[0].unlink()
        assert not keep(store, path)
    assert kept(tmp_path / "home")[0].read_bytes() == path.read_bytes()


def test_films_are_refused_while_the_disk_is_low_and_taken_after(sqlite: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    with FilmStore(tmp_path / "home", sqlite, 1e6) as store:
        with pytest.raises(DiskLowError, match=r"GiB free, expected at least 1000000.00 GiB \(store.min_free_gib\)"):
            keep(store, path)
        store.min_free_bytes = 0
        assert keep(store, path)


@contextmanager
def without_database() -> Iterator[None]:
    """Let every row be refused, as by a database that went away."""
    with pytest.MonkeyPatch.context() as patched:
        away = OperationalError("INSERT", {}, Exception("server closed the connection"))
        patched.setattr(files, "insert_new", Mock(side_effect=away))
        yield


def test_a_film_that_the_database_did_not_take_gets_its_rows_at_the_next_start(engine: Engine, tmp_path: Path) -> None:
    path, home = film(tmp_path / "a.dcm"), tmp_path / "home"
    with without_database(), FilmStore(home, engine, PLENTY) as store:
        for _ in range(2):  # the sender tries again, and gives up
            part = arrive(store, path)
            with pytest.raises(OperationalError):
                store.keep(part, read_header(part), "SENDER")
            part.unlink()
    assert counts(engine) == [0, 0, 0, 0]
    with FilmStore(home, engine, PLENTY):
        assert counts(engine) == [1, 1, 1, 1]
    assert len(kept(home)) == 1
    assert not list((home / "incoming").iterdir())


def test_a_film_that_the_database_takes_when_it_is_sent_again_leaves_nothing_behind(
    engine: Engine, tmp_path: Path
) -> None:
    path, home = film(tmp_path / "a.dcm"), tmp_path / "home"
    with FilmStore(home, engine, PLENTY) as store:
        with without_database():
            part = arrive(store, path)
            with pytest.raises(OperationalError):
                store.keep(part, read_header(part), "SENDER")
            part.unlink()
        assert keep(store, path)
        assert counts(engine) == [1, 1, 1, 1]
        assert [left.name for left in store.incoming.iterdir()] == ["lock"], "or retention could not delete the film"


def test_two_receivers_do_not_sweep_each_other(sqlite: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    with FilmStore(tmp_path / "home", sqlite, PLENTY) as first:
        part = arrive(first, path)
        with FilmStore(tmp_path / "home", sqlite, PLENTY):
            assert part.exists()
        assert part.exists()
    assert not list((tmp_path / "home" / "incoming").iterdir())


STEPS = 6  # sync of file, link, sync of folder, begin, insert, commit


def die_at(step: int, work: Callable[[Callable[..., Any]], None]) -> int:
    """Run `work` in a process that is gone, without any clean-up, at the given call of the function it gets."""
    child = os.fork()
    if child == 0:
        calls = 0

        def counting(*_: object) -> None:
            nonlocal calls
            if calls == step:
                os._exit(9)
            calls += 1

        try:
            work(counting)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_a_receiver_killed_at_any_step_loses_nothing_it_acknowledged_and_keeps_nothing_twice(
    database_url: str, engine: Engine, tmp_path: Path, step: int
) -> None:
    path = film(tmp_path / "a.dcm")
    home = tmp_path / "home"
    engine.dispose()

    def receive(step_done: Callable[..., Any]) -> None:
        from sqlalchemy import event

        own = open_database(database_url)
        store = FilmStore(home, own, PLENTY).__enter__()
        part = arrive(store, path)
        header = read_header(part)

        def before(function: Any) -> Any:
            def stepped(*arguments: Any) -> Any:
                step_done()
                return function(*arguments)

            return stepped

        files._sync = before(files._sync)
        Path.hardlink_to = before(Path.hardlink_to)  # type: ignore[method-assign]
        files._insert = before(files._insert)
        event.listen(own, "commit", step_done)
        store.keep(part, header, "SENDER")
        step_done()
        os._exit(0)

    status = die_at(step, receive)
    acknowledged = status == 0
    assert acknowledged == (step >= 6), "the steps are those that were counted"
    with FilmStore(home, engine, PLENTY) as store:  # the next start
        recovered = counts(engine)
        assert len(kept(home)) == recovered[1] == recovered[3]
        if acknowledged:
            assert recovered == [1, 1, 1, 1]
        keep(store, path)  # the sender sends again
    assert counts(engine) == [1, 1, 1, 1]
    assert [found.read_bytes() for found in kept(home)] == [path.read_bytes()]
    assert not list((home / "incoming").iterdir())
