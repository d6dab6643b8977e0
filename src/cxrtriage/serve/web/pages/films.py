"""The pictures of a study: its films, and why the model says what it says; the study page asks for them."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from cxrtriage.errors import CxrTriageError
from cxrtriage.serve import models
from cxrtriage.serve.database import reading
from cxrtriage.serve.tables import instance
from cxrtriage.serve.web.access import Key, Visitor, require
from cxrtriage.serve.web.pages import explaining
from cxrtriage.serve.web.pages.opened import Node, node_of, note_explanation, note_picture, open_study, sight
from cxrtriage.serve.web.rendering import render

router = APIRouter()
Seeing = Annotated[Visitor, Depends(require("reader", "referrer"))]
KEPT_BY_BROWSER = {"Cache-Control": "no-store"}  # a film must not stay on a machine that somebody else uses next


@router.get("/studies/{uid}/films/{instance_id}.png")
def film_picture(request: Request, visitor: Seeing, uid: str, instance_id: Key) -> Response:
    """Return a film as PNG."""
    node = node_of(request)
    film, content_sha256, _ = _film(node, visitor, uid, instance_id)
    note_picture(node.engine, visitor, uid)
    try:
        content = node.pictures.film(film, content_sha256)
    except CxrTriageError as error:  # its message names the file, not the patient
        raise HTTPException(404, "the film cannot be shown: it is damaged, or no longer there.") from error
    return Response(content, media_type="image/png", headers=KEPT_BY_BROWSER)


@router.get("/studies/{uid}/films/{instance_id}/why/{method}.png")
async def explanation_picture(
    request: Request, visitor: Seeing, uid: str, instance_id: Key, method: explaining.Method
) -> Response:
    """Return an explanation as PNG."""
    try:
        content = await _explained(request, visitor, uid, instance_id, method)
    except CxrTriageError as error:
        raise HTTPException(404, str(error)) from error
    await run_in_threadpool(note_picture, node_of(request).engine, visitor, uid)
    return Response(content, media_type="image/png", headers=KEPT_BY_BROWSER)


@router.get("/studies/{uid}/films/{instance_id}/why/{method}")
async def explanation(
    request: Request, visitor: Seeing, uid: str, instance_id: Key, method: explaining.Method
) -> Response:
    """Return a part of the page that shows an explanation, when it has been worked out."""
    try:
        caption = explaining.caption_of(await _explained(request, visitor, uid, instance_id, method))
    except CxrTriageError as error:
        return await run_in_threadpool(
            render, request, visitor, "why.html.j2", failure=str(error), caption="", source=""
        )
    await run_in_threadpool(note_explanation, node_of(request).engine, visitor, uid, method)
    source = f"/studies/{uid}/films/{instance_id}/why/{method}.png"
    return await run_in_threadpool(render, request, visitor, "why.html.j2", failure="", caption=caption, source=source)


async def _explained(
    request: Request, visitor: Visitor, uid: str, instance_id: int, method: explaining.Method
) -> bytes:
    node = node_of(request)
    film, content_sha256, version = await run_in_threadpool(_film, node, visitor, uid, instance_id)
    if version is None or not node.settings.web.explanations:
        raise HTTPException(404, "explanations are not shown (web.explanations), or there is no score to explain.")
    model_file = node.home / version.path
    return await explaining.explained(node.pictures, film, content_sha256, model_file, version.sha256, method)


def _film(node: Node, visitor: Visitor, uid: str, instance_id: int) -> tuple[Path, str, models.ModelVersion | None]:
    """Return a film's file and content hash, and the model whose score of it the visitor may see."""
    with reading(node.engine) as connection:
        row = open_study(connection, node, visitor, uid)
        found = connection.execute(
            select(instance.c.path, instance.c.content_sha256).where(
                instance.c.id == instance_id, instance.c.study_id == row.study_id
            )
        ).first()
        if found is None:
            raise HTTPException(404, "the study has no such film.")
        shown = sight(connection, node, visitor, row).shown
        version = models.find(connection, row.model_sha256) if shown and row.model_sha256 else None
    return node.home / found.path, found.content_sha256, version
