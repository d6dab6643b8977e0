"""Where the link of a notice leads: one click says that it was noticed, then the study."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from cxrtriage.serve.database import reading
from cxrtriage.serve.notify.notices import NoticeRow, acknowledge, find_notice
from cxrtriage.serve.web.access import Visitor, may_see, require
from cxrtriage.serve.web.pages.opened import Node, node_of
from cxrtriage.serve.web.rendering import render

router = APIRouter()
Told = Annotated[Visitor, Depends(require("reader", "referrer"))]


@router.get("/notices/{token}")
def notice_page(request: Request, visitor: Told, token: str) -> Response:
    """Return the notice with the button; mail programs open links, so opening it acknowledges nothing."""
    return render(request, visitor, "notice.html.j2", notice=_notice(node_of(request), visitor, token), token=token)


@router.post("/notices/{token}")
def acknowledge_notice(request: Request, visitor: Told, token: str) -> Response:
    """Note that it was noticed, and go to the study."""
    node = node_of(request)
    found = _notice(node, visitor, token)
    with node.engine.begin() as connection:
        acknowledge(connection, token, visitor.name)
    return RedirectResponse(f"/studies/{found.study_instance_uid}", 303)


def _notice(node: Node, visitor: Visitor, token: str) -> NoticeRow:
    with reading(node.engine) as connection:
        found = find_notice(connection, token)
        if found is None or not may_see(connection, visitor, found.study_id):
            raise HTTPException(404, "there is no such notice, or it was meant for somebody else.")
    return found
