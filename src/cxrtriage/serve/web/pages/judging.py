"""What a reader does with a study: each is a POST that ends in a page, and leaves a row in the audit trail."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from cxrtriage.serve.database import reading
from cxrtriage.serve.tables import study
from cxrtriage.serve.web.access import Visitor, require
from cxrtriage.serve.web.pages.opened import LOOKED, Node, Sight, node_of, note_access, open_study, sight
from cxrtriage.serve.web.pages.study import after
from cxrtriage.serve.worklist import priority, reviews
from cxrtriage.serve.worklist.reading_list import StudyRow

router = APIRouter()
Reader = Annotated[Visitor, Depends(require("reader"))]
Finding = Literal["normal", "abnormal", ""]


@router.post("/studies/{uid}/look")
def look(request: Request, visitor: Reader, uid: str, finding: Annotated[Finding, Form()] = "") -> Response:
    """Show a hidden score from now on; what the reader found before that is kept as a word given without it."""
    node = node_of(request)
    row, seen = _opened(node, visitor, uid)
    with node.engine.begin() as connection:
        if finding and seen.first_look:
            verdict: reviews.Verdict = "agree" if (row.decision != "normal") == (finding == "abnormal") else "disagree"
            reviews.give_verdict(
                connection,
                row.study_id,
                visitor.name,
                verdict,
                score_visible=False,
                settings=node.settings,
                home=node.home,
            )
        note_access(connection, visitor, uid, **{LOOKED: True})
    return RedirectResponse(f"/studies/{uid}", 303)


@router.post("/studies/{uid}/verdict")
def give_verdict(
    request: Request,
    visitor: Reader,
    uid: str,
    verdict: Annotated[reviews.Verdict, Form()],
    score: Annotated[float | None, Form()] = None,
) -> Response:
    """Keep what the reader says of the score that the page showed, with whether he had seen it."""
    node = node_of(request)
    row, seen = _opened(node, visitor, uid)
    if verdict != "emergent" and score not in (None, row.probability):
        raise HTTPException(409, "the score has changed since the page was opened. Look again.")
    if verdict != "emergent" and not seen.shown:
        raise HTTPException(409, "there is no score on the page to agree or disagree with.")
    with node.engine.begin() as connection:
        reviews.give_verdict(
            connection,
            row.study_id,
            visitor.name,
            verdict,
            score_visible=seen.shown,
            settings=node.settings,
            home=node.home,
        )
    return RedirectResponse(f"/studies/{uid}", 303)


@router.post("/studies/{uid}/read")
def mark_read(request: Request, visitor: Reader, uid: str, finding: Annotated[Finding, Form()] = "") -> Response:
    """Take the study off the list, and go on to the next."""
    node = node_of(request)
    row, _ = _opened(node, visitor, uid)
    following = after(node, uid, left=True)  # from where the study still stands
    abnormal = {"normal": False, "abnormal": True}.get(finding)
    with node.engine.begin() as connection:
        this = select(study).where(study.c.id == row.study_id).with_for_update()
        before = connection.execute(this).one()
        if before.read_at is not None and None not in (abnormal, before.reported_abnormal):
            if abnormal != before.reported_abnormal:
                as_what = "abnormal" if before.reported_abnormal else "normal"
                raise HTTPException(
                    409, f"{before.read_by} has meanwhile read this study as {as_what}. Undo that first, or talk."
                )
        elif before.read_at is None or abnormal is not None:
            reviews.mark_read(connection, row.study_id, visitor.name, abnormal, settings=node.settings, home=node.home)
    return RedirectResponse(following, 303)


@router.post("/studies/{uid}/reopen")
def reopen(request: Request, visitor: Reader, uid: str) -> Response:
    """Put the study back on the list."""
    node = node_of(request)
    row, _ = _opened(node, visitor, uid)
    with node.engine.begin() as connection:
        reviews.reopen(connection, row.study_id, visitor.name)
    return RedirectResponse(f"/studies/{uid}", 303)


@router.post("/studies/{uid}/priority")
def change_priority(
    request: Request, visitor: Reader, uid: str, rank: Annotated[int, Form(ge=0, lt=len(priority.RANKS))]
) -> Response:
    """Give the study another priority; only a person can lower it."""
    node = node_of(request)
    row, _ = _opened(node, visitor, uid)
    with node.engine.begin() as connection:
        priority.set_by_person(connection, row.study_id, rank, visitor.name)
    return RedirectResponse(f"/studies/{uid}", 303)


def _opened(node: Node, visitor: Visitor, uid: str) -> tuple[StudyRow, Sight]:
    with reading(node.engine) as connection:
        row = open_study(connection, node, visitor, uid)
        return row, sight(connection, node, visitor, row)
