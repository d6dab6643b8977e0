"""A node that tells: settings with both channels, a table of contacts, an order, and what stands in the outbox."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, update

from cxrtriage.serve.database import now, reading
from cxrtriage.serve.hl7.messages import Message
from cxrtriage.serve.hl7.orders import take_orders
from cxrtriage.serve.notify import notices
from cxrtriage.serve.results.outbox import Context, Delivery, Outbox
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import notice, outbox, study
from serve.hl7 import written

TABLE = """\
# a comment
key,match,email,webhook,next
smith,4711; SMITH^JOHN,j.smith@hospital.example,,ward
ward,ICU,icu@hospital.example,pager-3,oncall
oncall,,,pager-17,
"""


@dataclass
class Node:
    home: Path
    engine: Engine
    settings: NodeSettings = field(
        default_factory=lambda: NodeSettings.model_validate(
            {
                "mail": {"host": "127.0.0.1"},
                "webhook": {"url": "http://127.0.0.1:9"},
                "web": {"url": "https://triage.hospital.example/"},
                "delivery": {"limit_s": 5, "attempts": 3, "backoff_s": 0},
            }
        )
    )

    def write_table(self, text: str = TABLE) -> None:
        (self.home / "recipients.csv").write_text(text, encoding="utf-8")

    def set(self, section: str, **values: Any) -> None:
        changed = getattr(self.settings, section).model_copy(update=values)
        self.settings = self.settings.model_copy(update={section: changed})

    def order(self, accession: str, **parts: Any) -> None:
        with self.engine.begin() as connection:
            take_orders(connection, Message(written.orm(accession, **parts)), sender="RIS", address="")

    def key(self, uid: str) -> int:
        with reading(self.engine) as connection:
            return connection.execute(select(study.c.id).where(study.c.study_instance_uid == uid)).scalar_one()

    def tell(self, uid: str) -> None:
        key = self.key(uid)
        with self.engine.begin() as connection:
            notices.tell(connection, self.settings, self.home, key)

    def escalate(self) -> int:
        return notices.escalate(self.engine, self.settings, self.home)

    def pass_minutes(self, minutes: float) -> None:
        """Move all notices back in time instead of the clock forward."""
        back = timedelta(minutes=minutes)
        with self.engine.begin() as connection:
            for row in connection.execute(select(notice)).all():
                due = row.escalate_at and row.escalate_at - back
                values = {"made_at": row.made_at - back, "escalate_at": due}
                connection.execute(update(notice).where(notice.c.id == row.id).values(values))

    def told(self) -> list[tuple[int, str, str]]:
        """Return step, contact and channel of each notice."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(notice.c.step, notice.c.recipient, outbox.c.kind).join_from(notice, outbox).order_by(notice.c.id)
            ).all()
        return [(row.step, row.recipient, row.kind) for row in rows]

    def outbox(self) -> list[tuple[str, str]]:
        with reading(self.engine) as connection:
            rows = connection.execute(select(outbox).order_by(outbox.c.id)).all()
        return [(row.state, row.reason) for row in rows]

    def unanswered(self) -> list[notices.Unanswered]:
        with reading(self.engine) as connection:
            return notices.unanswered(connection, now())

    @property
    def context(self) -> Context:
        return Context(self.home, self.settings, self.engine)

    @property
    def deliveries(self) -> Outbox:
        return Outbox(self.engine, self.settings.delivery)

    def take(self, channel: str | None = None) -> Delivery:
        taken = self.deliveries.take("sender", channel)
        assert taken is not None
        return taken
