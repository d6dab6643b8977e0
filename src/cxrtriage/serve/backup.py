"""Copy a running node: HOME and its database in, a folder out from which `restore` makes the same node again.

    OUT/backup.json             which state is the valid one; written last
    OUT/state-<time>/           database, settings, recipients, certificates, audit.head, files.csv
    OUT/films, OUT/models       shared by all backups into OUT; a later one copies only what is new

The database is copied as of one moment (SQLite by its backup API, PostgreSQL by pg_dump of a snapshot), and then
the films that this copy names: a film is on the disk before its row, so none can be missing but those deleted
on purpose. A run that is interrupted leaves the backup before it as it was. Where OUT is on the disk of HOME the
films are linked, not copied: that helps against a mistake, not against a broken disk.

Nothing is ever deleted from OUT/films; a site that must forget films begins a new OUT and destroys the old one.
"""

import csv
import errno
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Engine, make_url, select, text

from cxrtriage import __version__
from cxrtriage.atomic import disk_full_told, replacing
from cxrtriage.digest import sha256_of
from cxrtriage.errors import ConfigError
from cxrtriage.serve import audit
from cxrtriage.serve.database import now
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import instance, model_version

MANIFEST = "backup.json"
FILES = "files.csv"  # in the state's folder: path in the node's folder, path in OUT, bytes, SHA-256
SQLITE_COPY, POSTGRESQL_COPY = "database.sqlite", "database.pgdump"
FORMAT = 1
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)  # another disk, or one without links

Row = tuple[str, str, int, str]  # of FILES


@dataclass(frozen=True, slots=True)
class Manifest:
    """What OUT/backup.json says.

    Parameters
    ----------
    format : of the folder; another one is refused
    version : of the cxrtriage that made it
    made_at : when, ISO 8601 in UTC
    state : folder of the state, in OUT
    database : "sqlite" or "postgresql"
    files_sha256 : of the state's files.csv, which has the SHA-256 of every other file
    """

    format: int
    version: str
    made_at: str
    state: str
    database: str
    files_sha256: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest of a backup.

        Raises
        ------
        ConfigError
            If there is no backup, none that is complete, or one of another format.
        """
        path = folder / MANIFEST
        try:
            manifest = cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{folder} has no {MANIFEST}: there is no backup, or none was completed. Give the --out of a backup."
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"cannot read {path}: it is no manifest of a backup.") from error
        if manifest.format != FORMAT:
            raise ConfigError(
                f"{path} is of format {manifest.format}, expected {FORMAT}. Use cxrtriage {manifest.version}."
            )
        return manifest


@dataclass(slots=True)
class Copied:
    """What a backup did.

    Parameters
    ----------
    films : in the backup now
    new : of them that were not there before
    linked : of the new ones that are links to the node's own files, on the same disk
    deleted : films of rows that the node has deleted, and that no earlier backup had
    damaged : films whose content is no longer what was received; copied as they are
    """

    films: int = 0
    new: int = 0
    linked: int = 0
    deleted: int = 0
    damaged: int = 0


def back_up(home: Path, out: Path, settings: NodeSettings, engine: Engine) -> Copied:
    """Copy the node at `home` to `out` while it runs.

    Parameters
    ----------
    home : the node's folder
    out : new folder, or that of an earlier backup of the same node
    settings, engine : of the node

    Raises
    ------
    ConfigError
        If `out` is inside `home` or holds something else, or pg_dump is not there or fails.
    """
    if out.resolve().is_relative_to(home.resolve()):
        raise ConfigError(f"{out} is inside {home}, and would be lost with it. Choose another --out.")
    if out.exists() and any(out.iterdir()):
        Manifest.read(out)
    made_at, kind = now(), engine.dialect.name
    state = f"state-{made_at:%Y%m%dT%H%M%S%f}"
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    (out / state).mkdir(mode=0o700)
    copied = Copied()
    with disk_full_told(out / state), (out / state / FILES).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        for small in _small_files(home, settings):
            table.writerow(_copy_small(home, small, out, state))
        with _database_copy(engine, settings.database.url, out / state) as (database, films, models):
            table.writerow(_described(out, database, database.name))
            for path, sha256 in models:
                if not (out / path).exists():
                    _take(home / path, out / path)
                table.writerow((path, path, (out / path).stat().st_size, sha256))
            for path, sha256, size in films:
                if _take_film(home / path, out / path, sha256, copied):
                    table.writerow((path, path, size, sha256))
    manifest = Manifest(FORMAT, __version__, made_at.isoformat(), state, kind, sha256_of(out / state / FILES))
    os.sync()  # the manifest must not be on the disk before what it vouches for
    with replacing(out / MANIFEST) as temporary:
        temporary.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    for earlier in out.glob("state-*"):
        if earlier.name != state:
            shutil.rmtree(earlier)
    with engine.begin() as connection:
        audit.record(
            connection, "export", actor="command line", action="R", detail={"backup": state, "films": copied.films}
        )
    return copied


def postgresql_environment(url: str) -> dict[str, str]:
    """Return the environment with which PostgreSQL's programs find a database; no process list shows it."""
    parsed: URL = make_url(url)
    query = {name: value for name, value in parsed.query.items() if isinstance(value, str)}
    values = {
        "PGHOST": parsed.host or query.get("host"),
        "PGPORT": parsed.port or query.get("port"),
        "PGUSER": parsed.username,
        "PGPASSWORD": parsed.password,
        "PGDATABASE": parsed.database,
        "PGSSLMODE": query.get("sslmode"),
    }
    return {**os.environ, **{name: str(value) for name, value in values.items() if value}}


def run_postgresql(program: str, arguments: list[str], url: str) -> None:
    """Run pg_dump or pg_restore.

    Raises
    ------
    ConfigError
        If it is not installed or fails.
    """
    try:
        subprocess.run(
            [program, *arguments], check=True, capture_output=True, text=True, env=postgresql_environment(url)
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"{program} is not installed here. Install PostgreSQL's client programs, "
            "or leave the database to the site's own backups."
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["it said nothing"])[0]
        raise ConfigError(f"{program} failed: {said.rstrip('.')}.") from error


@contextmanager
def _database_copy(
    engine: Engine, url: str, folder: Path
) -> Iterator[tuple[Path, Iterator[tuple[str, str, int]], list[tuple[str, str]]]]:
    """Copy the database; yield the copy, and what it says of films (path, SHA-256, bytes) and models."""
    films = select(instance.c.path, instance.c.file_sha256, instance.c.file_bytes).order_by(instance.c.id)
    models = select(model_version.c.path, model_version.c.sha256)
    if engine.dialect.name == "sqlite":
        copy = folder / SQLITE_COPY
        source_path: Any = engine.url.database
        with closing(sqlite3.connect(source_path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, until a node opens it again
            yield copy, target.execute(str(films)), target.execute(str(models)).fetchall()
        return
    copy = folder / POSTGRESQL_COPY
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
        run_postgresql("pg_dump", ["--format=custom", f"--snapshot={snapshot}", f"--file={copy}"], url)
        rows = connection.execution_options(yield_per=1000).execute(films)
        yield copy, (tuple(row) for row in rows), [tuple(row) for row in connection.execute(models)]


def _small_files(home: Path, settings: NodeSettings) -> list[Path]:
    """Return what else makes this node: all that lies directly in HOME, and what the settings name under it."""
    here = [path for path in home.iterdir() if not path.name.startswith(".") and ".sqlite" not in path.name]
    named = [value for _, part in settings for _, value in part if isinstance(value, Path)]
    inside = [path.resolve() for path in [*here, *named] if path.resolve().is_relative_to(home.resolve())]
    return sorted({path for path in inside if path.is_file()})


def _copy_small(home: Path, path: Path, out: Path, state: str) -> Row:
    place = path.relative_to(home.resolve())
    copy = out / state / "home" / place
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, copy)
    return _described(out, copy, place.as_posix())


def _described(out: Path, copy: Path, place: str) -> Row:
    return place, copy.relative_to(out).as_posix(), copy.stat().st_size, sha256_of(copy)


def _take_film(source: Path, copy: Path, sha256: str, copied: Copied) -> bool:
    """Bring a film into the backup; False if neither the node nor the backup has it."""
    if not copy.exists():
        try:
            found = _take(source, copy)
        except FileNotFoundError:
            copied.deleted += 1
            return False
        copied.new += 1
        copied.linked += found is None
        copied.damaged += found not in (None, sha256)
    copied.films += 1
    return True


def _take(source: Path, copy: Path) -> str | None:
    """Link a file that never changes, or copy it and return its SHA-256."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        copy.hardlink_to(source)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        content = source.read_bytes()
        with replacing(copy) as temporary:
            temporary.write_bytes(content)
        return hashlib.sha256(content).hexdigest()
    return None
