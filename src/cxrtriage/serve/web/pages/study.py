"""A study's page: its films, what the model says, what was said and done; and the way to the next one."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Connection
from starlette.responses import RedirectResponse, Response

from cxrtriage.serve.database import now, reading
from cxrtriage.serve.notify import notices
from cxrtriage.serve.web.access import Visitor, require
from cxrtriage.serve.web.pages.history import history
from cxrtriage.serve.web.pages.opened import Node, Sight, node_of, note_access, open_study, others_looking, sight
from cxrtriage.serve.web.rendering import render
from cxrtriage.serve.worklist import reading_list as worklist
from cxrtriage.serve.worklist.reading_list import FilmRow, StudyRow

router = APIRouter()
EARLIER_SHOWN = 1  # with its films; the others as links


@router.get("/studies/{uid}")
def study_page(
    request: Request, visitor: Annotated[Visitor, Depends(require("reader", "referrer"))], uid: str
) -> Response:
    """Return a study's page, and write to the audit trail that it was seen."""
    node = node_of(request)
    with reading(node.engine) as connection:
        row = open_study(connection, node, visitor, uid)
        values = _values(connection, node, visitor, row)
        left = "" if visitor.role == "referrer" else request.query_params.get("left", "")
        values["left"] = worklist.find_study(connection, node.settings, now(), left) if left else None
    with node.engine.begin() as connection:
        note_access(connection, visitor, uid, score=values["sight"].shown)
        for earlier in values["earlier"][:EARLIER_SHOWN]:
            note_access(connection, visitor, earlier.study_instance_uid, beside=uid)
    return render(request, visitor, "study.html.j2", **values)


@router.get("/studies/{uid}/next")
def next_study(request: Request, visitor: Annotated[Visitor, Depends(require("reader"))], uid: str) -> Response:
    """Go to the next study that waits, from the top again after the last; to the list if none does."""
    node = node_of(request)
    return RedirectResponse(after(node, uid), 303)


def after(node: Node, uid: str, *, left: bool = False) -> str:
    """Return where a reader goes from a study; with `left`, the page there offers to undo that it was read."""
    with reading(node.engine) as connection:
        following = worklist.next_study(connection, node.settings, now(), uid)
    return (f"/studies/{following}" if following else "/") + (f"?left={uid}" if left else "")


def _values(connection: Connection, node: Node, visitor: Visitor, row: StudyRow) -> dict[str, Any]:
    seen = sight(connection, node, visitor, row)
    films = worklist.films_of(connection, row.study_id)
    referrer = visitor.role == "referrer"  # he sees the studies that he was told of, and no others
    earlier = [] if referrer else worklist.earlier_studies(connection, node.settings, now(), row.study_id)
    beside = [(before, worklist.films_of(connection, before.study_id)) for before in earlier[:EARLIER_SHOWN]]
    return {
        "row": row,
        "films": films,
        "sight": seen,
        "hidden": worklist.scores_hidden(connection, node.settings),
        "said": _said(films, row, seen),
        "earlier": earlier,
        "beside": beside,
        "history": history(connection, row, films, seen),
        "others": [] if referrer else others_looking(connection, visitor, row.study_instance_uid),
        "explanations": node.settings.web.explanations and seen.shown,
        "number_explained": next((n for n, film in enumerate(films, 1) if film.instance_id == row.instance_id), None),
        "may_judge": not referrer,
        "what_follows": notices.what_follows(connection, node.settings),
    }


def _said(films: list[FilmRow], row: StudyRow, seen: Sight) -> dict[int, str]:
    """Return a sentence a film: the score, or why there is none."""
    sentences = {}
    for number, film in enumerate(films):
        shown = [result for result in film.results if result.model_sha256 == row.model_sha256]
        if film.state in ("failed", "not_assessed"):
            sentences[film.instance_id] = f"{film.state.replace('_', ' ').capitalize()}: {film.reason}"
        elif film.state in ("received", "running"):
            sentences[film.instance_id] = "Waiting for the model."
        elif seen.shown and shown and len(films) > 1:
            sentences[film.instance_id] = f"Film {number + 1}: probability {shown[0].probability:.2f}"
    return sentences
