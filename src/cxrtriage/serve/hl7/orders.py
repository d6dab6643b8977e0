"""Orders: ORM^O01 or OMI^O23 in, rows of `imaging_order` out; the reading list and the notices use them.

An order may come before its film, after it, and again. A later one updates what it tells and leaves what it
does not tell; a cancelled one goes. Which study it is for is settled when asked: see `priority.order_matches`.

References
----------
HL7 Version 2.5.1, 4.4.1 (ORM), 4.5.1 (ORC), 4.5.3 (OBR), table 0119 (ORC-1); 2.5.1, 4.5.6 (IPC) and IHE RAD TF-2, 4.4
(ZDS with the Study Instance UID).
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, or_, select

from cxrtriage.serve import audit, turns
from cxrtriage.serve.database import insert_new, now
from cxrtriage.serve.header import valid_uid
from cxrtriage.serve.hl7.messages import NULL, Message, NotHl7Error, Segment
from cxrtriage.serve.tables import imaging_order, study
from cxrtriage.serve.worklist import priority

CANCELLED = {"CA", "OC", "DC", "OD", "CR", "DR", "RP", "RQ", "RU"}  # replaced ones are followed by their RO
NO_WORD_ON_IT = {"UA", "UC", "UD", "UF", "UH", "UM", "UN", "UR", "UX", "DE"}  # could not be done, so nothing changed
STATUS_CANCELLED = {"CA", "DC", "RP"}  # ORC-5, table 0038
LEVELS = {"S": "stat", "STAT": "stat", "A": "asap", "ASAP": "asap"}  # table 0485; the rest is routine
URGENCY = ("routine", "asap", "stat")
EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+")


@dataclass(frozen=True, slots=True)
class Order:
    """What the hospital's system ordered, as a row of `imaging_order` has it; "" is not told.

    Parameters
    ----------
    accession_number : filler order number, or Study Instance UID, where it has none
    priority : "stat", "asap" or "routine"; "" where a later message does not say
    provider_id : number of who ordered, else the name
    provider_email : where to reach him, if the order says
    """

    accession_number: str
    study_instance_uid: str
    priority: str
    provider_id: str
    provider_email: str
    service: str
    procedure_code: str
    procedure_scheme: str
    procedure_text: str
    placer_order_number: str
    filler_order_number: str


def order_of(connection: Connection, study_instance_uid: str, accession_number: str) -> Order | None:
    """Return the order of a study, the latest if several match; None if none came."""
    row = connection.execute(
        select(imaging_order)
        .where(priority.order_matches(study_instance_uid, accession_number))
        .order_by(imaging_order.c.received_at.desc(), imaging_order.c.id.desc())
    ).first()
    return None if row is None else _order(row)


def take_orders(connection: Connection, message: Message, *, sender: str, address: str) -> int:
    """Write what a message orders, and give the studies it is for their rank anew.

    Parameters
    ----------
    connection : of the transaction that is committed before the message is answered
    sender, address : who sent it, for the audit trail

    Returns
    -------
    int
        How many orders it tells of.

    Raises
    ------
    NotHl7Error
        If it tells of none, or an order cannot be told from others. Nothing is written then.
    """
    told = list(_told(message))
    if not told:
        raise NotHl7Error("it has no segment ORC or OBR.")
    turns.alone(connection)  # a film that is just being kept has either looked for this order, or is found by it
    highest = _highest(told)
    for order, cancelled in told:
        if order is None:
            continue
        order = replace(order, priority=highest.get(order.accession_number, ""))
        before = _row(connection, order.accession_number)
        affected = _studies(connection, order)
        if before is not None:
            affected |= _studies(connection, _order(before))
        action = _delete(connection, before) if cancelled else _write(connection, order, before)
        if not action:
            continue
        for study_id in sorted(affected):
            priority.refresh(connection, study_id)
        audit.record(
            connection,
            "order",
            actor=sender,
            action=action,
            address=address,
            study_instance_uid=order.study_instance_uid,
            detail={"accession_number": order.accession_number, "priority": order.priority},
        )
    return len(told)


def _told(message: Message) -> Iterator[tuple[Order | None, bool]]:
    """Yield each order of a message, and whether it is cancelled; None for one that nothing was done about."""
    uid = next((part.value(1) for part in message.named("ZDS")), "")
    visit = next(iter(message.named("PV1")), None)
    for group in _groups(message):
        common = group.get("ORC")
        control = common.value(1).upper() if common else ""
        status = common.value(5).upper() if common else ""
        if control in NO_WORD_ON_IT:
            yield None, False
        else:
            yield _read(group, visit, uid), control in CANCELLED or status in STATUS_CANCELLED


def _highest(told: list[tuple[Order | None, bool]]) -> dict[str, str]:
    """Return how urgent each examination is: one may be ordered in several parts, such as its views."""
    highest: dict[str, str] = {}
    for order, cancelled in told:
        if order is not None and not cancelled and order.priority:
            said = (order.priority, highest.get(order.accession_number, "routine"))
            highest[order.accession_number] = max(said, key=URGENCY.index)
    return highest


def _groups(message: Message) -> Iterator[dict[str, Segment]]:
    """Yield the segments of each order: ORC begins one, and so does an OBR where the one before has its own."""
    group: dict[str, Segment] = {}
    for segment in message.segments:
        if segment.name == "ORC" or (segment.name == "OBR" and "OBR" in group):
            if group:
                yield group
            group = {}
        if segment.name in ("ORC", "OBR", "TQ1", "IPC"):
            group.setdefault(segment.name, segment)
    if group:
        yield group


def _read(group: dict[str, Segment], visit: Segment | None, uid: str) -> Order:
    """Return one order."""

    def first(*places: tuple[str, int, int]) -> str:
        """Return the first of these parts that is told, each a segment, a field and a component."""
        parts = ((segments.get(name), field, component) for name, field, component in places)
        return next((found for part, field, component in parts if part and (found := part.value(field, component))), "")

    segments = {**group, **({"PV1": visit} if visit else {})}
    study_instance_uid = first(("IPC", 3, 1)) or uid
    if not valid_uid(study_instance_uid):
        study_instance_uid = ""
    filler = first(("OBR", 3, 1), ("ORC", 3, 1))
    accession_number = first(("IPC", 1, 1), ("OBR", 18, 1)) or filler or study_instance_uid
    if accession_number in ("", NULL):
        raise NotHl7Error("an order has neither accession number (OBR-18, IPC-1) nor OBR-3.")
    order = Order(
        accession_number=accession_number,
        study_instance_uid=study_instance_uid,
        priority=_level(group),
        provider_id=first(("ORC", 12, 1), ("OBR", 16, 1)) or _name(group.get("ORC"), 12) or _name(group.get("OBR"), 16),
        provider_email=_email(first(("ORC", 14, 4), ("OBR", 17, 4), ("ORC", 14, 1), ("OBR", 17, 1))),
        service=first(("PV1", 10, 1), ("PV1", 3, 1), ("ORC", 13, 1), ("ORC", 17, 1), ("ORC", 17, 2)),
        procedure_code=first(("OBR", 4, 1)),
        procedure_scheme=first(("OBR", 4, 3)),
        procedure_text=first(("OBR", 4, 2)),
        placer_order_number=first(("OBR", 2, 1), ("ORC", 2, 1)),
        filler_order_number=filler,
    )
    return Order(**{name: value[: _longest(name)] for name, value in asdict(order).items()})


def _level(group: dict[str, Segment]) -> str:
    """Return how urgent an order is: the most urgent of the places that say; "" if none does."""
    said = []
    for name, field, component in (("ORC", 7, 6), ("OBR", 27, 6), ("TQ1", 9, 1), ("OBR", 5, 1)):
        part = group.get(name)
        said += [part.value(field, component, number) for number in part.repetitions(field)] if part else []
    levels = [LEVELS.get(code.upper(), "routine") for code in said if code]
    return max(levels, key=URGENCY.index, default="")


def _name(part: Segment | None, field: int) -> str:
    """Return a person's name where there is no number: family, given."""
    return f"{part.value(field, 2)} {part.value(field, 3)}".strip() if part else ""


def _email(told: str) -> str:
    """Return an e-mail address from a call-back number (XTN: its fourth component, or in old ones the first)."""
    return told if EMAIL.fullmatch(told) and len(told) <= _longest("provider_email") else ""


def _longest(name: str) -> int:
    return int(getattr(imaging_order.c[name].type, "length", 0))


def _row(connection: Connection, accession_number: str) -> Any:
    this = imaging_order.c.accession_number == accession_number
    return connection.execute(select(imaging_order).where(this).with_for_update()).first()


def _order(row: Any) -> Order:
    return Order(**{field.name: getattr(row, field.name) for field in fields(Order)})


def _studies(connection: Connection, order: Order) -> set[int]:
    """Return the keys of the studies here that an order is for."""
    matching = study.c.accession_number == order.accession_number  # which is never ""
    if order.study_instance_uid:
        matching = or_(matching, study.c.study_instance_uid == order.study_instance_uid)
    return set(connection.execute(select(study.c.id).where(matching)).scalars())


def _write(connection: Connection, order: Order, before: Any) -> str:
    """Write an order; return C or U for the audit trail, "" if nothing changed."""
    if before is None:
        values = {name: "" if value == NULL else value for name, value in asdict(order).items()}
        values["priority"] = values["priority"] or "routine"
        if insert_new(connection, imaging_order, **values, received_at=now()) is not None:
            return "C"
        before = _row(connection, order.accession_number)  # another connection was just writing it
    known = _order(before)
    told = {name: "" if value == NULL else value for name, value in asdict(order).items() if value}
    if replace(known, **told) == known:
        return ""
    if told.get("priority", known.priority) != known.priority:
        told["received_at"] = now()  # when the priority was said, which a person's later word outweighs
    connection.execute(imaging_order.update().where(imaging_order.c.id == before.id).values(told))
    return "U"


def _delete(connection: Connection, before: Any) -> str:
    if before is None:
        return ""
    connection.execute(imaging_order.delete().where(imaging_order.c.id == before.id))
    return "D"
