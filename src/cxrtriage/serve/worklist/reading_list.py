"""What waits to be read, in its order, and what a study's page needs; the pages and the API ask.

    1. emergent, the longest waiting first
    2. whatever waits longer than `reading.upper_wait_min`, the longest first, so that no normal waits without end
    3. abnormal, the most probable first
    4. the rest, first come, first served

While scores are hidden (shadow mode, or the model is off) only STAT orders and persons make a study urgent.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, exists, func, or_, select

from cxrtriage.serve import node_state
from cxrtriage.serve.queue import NO_MODEL_YET
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import imaging_order, instance, job, model_version, patient, result, study
from cxrtriage.serve.worklist.priority import ABNORMAL, EMERGENT, RANK_OF_DECISION, ROUTINE, order_matches, was_shown

SECOND_LOOK_DAYS = 7
MOST_PARKED = 500


@dataclass(frozen=True, slots=True)
class ResultRow:
    """What one model said of one film; `shown` is False for a model in shadow."""

    result_id: int
    model_sha256: str
    model_name: str
    shown: bool
    probability: float
    threshold: float
    decision: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class FilmRow:
    """A film and where it stands with the model that is shown; `reason` says why there is no result."""

    instance_id: int
    study_instance_uid: str
    sop_instance_uid: str
    path: str
    view_position: str
    received_at: datetime
    job_id: int | None
    state: str
    reason: str
    results: tuple[ResultRow, ...]


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as the list shows it. `repr` shows nothing of the patient.

    Parameters
    ----------
    rank : index of `priority.RANKS`
    probability : the highest of its films; None where there is none, or scores are hidden
    instance_id : key of the film that has this probability; None as above
    decision : "normal", "abnormal", "emergent", or "" as above
    state : "waiting", "assessed", "not assessed" or "failed"; "assessed" if any film is
    reasons : why films are not assessed or failed
    left_out : how many films stand otherwise than the study, without a score: "1 film failed", "2 films waiting"
    """

    study_id: int
    study_instance_uid: str
    accession_number: str
    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    age_years: float | None
    view_positions: tuple[str, ...]
    received_at: datetime
    waiting_s: float
    rank: int
    overdue: bool
    probability: float | None
    threshold: float | None
    instance_id: int | None
    decision: str
    state: str
    reasons: tuple[str, ...]
    left_out: tuple[str, ...]
    films: int
    model_sha256: str
    ordered: str
    read_at: datetime | None
    read_by: str
    reported_abnormal: bool | None

    def __repr__(self) -> str:
        return f"StudyRow({self.study_instance_uid})"


def scores_hidden(connection: Connection, settings: NodeSettings) -> bool:
    """Tell whether scores are recorded but shown to nobody: in shadow mode, or while the model is off."""
    return settings.reading.shadow or bool(node_state.get(connection, node_state.MODEL_OFF))


def reading_list(
    connection: Connection,
    settings: NodeSettings,
    now: datetime,
    *,
    limit: int = 50,
    offset: int = 0,
    search: str = "",
    read: bool = False,
) -> tuple[list[StudyRow], int]:
    """Return a page of the list, and how many studies the whole list has.

    Parameters
    ----------
    now : the time that waiting is measured to
    search : part of the patient's name or ID, or of accession number or Study Instance UID
    read : those read, the last first, instead of those that wait
    """
    chosen = and_(study.c.read_at.is_not(None) if read else study.c.read_at.is_(None), *_matching(search))
    order = [study.c.read_at.desc()] if read else _order(settings, now, scores_hidden(connection, settings))
    keys = connection.execute(select(study.c.id).where(chosen).order_by(*order).limit(limit).offset(offset)).scalars()
    total = connection.execute(select(func.count()).select_from(study).where(chosen)).scalar_one()
    return _studies(connection, settings, now, list(keys)), total


def find_study(
    connection: Connection, settings: NodeSettings, now: datetime, study_instance_uid: str
) -> StudyRow | None:
    """Return a study by its UID; None if the node has none."""
    key = connection.execute(select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)).scalar()
    return None if key is None else _studies(connection, settings, now, [key])[0]


def next_study(connection: Connection, settings: NodeSettings, now: datetime, after: str) -> str | None:
    """Return the UID of the unread study below `after`, the first if `after` is last or not on the list."""
    order = _order(settings, now, scores_hidden(connection, settings))
    unread = select(study.c.study_instance_uid).where(study.c.read_at.is_(None)).order_by(*order)
    uids = list(connection.execute(unread).scalars())
    below = uids[uids.index(after) + 1 :] if after in uids else []
    others = [uid for uid in below + uids if uid != after]
    return others[0] if others else None


def films_of(connection: Connection, study_id: int) -> list[FilmRow]:
    """Return a study's films, the first received first, with what every model said of them."""
    return _films(connection, instance.c.study_id == study_id)


def parked_films(connection: Connection) -> list[FilmRow]:
    """Return the films of unread studies that failed or were not assessed, the latest first, at most 500."""
    parked = (
        select(instance.c.id)
        .join_from(instance, study)
        .join(job)
        .where(study.c.read_at.is_(None), job.c.state.in_(("failed", "not_assessed")))
        .order_by(instance.c.id.desc())
        .limit(MOST_PARKED)
    )
    films = _films(connection, instance.c.id.in_(list(connection.execute(parked).scalars())))
    return [film for film in reversed(films) if film.state in ("failed", "not_assessed")]


def earlier_studies(connection: Connection, settings: NodeSettings, now: datetime, study_id: int) -> list[StudyRow]:
    """Return older studies of the same patient, the latest first.

    An ID alone is not trusted, since hospitals share numbers: name or birth date must agree too.
    """
    own = (
        select(patient, study.c.received_at)
        .join_from(patient, instance)
        .join(study)
        .where(instance.c.study_id == study_id)
        .order_by(instance.c.id)
    )
    this = connection.execute(own).first()
    if this is None or not this.patient_id:
        return []
    same = [
        column == value
        for column, value in ((patient.c.name, this.name), (patient.c.birth_date, this.birth_date))
        if value
    ]
    older = (
        select(study.c.id)
        .distinct()
        .join_from(study, instance)
        .join(patient)
        .where(patient.c.patient_id == this.patient_id, or_(False, *same), study.c.received_at < this.received_at)
    )
    found = _studies(connection, settings, now, list(connection.execute(older).scalars()))
    return sorted(found, key=lambda row: row.received_at, reverse=True)


def second_looks(connection: Connection, settings: NodeSettings, now: datetime) -> list[StudyRow]:
    """Return studies read as normal in the last week that the model calls abnormal, the most probable first."""
    if scores_hidden(connection, settings):
        return []
    since = now - timedelta(days=SECOND_LOOK_DAYS)
    keys = connection.execute(
        select(study.c.id)
        .where(study.c.reported_abnormal.is_(False), study.c.read_at >= since, study.c.probability.is_not(None))
        .order_by(study.c.probability.desc())
    ).scalars()
    return [row for row in _studies(connection, settings, now, list(keys)) if row.decision not in ("", "normal")]


def count_by_rank(connection: Connection, settings: NodeSettings) -> dict[int, int]:
    """Return how many unread studies there are of each rank."""
    rank = _rank(scores_hidden(connection, settings))
    counted = select(rank, func.count()).where(study.c.read_at.is_(None)).group_by(rank)
    found = {int(key): int(count) for key, count in connection.execute(counted).all()}
    return {key: found.get(key, 0) for key in (EMERGENT, ABNORMAL, ROUTINE)}


def _rank(hidden: bool) -> ColumnElement[int]:
    """Return a study's rank as SQL; while scores are hidden what persons and orders say of it."""
    if not hidden:
        return study.c.rank
    stat = exists().where(
        imaging_order.c.priority == "stat",
        order_matches(study.c.study_instance_uid, study.c.accession_number),
        or_(study.c.person_ranked_at.is_(None), imaging_order.c.received_at > study.c.person_ranked_at),
    )
    return case((stat, EMERGENT), else_=func.coalesce(study.c.person_rank, ROUTINE))


def _order(settings: NodeSettings, now: datetime, hidden: bool) -> list[Any]:
    rank = _rank(hidden)
    overdue = study.c.received_at < now - timedelta(minutes=settings.reading.upper_wait_min)
    group = case((rank == EMERGENT, 0), (overdue, 1), (rank == ABNORMAL, 2), else_=3)
    order = [group, study.c.received_at, study.c.id]
    if hidden:
        return order
    probability = case((and_(rank == ABNORMAL, ~overdue), study.c.probability), else_=None)
    # a person's abnormal without a score comes first in its group: it is certain
    return [group, func.coalesce(probability, 2.0).desc(), *order[1:]]


def _matching(search: str) -> list[Any]:
    if not search.strip():
        return []
    part = search.strip().lower()
    parts = re.split(r"[\s,^]+", part.strip(" ,^")) if part.strip(" ,^") else [part]  # as the page shows it, or DICOM
    named = and_(*(_in_name(each) for each in parts))
    of_patient = or_(named, func.lower(patient.c.patient_id).contains(part, autoescape=True))
    return [
        or_(
            func.lower(study.c.accession_number).contains(part, autoescape=True),
            study.c.study_instance_uid.contains(part, autoescape=True),
            study.c.id.in_(select(instance.c.study_id).join_from(instance, patient).where(of_patient)),
        )
    ]


def _in_name(part: str) -> ColumnElement[bool]:
    """Return the condition that a name holds a part in lower case; a database's own `lower` may know ASCII only."""
    forms = (part.upper(), part.capitalize())
    return or_(
        func.lower(patient.c.name).contains(part, autoescape=True),
        *(patient.c.name.contains(form, autoescape=True) for form in forms),
    )


def _studies(connection: Connection, settings: NodeSettings, now: datetime, keys: list[int]) -> list[StudyRow]:
    """Return studies in the order of their keys, from one query a table."""
    hidden = scores_hidden(connection, settings)
    rows = connection.execute(select(study, _rank(hidden).label("shown_rank")).where(study.c.id.in_(keys))).all()
    films: dict[int, list[FilmRow]] = defaultdict(list)
    instances = connection.execute(
        select(instance.c.id, instance.c.study_id, instance.c.age_years, patient)
        .outerjoin_from(instance, patient)  # a patient's row may have been deleted, or withheld from this role
        .where(instance.c.study_id.in_(keys))
        .order_by(instance.c.id)
    ).all()
    study_of = {row.id: row.study_id for row in instances}
    for film in _films(connection, instance.c.study_id.in_(keys)):
        films[study_of[film.instance_id]].append(film)
    first = {row.study_id: row for row in reversed(instances)}
    orders = _orders(connection, rows)
    found = {
        row.id: _study_row(row, first.get(row.id), films[row.id], orders.get(row.id, ""), hidden, settings, now)
        for row in rows
    }
    return [found[key] for key in keys]


def _study_row(
    row: Row[Any], person: Any, films: list[FilmRow], ordered: str, hidden: bool, settings: NodeSettings, now: datetime
) -> StudyRow:
    results = [(film, found) for film in films for found in film.results if found.shown and not hidden]
    film, highest = max(
        results, key=lambda pair: (RANK_OF_DECISION[pair[1].decision], pair[1].probability), default=(None, None)
    )
    states = {film.state for film in films}
    state = _state(states, any(found.shown for film in films for found in film.results))
    waiting_s = max(0.0, ((row.read_at or now) - row.received_at).total_seconds())
    return StudyRow(
        study_id=row.id,
        study_instance_uid=row.study_instance_uid,
        accession_number=row.accession_number,
        patient_name=(person and person.name) or "",
        patient_id=(person and person.patient_id) or "",
        birth_date=(person and person.birth_date) or "",
        sex=(person and person.sex) or "",
        age_years=person.age_years if person else None,
        view_positions=tuple(dict.fromkeys(film.view_position for film in films if film.view_position)),
        received_at=row.received_at,
        waiting_s=waiting_s,
        rank=row.shown_rank,
        overdue=row.read_at is None and waiting_s > settings.reading.upper_wait_min * 60,
        probability=highest.probability if highest else None,
        threshold=highest.threshold if highest else None,
        instance_id=film.instance_id if film else None,
        decision=highest.decision if highest else "",
        state=state,
        reasons=tuple(dict.fromkeys(film.reason for film in films if film.state in ("failed", "not_assessed"))),
        left_out=_left_out(films, state),
        films=len(films),
        model_sha256=highest.model_sha256 if highest else "",
        ordered=ordered,
        read_at=row.read_at,
        read_by=row.read_by,
        reported_abnormal=row.reported_abnormal,
    )


def _state(states: set[str], scored: bool) -> str:
    if scored:
        return "assessed"
    if states & {"received", "running"} or not states:
        return "waiting"
    return "failed" if "failed" in states else "not assessed"


def _left_out(films: list[FilmRow], state: str) -> tuple[str, ...]:
    """Return how many films have no score, and do not stand as their study does: it may be they that matter."""
    unscored = Counter(
        _state({film.state}, scored=False) for film in films if not any(found.shown for found in film.results)
    )
    return tuple(
        f"{unscored[other]} film{'s' if unscored[other] > 1 else ''} {other}"
        for other in ("failed", "waiting", "not assessed")
        if unscored[other] and other != state
    )


def _orders(connection: Connection, rows: Iterable[Any]) -> dict[int, str]:
    """Return the most urgent priority that was ordered for each study that has an order."""
    by_uid = {row.study_instance_uid: row.id for row in rows}
    by_number = {row.accession_number: row.id for row in rows if row.accession_number}
    found = connection.execute(
        select(imaging_order.c.study_instance_uid, imaging_order.c.accession_number, imaging_order.c.priority).where(
            or_(imaging_order.c.study_instance_uid.in_(by_uid), imaging_order.c.accession_number.in_(by_number))
        )
    ).all()
    urgency = ("routine", "asap", "stat")
    ordered: dict[int, str] = {}
    for row in found:
        for key in (by_uid.get(row.study_instance_uid), by_number.get(row.accession_number)):
            if key is not None:
                ordered[key] = max(ordered.get(key, "routine"), row.priority, key=urgency.index)
    return ordered


def _films(connection: Connection, chosen: ColumnElement[bool]) -> list[FilmRow]:
    active = connection.execute(select(model_version.c.sha256).where(model_version.c.role == "active")).scalar()
    films = connection.execute(
        select(
            instance.c.id,
            study.c.study_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.path,
            instance.c.view_position,
            instance.c.received_at,
            job.c.id.label("job_id"),
            job.c.state,
            job.c.reason,
        )
        .select_from(instance)
        .join(study)
        .outerjoin(job, and_(job.c.instance_id == instance.c.id, job.c.model_sha256 == (active or NO_MODEL_YET)))
        .where(chosen)
        .order_by(instance.c.id)
    ).all()
    results: dict[int, list[ResultRow]] = defaultdict(list)
    said = (
        select(result, model_version.c.name, was_shown().label("shown"))
        .join_from(result, model_version, model_version.c.sha256 == result.c.model_sha256)
        .where(result.c.instance_id.in_([film.id for film in films]))
        .order_by(result.c.id)
    )
    for row in connection.execute(said).all():
        results[row.instance_id].append(
            ResultRow(
                row.id, row.model_sha256, row.name, row.shown, row.probability, row.threshold, row.decision, row.made_at
            )
        )
    return [
        FilmRow(
            film.id,
            film.study_instance_uid,
            film.sop_instance_uid,
            film.path,
            film.view_position,
            film.received_at,
            film.job_id,
            film.state or "received",
            film.reason or "",
            tuple(results[film.id]),
        )
        for film in films
    ]
