"""The audit trail: who did what in, rows that are only ever added out; `verify` and `audit_message` read them.

Each row carries the SHA-256 of its own content and of the row before, so that a row changed, taken out or
slipped in later breaks the chain at its place, and triggers of the database refuse such changes in the
first place. What a chain alone cannot show is that its last rows are gone, or that somebody with the
database's password dropped the triggers and computed all of it anew. For that the head (number and hash of
the last row) must be kept where that person cannot write: `verify` compares with a head from before.

Rows name accounts, AE titles and UIDs, never a patient: who may see whom a UID belongs to is the database's
and the PACS's matter.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import JsonValue
from sqlalchemy import Connection, event, select, text

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import READ_ONLY, now
from cxrtriage.serve.tables import audit

EVENTS = {  # what may be recorded; `audit_message` has the code of each in DICOM PS3.15 A.5
    "start": "the node, or a process of it, started",
    "stop": "it stopped",
    "accessed": "somebody saw a study, or its films",
    "changed": "a verdict, a priority, a study read or opened again; without a study: a model or a setting",
    "transferred": "films came in or evidence went out over the network",
    "import": "films came in from a folder",
    "export": "something left the node in another way: a notice, a file, de-identified films",
    "query": "somebody searched, or listed studies",
    "order": "an order or a final report came from the hospital's system",
    "sign_in": "somebody signed in, or tried to",
    "sign_out": "somebody signed out",
    "account": "an account, a token or an invitation was made, changed or closed",
    "alert": "something happened that a security officer should see",
    "delete": "films of a study were deleted",
    "audit_used": "somebody read this trail",
}
ACTIONS = "CRUDE"  # create, read, update, delete, execute
OUTCOMES = (0, 4, 8, 12)  # success, minor, serious, major failure
FIRST = "0" * 64  # the hash before the first row
ADVISORY_LOCK = 0x637873  # of PostgreSQL; `migrate` has another one
HEAD_FILE = "audit.head"  # under HOME; read by `audit verify`, also from a backup
BATCH = 1000  # rows in memory at once

# INSERT OR REPLACE deletes without firing SQLite's trigger on deletion, hence the third
SQLITE_TRIGGERS = """
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit trail are never changed'); END
--
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit trail are never deleted'); END
--
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'rows of the audit trail are never changed'); END
"""
POSTGRESQL_TRIGGERS = """
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'rows of the audit trail are never changed or deleted'; END $$
--
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the trail at some moment.

    Parameters
    ----------
    rows : how many there are, which is the number of the last one
    sha256 : of the last one
    """

    rows: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.rows}:{self.sha256}"

    @classmethod
    def parse(cls, written: str) -> Self:
        """Return a head from what `str` made of it.

        Raises
        ------
        ConfigError
            If it is none.
        """
        rows, _, sha256 = written.strip().partition(":")
        if not rows.isdecimal() or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ConfigError(f"{written.strip()[:80]!r} is no head of an audit trail, expected NUMBER:SHA256.")
        return cls(int(rows), sha256)


def make_append_only(connection: Connection) -> None:
    """Let the database refuse to change or delete rows; for the migration that makes the table."""
    triggers = SQLITE_TRIGGERS if connection.dialect.name == "sqlite" else POSTGRESQL_TRIGGERS
    for statement in triggers.split("--"):
        connection.exec_driver_sql(statement)


def record(
    connection: Connection,
    event: str,
    *,
    actor: str,
    action: str = "E",
    outcome: int = 0,
    address: str = "",
    study_instance_uid: str = "",
    detail: Mapping[str, JsonValue] | None = None,
) -> None:
    """Add a row when the caller's transaction commits, and none when it does not.

    It is written last of all in the transaction: with PostgreSQL the trail has one writer at a time, and
    who holds its lock then waits for no other, so that no two transactions wait for each other.

    Parameters
    ----------
    connection : of a transaction that writes, from `engine.begin()`
    event : one of `EVENTS`
    actor : account's name, token's name, AE title, or a process of the node
    action : C create, R read, U update, D delete, E execute
    outcome : 0 success, 4 minor, 8 serious, 12 major failure
    address : network address of the actor; "" for the node itself
    study_instance_uid : what it is about; "" where about no study
    detail : facts for people; no name, no birth date

    Raises
    ------
    ValueError
        If the event, action or outcome is none of these, or the connection only reads.
    """
    if event not in EVENTS or action not in ACTIONS or outcome not in OUTCOMES:
        raise ValueError(f"the audit trail has no event {event!r} with action {action!r} and outcome {outcome!r}")
    if connection.get_execution_options().get(READ_ONLY, False):
        raise ValueError("this connection only reads; give one of engine.begin()")
    row = {
        "at": now(),
        "event": event,
        "action": action,
        "outcome": outcome,
        "actor": _plain(actor),
        "address": _plain(address),
        "study_instance_uid": study_instance_uid,
        "detail": json.dumps(dict(detail or {}), sort_keys=True),
    }
    if not connection.in_transaction():
        connection.begin()  # as a statement would, so that there is a commit
    if connection.in_nested_transaction():  # may be undone alone
        _append(connection, row)
    else:
        _append_at_commit(connection, row)


def verify(connection: Connection, head: Head | None = None) -> list[str]:
    """Say in sentences what is wrong with the trail: nothing, the first broken row, a missing end.

    Parameters
    ----------
    connection : from `reading`
    head : from before, kept elsewhere; without one, rows missing at the end cannot be seen
    """
    before, rows = FIRST, 0
    matched = head is None or head.rows == 0
    for row in rows_of(connection):
        if row.id != rows + 1:
            return [f"Row {rows + 1} of the audit trail is missing: the next one is row {row.id}."]
        if row.previous_sha256 != before:
            return [f"Row {row.id} of the audit trail does not follow on row {rows}: one of the two was replaced."]
        if row.sha256 != _sha256(row._asdict()):
            return [f"Row {row.id} of the audit trail was changed: its hash does not fit its content."]
        before, rows = row.sha256, row.id
        if head is not None and row.id == head.rows:
            if row.sha256 != head.sha256:
                return [f"Row {row.id} of the audit trail is not the one of the head kept before: it was rewritten."]
            matched = True
    if not matched and head is not None:
        return [f"The audit trail ends at row {rows}; it had {head.rows} rows before: its end is missing."]
    return []


def head_of(connection: Connection) -> Head:
    """Return number and hash of the last row."""
    last = connection.execute(select(audit.c.id, audit.c.sha256).order_by(audit.c.id.desc()).limit(1)).first()
    return Head(0, FIRST) if last is None else Head(last.id, last.sha256)


def kept_head(home: Path) -> Head | None:
    """Return the head of the last verification, None before the first."""
    path = home / HEAD_FILE
    return Head.parse(path.read_text()) if path.exists() else None


def keep_head(home: Path, head: Head) -> None:
    """Keep the head of a trail that was just verified."""
    with replacing(home / HEAD_FILE) as temporary:
        temporary.write_text(f"{head}\n")


def rows_of(connection: Connection) -> Iterator[Any]:
    """Yield all rows from the first, some at a time."""
    last = -1
    while rows := connection.execute(select(audit).where(audit.c.id > last).order_by(audit.c.id).limit(BATCH)).all():
        yield from rows
        last = rows[-1].id


def _append_at_commit(connection: Connection, row: dict[str, Any]) -> None:
    waiting = [row]

    def append(connection: Connection) -> None:
        try:
            while waiting:  # a connection may commit again
                _append(connection, waiting.pop())
        except BaseException:
            connection.invalidate()  # SQLAlchemy takes a failed commit for an end, and would keep SQLite's lock
            raise

    event.listen(connection, "commit", append)
    event.listen(connection, "rollback", lambda _: waiting.clear())


def _append(connection: Connection, row: dict[str, Any]) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's transaction is alone already
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    head = head_of(connection)
    row = {**row, "id": head.rows + 1, "previous_sha256": head.sha256}
    connection.execute(audit.insert().values(**row, sha256=_sha256(row)))


def _sha256(row: Mapping[str, Any]) -> str:
    """Return the hash of a row and the one before: of JSON with sorted keys and no spaces."""
    content = {name: value for name, value in row.items() if name != "sha256"}
    content["at"] = row["at"].isoformat(timespec="microseconds")
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(name: str) -> str:
    """Return what somebody on the network calls himself as text that every database takes."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:64]
