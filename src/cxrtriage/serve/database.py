"""The database of a node: a URL in, an engine out; `files`, `queue` and the pages after them use it.

SQLite under HOME for one machine, PostgreSQL for several; the rest of the node does not know which. A
transaction that may write begins with SQLite's write lock (`BEGIN IMMEDIATE`), so that it never has to be
run again half way; `reading` takes none. A commit is on the disk when it returns (`synchronous=FULL`; with
PostgreSQL by its default `synchronous_commit=on`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from cxrtriage.errors import ConfigError

BUSY_S = 30  # how long a writer waits for another one
READ_ONLY = "cxrtriage_reading"

# libpq's; without them a process whose network has gone waits for a quarter of an hour, and cannot even be stopped
NETWORK_LIMITS = {
    "connect_timeout": 10,  # s
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # ms
}
# PostgreSQL's: else it keeps the locks of a client that has gone for two hours
SERVER_LIMITS = {
    "tcp_keepalives_idle": 10,  # s
    "tcp_keepalives_interval": 5,  # s
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # ms
}


def now() -> datetime:
    """Return the time, in UTC with its zone."""
    return datetime.now(UTC)


def open_database(url: str) -> Engine:
    """Return an engine; nothing is connected yet.

    Parameters
    ----------
    url : "sqlite:///path" or "postgresql://user@host/name"

    Raises
    ------
    ConfigError
        If it is no such URL. The message does not repeat it, since it may hold a password.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
            raise ArgumentError(f"it begins with {parsed.drivername}")
    except ArgumentError as error:
        raise ConfigError(
            "the database URL cannot be used: expected postgresql://user@host/name or sqlite:///path."
        ) from error
    limits = NETWORK_LIMITS if parsed.drivername == "postgresql+psycopg" else {}
    # hide_parameters: an error's text would else quote the row, and with it a patient's name
    engine = create_engine(
        parsed,
        hide_parameters=True,
        pool_pre_ping=True,
        max_overflow=50,
        connect_args={name: value for name, value in limits.items() if name not in parsed.query},
    )
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _prepare_postgresql)
    else:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that only reads; with SQLite it waits for no writer."""
    with engine.connect() as connection:
        yield connection.execution_options(**{READ_ONLY: True})


def insert_new(connection: Connection, table: Table, **values: Any) -> int | None:
    """Insert a row unless a unique column already holds its value; return its key, or None if it was there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    (key,) = table.primary_key
    insert = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(key)
    return connection.execute(insert).scalar()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # or the driver would begin transactions of its own kind
    for pragma in ("journal_mode=WAL", f"busy_timeout={BUSY_S * 1000}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _: Any) -> None:
    for name, value in SERVER_LIMITS.items():
        connection.execute(f"SET {name} = {value}")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
