"""What every page says of the node before anything else: rows and the disk in, sentences out for `rendering`."""

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Literal

from sqlalchemy import Connection, Engine, select

from cxrtriage.machine import free_bytes
from cxrtriage.serve import node_state
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.models import active_model
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import heartbeat
from cxrtriage.serve.worklist import drift

REPLACED_AFTER = timedelta(days=1)  # that long silent while another of its kind lives: a host renamed or gone
DRIFT_KEPT_S = 600.0  # it reads half a year of results, and changes with the days


@dataclass(frozen=True, slots=True)
class Banner:
    """A sentence, how grave it is, and an id that stays the same while the matter does."""

    id: str
    grave: Literal["stop", "care", "note"]
    text: str


def banners(engine: Engine, settings: NodeSettings, home: Path) -> tuple[Banner, ...]:
    """Return what readers must know of the node now, the gravest first."""
    with reading(engine) as connection:
        found = [
            *_model(connection),
            *_shadow(settings),
            *_disk(settings, home),
            *_processes(connection, settings),
            *_drift(connection, settings),
        ]
    return tuple(sorted(found, key=lambda banner: ("stop", "care", "note").index(banner.grave)))


def _model(connection: Connection) -> list[Banner]:
    why = node_state.get(connection, node_state.MODEL_OFF)
    if why:
        text = f"The model is off: {why.rstrip('.')}. No scores are shown; the list is first come, first served."
        return [Banner("model-off", "stop", text)]
    active = active_model(connection)
    if active is None:
        return [Banner("no-model", "stop", "There is no model: films wait, and the list is first come, first served.")]
    if active.acceptance is None:
        return [
            Banner(
                "not-validated",
                "care",
                "Not validated here: the model has not been measured on films of this site. Its scores may mislead.",
            )
        ]
    return []


def _shadow(settings: NodeSettings) -> list[Banner]:
    if not settings.reading.shadow:
        return []
    text = "Shadow mode: films are scored and recorded, scores are shown to nobody. First come, first served."
    return [Banner("shadow", "note", text)]


def _disk(settings: NodeSettings, home: Path) -> list[Banner]:
    free = free_bytes(home) / 2**30
    if free >= settings.store.min_free_gib:
        return []
    text = f"The disk is low ({free:.1f} GiB free): new films are refused until there is room."
    return [Banner("disk", "stop", text)]


def _processes(connection: Connection, settings: NodeSettings) -> list[Banner]:
    """Return a sentence for each process that is silent, or says that something is wrong.

    A process that never gave a sign is not missed: on a machine of its own it may never have been meant to run.
    """
    expected = {"receiver", "worker", "sender"}
    expected |= {"listener"} if settings.hl7.port is not None else set()
    expected |= {"folder"} if settings.watch.folder is not None else set()
    silent_since = now() - timedelta(seconds=node_state.SILENT_S)
    rows = connection.execute(select(heartbeat).order_by(heartbeat.c.process)).all()
    alive = {row.name for row in rows if row.seen_at >= silent_since}
    found = []
    for row in rows:
        if row.seen_at < now() - REPLACED_AFTER and row.name in alive:
            continue
        if row.seen_at < silent_since and row.name in expected:
            since = f"{row.seen_at.astimezone():%d %b %H:%M}"
            text = f"The {row.process} has given no sign of life since {since}. Tell whoever runs this node."
            found.append(Banner(f"dead-{row.process}", "stop", text))
        elif row.note and row.name in expected:
            found.append(Banner(f"note-{row.process}", "care", f"The {row.process} says: {row.note}"))
    return found


_drift_lock = Lock()
_drift_found: dict[str, tuple[float, list[str]]] = {}


def _drift(connection: Connection, settings: NodeSettings) -> list[Banner]:
    key = str(connection.engine.url)
    with _drift_lock:
        asked_at, sentences = _drift_found.get(key, (-DRIFT_KEPT_S, []))
    if time.monotonic() - asked_at > DRIFT_KEPT_S:
        sentences = drift.alarms(drift.weeks(connection, now()), settings.reading.drift_points)
        with _drift_lock:
            _drift_found[key] = (time.monotonic(), sentences)
    return [Banner(f"drift-{number}", "care", sentence) for number, sentence in enumerate(sentences)]
