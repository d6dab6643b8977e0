"""What all processes of a node share beside its films: switches, and signs of life; pages and `check` read them."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.serve.database import insert_new, now
from cxrtriage.serve.tables import heartbeat, node_state

MODEL_OFF = "model_off"  # why the model is off; "" when it is on
BEAT_S = 5.0  # between two signs of life
SILENT_S = 20.0  # a process that gave none for so long is taken for dead


def get(connection: Connection, key: str) -> str:
    """Return a switch's value, "" if it was never set."""
    found = connection.execute(select(node_state.c.value).where(node_state.c.key == key)).scalar()
    return "" if found is None else str(found)


def put(connection: Connection, key: str, value: str) -> None:
    """Set a switch."""
    row = {"value": value, "changed_at": now()}
    if insert_new(connection, node_state, key=key, **row) is None:
        connection.execute(node_state.update().where(node_state.c.key == key).values(row))


def beat(engine: Engine, name: str, note: str = "") -> None:
    """Say that a process of this machine lives.

    Parameters
    ----------
    engine : from `open_database`
    name : what it does: receiver, folder, listener, worker, sender, web
    note : what is wrong with it, in a sentence that people read; "" if nothing
    """
    row = {"name": name, "seen_at": now(), "note": note}
    process = f"{name} on {socket.gethostname()}"[:80]
    with engine.begin() as connection:
        if insert_new(connection, heartbeat, process=process, **row) is None:
            connection.execute(heartbeat.update().where(heartbeat.c.process == process).values(row))


def keep_beating(engine: Engine, name: str, stopping: threading.Event, note: Callable[[], str] = str) -> None:
    """Say that this process lives every few seconds, from a thread of its own, until it stops.

    Parameters
    ----------
    engine, name : as for `beat`
    stopping : set when the process shall stop
    note : asked each time what is wrong
    """

    def beat_on() -> None:
        while not stopping.is_set():
            with suppress(SQLAlchemyError):  # the work itself says that the database does not answer
                beat(engine, name, _told(note))
            stopping.wait(BEAT_S)

    threading.Thread(target=beat_on, name="heartbeat", daemon=True).start()


def _told(note: Callable[[], str]) -> str:
    """Return the note; a disk that does not answer is trouble to tell, not the end of the signs of life."""
    try:
        return note()
    except OSError as error:
        return f"The disk does not answer ({error.strerror})."
