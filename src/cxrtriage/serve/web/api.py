"""The JSON API: the reading list and a study, for programs with a token and for signed-in readers.

While scores are hidden (shadow mode, or the model is off) none leaves: `scores_shown` is false, and probabilities and
decisions are null. Whoever asks for a study leaves a line in the audit trail.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from sqlalchemy import Engine, select

from cxrtriage.serve import audit
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import review
from cxrtriage.serve.web.access import COOKIE, Visitor, require
from cxrtriage.serve.worklist.priority import EMERGENT, RANKS
from cxrtriage.serve.worklist.reading_list import (
    FilmRow,
    StudyRow,
    films_of,
    find_study,
    reading_list,
    scores_hidden,
)

LISTED_AGAIN = timedelta(minutes=10)  # the list asked for again by the same visitor so soon is one look
Reader = Annotated[Visitor, Depends(require("reader"))]
Priority = Literal["routine", "abnormal", "emergent"]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Study(BaseModel):
    """A study of the reading list."""

    study_instance_uid: str
    accession_number: str
    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    age_years: float | None
    view_positions: list[str]
    received_at: datetime
    waiting_s: float
    priority: Priority
    overdue: bool
    state: Literal["waiting", "assessed", "not assessed", "failed"]
    reasons: list[str]
    probability: float | None
    threshold: float | None
    decision: str
    model_sha256: str
    films: int
    ordered: str
    read_at: datetime | None
    read_by: str
    reported_abnormal: bool | None


class Worklist(BaseModel):
    """A page of the reading list, in its order."""

    scores_shown: bool
    total: int
    studies: list[Study]


class Result(BaseModel):
    """What a model said of a film."""

    model_sha256: str
    model_name: str
    probability: float
    threshold: float
    decision: str
    made_at: datetime


class Film(BaseModel):
    """A film of a study, with the results of every model that is or was shown."""

    sop_instance_uid: str
    view_position: str
    received_at: datetime
    state: str
    reason: str
    results: list[Result]


class Review(BaseModel):
    """What a reader said of the score."""

    account_name: str
    verdict: Literal["agree", "disagree", "emergent"]
    score_visible: bool
    made_at: datetime


class StudyDetail(BaseModel):
    """A study with its films and what readers said."""

    scores_shown: bool
    study: Study
    films: list[Film]
    reviews: list[Review]


OPEN = ("/healthz", "/readyz")  # described here, and answered without signing in
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "Nobody is signed in, and no token was sent."},
    403: {"model": Problem, "description": "The role may not see this."},
    503: {"model": Problem, "description": "The database does not answer."},
}
router = APIRouter(prefix="/api", responses=REFUSALS, tags=["studies"])


@router.get("/worklist")
def get_worklist(
    request: Request,
    visitor: Reader,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    read: Annotated[bool, Query(description="Those read, the last first, instead of those that wait.")] = False,
) -> Worklist:
    """Return a page of the reading list."""
    settings = request.app.state.settings
    with reading(request.app.state.engine) as connection:
        rows, total = reading_list(connection, settings, now(), limit=limit, offset=offset, read=read)
        may_know = _may_know(visitor, settings)
        shown = may_know and not scores_hidden(connection, settings)
    _record_query(request, visitor)
    return Worklist(scores_shown=shown, total=total, studies=[_study(row, may_know) for row in rows])


@router.get(
    "/studies/{study_instance_uid}",
    responses={404: {"model": Problem, "description": "The node has no such study."}},
)
def get_study(
    request: Request,
    visitor: Reader,
    study_instance_uid: Annotated[str, Path(max_length=64, pattern=r"^[0-9.]+$")],
) -> StudyDetail:
    """Return a study, its films, their results by model and the readers' verdicts."""
    settings, engine = request.app.state.settings, request.app.state.engine
    with reading(engine) as connection:
        row = find_study(connection, settings, now(), study_instance_uid)
        if row is None:
            raise HTTPException(404, f"there is no study {study_instance_uid} on this node.")
        films = films_of(connection, row.study_id)
        words = connection.execute(select(review).where(review.c.study_id == row.study_id).order_by(review.c.id)).all()
        may_know = _may_know(visitor, settings)
        shown = may_know and not scores_hidden(connection, settings)
    record_access(engine, visitor, study_instance_uid)
    return StudyDetail(
        scores_shown=shown,
        study=_study(row, may_know),
        films=[_film(film, shown) for film in films],
        reviews=[
            Review(
                account_name=word.account_name,
                verdict=word.verdict,
                score_visible=word.score_visible,
                made_at=word.made_at,
            )
            for word in words
        ],
    )


def record_access(engine: Engine, visitor: Visitor, study_instance_uid: str) -> None:
    """Note in the audit trail that somebody saw a study."""
    with engine.begin() as connection:
        audit.record(
            connection,
            "accessed",
            actor=visitor.name,
            action="R",
            address=visitor.address,
            study_instance_uid=study_instance_uid,
        )


def describe_security(app: FastAPI) -> None:
    """Let the application's OpenAPI document say how one comes in, and for what one need not.

    FastAPI's own schemes would refuse by themselves, in other words than `access.require`.
    """

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            found["components"]["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer", "description": "From `cxrtriage node token add`."},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of a signed-in reader."},
            }
            found["security"] = [{"token": []}, {"session": []}]
            for path in OPEN:
                for operation in found["paths"][path].values():
                    operation["security"] = []
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's way to extend it


def _record_query(request: Request, visitor: Visitor) -> None:
    """Note that somebody listed studies, not each of the times that a program asks again."""
    state, time = request.app.state, now()
    listed: dict[str, datetime] = state.listed
    if visitor.name in listed and abs(time - listed[visitor.name]) < LISTED_AGAIN:
        return
    with state.engine.begin() as connection:
        detail = {"what": "worklist by the API"}
        audit.record(connection, "query", actor=visitor.name, address=visitor.address, detail=detail)
    listed[visitor.name] = time


def _may_know(visitor: Visitor, settings: NodeSettings) -> bool:
    """Tell whether a visitor may know scores that a page would hide until the reader's own first look."""
    return visitor.token or not settings.web.hide_score_first


def _study(row: StudyRow, may_know: bool) -> Study:
    names = set(Study.model_fields) - {"priority"}
    found = Study(priority=RANKS[row.rank], **{name: getattr(row, name) for name in names})  # type: ignore[arg-type]
    if may_know:
        return found
    nothing = {"probability": None, "threshold": None, "decision": "", "model_sha256": ""}
    urgent = "emergent" if row.rank == EMERGENT else "routine"  # as the list's page
    return found.model_copy(update={**nothing, "priority": urgent})


def _film(film: FilmRow, scores_shown: bool) -> Film:
    return Film(
        sop_instance_uid=film.sop_instance_uid,
        view_position=film.view_position,
        received_at=film.received_at,
        state=film.state,
        reason=film.reason,
        results=list(_results(film)) if scores_shown else [],
    )


def _results(film: FilmRow) -> Iterator[Result]:
    for found in film.results:
        if found.shown:
            yield Result(**{name: getattr(found, name) for name in Result.model_fields})
