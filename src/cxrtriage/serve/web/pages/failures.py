"""What waits for a person: parked films, parked deliveries, notices that nobody answered."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import JsonValue
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from cxrtriage.serve import audit
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.notify import notices
from cxrtriage.serve.queue import Queue
from cxrtriage.serve.results.outbox import Outbox
from cxrtriage.serve.tables import instance, job, outbox, study
from cxrtriage.serve.web.access import Key, Visitor, require
from cxrtriage.serve.web.pages.history import KINDS
from cxrtriage.serve.web.pages.opened import Node, node_of
from cxrtriage.serve.web.rendering import render
from cxrtriage.serve.worklist.reading_list import parked_films

router = APIRouter()
Reader = Annotated[Visitor, Depends(require("reader"))]


@router.get("/failures")
def failures_page(request: Request, visitor: Reader) -> Response:
    """Return what is parked, with the reasons."""
    node = node_of(request)
    with reading(node.engine) as connection:
        films = parked_films(connection)
        return render(
            request,
            visitor,
            "failures.html.j2",
            failed=[film for film in films if film.state == "failed"],
            not_assessed=[film for film in films if film.state == "not_assessed"],
            deliveries=Outbox.parked(connection),
            unanswered=notices.unanswered(connection, now()),
            kinds=KINDS,
        )


@router.post("/failures/films/{job_id}")
def try_film_again(request: Request, visitor: Reader, job_id: Key) -> Response:
    """Put a parked film back in the queue."""
    node = node_of(request)
    if not Queue(node.engine, node.settings.worker).retry(job_id):
        raise HTTPException(409, "the film is not parked any more. Look at the page again.")
    of_film = select(study.c.study_instance_uid).join_from(study, instance).join(job).where(job.c.id == job_id)
    _note(node, visitor, of_film, {"try again": "film", "job": job_id})
    return RedirectResponse("/failures", 303)


@router.post("/failures/deliveries/{outbox_id}")
def try_delivery_again(request: Request, visitor: Reader, outbox_id: Key) -> Response:
    """Put a parked delivery back in the outbox."""
    node = node_of(request)
    if not Outbox(node.engine, node.settings.delivery).retry(outbox_id):
        raise HTTPException(409, "the delivery is not parked any more. Look at the page again.")
    of_delivery = select(study.c.study_instance_uid).join_from(study, outbox).where(outbox.c.id == outbox_id)
    _note(node, visitor, of_delivery, {"try again": "delivery", "outbox": outbox_id})
    return RedirectResponse("/failures", 303)


def _note(node: Node, visitor: Visitor, of_study: object, detail: dict[str, JsonValue]) -> None:
    with node.engine.begin() as connection:
        uid = connection.execute(of_study).scalar_one()  # type: ignore[call-overload]
        audit.record(
            connection,
            "changed",
            actor=visitor.name,
            action="U",
            address=visitor.address,
            study_instance_uid=uid,
            detail=detail,
        )
