"""Turns: what is written about a film stands still while it is written; who changes that goes alone.

A film that is kept gets a job for every model that runs, and the rank that its order gives it. A model or an order
that comes at the same moment looks for the films that are there. With PostgreSQL neither sees the other before both
are committed, and the film would be left out by both. SQLite has one writer at a time, and needs none of this.

Both are called first of all in a transaction, and hold until it ends.
"""

from sqlalchemy import Connection, text

ADVISORY_LOCK = 0x637875  # of PostgreSQL, any number that is always the same and no other lock's


def beside_others(connection: Connection) -> None:
    """Wait until nobody changes models or orders, and let nobody begin to; films do not wait for each other."""
    _take(connection, "pg_advisory_xact_lock_shared")


def alone(connection: Connection) -> None:
    """Wait until no film is being written about, and let nobody begin to; for a change of models or orders."""
    _take(connection, "pg_advisory_xact_lock")


def _take(connection: Connection, lock: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT {lock}(:key)"), {"key": ADVISORY_LOCK})
