"""A node copied while it runs, and made again from the copy."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from cxrtriage.cli import keeping
from cxrtriage.errors import ConfigError
from cxrtriage.serve import audit, backup
from cxrtriage.serve.backup import Manifest, back_up
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.header import read_header
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.models import add_model
from cxrtriage.serve.restore import restore
from cxrtriage.serve.settings import load_settings
from cxrtriage.serve.tables import instance, metadata
from serve.peers import Node, association, film, send


@pytest.fixture
def home(database_url: str, tmp_path: Path) -> Path:
    """A node's folder with three films, and settings that name a database of each kind."""
    home = tmp_path / "home"
    home.mkdir()
    url = "" if database_url.startswith("sqlite") else database_url
    settings = '[dicom]\ntls_certificate = "tls/c.pem"\ntls_key = "tls/k.pem"\n'
    (home / "cxrtriage.toml").write_text(f'[database]\nurl = "{url}"\n{settings}')
    (home / "recipients.csv").write_text("key,address\n")
    (home / "deidentify.key").write_bytes(b"secret")
    (home / "tls").mkdir()
    (home / "tls" / "k.pem").write_text("key")
    with opened(home) as engine:
        migrate(engine)
        keep(home, engine, range(3))
    return home


@contextmanager
def opened(home: Path) -> Iterator[Engine]:
    engine = open_database(load_settings(home).database.url)
    yield engine
    engine.dispose()


def keep(home: Path, engine: Engine, numbers: range) -> None:
    with FilmStore(home, engine, 0.001) as store:
        for number in numbers:
            part = film(store.incoming / f"{number}.dcm", number, SOPInstanceUID=f"1.2.{number}")
            store.keep(part, read_header(part), "SENDER")
            part.unlink()


def copy(home: Path, out: Path) -> backup.Copied:
    with opened(home) as engine:
        return back_up(home, out, load_settings(home), engine)


def rows(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    with reading(engine) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key)).all()]
            for table in metadata.sorted_tables
        }


@pytest.fixture
def go_elsewhere(
    database_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """What lets a restored node use another, empty database where it is not a file under HOME anyway."""
    if database_url.startswith("sqlite"):
        return lambda: None
    url = request.getfixturevalue("postgres")()
    return lambda: monkeypatch.setenv("CXRTRIAGE_DATABASE_URL", url)


def test_what_is_restored_is_what_was_copied(
    home: Path, tmp_path: Path, model_file: Path, go_elsewhere: Callable[[], None]
) -> None:
    with opened(home) as engine:
        model = add_model(engine, home, model_file, "active")
        before = rows(engine)
    copied = copy(home, tmp_path / "out")
    assert (copied.films, copied.new, copied.deleted, copied.damaged) == (3, 3, 0, 0)
    go_elsewhere()
    restored = restore(tmp_path / "out", tmp_path / "new")
    assert (restored.films, restored.lost, restored.warnings) == (3, [], [])
    named = [home / name for name in ("cxrtriage.toml", "recipients.csv", "deidentify.key", "tls/k.pem", model.path)]
    for path in [*named, *(home / "films").rglob("*.dcm")]:
        assert (tmp_path / "new" / path.relative_to(home)).read_bytes() == path.read_bytes()
    with opened(tmp_path / "new") as engine:
        after = rows(engine)
        with reading(engine) as connection:
            assert audit.verify(connection) == []
        with pytest.raises(DBAPIError, match="never"), engine.begin() as connection:
            connection.execute(text("DELETE FROM audit"))
    assert "restored from the backup" in str(after["audit"].pop())
    assert after == before


def test_films_that_come_while_the_copy_runs_are_all_in_it_or_not_at_all(
    home: Path, tmp_path: Path, go_elsewhere: Callable[[], None]
) -> None:
    stopping = threading.Event()

    def receive() -> None:
        with opened(home) as engine:
            number = 100
            while not stopping.is_set():
                keep(home, engine, range(number, number + 1))
                number += 1

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        for _ in range(3):
            copied = copy(home, tmp_path / "out")
            time.sleep(0.2)
    finally:
        stopping.set()
        thread.join()
    assert copied.deleted == 0
    go_elsewhere()
    restored = restore(tmp_path / "out", tmp_path / "new")
    assert (restored.lost, restored.warnings) == ([], [])
    with opened(tmp_path / "new") as engine, reading(engine) as connection:
        paths = connection.execute(select(instance.c.path)).scalars().all()
    assert restored.films == len(paths) > 3
    assert all((tmp_path / "new" / path).exists() for path in paths)


def test_a_later_backup_copies_what_is_new(home: Path, tmp_path: Path) -> None:
    copy(home, tmp_path / "out")
    with opened(home) as engine:
        keep(home, engine, range(3, 5))
    assert copy(home, tmp_path / "out").new == 2
    assert len(list((tmp_path / "out").glob("state-*"))) == 1


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A node's folder with its SQLite database and three films."""
    home = tmp_path / "home"
    home.mkdir()
    with opened(home) as engine:
        migrate(engine)
        keep(home, engine, range(3))
    return home


def test_a_run_that_is_interrupted_leaves_the_backup_before_it(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(one, tmp_path / "out")
    before = Manifest.read(tmp_path / "out")
    with opened(one) as engine:
        keep(one, engine, range(3, 6))
    with monkeypatch.context() as patched:
        patched.setattr(os, "sync", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            copy(one, tmp_path / "out")
    assert Manifest.read(tmp_path / "out") == before
    assert restore(tmp_path / "out", tmp_path / "new").films == 3


def test_a_film_deleted_by_retention_is_counted_and_no_reason_to_fail(one: Path, tmp_path: Path) -> None:
    next((one / "films").rglob("*.dcm")).unlink()
    copied = copy(one, tmp_path / "out")
    assert (copied.films, copied.deleted) == (2, 1)
    restored = restore(tmp_path / "out", tmp_path / "new")
    assert (restored.films, restored.lost) == (2, [])


def test_without_links_films_are_copied_and_their_content_checked(
    one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    path = next((one / "films").rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with opened(one) as engine:
        settings = load_settings(one)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "hardlink_to", no_links)
            copied = back_up(one, tmp_path / "out", settings, engine)
    assert (copied.new, copied.linked, copied.damaged) == (3, 0, 1)
    restored = restore(tmp_path / "out", tmp_path / "new")
    assert restored.lost == [path.relative_to(one).as_posix()]
    assert restored.films == 2


@pytest.mark.parametrize("name", ["database.sqlite", "cxrtriage.toml", "files.csv"])
def test_a_backup_that_is_damaged_is_refused_and_makes_no_node(one: Path, tmp_path: Path, name: str) -> None:
    copy(one, tmp_path / "out")
    (path,) = (tmp_path / "out").rglob(name)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match=rf"{name} is (missing or )?not as the backup wrote it"):
        restore(tmp_path / "out", tmp_path / "new")
    assert not (tmp_path / "new" / "cxrtriage.toml").exists()
    path.write_bytes(b"")
    shutil.rmtree(tmp_path / "out")
    copy(one, tmp_path / "out")
    assert restore(tmp_path / "out", tmp_path / "new").films == 3  # what the first try left is no hindrance


def test_nothing_is_ever_overwritten(one: Path, tmp_path: Path) -> None:
    copy(one, tmp_path / "out")
    with pytest.raises(ConfigError, match="is not empty"):
        restore(tmp_path / "out", one)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no backup"):
        copy(one, tmp_path / "other")
    with pytest.raises(ConfigError, match="is inside"):
        copy(one, one / "backup")
    (one / "cxrtriage.toml").write_text(f'[database]\nurl = "sqlite:///{one}/cxrtriage.sqlite"\n')
    copy(one, tmp_path / "named")
    with pytest.raises(ConfigError, match="there is a database at"):
        restore(tmp_path / "named", tmp_path / "new")


def test_a_database_of_another_kind_or_one_in_use_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    copy(home, tmp_path / "out")
    if database_url.startswith("sqlite"):
        monkeypatch.setenv("CXRTRIAGE_DATABASE_URL", "postgresql://nobody@nowhere/node")
        expected = "another kind"
    else:
        expected = "has tables already"
    with pytest.raises(ConfigError, match=expected):
        restore(tmp_path / "out", tmp_path / "new")


def test_a_trail_cut_before_the_backup_is_named_at_the_restoration(one: Path, tmp_path: Path) -> None:
    with opened(one) as engine:
        with reading(engine) as connection:
            audit.keep_head(one, audit.head_of(connection))
        with engine.begin() as connection:
            connection.execute(text("DROP TRIGGER audit_no_delete"))
            connection.execute(text("DELETE FROM audit WHERE id = 3"))
    copy(one, tmp_path / "out")
    status, said = command("restore", "--from", tmp_path / "out", "--home", tmp_path / "new")
    assert status == 1
    assert "The audit trail ends at row 2; it had 3 rows before" in said


def command(*words: object) -> tuple[int, str]:
    app = typer.Typer()
    keeping.add_commands(app)
    done = CliRunner().invoke(app, list(map(str, words)))
    return done.exit_code, done.output


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_running_node_is_copied_killed_restored_and_serves_again(tmp_path: Path, model_file: Path) -> None:
    with Node(tmp_path / "home", model_file) as node:
        with association(node.port) as peer:
            for number in range(3):
                assert send(peer, film(tmp_path / f"{number}.dcm", number)) == 0
        node.wait_until(lambda: node.settled(3))
        status, said = command("backup", "--home", node.home, "--out", tmp_path / "out")
        assert (status, said.splitlines()[0]) == (0, "3 films in the backup, 3 of them new")
        before = node.rows("SELECT * FROM result ORDER BY id")
    shutil.rmtree(tmp_path / "home")
    status, said = command("restore", "--from", tmp_path / "out", "--home", tmp_path / "again")
    assert (status, said.splitlines()[-1]) == (0, str(tmp_path / "again"))
    with Node(tmp_path / "again", model_file) as node:
        assert node.rows("SELECT * FROM result ORDER BY id") == before
        with association(node.port) as peer:
            assert send(peer, tmp_path / "0.dcm") == 0  # the same film: nothing new
            assert send(peer, film(tmp_path / "3.dcm", 3)) == 0
        node.wait_until(lambda: node.settled(4))
        assert len(node.rows("SELECT id FROM result")) == 4


def test_retain_says_what_it_would_delete(one: Path) -> None:
    with pytest.raises(ConfigError, match="kept for ever"):
        keeping.retain(one)
    (one / "cxrtriage.toml").write_text("[retention]\nfilms_days = 30\n")
    with opened(one) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE study SET read_at = '2020-01-01 00:00:00.000000'"))
        connection.execute(text("UPDATE job SET state = 'done'"))
    said = command("retain", "--home", one, "--dry-run")[1]
    assert said == "would delete 3 films of 3 studies read over 30 days ago, 0.0 GiB\n"
    assert command("retain", "--home", one)[1].startswith("deleted 3 films of 3 studies")
    assert list((one / "films").rglob("*.dcm")) == []
