"""The pages before the pages: sign-in, sign-out, and the link with which somebody chooses a password."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from cxrtriage.serve.database import now, reading
from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE, ForbiddenError, Visitor, address_of, from_elsewhere, require
from cxrtriage.serve.web.rendering import render

router = APIRouter(include_in_schema=False)
SEE_OTHER = 303
REFUSED = 400


@router.get("/sign-in")
def show_sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002 (the name in the URL)
    """Show the form."""
    return render(request, None, "sign_in.html.j2", next=next, error="")


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002
) -> Response:
    """Begin a session, always with a new secret, and go on to what was asked for."""
    _refuse_from_elsewhere(request)
    engine, before = request.app.state.engine, request.cookies.get(COOKIE, "")
    try:
        secret = accounts.sign_in(engine, name.strip(), password, address_of(request), now(), replaces=before)
    except accounts.SignInRefusedError as error:
        return render(request, None, "sign_in.html.j2", status=REFUSED, next=next, error=str(error))
    response = RedirectResponse(_on_this_node(next), SEE_OTHER)
    secure = request.app.state.settings.web.url.startswith("https:")
    response.set_cookie(COOKIE, secret, httponly=True, samesite="lax", secure=secure)
    return response


@router.post("/sign-out")
def sign_out(request: Request, visitor: Annotated[Visitor, Depends(require("reader", "referrer"))]) -> Response:
    """End the session."""
    accounts.sign_out(request.app.state.engine, request.cookies[COOKIE], visitor.name, visitor.address)
    response = RedirectResponse("/sign-in", SEE_OTHER)
    response.delete_cookie(COOKIE)
    return response


@router.get("/invitations/{secret}")
def show_invitation(request: Request, secret: str) -> Response:
    """Show the form for a password, if the link is good."""
    with reading(request.app.state.engine) as connection:
        name = accounts.invited(connection, secret)
    error = "" if name else "This link has been used or is too old. Ask for a new one."
    return render(request, None, "invitation.html.j2", status=200 if name else 410, account=name or "", error=error)


@router.post("/invitations/{secret}")
def accept_invitation(
    request: Request,
    secret: str,
    password: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Take the password and go on to the sign-in."""
    _refuse_from_elsewhere(request)
    engine = request.app.state.engine
    with reading(engine) as connection:
        name = accounts.invited(connection, secret)
    try:
        if password != again:
            raise accounts.SignInRefusedError("The two passwords differ.")
        accounts.accept_invitation(engine, secret, password, address_of(request))
    except accounts.SignInRefusedError as error:
        return render(request, None, "invitation.html.j2", status=REFUSED, account=name or "", error=str(error))
    return RedirectResponse("/sign-in", SEE_OTHER)


def _refuse_from_elsewhere(request: Request) -> None:
    """Refuse a form of another site, which would sign somebody in under a name that is not his."""
    if from_elsewhere(request):
        raise ForbiddenError("the form was sent from another site. Open the page itself and repeat.")


def _on_this_node(path: str) -> str:
    """Return where to go on to: never to another site, which `//` and a backslash would allow."""
    inside = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if inside else "/"
