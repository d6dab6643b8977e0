"""The node's tables, the same on SQLite and PostgreSQL.

    study 1--n instance 1--1 patient     a film as received, and whom it shows
                        1--n job         where it stands with a model: received, running, done, failed, not_assessed
                        1--n result      what each model said of it
          1--n review                    what readers said of the study
          0--n imaging_order             what the hospital's system ordered, matched by accession number or UID
    model_version                        models that this node runs or ran
    outbox, notice                       what is to be told to whom, and whether it was
    account, invitation, web_session, api_token, sign_in_failure     who may see what
    audit                                who saw, changed, exported what
    node_state, heartbeat                switches, and which processes live

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
    Boolean,
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
    Column("accession_number", String(16), nullable=False, index=True),  # of the first film; "" where it has none
    Column("received_at", UtcTime, nullable=False),  # of the first film
    # what the list sorts by; `worklist.priority.refresh` alone writes these, from the rows of the other tables
    Column("rank", Integer, nullable=False, server_default="0"),  # 2 emergent, 1 abnormal, 0 the rest
    Column("probability", Float),  # the highest of its films and of the models shown; None while there is none
    Column("first_result_at", UtcTime),
    Column("person_rank", Integer),  # the rank that a person gave it, which alone can lower it
    Column("person_ranked_at", UtcTime),
    Column("read_at", UtcTime),  # it left the list: a reader marked it, or a final report came
    Column("read_by", String(64), nullable=False, server_default=""),  # account's name, or "final report"
    Column("reported_abnormal", Boolean),  # what the report or the reader said; None where not known
    Column("reported_at", UtcTime),  # when that was said last; None where not known
    Index(None, "read_at", "rank"),
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
    Column("instance_id", ForeignKey("instance.id"), nullable=False),
    # which model is to score it; "" while the node has none, and the first that is made active adopts it
    Column("model_sha256", String(64), nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),  # why failed or not assessed, for people; "" else
    Column("attempt", Integer, nullable=False),  # how often it was taken since it was received or retried
    Column("not_before", UtcTime, nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcTime),
    Column("fence", Integer, nullable=False),  # raised whenever the job changes hands; an older holder is ignored
    Column("changed_at", UtcTime, nullable=False),
    CheckConstraint(f"state IN ({', '.join(repr(state) for state in STATES)})", name="state"),
    UniqueConstraint("instance_id", "model_sha256"),
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
    Column("made_at", UtcTime, nullable=False, index=True),
    UniqueConstraint("instance_id", "model_sha256"),
)

model_version = Table(
    "model_version",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the model file
    Column("path", String(255), nullable=False),  # relative to HOME: models/<sha256>.safetensors
    Column("name", String(128), nullable=False),  # of the file that was added
    Column("role", String(16), nullable=False),  # active: one at most, shown; shadow: scores, shown to nobody; retired
    Column("card", Text, nullable=False),  # JSON of its `ModelCard`
    Column("added_at", UtcTime, nullable=False),
    Column("activated_at", UtcTime),  # last; None: its results were never shown
    Column("shadow_since", UtcTime),  # what it said from then on is shown to nobody; None once it is activated
    Column("acceptance", Text, nullable=False, server_default=""),  # JSON of its figures on this site's films, or ""
    CheckConstraint("role IN ('active', 'shadow', 'retired')", name="role"),
)

imaging_order = Table(
    "imaging_order",
    metadata,
    Column("id", Key, primary_key=True),
    Column("accession_number", String(64), nullable=False, unique=True),  # filler order number where it has none
    Column("study_instance_uid", String(64), nullable=False, index=True),  # "" where the order has none
    Column("priority", String(16), nullable=False),  # stat, asap, routine
    Column("provider_id", String(64), nullable=False),  # who ordered, "" where not told
    Column("provider_email", String(128), nullable=False, server_default=""),  # where the order gives one
    Column("service", String(64), nullable=False),  # requesting service or ward
    Column("procedure_code", String(64), nullable=False),
    Column("procedure_scheme", String(64), nullable=False),
    Column("procedure_text", String(128), nullable=False),
    Column("placer_order_number", String(64), nullable=False),
    Column("filler_order_number", String(64), nullable=False),
    Column("received_at", UtcTime, nullable=False),
)

review = Table(
    "review",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("account_name", String(64), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("abnormal", Boolean),  # the reader's own word on the study; None where the verdict implies none
    Column("model_sha256", String(64), nullable=False),  # of the score that was judged; "" without one
    Column("probability", Float),
    Column("score_visible", Boolean, nullable=False),  # whether the reader had seen it
    Column("made_at", UtcTime, nullable=False, index=True),
    CheckConstraint("verdict IN ('agree', 'disagree', 'emergent')", name="verdict"),
)

Delivery = Literal["waiting", "sending", "sent", "parked"]
DELIVERIES = get_args(Delivery)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Key, primary_key=True),
    Column("destination", String(32), nullable=False),  # a section of the settings: pacs, stow, hl7_out, fhir, ...
    Column("kind", String(32), nullable=False),  # structured_report, overlay, oru, fhir, mail, webhook
    Column("key", String(160), nullable=False, unique=True),  # made from what it is about: nothing is told twice
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("result_id", ForeignKey("result.id")),
    Column("content", Text, nullable=False),  # JSON of what the rows do not tell; no name, no birth date; {} once sent
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),  # why it waits or is parked, for people; "" else
    Column("attempt", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcTime),
    Column("fence", Integer, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    CheckConstraint(f"state IN ({', '.join(repr(state) for state in DELIVERIES)})", name="state"),
    Index(None, "state", "not_before"),
)

notice = Table(  # one message to one person about one study; the next contact gets a row of his own
    "notice",
    metadata,
    Column("id", Key, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("outbox_id", ForeignKey("outbox.id"), nullable=False, unique=True),
    Column("recipient", String(128), nullable=False),  # key of a row in recipients.csv
    Column("step", Integer, nullable=False),  # 1 the first contact, 2 the next, ...
    Column("token_sha256", String(64), nullable=False, unique=True),  # of its link
    Column("made_at", UtcTime, nullable=False),
    Column("escalate_at", UtcTime),  # when the next contact is told; None after the last
    Column("acknowledged_at", UtcTime),
    Column("acknowledged_by", String(64), nullable=False, server_default=""),
)

Role = Literal["reader", "referrer", "admin"]
ROLES = get_args(Role)

account = Table(
    "account",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(255), nullable=False),  # argon2id
    Column("recipient", String(128), nullable=False, server_default=""),  # a referrer's key in recipients.csv
    Column("made_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    CheckConstraint(f"role IN ({', '.join(repr(role) for role in ROLES)})", name="role"),
)

invitation = Table(  # a link that makes one account, or a new password for one
    "invitation",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("account_name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("recipient", String(128), nullable=False, server_default=""),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
)

web_session = Table(
    "web_session",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("account_id", ForeignKey("account.id"), nullable=False, index=True),
    Column("csrf_token", String(64), nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

api_token = Table(
    "api_token",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
)

sign_in_failure = Table(
    "sign_in_failure",
    metadata,
    Column("id", Key, primary_key=True),
    Column("account_name", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("at", UtcTime, nullable=False, index=True),
)

audit = Table(  # append-only: triggers refuse change and deletion, and each row carries the hash of the one before
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("event", String(32), nullable=False),  # see `audit.EVENTS`, codes of PS3.15 A.5
    Column("action", String(1), nullable=False),  # C create, R read, U update, D delete, E execute
    Column("outcome", Integer, nullable=False),  # 0 success, 4 minor, 8 serious, 12 major failure
    Column("actor", String(64), nullable=False),  # account's name, token's name, AE title, or a process of the node
    Column("address", String(64), nullable=False),  # "" for the node itself
    Column("study_instance_uid", String(64), nullable=False, index=True),  # "" where about none
    Column("detail", Text, nullable=False),  # JSON; no name, no birth date
    Column("previous_sha256", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
)

node_state = Table(  # switches: see `node_state.py`
    "node_state",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)

heartbeat = Table(  # written by every process of the node every few seconds
    "heartbeat",
    metadata,
    Column("process", String(80), primary_key=True),  # name and host
    Column("name", String(32), nullable=False),  # receiver, worker, web, sender, listener
    Column("seen_at", UtcTime, nullable=False),
    Column("note", Text, nullable=False),  # what is wrong, for people; "" else
)
