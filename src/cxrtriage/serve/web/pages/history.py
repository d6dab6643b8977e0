"""What happened to a study: rows of every table in, one sentence each out, in the order of time, for its page."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select

from cxrtriage.serve.tables import audit, imaging_order, instance, notice, outbox, review
from cxrtriage.serve.web.pages.opened import Sight
from cxrtriage.serve.web.words import CALLED
from cxrtriage.serve.worklist.priority import order_matches
from cxrtriage.serve.worklist.reading_list import FilmRow, StudyRow

KINDS = {
    "structured_report": "DICOM SR",
    "overlay": "overlay",
    "oru": "HL7 result",
    "fhir": "FHIR report",
    "mail": "notice by e-mail",
    "webhook": "notice by webhook",
}
STATES = {"waiting": "waits to be sent", "sending": "is being sent", "sent": "sent", "parked": "not sent"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, as a sentence; `trouble` where somebody should look."""

    at: datetime
    text: str
    trouble: bool = False


def history(connection: Connection, row: StudyRow, films: list[FilmRow], sight: Sight) -> list[Event]:
    """Return what happened to a study, the last first.

    Parameters
    ----------
    row, films : the study
    sight : what the reader may see of the score; without it neither results nor verdicts are told
    """
    found = [
        *_received(connection, row),
        *(_results(films) if sight.shown else []),
        *_orders(connection, row),
        *(_reviews(connection, row) if not sight.first_look else []),
        *_changes(connection, row),
        *(_deliveries(connection, row) if not sight.first_look else []),
        *_notices(connection, row),
    ]
    return sorted(found, key=lambda event: event.at, reverse=True)


def _received(connection: Connection, row: StudyRow) -> list[Event]:
    rows = connection.execute(
        select(instance.c.received_at, instance.c.view_position, instance.c.calling_ae).where(
            instance.c.study_id == row.study_id
        )
    ).all()
    return [
        Event(film.received_at, f"Film {film.view_position or 'without view'} received from {film.calling_ae or '?'}")
        for film in rows
    ]


def _results(films: list[FilmRow]) -> list[Event]:
    return [
        Event(
            result.made_at,
            f"{CALLED[result.decision].capitalize()}: probability {result.probability:.2f}, operating point "
            f"{result.threshold:.2f}, model {result.model_sha256[:12]}",
        )
        for film in films
        for result in film.results
        if result.shown
    ]


def _orders(connection: Connection, row: StudyRow) -> list[Event]:
    matching = select(imaging_order).where(order_matches(row.study_instance_uid, row.accession_number))
    return [
        Event(
            order.received_at,
            f"Ordered {order.priority.upper()}" + (f": {order.procedure_text}" if order.procedure_text else ""),
        )
        for order in connection.execute(matching).all()
    ]


def _reviews(connection: Connection, row: StudyRow) -> list[Event]:
    words = {"agree": "agrees with the model", "disagree": "disagrees with the model", "emergent": "calls it emergent"}
    rows = connection.execute(select(review).where(review.c.study_id == row.study_id)).all()
    return [
        Event(
            said.made_at,
            f"{said.account_name} {words[said.verdict]}" + ("" if said.score_visible else ", score not seen"),
        )
        for said in rows
    ]


def _changes(connection: Connection, row: StudyRow) -> list[Event]:
    """Return priorities given and studies read, which the audit trail knows with their time and person."""
    rows = connection.execute(
        select(audit.c.at, audit.c.actor, audit.c.detail).where(
            audit.c.study_instance_uid == row.study_instance_uid,
            or_(audit.c.event == "changed", audit.c.event == "order"),
        )
    ).all()
    found = []
    for change in rows:
        detail = json.loads(change.detail)
        if "priority" in detail and "before" in detail:
            text = f"{change.actor} changed the priority from {detail['before']} to {detail['priority']}"
            found.append(Event(change.at, text))
        elif detail.get("read") is True:
            finding = {True: ", abnormal", False: ", normal"}.get(detail.get("abnormal"), "")
            found.append(Event(change.at, f"Read by {change.actor}{finding}"))
        elif detail.get("read") is False:
            found.append(Event(change.at, f"Opened again by {change.actor}"))
    return found


def _deliveries(connection: Connection, row: StudyRow) -> list[Event]:
    rows = connection.execute(select(outbox).where(outbox.c.study_id == row.study_id)).all()
    return [
        Event(
            sent.changed_at,
            f"{KINDS.get(sent.kind, sent.kind)} to {sent.destination}: {STATES[sent.state]}"
            + (f". {sent.reason}" if sent.reason else ""),
            trouble=sent.state == "parked",
        )
        for sent in rows
    ]


def _notices(connection: Connection, row: StudyRow) -> list[Event]:
    found = []
    for told in connection.execute(select(notice).where(notice.c.study_id == row.study_id)).all():
        found.append(Event(told.made_at, f"Notice to {told.recipient} (contact {told.step})"))
        if told.acknowledged_at is not None:
            found.append(Event(told.acknowledged_at, f"Acknowledged by {told.acknowledged_by}"))
    return found
