"""How long it takes: times of studies in, figures of the last hours out; the figures page and the tests read them.

Beside what was stands what first come, first served would have been: the same readings at the same moments, given to
the studies in the order in which they came.
"""

import heapq
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, exists, select

from cxrtriage.serve.tables import instance, model_version, result, study
from cxrtriage.serve.worklist.priority import RANKS, was_shown


def figures(connection: Connection, now: datetime, hours: float = 24) -> dict[str, Any]:
    """Return turn-around figures of the last hours, all times in seconds.

    Parameters
    ----------
    now : the time it is
    hours : how far back

    Returns
    -------
    dict
        `received`, `flagged_share` (of those with a result; None without), `time_to_result_s` (film received to
        result), `waiting_s` (unread studies, by rank), `time_to_read_s` (received to read, by rank) and
        `first_come_first_served_s` (the same, had they been read in the order in which they came). Each time is a
        dict of `studies`, `p50`, `p95`, `max`; the last three None without a study.
    """
    since = now - timedelta(hours=hours)
    columns = (study.c.received_at, study.c.first_result_at, study.c.read_at, study.c.rank, _flagged())
    came = connection.execute(select(*columns).where(study.c.received_at >= since)).all()
    unread = connection.execute(select(*columns).where(study.c.read_at.is_(None))).all()
    read = connection.execute(select(*columns).where(study.c.read_at >= since).order_by(study.c.read_at)).all()
    scored = [row for row in came if row.first_result_at is not None]
    fair = _first_come_first_served([(row.received_at, row.read_at) for row in read])
    return {
        "hours": hours,
        "received": len(came),
        "flagged_share": sum(row.flagged for row in scored) / len(scored) if scored else None,
        "time_to_result_s": _summary([_seconds(row.received_at, row.first_result_at) for row in scored]),
        "waiting_s": _by_rank(unread, [_seconds(row.received_at, now) for row in unread]),
        "time_to_read_s": _by_rank(read, [_seconds(row.received_at, row.read_at) for row in read]),
        "first_come_first_served_s": _by_rank(read, fair),
    }


def _flagged() -> Any:
    """Return whether a model that is or was shown calls a film of the study abnormal, whatever persons say."""
    return (
        exists()
        .where(
            instance.c.study_id == study.c.id,
            result.c.instance_id == instance.c.id,
            result.c.decision != "normal",
            model_version.c.sha256 == result.c.model_sha256,
            was_shown(),
        )
        .label("flagged")
    )


def _first_come_first_served(times: list[tuple[datetime, datetime]]) -> list[float]:
    """Return each study's wait if the readings, kept at their moments, had gone to whoever came first.

    A reading that finds nobody there is lost; who is left at the end takes the reading of his own.
    """
    arrivals = sorted((received_at, index) for index, (received_at, _) in enumerate(times))
    waits = [_seconds(received_at, read_at) for received_at, read_at in times]
    queue: list[tuple[datetime, int]] = []
    arrived = 0
    for _, moment in sorted(times, key=lambda pair: pair[1]):
        while arrived < len(arrivals) and arrivals[arrived][0] <= moment:
            heapq.heappush(queue, arrivals[arrived])
            arrived += 1
        if queue:
            received_at, index = heapq.heappop(queue)
            waits[index] = _seconds(received_at, moment)
    return waits


def _by_rank(rows: Any, seconds: list[float]) -> dict[str, dict[str, float | None]]:
    return {
        name: _summary([value for row, value in zip(rows, seconds, strict=True) if row.rank == rank])
        for rank, name in reversed(list(enumerate(RANKS)))
    }


def _summary(seconds: list[float]) -> dict[str, float | None]:
    if not seconds:
        return {"studies": 0, "p50": None, "p95": None, "max": None}
    p50, p95, highest = np.percentile(seconds, [50, 95, 100])
    return {"studies": len(seconds), "p50": float(p50), "p95": float(p95), "max": float(highest)}


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())
