"""How the node is, for monitors: `/healthz` answers, `/readyz` says what is wrong, `/metrics` counts (Prometheus).

None of them names a patient or a study.
"""

import ipaddress
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Info, generate_latest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from cxrtriage.machine import free_bytes
from cxrtriage.serve import node_state
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.models import active_model
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import STATES, heartbeat, job, outbox, study
from cxrtriage.serve.web.access import address_of, require
from cxrtriage.serve.worklist.priority import RANKS
from cxrtriage.serve.worklist.reading_list import count_by_rank

router = APIRouter(tags=["health"])
NEEDED = ("receiver", "worker", "sender")  # processes without which films are not received, scored or told
QUANTILES = (0.5, 0.95, 1.0)
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")  # what a proxy adds
LAST_RESULTS = timedelta(hours=1)
MAY_SCRAPE = require("reader")


@router.get("/healthz")
def get_healthz() -> dict[str, str]:
    """Say that the web process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "Something is wrong; `problems` says what."}})
def get_readyz(request: Request) -> JSONResponse:
    """Say whether films are received, scored and shown, and what is wrong if not."""
    state = request.app.state
    found = problems(state.engine, state.settings, state.home)
    return JSONResponse({"ready": not found, "problems": found}, 503 if found else 200)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}, 401: {"description": "A token is needed."}})
async def get_metrics(request: Request) -> Response:
    """Count for Prometheus; from another machine only with an API token."""
    if not _from_here(request):
        await MAY_SCRAPE(request)
    state = request.app.state
    text = await run_in_threadpool(measured, state.engine, state.settings, state.home)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def problems(engine: Any, settings: NodeSettings, home: Path) -> list[str]:
    """Say in sentences what keeps the node from its work; none if nothing does."""
    found = []
    free = free_bytes(home) / 2**30
    if free < settings.store.min_free_gib:
        found.append(
            f"The disk is low: {free:.1f} GiB free; films are refused below {settings.store.min_free_gib} GiB."
        )
    try:
        with reading(engine) as connection:
            found += _silent(connection.execute(select(heartbeat)).all(), _needed(settings))
            if active_model(connection) is None:
                found.append("There is no model: films are kept and wait.")
    except SQLAlchemyError:
        found.append("The database does not answer.")
    return found


def measured(engine: Any, settings: NodeSettings, home: Path) -> bytes:
    """Return the node's figures in Prometheus' text form."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"cxrtriage_{name}", text, labels, registry=registry)

    gauge("disk_free_bytes", "Free under HOME").set(free_bytes(home))
    with reading(engine) as connection:
        films = gauge("films", "Films of the model shown and those in shadow, by state", "state")
        for state, count in _counted(connection, job.c.state, STATES).items():
            films.labels(state).set(count)
        deliveries = gauge("deliveries", "Deliveries by destination and state", "destination", "state")
        counted = select(outbox.c.destination, outbox.c.state, func.count()).group_by(
            outbox.c.destination, outbox.c.state
        )
        for destination, state, count in connection.execute(counted).all():
            deliveries.labels(destination, state).set(count)
        waiting = gauge("studies_waiting", "Unread studies by priority", "priority")
        for rank, count in count_by_rank(connection, settings).items():
            waiting.labels(RANKS[rank]).set(count)
        oldest = connection.execute(select(func.min(study.c.received_at)).where(study.c.read_at.is_(None))).scalar()
        gauge("oldest_waiting_seconds", "Wait of the unread study that came first").set(_age(oldest))
        seen = gauge("heartbeat_age_seconds", "Since a process was last seen", "process")
        for row in connection.execute(select(heartbeat).order_by(heartbeat.c.seen_at)).all():  # the latest stays
            seen.labels(row.name).set(_age(row.seen_at))
        off = node_state.get(connection, node_state.MODEL_OFF)
        gauge("model_on", "1 while scores are shown, 0 while the model is switched off").set(not off)
        active = active_model(connection)
        if active:
            info = {"sha256": active.sha256, "architecture": active.card.architecture}
            Info("cxrtriage_model", "The model that is shown", registry=registry).info(info)
        recent = select(study.c.received_at, study.c.first_result_at).where(
            study.c.first_result_at.is_not(None), study.c.received_at > now() - LAST_RESULTS
        )
        took_s = [(row.first_result_at - row.received_at).total_seconds() for row in connection.execute(recent).all()]
        # no histogram: counts of one hour fall again, which Prometheus takes for a restart
        quantiles = gauge("time_to_result_seconds", "Study received to its first result, of the last hour", "quantile")
        for quantile, seconds in zip(QUANTILES, np.quantile(took_s, QUANTILES) if took_s else (), strict=False):
            quantiles.labels(str(quantile)).set(seconds)
        gauge("results_last_hour", "Studies received in the last hour that have a result").set(len(took_s))
    return generate_latest(registry)


def _needed(settings: NodeSettings) -> list[str]:
    """Return the processes that must live for the node to do what its settings say."""
    folder = ["folder"] if settings.watch.folder is not None else []
    return [*NEEDED, *folder, *(["listener"] if settings.hl7.port is not None else [])]


def _silent(rows: Iterable[Any], needed: Iterable[str]) -> list[str]:
    """Say which needed processes gave no sign of life, and what those that did complain of."""
    latest = {row.name: row for row in sorted(rows, key=lambda row: row.seen_at)}
    silent = [
        f"The {name} has given no sign of life for {node_state.SILENT_S:.0f} s."
        for name in needed
        if name not in latest or _age(latest[name].seen_at) > node_state.SILENT_S
    ]
    return silent + [row.note for row in latest.values() if row.note and _age(row.seen_at) <= node_state.SILENT_S]


def _counted(connection: Connection, column: Any, values: Iterable[str]) -> dict[str, int]:
    counted = connection.execute(select(column, func.count()).group_by(column)).all()
    found = {row[0]: row[1] for row in counted}
    return {value: found.get(value, 0) for value in values}


def _age(time: datetime | None) -> float:
    return 0.0 if time is None else max(0.0, (now() - time).total_seconds())


def _from_here(request: Request) -> bool:
    """Tell whether a program on this machine asks; what a proxy on this machine passes on is from elsewhere."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(address_of(request)).is_loopback
    except ValueError:
        return False
