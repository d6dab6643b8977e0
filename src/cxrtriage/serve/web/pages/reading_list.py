"""The reading list: rows in their order out, and every few seconds again as long as the page is open.

The page asks by POST, with the search in the body: a name searched for must not stand in a URL. It sends the
tag of what it shows and gets no content while nothing has changed, so that no row is replaced under the finger.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request
from pydantic import JsonValue
from sqlalchemy import Connection, select
from starlette.responses import Response

from cxrtriage.serve import audit
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.tables import notice, study
from cxrtriage.serve.web.access import Visitor, require
from cxrtriage.serve.web.pages.opened import Node, node_of
from cxrtriage.serve.web.rendering import banners_of, render
from cxrtriage.serve.worklist import reading_list as worklist
from cxrtriage.serve.worklist.reading_list import StudyRow

router = APIRouter()
Reading = Annotated[Visitor, Depends(require("reader", "referrer"))]
Tab = Literal["waiting", "read", "second"]
A_PAGE = 50
READ_FOR = timedelta(days=1)
MOST_NOTICES = 100
MOST_PAGES = 1_000_000  # a larger number is none of a page, and may be none that a database takes


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list.

    Parameters
    ----------
    total : rows of all pages; None where it is not counted
    counts : unread studies by rank
    hidden : whether scores are shown to nobody
    first_look : whether they are shown on the study's page only, after the reader's first look
    """

    tab: Tab
    page: int
    rows: list[StudyRow]
    total: int | None
    counts: dict[int, int]
    hidden: bool
    first_look: bool
    search: str

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-(self.total or 0) // A_PAGE))

    def tag(self, banners: Any) -> str:
        """Return a hash of all that is shown but how long studies have waited, and of what was searched for."""
        shown = [(*row.reasons, *(getattr(row, name) for name in SHOWN)) for row in self.rows]
        content = repr((self.tab, self.page, shown, self.total, self.counts, self.hidden, banners))
        return f"{_sha(self.search)}-{_sha(content)}"


SHOWN = (
    "study_instance_uid",
    "rank",
    "overdue",
    "probability",
    "decision",
    "state",
    "left_out",
    "films",
    "ordered",
    "read_by",
    "reported_abnormal",
)


@router.get("/")
def reading_list_page(request: Request, visitor: Reading, tab: Tab = "waiting", page: int = 1) -> Response:
    """Return the page with the list; for a referrer the studies that he was told of."""
    node = node_of(request)
    if visitor.role == "referrer":
        with reading(node.engine) as connection:
            rows = _told_of(connection, node, visitor)
        return render(request, visitor, "told_of.html.j2", rows=rows)
    listing = _listing(node, tab, page, "")
    _note_query(node, visitor, searched=False)
    return render(request, visitor, "reading_list.html.j2", listing=listing, now=now(), left=_left(node, request))


@router.get("/list")
@router.post("/list")
def list_part(
    request: Request,
    visitor: Annotated[Visitor, Depends(require("reader"))],
    tab: Annotated[Tab, Form()] = "waiting",
    page: Annotated[int, Form()] = 1,
    search: Annotated[str, Form(max_length=100)] = "",
    seen: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Return the list alone, or no content if the page shows it as it is."""
    node = node_of(request)
    listing = _listing(node, tab, 1 if search.strip() else page, search)
    if search.strip() and not seen.startswith(_sha(search)):
        _note_query(node, visitor, searched=True)
    if seen == listing.tag(banners_of(request)):
        return Response(status_code=204)
    return render(request, visitor, "list.html.j2", listing=listing)


def _listing(node: Node, tab: Tab, page: int, search: str) -> Listing:
    """Return a page of the list; the last one where it has not so many, since an empty one says that nothing waits."""
    page = min(max(1, page), MOST_PAGES)
    time, total = now(), None
    with reading(node.engine) as connection:
        if tab == "second":
            rows = worklist.second_looks(connection, node.settings, time)
        else:
            rows, total = _page(connection, node, time, page, search, tab)
            if not rows and total:
                page = -(-total // A_PAGE)
                rows, total = _page(connection, node, time, page, search, tab)
        if tab == "read" and not search.strip():
            rows = [row for row in rows if row.read_at is not None and row.read_at > time - READ_FOR]
            total = None
        return Listing(
            tab=tab,
            page=page,
            rows=rows,
            total=total,
            counts=worklist.count_by_rank(connection, node.settings),
            hidden=worklist.scores_hidden(connection, node.settings),
            first_look=node.settings.web.hide_score_first and tab == "waiting",
            search=search,
        )


def _page(
    connection: Connection, node: Node, time: datetime, page: int, search: str, tab: Tab
) -> tuple[list[StudyRow], int]:
    offset = (page - 1) * A_PAGE
    return worklist.reading_list(
        connection, node.settings, time, limit=A_PAGE, offset=offset, search=search, read=tab == "read"
    )


def _told_of(connection: Connection, node: Node, visitor: Visitor) -> list[StudyRow]:
    """Return the studies that notices told a referrer of, the latest first."""
    uids = connection.execute(
        select(study.c.study_instance_uid)
        .join_from(study, notice)
        .where(notice.c.recipient == visitor.recipient, notice.c.recipient != "")
        .group_by(study.c.id, study.c.study_instance_uid)
        .order_by(study.c.id.desc())
        .limit(MOST_NOTICES)
    ).scalars()
    found = (worklist.find_study(connection, node.settings, now(), uid) for uid in list(uids))
    return [row for row in found if row is not None]


def _left(node: Node, request: Request) -> StudyRow | None:
    """Return the study that was just marked as read, if the page came from there, so that it can be undone."""
    uid = request.query_params.get("left", "")
    with reading(node.engine) as connection:
        return worklist.find_study(connection, node.settings, now(), uid) if uid else None


def _note_query(node: Node, visitor: Visitor, *, searched: bool) -> None:
    with node.engine.begin() as connection:
        detail: dict[str, JsonValue] = {"what": "reading list", "searched": searched}  # not for what: it may be a name
        audit.record(connection, "query", actor=visitor.name, action="E", address=visitor.address, detail=detail)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
