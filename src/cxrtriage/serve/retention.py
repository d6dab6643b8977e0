"""Delete films that are no longer needed: studies read long ago in, free disk out; `serve` does it once a day.

The rows stay: what was received, scored, read and told can be shown for ever, and a page that finds no file
at an instance's path says that the film was deleted. A study is left alone while it is unread, while a film
of it waits for a model, or while something about it waits to be sent.

For each study the audit trail has the row that says so before the first file goes. A crash in between leaves
files that the next run deletes, never a film that is gone without a word. A film that is sent again later is
stored again, without new rows, and deleted by the next run.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, exists, not_, select
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.serve import audit
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.tables import instance, job, outbox, study
from cxrtriage.serve.web.pictures import Pictures

LOGGER = logging.getLogger(__name__)
DAY_S = 24 * 3600.0
BATCH = 500  # studies in memory at once


@dataclass(slots=True)
class Deleted:
    """What a run deleted, or would delete."""

    studies: int = 0
    films: int = 0
    bytes: int = 0


def retain(engine: Engine, home: Path, films_days: float, *, actor: str, dry_run: bool = False) -> Deleted:
    """Delete the films of all studies that were read so long ago.

    Parameters
    ----------
    engine : from `open_database`
    home : the node's folder
    films_days : days since the study was read, `retention.films_days`; 0 deletes nothing
    actor : who does it, for the audit trail
    dry_run : only count

    Raises
    ------
    OSError, SQLAlchemyError
        If the disk or the database fails. What was deleted until then is recorded; a later run goes on.
    """
    deleted = Deleted()
    if not films_days:
        return deleted
    read_before = now() - timedelta(days=films_days)
    for study_id in _due(engine, read_before):
        films = _delete_study(engine, home, study_id, read_before, actor, dry_run)
        deleted.studies += bool(films)
        deleted.films += len(films)
        deleted.bytes += sum(films)
    return deleted


def keep_retaining(engine: Engine, home: Path, films_days: float, stopping: threading.Event) -> None:
    """Delete now and once a day, from a thread of its own, until the process stops."""

    def retain_daily() -> None:
        while not stopping.is_set():
            try:
                deleted = retain(engine, home, films_days, actor="node")
            except (OSError, SQLAlchemyError) as error:
                LOGGER.error("could not delete old films (%s); trying again tomorrow", type(error).__name__)
            else:
                if deleted.films:
                    LOGGER.info(
                        "deleted %d films of %d studies read more than %g days ago",
                        deleted.films, deleted.studies, films_days,
                    )  # fmt: skip
            stopping.wait(DAY_S)

    if films_days:
        threading.Thread(target=retain_daily, name="retention", daemon=True).start()


def _due(engine: Engine, read_before: datetime) -> Iterator[int]:
    """Yield the keys of studies whose films may go, whether or not they are gone already."""
    last = 0
    while True:
        with reading(engine) as connection:
            found = (
                connection.execute(
                    select(study.c.id).where(study.c.id > last, _may_go(read_before)).order_by(study.c.id).limit(BATCH)
                )
                .scalars()
                .all()
            )
        if not found:
            return
        yield from found
        last = found[-1]


def _may_go(read_before: datetime) -> Any:
    waits = exists().where(
        instance.c.study_id == study.c.id, job.c.instance_id == instance.c.id, job.c.state.in_(("received", "running"))
    )
    is_told = exists().where(outbox.c.study_id == study.c.id, outbox.c.state.in_(("waiting", "sending")))
    return and_(study.c.read_at <= read_before, not_(waits), not_(is_told))  # an unread one's NULL is not before


def _delete_study(
    engine: Engine, home: Path, study_id: int, read_before: datetime, actor: str, dry_run: bool
) -> list[int]:
    """Delete a study's films; return the bytes of each."""
    with reading(engine) as connection:
        films = _films_there(connection, home, study_id)
    sizes = [path.stat().st_size for path in films]
    if dry_run or not films:
        return sizes
    with engine.begin() as connection:
        # again and under a lock: a reader may have opened the study since
        uid = connection.execute(
            select(study.c.study_instance_uid).where(study.c.id == study_id, _may_go(read_before)).with_for_update()
        ).scalar()
        if uid is None:
            return []
        audit.record(
            connection, "delete", actor=actor, action="D", study_instance_uid=uid, detail={"films": len(films)}
        )
    pictures = Pictures(home)
    for path, content_sha256 in films.items():
        pictures.forget(content_sha256)  # first, since the next run finds what is left by the film
        path.unlink(missing_ok=True)  # not flushed: a film that a power cut brings back goes with the next run
    return sizes


def _films_there(connection: Connection, home: Path, study_id: int) -> dict[Path, str]:
    """Return the files of a study's films that are there, with the hash of each film's content."""
    found = select(instance.c.path, instance.c.content_sha256).where(instance.c.study_id == study_id)
    films = {home / row.path: row.content_sha256 for row in connection.execute(found).all()}
    return {path: content_sha256 for path, content_sha256 in films.items() if path.exists()}
