"""Who may do what: a request in, a `Visitor` or a refusal out; every route but sign-in and `/healthz` asks.

    reader      the list, studies, verdicts, failures, figures, settings
    admin       all of it, and the audit trail and the model's switch
    referrer    the studies that a notice to him names, nothing else

A browser comes with a session's cookie, a program with an API token (`Authorization: Bearer ...`). What a browser posts
needs the session's CSRF token, as a field of the form or as the header X-CSRF-Token; no page of another site knows it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Path, Request
from sqlalchemy import Connection, exists, select
from starlette.concurrency import run_in_threadpool

from cxrtriage.serve.database import now
from cxrtriage.serve.tables import notice
from cxrtriage.serve.web import accounts

Key = Annotated[int, Path(ge=1, le=2**63 - 1)]  # of a row, in an address; the databases know no larger number
COOKIE = "cxrtriage_session"
CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
FOR_PROGRAMS = ("/api", "/dicom-web", "/metrics")
FORM = "application/x-www-form-urlencoded"
POLLED = "/list"  # an open page asks for it every few seconds, and that keeps no sign-in alive
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Parameters
    ----------
    name : of the account or of the API token
    role : "reader", "referrer" or "admin"
    csrf_token : of the session; "" with an API token
    address : network address that the request came from
    token : whether it came with an API token
    recipient : a referrer's key in `recipients.csv`
    """

    name: str
    role: str
    csrf_token: str
    address: str
    token: bool
    recipient: str = ""


class SignInNeededError(Exception):
    """Nobody is signed in; `app` answers with the way to the sign-in, or 401."""


class ForbiddenError(Exception):
    """The visitor may not do this; the text says why."""


def require(*roles: str) -> Callable[[Request], Awaitable[Visitor]]:
    """Return the dependency of a route that only some roles may use; an admin may do what a reader may.

    Raises
    ------
    SignInNeededError
        From the dependency, if nobody is signed in.
    ForbiddenError
        From the dependency, if the role is another one, or what is posted lacks the session's CSRF token.
    """
    allowed = {*roles, *(["admin"] if "reader" in roles else [])}

    async def visitor_of(request: Request) -> Visitor:
        visitor = await run_in_threadpool(find_visitor, request)
        if visitor is None:
            raise SignInNeededError
        if visitor.role not in allowed:
            raise ForbiddenError(f"a {visitor.role} may not see or do this; it takes a {' or '.join(sorted(allowed))}.")
        if not visitor.token and request.method not in SAFE and not await _knows_csrf_token(request, visitor):
            raise ForbiddenError("the form was not sent from a page of this sign-in. Load the page again and repeat.")
        return visitor

    visitor_of.roles = frozenset(allowed)  # type: ignore[attr-defined]  # a test reads who may use which route
    return visitor_of


def find_visitor(request: Request) -> Visitor | None:
    """Return who asks; None where neither a session nor a token is known."""
    state: Any = request.app.state
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and for_programs(request):
        token = accounts.find_token(state.engine, secret.strip())
        return None if token is None else Visitor(token.name, token.role, "", address_of(request), True)
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return None
    used = request.url.path != POLLED
    session = accounts.find_session(state.engine, cookie, state.settings.web.session_hours, now(), used=used)
    if session is None:
        return None
    return Visitor(session.name, session.role, session.csrf_token, address_of(request), False, session.recipient)


def may_see(connection: Connection, visitor: Visitor, study_id: int) -> bool:
    """Tell whether a visitor may see a study: a referrer only one that a notice to him names."""
    if visitor.role != "referrer":
        return True
    told = exists().where(notice.c.study_id == study_id, notice.c.recipient == visitor.recipient)
    return bool(visitor.recipient) and bool(connection.execute(select(told)).scalar())


def for_programs(request: Request) -> bool:
    """Tell whether a path answers programs, with JSON and status codes instead of pages."""
    return request.url.path.startswith(FOR_PROGRAMS)


def address_of(request: Request) -> str:
    """Return the network address that a request came from."""
    return request.client.host if request.client else ""


def from_elsewhere(request: Request) -> bool:
    """Tell whether a page of another site made the browser ask; for forms that are sent before there is a session."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def sign_in_path(request: Request) -> str:
    """Return the way to the sign-in and back to what was asked for."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = f"?next={quote(asked)}" if request.method == "GET" and asked != "/" else ""
    return f"/sign-in{back}"


async def _knows_csrf_token(request: Request, visitor: Visitor) -> bool:
    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith(FORM):
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    return given is not None and accounts.same(given, visitor.csrf_token)
