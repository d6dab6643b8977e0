"""The sending process: deliveries from the outbox out to their destinations; started by `supervise`.

Each destination has a thread of its own while it has work, so that a slow or dead one holds up no other: a
round of them in one thread would wait for the slowest, as long as its time limit, in every round. Within a
destination deliveries go one after the other, the most urgent study's first, since a PACS that answers slowly
is not helped by more at once.

Nothing leaves in shadow mode or while the model is off; what waits then leaves afterwards.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import CxrTriageError
from cxrtriage.serve import node_state, process
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.notify import notices
from cxrtriage.serve.results.outbox import Context, Delivery, Outbox, Refused
from cxrtriage.serve.results.plan import held
from cxrtriage.serve.settings import NodeSettings, load_settings

LOGGER = logging.getLogger(__name__)
POLL_S = 0.5  # between looks at the outbox
ESCALATE_S = 5.0  # between looks for notices that nobody acknowledged
DATABASE_DOWN_S = 5.0
STOP_S = 10.0  # for what is being sent when told to stop; the rest is sent again by the next sender

DeliverFunction = Callable[[Delivery, Context], None]
DELIVER = {  # kind -> the module whose `deliver` sends it; imported at first use
    "structured_report": "results.evidence",
    "overlay": "results.evidence",
    "oru": "results.oru",
    "fhir": "results.fhir",
    "mail": "notify.mail",
    "webhook": "notify.webhook",
}


class Sender:
    """Takes deliveries and sends them until told to stop.

    Parameters
    ----------
    context : the node
    owner : name of this process in leases
    stopping : set when it shall stop
    deliver : functions by kind instead of those of `DELIVER`

    Attributes
    ----------
    troubles : dict of str to str
        What went wrong last, by destination; a delivery that arrives clears it.
    """

    def __init__(
        self,
        context: Context,
        owner: str,
        stopping: threading.Event,
        deliver: Mapping[str, DeliverFunction] | None = None,
    ) -> None:
        self.context = context
        self.owner = owner
        self.stopping = stopping
        self.outbox = Outbox(context.engine, context.settings.delivery)
        self.troubles: dict[str, str] = {}
        self._deliver = deliver
        self._threads: dict[str, threading.Thread] = {}

    def run(self) -> None:
        """Send what is due until told to stop, then wait a little for what is on its way."""
        while not self.stopping.is_set():
            try:
                self.look()
            except SQLAlchemyError as error:
                LOGGER.error("the database does not answer (%s); trying again", type(error).__name__)
                self.stopping.wait(DATABASE_DOWN_S)
            self.stopping.wait(POLL_S)
        for thread in self._threads.values():
            thread.join(STOP_S / len(self._threads))

    def look(self) -> None:
        """Start a thread for each destination that has something due and none at work."""
        if self._held():
            return
        for destination in self.outbox.due():
            at_work = self._threads.get(destination)
            if at_work is None or not at_work.is_alive():
                thread = threading.Thread(target=self._drain, args=[destination], name=destination, daemon=True)
                self._threads[destination] = thread
                thread.start()

    def note(self) -> str:
        """Say what is wrong with which destination; "" if nothing is."""
        return " ".join(f"{destination}: {trouble}" for destination, trouble in sorted(self.troubles.items()))

    def _held(self) -> bool:
        with reading(self.context.engine) as connection:
            return held(connection, self.context.settings)

    def _drain(self, destination: str) -> None:
        """Send all that is due to one destination."""
        try:
            while not self.stopping.is_set() and not self._held():
                delivery = self.outbox.take(self.owner, destination)
                if delivery is None:
                    return
                self._send(delivery)
        except SQLAlchemyError as error:  # what was taken comes back when its lease ends
            LOGGER.error("the database does not answer (%s)", type(error).__name__)

    def _send(self, delivery: Delivery) -> None:
        """Send one delivery and note what became of it; only our own errors have words that are safe to show."""
        try:
            self._function(delivery.kind)(delivery, self.context)
        except SQLAlchemyError:
            raise
        except Exception as error:  # whatever it is, it must not be shown as sent, nor stop the others
            told = str(error) if isinstance(error, CxrTriageError) else f"it failed ({type(error).__name__})."
            LOGGER.warning("delivery %d, %s to %s: %s", delivery.id, delivery.kind, delivery.destination, told)
            self.troubles[delivery.destination] = told
            counted = self.outbox.fail(delivery, told, park=isinstance(error, Refused))
        else:
            self.troubles.pop(delivery.destination, None)
            counted = self.outbox.sent(delivery)
            LOGGER.info("delivery %d, %s to %s: sent", delivery.id, delivery.kind, delivery.destination)
        if not counted:
            LOGGER.warning("delivery %d was meanwhile given to another sender", delivery.id)

    def _function(self, kind: str) -> DeliverFunction:
        if self._deliver is not None:
            return self._deliver[kind]
        if kind not in DELIVER:
            raise Refused(f"this version cannot send {kind}, expected one of {', '.join(DELIVER)}. Update cxrtriage.")
        function: DeliverFunction = import_module(f"cxrtriage.serve.{DELIVER[kind]}").deliver
        return function


def escalate_on(engine: Engine, settings: NodeSettings, home: Path, stopping: threading.Event) -> None:
    """Let notices that nobody acknowledged go to the next contact, every few seconds until told to stop."""
    while not stopping.wait(ESCALATE_S):
        try:
            with reading(engine) as connection:
                if held(connection, settings):
                    continue
            notices.escalate(engine, settings, home)
        except (CxrTriageError, SQLAlchemyError) as error:  # a table being edited, a database being restarted
            told = str(error) if isinstance(error, CxrTriageError) else type(error).__name__
            LOGGER.error("notices are not escalated at present: %s", told)


def main(home: str, owner: str) -> None:
    """Send what the node at `home` has to tell until told to stop; `owner` is this process' name in leases."""
    stopping = process.begin("sender")
    try:
        settings = load_settings(Path(home))
        engine = open_database(settings.database.url)
    except CxrTriageError as error:
        LOGGER.error("%s", error)
        os._exit(process.CANNOT_START)
    sender = Sender(Context(Path(home), settings, engine), owner, stopping)
    node_state.keep_beating(engine, "sender", stopping, sender.note)
    escalating = threading.Thread(
        target=escalate_on, args=[engine, settings, Path(home), stopping], name="escalate", daemon=True
    )
    escalating.start()
    sender.run()
