"""Make a node from its backup: the folder that `backup` wrote in, a new HOME and database out.

Everything is first put together in HOME/.restoring and checked against its SHA-256; then it is moved into
place, the settings last, so that a run that is interrupted leaves no node that could be started. A HOME that
holds anything, and a database that has tables, are refused.
"""

import csv
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import inspect, make_url

from cxrtriage.atomic import disk_full_told
from cxrtriage.digest import sha256_of
from cxrtriage.errors import ConfigError
from cxrtriage.serve import audit
from cxrtriage.serve.backup import (
    FILES,
    POSTGRESQL_COPY,
    SQLITE_COPY,
    Manifest,
    Row,
    run_postgresql,
)
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.settings import SETTINGS_FILE, load_settings

STAGE = ".restoring"
FILMS = "films/"


@dataclass(slots=True)
class Restored:
    """What a restoration found.

    Parameters
    ----------
    made_at : when the backup was made
    films : that are in place
    lost : paths of films that the backup no longer has, or not as they were received
    warnings : sentences, such as what is wrong with the audit trail
    """

    made_at: str
    films: int = 0
    lost: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def restore(source: Path, home: Path) -> Restored:
    """Make a node at `home` from a backup.

    Parameters
    ----------
    source : folder that `back_up` wrote
    home : new or empty folder

    Raises
    ------
    ConfigError
        If there is no whole backup, `home` or the database is not empty, or pg_restore is not there or fails.
    """
    manifest = Manifest.read(source)
    if home.exists() and any(path.name != STAGE for path in home.iterdir()):
        raise ConfigError(f"{home} is not empty, and a restoration overwrites nothing. Choose a new --home.")
    table = source / manifest.state / FILES
    if not table.is_file() or sha256_of(table) != manifest.files_sha256:
        raise ConfigError(f"{table} is not as the backup wrote it. Use another backup.")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    stage = home / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    restored = Restored(manifest.made_at)
    with disk_full_told(home / SETTINGS_FILE):
        for place, path, _, sha256 in _rows(table):
            _fetch(source / path, stage, place, sha256, restored)
    url = _restore_database(stage, home, manifest.database)
    os.sync()
    for part in sorted(stage.iterdir(), key=lambda part: part.name == SETTINGS_FILE):
        part.rename(home / part.name)
    stage.rmdir()
    _check(home, url, restored)
    return restored


def _rows(table: Path) -> Iterator[Row]:
    with table.open(encoding="utf-8", newline="") as file:
        for place, path, size, sha256 in csv.reader(file):
            yield place, path, int(size), sha256


def _fetch(path: Path, stage: Path, place: str, sha256: str, restored: Restored) -> None:
    """Copy a file of the backup; a film that is damaged is noted, anything else that is ends the restoration."""
    target = stage / place
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = path.is_file()
    if whole:
        shutil.copyfile(path, target)
        whole = sha256_of(target) == sha256
    if place.startswith(FILMS):
        if whole:
            restored.films += 1
        else:
            target.unlink(missing_ok=True)
            restored.lost.append(place)
    elif not whole:
        raise ConfigError(f"{path} is missing or not as the backup wrote it. Use another backup.")
    else:
        target.chmod(0o600)  # it may be a key


def _restore_database(stage: Path, home: Path, kind: str) -> str:
    """Fill the database that the restored settings name, and return its URL."""
    url = load_settings(stage).database.url
    parsed = make_url(url)
    if (parsed.get_backend_name() == "postgresql") != (kind == "postgresql"):
        raise ConfigError(
            f"the backup holds a database of {kind}, the settings or the environment name another kind. "
            "Give the URL of an empty one of the same kind."
        )
    if kind == "sqlite":
        default = f"sqlite:///{stage.absolute()}/cxrtriage.sqlite"
        target = home / "cxrtriage.sqlite" if url == default else Path(parsed.database or "")
        if target.exists():
            raise ConfigError(f"there is a database at {target} already. Move it away, or change [database] url.")
        copy = stage / SQLITE_COPY
        with closing(sqlite3.connect(copy)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise ConfigError(f"the backup's database is damaged ({verdict}). Use another backup.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(copy, target)
        return f"sqlite:///{target.absolute()}"
    engine = open_database(url)
    try:
        if inspect(engine).get_table_names():
            raise ConfigError("the PostgreSQL database has tables already. Give the URL of an empty one.")
    finally:
        engine.dispose()
    copy = stage / POSTGRESQL_COPY
    database = parsed.database or ""
    run_postgresql(
        "pg_restore",
        ["--no-owner", "--exit-on-error", "--single-transaction", f"--dbname={database}", str(copy)],
        url,
    )
    copy.unlink()
    return url


def _check(home: Path, url: str, restored: Restored) -> None:
    """Verify the audit trail against the head in the backup, and record the restoration in it."""
    engine = open_database(url)
    try:
        migrate(engine)
        with reading(engine) as connection:
            restored.warnings = audit.verify(connection, audit.kept_head(home))
        with engine.begin() as connection:
            audit.record(
                connection,
                "changed",
                actor="command line",
                action="C",
                detail={"restored from the backup of": restored.made_at, "films": restored.films},
            )
    finally:
        engine.dispose()
