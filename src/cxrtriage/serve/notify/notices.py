"""Notices: a study that somebody must hear of in, a message with a link out; reviews and results call `tell`.

    tell -> contact 1 -- nobody acknowledges in notice.escalate_min --> contact 2 -> ... -> unanswered
                  '-- acknowledged, or read as not abnormal: over

A notice says no more than that a result waits; the link leads to a sign-in. Its token stands in the outbox
until it is sent, in `notice` only its hash. A study has one chain of contacts, however often it is called abnormal.
A contact that cannot be found is parked in the outbox with what was looked for, and trying that again after
`recipients.csv` was corrected looks again.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, exists, or_, select, update

from cxrtriage.errors import ConfigError
from cxrtriage.serve import audit, node_state
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.hl7.orders import order_of
from cxrtriage.serve.notify.recipients import Contact, find, names_of, read_recipients
from cxrtriage.serve.results import outbox
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import notice, review, study

SENDER_LOOKS_S = 60  # a notice that has been due for longer is not about to go on to the next contact
MOST_UNANSWERED = 500
SUBJECT = "A chest radiograph needs your attention"


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A notice as its link leads to it."""

    notice_id: int
    study_id: int
    study_instance_uid: str
    recipient: str
    step: int
    made_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A study whose contacts have all been told, and none acknowledged in time."""

    study_id: int
    study_instance_uid: str
    accession_number: str
    recipients: tuple[str, ...]
    told_at: datetime
    waited_s: float


@dataclass(frozen=True, slots=True)
class Message:
    """What a message is made from; without a word on the patient."""

    contact: Contact
    step: int
    link: str


def tell(connection: Connection, settings: NodeSettings, home: Path, study_id: int) -> None:
    """Tell the physician of a study, once, in the transaction that calls for it.

    Nothing happens in shadow mode, and where neither [mail] nor [webhook] is set up.

    Parameters
    ----------
    connection : of that transaction
    home : the node's folder
    study_id : key of the study
    """
    if not settings.reading.shadow and _channels(settings):
        _tell_step(connection, settings, home, study_id, {"step": 1, "recipient": ""})


def what_follows(connection: Connection, settings: NodeSettings) -> str:
    """Say whether the physician is told if a reader calls a study abnormal or emergent now, and what to do if not."""
    yourself = "tell the physician yourself."
    if not _channels(settings):
        return f"Notices are not set up: {yourself}"
    if settings.reading.shadow:
        return f"In shadow mode nobody is told: {yourself}"
    if settings.notice.when != "confirmed":
        return f"Notices follow results of the model, not a reader's word (notice.when): {yourself}"
    if node_state.get(connection, node_state.MODEL_OFF):
        return f"The model is off, and no notice leaves before it is on again: {yourself}"
    return "The physician is told."


def escalate(engine: Engine, settings: NodeSettings, home: Path) -> int:
    """Tell the next contacts where nobody acknowledged in time; return how many notices are over their time.

    Raises
    ------
    ConfigError
        If `recipients.csv` cannot be used; nothing is changed then, and it can be called again.
    """
    if settings.reading.shadow:
        return 0
    due = notice.c.escalate_at <= now()
    with reading(engine) as connection:
        if connection.execute(select(notice.c.id).where(due).limit(1)).first() is None:
            return 0
    contacts = _contacts(settings, home)
    with engine.begin() as connection:
        rows = connection.execute(
            select(notice).where(due).order_by(notice.c.study_id, notice.c.id).with_for_update(skip_locked=True)
        ).all()
        for row in rows:
            connection.execute(update(notice).where(notice.c.id == row.id).values(escalate_at=None))
            told = contacts.get(row.recipient)
            if told is not None and told.next and not _over(connection, row.study_id, told.next):
                wanted = {"step": row.step + 1, "recipient": told.next}
                _tell_step(connection, settings, home, row.study_id, wanted)
    return len(rows)


def find_notice(connection: Connection, token: str) -> NoticeRow | None:
    """Return the notice that a link's token belongs to; None if there is none."""
    row = connection.execute(
        select(notice, study.c.study_instance_uid)
        .join_from(notice, study)
        .where(notice.c.token_sha256 == _sha256(token))
    ).first()
    return None if row is None else _notice(row)


def acknowledge(connection: Connection, token: str, account_name: str) -> NoticeRow | None:
    """Note that somebody has taken notice; who did first stays. None if there is no such notice.

    The caller has seen to it that this account may see the study.
    """
    found = find_notice(connection, token)
    if found is None:
        return None
    first = and_(notice.c.id == found.notice_id, notice.c.acknowledged_at.is_(None))
    values = {"acknowledged_at": now(), "acknowledged_by": account_name}
    if connection.execute(update(notice).where(first).values(values)).rowcount:
        audit.record(
            connection,
            "changed",
            actor=account_name,
            action="U",
            study_instance_uid=found.study_instance_uid,
            detail={"notice": "acknowledged", "recipient": found.recipient, "step": found.step},
        )
    return find_notice(connection, token)


def unanswered(connection: Connection, now: datetime) -> list[Unanswered]:
    """Return the studies whose last contact let the time pass, the latest first; for the failures page.

    Parameters
    ----------
    now : the time, from `database.now()`
    """
    other, looked = notice.alias(), now - timedelta(seconds=SENDER_LOOKS_S)
    open_still = exists().where(other.c.study_id == notice.c.study_id, other.c.escalate_at > looked)
    answered = exists().where(other.c.study_id == notice.c.study_id, other.c.acknowledged_at.is_not(None))
    rows = connection.execute(
        select(notice, study.c.study_instance_uid, study.c.accession_number)
        .join_from(notice, study)
        .where(~open_still, ~answered, ~_dealt_with())
        .order_by(notice.c.study_id.desc(), notice.c.id)
        .limit(MOST_UNANSWERED)
    ).all()
    found = []
    for _, group in groupby(rows, key=lambda row: row.study_id):
        told = list(group)
        first = told[0]
        found.append(
            Unanswered(
                study_id=first.study_id,
                study_instance_uid=first.study_instance_uid,
                accession_number=first.accession_number,
                recipients=tuple(dict.fromkeys(row.recipient for row in told)),
                told_at=first.made_at,
                waited_s=(now - first.made_at).total_seconds(),
            )
        )
    return found


def message_of(delivery: outbox.Delivery, context: outbox.Context) -> Message | None:
    """Return what a delivery of a notice is to say; None if it was one without a contact, and now has been told.

    Raises
    ------
    Refused
        If there still is no contact, or he is gone from the table.
    """
    content: dict[str, Any] = delivery.content
    try:
        if "token" not in content:
            with context.engine.begin() as connection:
                contact = _contact(connection, context.settings, context.home, delivery.study_id, content)
                _put(connection, context.settings, delivery.study_id, contact, content["step"])
            return None
        contacts = _contacts(context.settings, context.home)
        with reading(context.engine) as connection:
            contact = _by_key(connection, delivery.study_id, contacts, content["recipient"])
    except ConfigError as error:
        raise outbox.Refused(str(error)) from error
    link = f"{context.settings.web.base_url}/notices/{content['token']}"
    return Message(contact=contact, step=content["step"], link=link)


def _tell_step(
    connection: Connection, settings: NodeSettings, home: Path, study_id: int, wanted: Mapping[str, Any]
) -> None:
    """Tell one contact, or park that he cannot be found."""
    try:
        contact = _contact(connection, settings, home, study_id, wanted)
    except ConfigError as error:
        channel = _channels(settings)[0]
        key = f"notice of study {study_id}, step {wanted['step']}: contact not found"
        outbox.put(
            connection,
            destination=channel,
            kind=channel,
            key=key,
            study_id=study_id,
            content=dict(wanted),
            parked=str(error),
        )
    else:
        _put(connection, settings, study_id, contact, wanted["step"])


def _put(connection: Connection, settings: NodeSettings, study_id: int, contact: Contact, step: int) -> None:
    """Write a notice for each channel that reaches a contact, unless this step was told before."""
    for channel in _channels_to(contact, settings):
        token = secrets.token_urlsafe(32)
        outbox_id = outbox.put(
            connection,
            destination=channel,
            kind=channel,
            key=f"notice of study {study_id}, step {step}: {channel}",
            study_id=study_id,
            content={"step": step, "recipient": contact.key, "token": token},
        )
        if outbox_id is not None:
            made_at = now()
            connection.execute(
                notice.insert().values(
                    study_id=study_id,
                    outbox_id=outbox_id,
                    recipient=contact.key,
                    step=step,
                    token_sha256=_sha256(token),
                    made_at=made_at,
                    escalate_at=made_at + timedelta(minutes=settings.notice.escalate_min),
                )
            )


def _contact(
    connection: Connection, settings: NodeSettings, home: Path, study_id: int, wanted: Mapping[str, Any]
) -> Contact:
    """Return whom to tell, by the key that the contact before named, else by order and film; ConfigError if nobody."""
    contacts = _contacts(settings, home)
    if wanted["recipient"]:
        contact = _by_key(connection, study_id, contacts, wanted["recipient"])
    else:
        names = names_of(connection, home, study_id)
        matching = find(contacts, names) or _from_order(connection, study_id)
        if not names and matching is None:
            raise ConfigError(
                "neither an order nor the film names a physician or a service. Tell the physician, then send "
                "the order again."
            )
        if matching is None:
            raise ConfigError(
                f"{settings.notice.recipients.name} has no contact for {' or '.join(names)}. Add one, then try again."
            )
        contact = matching
    if not _channels_to(contact, settings):
        raise ConfigError(
            f"contact {contact.key} has no address for {' or '.join(_channels(settings))} in "
            f"{settings.notice.recipients.name}. Add one, then try again."
        )
    return contact


def _by_key(connection: Connection, study_id: int, contacts: Mapping[str, Contact], key: str) -> Contact:
    if key in contacts:
        return contacts[key]
    ordering = _from_order(connection, study_id)
    if ordering is None or ordering.key != key:
        raise ConfigError(f"contact {key} is gone from the table of contacts. Put it back, then try again.")
    return ordering


def _from_order(connection: Connection, study_id: int) -> Contact | None:
    """Return who ordered a study, where the order tells his address; the address is his key."""
    row = connection.execute(select(study).where(study.c.id == study_id)).one()
    order = order_of(connection, row.study_instance_uid, row.accession_number)
    email = order.provider_email if order else ""
    return Contact(email, (), email, "", "") if email else None


def _contacts(settings: NodeSettings, home: Path) -> dict[str, Contact]:
    return read_recipients(home / settings.notice.recipients)


def _channels(settings: NodeSettings) -> list[str]:
    """Return by what this node can tell anybody."""
    set_up = {"mail": settings.mail.host, "webhook": settings.webhook.url}
    return [channel for channel, where in set_up.items() if where]


def _channels_to(contact: Contact, settings: NodeSettings) -> list[str]:
    addresses = {"mail": contact.email, "webhook": contact.webhook}
    return [channel for channel in _channels(settings) if addresses[channel]]


def _over(connection: Connection, study_id: int, contact: str) -> bool:
    """Tell whether a study need not go on to a contact: it is dealt with, or he was told already.

    That a radiologist read it as abnormal is no reason: by default that is what the notice is about.
    """
    if connection.execute(select(study.c.id).where(study.c.id == study_id, _dealt_with())).first() is not None:
        return True
    over = and_(
        notice.c.study_id == study_id, or_(notice.c.acknowledged_at.is_not(None), notice.c.recipient == contact)
    )
    return connection.execute(select(notice.c.id).where(over).limit(1)).first() is not None


def _dealt_with() -> ColumnElement[bool]:
    """Return whether a `study` was read as normal, or read without a word and nobody had called it abnormal.

    A report that does not say what it found takes back nobody's word.
    """
    called_abnormal = exists().where(review.c.study_id == study.c.id, review.c.abnormal)
    read_without_a_word = and_(study.c.read_at.is_not(None), study.c.reported_abnormal.is_(None), ~called_abnormal)
    return or_(study.c.reported_abnormal.is_(False), read_without_a_word)


def _notice(row: Row[Any]) -> NoticeRow:
    return NoticeRow(
        notice_id=row.id,
        study_id=row.study_id,
        study_instance_uid=row.study_instance_uid,
        recipient=row.recipient,
        step=row.step,
        made_at=row.made_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
    )


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
