"""Bring a node's database to the tables of this version; run by `serve` at every start.

An SQLite file that will be changed is copied first, to `backups/` beside it. One process migrates at a
time. A step that fails is undone as a whole, and the node does not start.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import now
from cxrtriage.serve.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x637872  # of PostgreSQL, any number that is always the same


def migrate(engine: Engine, migrations: Path = MIGRATIONS) -> Path | None:
    """Create or upgrade the tables.

    Parameters
    ----------
    engine : from `open_database`
    migrations : folder with `versions/`

    Returns
    -------
    Path or None
        Of the copy that was made before an upgrade.

    Raises
    ------
    ConfigError
        If the database does not answer, a step fails, or it was made by a newer cxrtriage.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations))
    script = ScriptDirectory.from_config(config)
    backup = None
    try:
        with _alone(engine):
            found, wanted = database_version(engine), script.get_current_head()
            if found == wanted:
                return None
            if found is not None:
                script.get_revision(found)  # raises for one that this version does not know
                backup = _back_up(engine, found)
            with (
                engine.connect() as connection,
                EnvironmentContext(config, script, fn=lambda at, _: script._upgrade_revs("head", at)) as environment,
            ):
                environment.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
                with environment.begin_transaction():
                    environment.run_migrations()
                connection.commit()
    except CommandError as error:
        raise ConfigError(
            f"the database has tables of a version that this cxrtriage does not know ({error}). "
            "Start the newer cxrtriage that made them, or restore a backup."
        ) from error
    except SQLAlchemyError as error:
        raise ConfigError(f"the database could not be opened or brought up to date: {first_line(error)}.") from error
    return backup


def database_version(engine: Engine) -> str | None:
    """Return the version of the tables that the database has, None if it has none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def first_line(error: Exception) -> str:
    """Return what a database's error says, without its statement."""
    return str(error).splitlines()[0].rstrip(". ")


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold a lock against other processes that migrate the same database."""
    if engine.dialect.name == "sqlite":
        path = _sqlite_path(engine)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.migrating").open("w") as lock:
            flock(lock, LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})


def _back_up(engine: Engine, version: str) -> Path | None:
    """Copy an SQLite database, consistent though others may write. PostgreSQL is the site's own to back up."""
    if engine.dialect.name != "sqlite":
        return None
    path = _sqlite_path(engine)
    backup = path.parent / "backups" / f"{path.stem}-{version}-{now():%Y%m%dT%H%M%S}.sqlite"
    backup.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    return backup


def _sqlite_path(engine: Engine) -> Path:
    name: Any = engine.url.database
    return Path(name)
