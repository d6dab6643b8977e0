"""The queue: films that wait to be scored, each in one of five states; `files` adds, `worker` takes.

    received --take--> running --finish--> done
       ^                  | --set_aside--> not_assessed     the film is none for the model; `reason` says why
       |                  | --fail-------> received         after a back-off, or
       +------retry-------+                failed           parked after `attempts`, until a person retries

A taken film is leased. A worker that dies leaves it `running`; `release` (its parent saw it die) or the end
of the lease gives it to the next. Each change of hands raises the job's `fence`, and only who holds the
present fence can finish: of two workers on one film, one result counts. A film that kills its worker uses
up its attempts like any other and is parked. What a retired model had in hand is not given back but dropped.

Leases go by the clock of the machines. A clock put back or forward costs at most a film scored twice, of
which one result counts: times further ahead than the node ever sets them count as past.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, or_, select, update

from cxrtriage.serve import database, turns
from cxrtriage.serve.settings import WorkerSettings
from cxrtriage.serve.tables import State, instance, job, model_version, result, study

LEASE_MARGIN_S = 30  # beyond the time a film may take
LONGEST_BACKOFF_S = 3600.0
CLOCKS_APART_S = 60  # that machines' clocks may differ, and that a transaction may have waited for its turn
NO_MODEL_YET = ""  # the model of films that came before the node had one
WORKER_DIED = "the scoring process died or hung over this film"
RETIRED = select(model_version.c.sha256).where(model_version.c.role == "retired")


@dataclass(frozen=True, slots=True)
class LeasedFilm:
    """A film that a worker has to itself until `lease` ends, and what finishing it takes."""

    job_id: int
    instance_id: int
    sop_instance_uid: str
    path: Path  # relative to HOME
    age_years: float | None
    attempt: int  # 1 at the first
    fence: int
    model_sha256: str  # the model that is to score it


@dataclass(frozen=True, slots=True)
class Score:
    """What a model said of a film."""

    model_sha256: str
    probability: float
    threshold: float
    decision: str
    seconds: float


OnResult = Callable[[Connection, int, int], None]


def add(connection: Connection, instance_id: int, model_sha256: str) -> None:
    """Put a film in the queue for a model, in the transaction that makes its row."""
    time = database.now()
    connection.execute(
        job.insert().values(
            instance_id=instance_id,
            model_sha256=model_sha256,
            state="received",
            reason="",
            attempt=0,
            not_before=time,
            fence=0,
            changed_at=time,
        )
    )


def add_for_all_models(connection: Connection, instance_id: int) -> None:
    """Put a new film in the queue for every model that runs; before there is one, for the first that will."""
    running = select(model_version.c.sha256).where(model_version.c.role != "retired").order_by(model_version.c.role)
    for model_sha256 in connection.execute(running).scalars().all() or [NO_MODEL_YET]:
        add(connection, instance_id, model_sha256)


class Queue:
    """The queue as workers and pages use it; every method is one transaction.

    Parameters
    ----------
    engine : from `open_database`
    settings : limits of a film, attempts and back-off
    now : the clock
    on_result : called with the keys of study and result in the transaction that writes the result, so that
        what follows from it is there exactly if it is
    """

    def __init__(
        self,
        engine: Engine,
        settings: WorkerSettings,
        now: Callable[[], datetime] = database.now,
        on_result: OnResult | None = None,
    ) -> None:
        self.engine = engine
        self.on_result = on_result
        self.settings = settings
        self.now = now
        self.lease = timedelta(seconds=settings.film_limit_s + LEASE_MARGIN_S)

    def take(self, owner: str, models: Collection[str]) -> LeasedFilm | None:
        """Lease the film that waits longest, those of STAT orders first; None if none is due.

        Parameters
        ----------
        owner : name of the process, at most 64 characters, never used by another
        models : hashes of the models that it can run; the first is the one shown, whose films go first
        """
        time, apart = self.now(), timedelta(seconds=CLOCKS_APART_S)
        abandoned = and_(
            job.c.state == "running", or_(job.c.lease_until <= time, job.c.lease_until > time + self.lease + apart)
        )
        longest = timedelta(seconds=LONGEST_BACKOFF_S)
        waiting = and_(
            job.c.state == "received",
            job.c.model_sha256.in_(models),
            or_(job.c.not_before <= time, job.c.not_before > time + longest + apart),
        )
        shown = case((job.c.model_sha256 == next(iter(models), ""), 0), else_=1)
        columns = (
            job.c.id.label("job_id"),
            job.c.attempt,
            job.c.fence,
            job.c.model_sha256,
            instance.c.id.label("instance_id"),
            instance.c.sop_instance_uid,
            instance.c.path,
            instance.c.age_years,
        )
        with self.engine.begin() as connection:
            turns.beside_others(connection)
            for left in connection.execute(
                select(job.c.id, job.c.attempt).where(abandoned).with_for_update(skip_locked=True)
            ).all():
                self._give_back(connection, left.id, left.attempt, WORKER_DIED)
            row = connection.execute(
                select(*columns)
                .join_from(job, instance)
                .join(study)
                .where(waiting)
                .order_by(shown, study.c.rank.desc(), job.c.id)
                .limit(1)
                .with_for_update(skip_locked=True, of=job)
            ).first()
            if row is None:
                return None
            attempt, fence = row.attempt + 1, row.fence + 1
            self._change(
                connection,
                row.job_id,
                "running",
                attempt=attempt,
                lease_owner=owner,
                lease_until=time + self.lease,
            )
        return LeasedFilm(
            row.job_id,
            row.instance_id,
            row.sop_instance_uid,
            Path(row.path),
            row.age_years,
            attempt,
            fence,
            row.model_sha256,
        )

    def finish(self, film: LeasedFilm, score: Score) -> bool:
        """Write the score; False, and nothing written, if the film is no longer this worker's."""
        with self.engine.begin() as connection:
            turns.beside_others(connection)
            if not self._mine(connection, film):
                return False
            self._change(connection, film.job_id, "done")
            values = {
                "probability": score.probability,
                "threshold": score.threshold,
                "decision": score.decision,
                "seconds": score.seconds,
                "fence": film.fence,
                "made_at": self.now(),
            }
            this = and_(result.c.instance_id == film.instance_id, result.c.model_sha256 == score.model_sha256)
            if connection.execute(update(result).where(this).values(values)).rowcount == 0:
                connection.execute(
                    result.insert().values(instance_id=film.instance_id, model_sha256=score.model_sha256, **values)
                )
            if self.on_result is not None:
                written = select(instance.c.study_id, result.c.id).join_from(result, instance).where(this)
                study_id, result_id = connection.execute(written).one()
                self.on_result(connection, study_id, result_id)
            return True

    def set_aside(self, film: LeasedFilm, reason: str) -> bool:
        """Say why the film is none for the model; False if it is no longer this worker's."""
        with self.engine.begin() as connection:
            if not self._mine(connection, film):
                return False
            self._change(connection, film.job_id, "not_assessed", reason=reason)
            return True

    def fail(self, film: LeasedFilm, reason: str) -> bool:
        """Put the film back for another attempt, or park it after the last; False if it is not this worker's."""
        with self.engine.begin() as connection:
            turns.beside_others(connection)
            if not self._mine(connection, film):
                return False
            self._give_back(connection, film.job_id, film.attempt, reason)
            return True

    def release(self, owner: str, reason: str = WORKER_DIED) -> int:
        """Give back what a process held that is known to be dead; return how many films."""
        mine = and_(job.c.state == "running", job.c.lease_owner == owner)
        with self.engine.begin() as connection:
            turns.beside_others(connection)
            rows = connection.execute(select(job.c.id, job.c.attempt).where(mine).with_for_update()).all()
            for row in rows:
                self._give_back(connection, row.id, row.attempt, reason)
        return len(rows)

    def retry(self, job_id: int) -> bool:
        """Put a parked or not assessed film back, with all its attempts; False if it is neither."""
        parked = and_(
            job.c.id == job_id, job.c.state.in_(("failed", "not_assessed")), job.c.model_sha256.not_in(RETIRED)
        )
        with self.engine.begin() as connection:
            turns.beside_others(connection)
            if connection.execute(select(job.c.id).where(parked).with_for_update()).first() is None:
                return False
            self._change(connection, job_id, "received", attempt=0, not_before=self.now())
            return True

    def _mine(self, connection: Connection, film: LeasedFilm) -> bool:
        """Lock the job and tell whether the film's fence still holds."""
        held = and_(job.c.id == film.job_id, job.c.fence == film.fence, job.c.state == "running")
        return connection.execute(select(job.c.id).where(held).with_for_update()).first() is not None

    def _give_back(self, connection: Connection, job_id: int, attempt: int, reason: str) -> None:
        if connection.execute(job.delete().where(job.c.id == job_id, job.c.model_sha256.in_(RETIRED))).rowcount:
            return  # nobody would ever take it
        if attempt >= self.settings.attempts:
            times = f" ({attempt} attempts)" if attempt > 1 else ""
            self._change(connection, job_id, "failed", reason=reason + times)
            return
        wait = min(self.settings.backoff_s * 2 ** (attempt - 1), LONGEST_BACKOFF_S)
        not_before = self.now() + timedelta(seconds=wait)
        self._change(connection, job_id, "received", reason=reason, not_before=not_before)

    def _change(self, connection: Connection, job_id: int, state: State, **values: Any) -> None:
        """Move a job to a state; whoever held it before holds it no more."""
        row = {"state": state, "reason": "", "lease_owner": None, "lease_until": None, **values}
        connection.execute(
            update(job).where(job.c.id == job_id).values(**row, fence=job.c.fence + 1, changed_at=self.now())
        )
