"""The node's tables, the same on SQLite and PostgreSQL.

    study 1--n instance 1--1 patient     a film as received, and whom it shows
                        1--1 job         where it stands: received, running, done, failed, not_assessed
                        1--n result      what each model said of it

All times are UTC. The names, numbers and birth dates of patients stand in `patient` alone: no other table
holds them, no log or error message shows them (`database.open_database` hides parameters), and they can
be deleted or withheld from a database role by themselves. They are in the database at all, and not only in
the films' headers, because a reading list of a page must show and search them in milliseconds.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

State = Literal["received", "running", "done", "failed", "not_assessed"]
STATES = get_args(State)


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, stored as UTC; a time without one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn a time into UTC; SQLite stores it without the zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the database need a zone; use database.now()")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return a time in UTC."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)

# SQLite counts up by itself only in a column of type INTEGER
Key = BigInteger().with_variant(Integer, "sqlite")

study = Table(
    "study",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, unique=True),
    Column("accession_number", String(16), nullable=False),  # of the first film; "" where it has none
    Column("received_at", UtcTime, nullable=False),  # of the first film
)

instance = Table(
    "instance",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("sop_instance_uid", String(64), nullable=False),
    # of the pixels and every header fact that the node uses: the same UID with other content is another row
    Column("content_sha256", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("body_part", String(16), nullable=False),
    Column("view_position", String(16), nullable=False),
    Column("age_years", Float),
    Column("path", String(255), nullable=False, unique=True),  # relative to HOME
    Column("file_sha256", String(64), nullable=False),
    Column("file_bytes", BigInteger, nullable=False),
    Column("calling_ae", String(16), nullable=False),  # "" where a film was recovered after a crash
    Column("received_at", UtcTime, nullable=False),
    UniqueConstraint("sop_instance_uid", "content_sha256"),
)

patient = Table(  # never logged, never selected but to be shown to a signed-in reader
    "patient",
    metadata,
    Column("instance_id", ForeignKey("instance.id"), primary_key=True),
    Column("name", String(324), nullable=False),
    Column("patient_id", String(64), nullable=False),
    Column("birth_date", String(8), nullable=False),  # as in DICOM: YYYYMMDD, or ""
    Column("sex", String(16), nullable=False),
)

job = Table(
    "job",
    metadata,
    Column("id", Key, primary_key=True),
    Column("instance_id", ForeignKey("instance.id"), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),  # why failed or not assessed, for people; "" else
    Column("attempt", Integer, nullable=False),  # how often it was taken since it was received or retried
    Column("not_before", UtcTime, nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcTime),
    Column("fence", Integer, nullable=False),  # raised whenever the job changes hands; an older holder is ignored
    Column("changed_at", UtcTime, nullable=False),
    CheckConstraint(f"state IN ({', '.join(repr(state) for state in STATES)})", name="state"),
    Index(None, "state", "not_before"),
)

result = Table(
    "result",
    metadata,
    Column("id", Key, primary_key=True),
    Column("instance_id", ForeignKey("instance.id"), nullable=False),
    Column("model_sha256", String(64), nullable=False),  # of the model file
    Column("probability", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("seconds", Float, nullable=False),  # from taking the film to its probability
    Column("fence", Integer, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    UniqueConstraint("instance_id", "model_sha256"),
)
