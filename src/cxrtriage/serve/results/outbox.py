"""The outbox: what is to be told to whom, written in the transaction of what it tells; `sender` takes.

    waiting --take--> sending --sent--> sent
       ^                 | --fail----> waiting     after a back-off, or
       +------retry------+             parked      after `delivery.attempts`, or a refusal that no repetition mends

`put` is called in the transaction that writes a result or a reader's word, so neither is there without the
other. Leases, fences and the clock are as in `queue`: a sender that dies is followed by another one, and what
it was sending is sent again. So every delivery must be one that does no harm twice; UIDs and identifiers are
derived for that.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Connection, Engine, and_, or_, select, update

from cxrtriage.errors import DeliveryError
from cxrtriage.serve import audit, database
from cxrtriage.serve.database import insert_new, reading
from cxrtriage.serve.settings import DeliverySettings, NodeSettings
from cxrtriage.serve.tables import Delivery as State
from cxrtriage.serve.tables import outbox, study

LEASE_STEPS = 4  # connecting, asking, sending, answering may each take `delivery.limit_s`
LEASE_MARGIN_S = 60  # beyond, to make what is sent
LONGEST_BACKOFF_S = 3600.0
CLOCKS_APART_S = 60  # see `queue`
DICOM_DESTINATIONS = ("pacs", "stow")
SENDER_DIED = "the sending process died or hung over this delivery"


class Refused(DeliveryError):  # noqa: N818 (an answer, not a fault of ours)
    """The destination refused, and will refuse again: somebody must look."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sender has to itself until its lease ends.

    Parameters
    ----------
    destination : section of the settings: "pacs", "stow", "hl7_out", "fhir", "mail", "webhook"
    kind : "structured_report", "overlay", "oru", "fhir", "mail" or "webhook"
    key : the same for the same thing, also when it is sent again
    result_id : None where it is not about one result
    content : what the rows do not tell
    attempt : 1 at the first
    """

    id: int
    destination: str
    kind: str
    key: str
    study_id: int
    result_id: int | None
    content: dict[str, JsonValue]
    attempt: int
    fence: int


@dataclass(frozen=True, slots=True)
class Context:
    """What a deliver function works with."""

    home: Path
    settings: NodeSettings
    engine: Engine


@dataclass(frozen=True, slots=True)
class ParkedDelivery:
    """A delivery that waits for a person, as the failures page shows it."""

    id: int
    destination: str
    kind: str
    study_id: int
    study_instance_uid: str
    accession_number: str
    reason: str
    attempt: int
    parked_at: datetime


def put(
    connection: Connection,
    *,
    destination: str,
    kind: str,
    key: str,
    study_id: int,
    result_id: int | None = None,
    content: dict[str, Any] | None = None,
    parked: str = "",
) -> int | None:
    """Put a delivery in the outbox, in the caller's transaction.

    Parameters
    ----------
    destination, kind, study_id, result_id : as in `Delivery`
    key : at most 160 characters; a second delivery with the same key is not put
    content : JSON; no patient's name, no birth date
    parked : why it cannot be sent before a person acts; "" if it can

    Returns
    -------
    int or None
        The row's id, None if the key is there.
    """
    time = database.now()
    return insert_new(
        connection,
        outbox,
        destination=destination,
        kind=kind,
        key=key,
        study_id=study_id,
        result_id=result_id,
        content=json.dumps(content or {}),
        state="parked" if parked else "waiting",
        reason=parked,
        attempt=0,
        not_before=time,
        fence=0,
        made_at=time,
        changed_at=time,
    )


class Outbox:
    """The outbox as senders and pages use it; every method but `parked` is one transaction.

    Parameters
    ----------
    engine : from `open_database`
    settings : attempts, back-off, time limit
    now : the clock
    """

    def __init__(self, engine: Engine, settings: DeliverySettings, now: Callable[[], datetime] = database.now) -> None:
        self.engine = engine
        self.settings = settings
        self.now = now
        self.lease = timedelta(seconds=LEASE_STEPS * settings.limit_s + LEASE_MARGIN_S)

    def due(self) -> list[str]:
        """Return the destinations that something is due for, or was left by a dead sender; takes no write lock."""
        time = self.now()
        asked = select(outbox.c.destination).where(or_(self._waiting(time), self._abandoned(time))).distinct()
        with reading(self.engine) as connection:
            return sorted(connection.execute(asked).scalars())

    def take(self, owner: str, destination: str | None = None) -> Delivery | None:
        """Lease the delivery that is due: of the most urgent study, then the oldest; None if none is.

        Parameters
        ----------
        owner : name of the process, at most 64 characters, never used by another
        destination : take only what goes there
        """
        time = self.now()
        wanted = [] if destination is None else [outbox.c.destination == destination]
        with self.engine.begin() as connection:
            left = select(outbox.c.id, outbox.c.attempt).where(self._abandoned(time), *wanted)
            for dead in connection.execute(left.with_for_update(skip_locked=True)).all():
                self._give_back(connection, dead.id, dead.attempt, SENDER_DIED)
            row = connection.execute(
                select(outbox)
                .join_from(outbox, study)
                .where(self._waiting(time), *wanted)
                .order_by(study.c.rank.desc(), outbox.c.id)
                .limit(1)
                .with_for_update(skip_locked=True, of=outbox)
            ).first()
            if row is None:
                return None
            attempt, lease_until = row.attempt + 1, time + self.lease
            self._change(connection, row.id, "sending", attempt=attempt, lease_owner=owner, lease_until=lease_until)
        return Delivery(
            id=row.id,
            destination=row.destination,
            kind=row.kind,
            key=row.key,
            study_id=row.study_id,
            result_id=row.result_id,
            content=json.loads(row.content),
            attempt=attempt,
            fence=row.fence + 1,
        )

    def sent(self, delivery: Delivery) -> bool:
        """Note that it arrived; False if another sender has it meanwhile."""
        with self.engine.begin() as connection:
            if not self._mine(connection, delivery):
                return False
            self._change(connection, delivery.id, "sent", content="{}")  # a notice's link is a secret, and is told now
            uid = connection.execute(
                select(study.c.study_instance_uid).where(study.c.id == delivery.study_id)
            ).scalar_one()
            detail: dict[str, JsonValue] = {"destination": delivery.destination, "kind": delivery.kind}
            event = "transferred" if delivery.destination in DICOM_DESTINATIONS else "export"
            audit.record(connection, event, actor="sender", action="R", study_instance_uid=uid, detail=detail)
            return True

    def fail(self, delivery: Delivery, reason: str, *, park: bool = False) -> bool:
        """Put it back for another attempt, or park it; False if another sender has it meanwhile.

        Parameters
        ----------
        reason : a sentence for people
        park : whether another attempt is of no use
        """
        with self.engine.begin() as connection:
            if not self._mine(connection, delivery):
                return False
            if park:
                self._change(connection, delivery.id, "parked", reason=reason)
            else:
                self._give_back(connection, delivery.id, delivery.attempt, reason)
            return True

    def release(self, owner: str) -> int:
        """Give back what a process held that is known to be dead; return how many deliveries."""
        mine = and_(outbox.c.state == "sending", outbox.c.lease_owner == owner)
        with self.engine.begin() as connection:
            rows = connection.execute(select(outbox.c.id, outbox.c.attempt).where(mine).with_for_update()).all()
            for row in rows:
                self._give_back(connection, row.id, row.attempt, SENDER_DIED)
        return len(rows)

    def retry(self, outbox_id: int) -> bool:
        """Put a parked delivery back, with all its attempts; False if it is not parked."""
        parked = and_(outbox.c.id == outbox_id, outbox.c.state == "parked")
        with self.engine.begin() as connection:
            if connection.execute(select(outbox.c.id).where(parked).with_for_update()).first() is None:
                return False
            self._change(connection, outbox_id, "waiting", attempt=0, not_before=self.now())
            return True

    @staticmethod
    def parked(connection: Connection) -> list[ParkedDelivery]:
        """Return what waits for a person, the latest first."""
        asked = (
            select(outbox, study.c.study_instance_uid, study.c.accession_number)
            .join_from(outbox, study)
            .where(outbox.c.state == "parked")
            .order_by(outbox.c.changed_at.desc(), outbox.c.id.desc())
        )
        return [
            ParkedDelivery(
                id=row.id,
                destination=row.destination,
                kind=row.kind,
                study_id=row.study_id,
                study_instance_uid=row.study_instance_uid,
                accession_number=row.accession_number,
                reason=row.reason,
                attempt=row.attempt,
                parked_at=row.changed_at,
            )
            for row in connection.execute(asked)
        ]

    def _waiting(self, time: datetime) -> ColumnElement[bool]:
        too_far = time + timedelta(seconds=LONGEST_BACKOFF_S + CLOCKS_APART_S)
        return and_(outbox.c.state == "waiting", or_(outbox.c.not_before <= time, outbox.c.not_before > too_far))

    def _abandoned(self, time: datetime) -> ColumnElement[bool]:
        too_far = time + self.lease + timedelta(seconds=CLOCKS_APART_S)
        return and_(outbox.c.state == "sending", or_(outbox.c.lease_until <= time, outbox.c.lease_until > too_far))

    def _mine(self, connection: Connection, delivery: Delivery) -> bool:
        """Lock the row and tell whether the delivery's fence still holds."""
        held = and_(outbox.c.id == delivery.id, outbox.c.fence == delivery.fence, outbox.c.state == "sending")
        return connection.execute(select(outbox.c.id).where(held).with_for_update()).first() is not None

    def _give_back(self, connection: Connection, outbox_id: int, attempt: int, reason: str) -> None:
        if attempt >= self.settings.attempts:
            times = f" ({attempt} attempts)" if attempt > 1 else ""
            self._change(connection, outbox_id, "parked", reason=reason + times)
            return
        # the exponent is bounded, or a patient site's thousandth attempt would overflow a float
        wait = min(self.settings.backoff_s * 2.0 ** min(attempt - 1, 60), LONGEST_BACKOFF_S)
        not_before = self.now() + timedelta(seconds=wait)
        self._change(connection, outbox_id, "waiting", reason=reason, not_before=not_before)

    def _change(self, connection: Connection, outbox_id: int, state: State, **values: Any) -> None:
        """Move a row to a state; whoever held it before holds it no more."""
        row = {"state": state, "reason": "", "lease_owner": None, "lease_until": None, **values}
        this = outbox.c.id == outbox_id
        connection.execute(update(outbox).where(this).values(**row, fence=outbox.c.fence + 1, changed_at=self.now()))
