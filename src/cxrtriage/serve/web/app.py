"""The node's web process: pages, JSON API, STOW-RS and signs of health on one port; started by `supervise`."""

import logging
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from cxrtriage import __version__
from cxrtriage.errors import ConfigError, CxrTriageError
from cxrtriage.serve import audit, node_state, process
from cxrtriage.serve.database import open_database
from cxrtriage.serve.settings import NodeSettings, WebSettings, load_settings
from cxrtriage.serve.web import accounts, api, health, pages, sign_in, stow
from cxrtriage.serve.web.access import ForbiddenError, SignInNeededError, for_programs, sign_in_path
from cxrtriage.serve.web.headers import Guard
from cxrtriage.serve.web.pictures import Pictures
from cxrtriage.serve.web.rendering import render
from cxrtriage.serve.web.request_log import RequestLog

LOGGER = logging.getLogger(__name__)
SEE_OTHER, UNAUTHORIZED, FORBIDDEN, UNPROCESSABLE, UNAVAILABLE = 303, 401, 403, 422, 503
FIRST_ACCOUNT = "admin"
STOP_S = 5  # for requests in hand
LOOK_S = 0.2


def create_app(home: Path, settings: NodeSettings, engine: Engine) -> FastAPI:
    """Return the application of the node at `home`.

    Parameters
    ----------
    home : the node's folder
    settings : of the node
    engine : its database, with the tables of this version
    """
    app = FastAPI(
        title="cxrtriage",
        version=__version__,
        description="Reading list and results of a chest film triage node. Not a medical device.",
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.home, app.state.settings, app.state.engine = home, settings, engine
    app.state.pictures = Pictures(home)
    app.state.listed = {}  # when each visitor last listed studies by the API
    app.add_middleware(RequestLog)
    app.add_middleware(Guard)  # the outermost, since what was added last is
    app.add_exception_handler(SignInNeededError, _to_sign_in)
    app.add_exception_handler(ForbiddenError, _forbidden)
    app.add_exception_handler(HTTPException, _plain_error)
    app.add_exception_handler(RequestValidationError, _not_understood)
    for error in (OperationalError, InterfaceError, NoConnectionError):
        app.add_exception_handler(error, _database_down)
    for router in (sign_in.router, pages.router, api.router, health.router):
        app.include_router(router)
    app.include_router(stow.router, include_in_schema=False)  # PS3.18 describes it
    api.describe_security(app)
    return app


def _to_sign_in(request: Request, _: Exception) -> Response:
    if for_programs(request):
        return JSONResponse({"detail": "Sign in, or send an API token."}, UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})
    if "hx-request" in request.headers:  # htmx would put the sign-in page where a part of a page belongs
        return Response(status_code=UNAUTHORIZED, headers={"HX-Redirect": sign_in_path(request)})
    return RedirectResponse(sign_in_path(request), SEE_OTHER)


def _forbidden(request: Request, error: Exception) -> Response:
    if for_programs(request):
        return JSONResponse({"detail": str(error)}, FORBIDDEN)
    return render(request, None, "error.html.j2", status=FORBIDDEN, title="Not allowed", message=str(error))


def _database_down(request: Request, error: Exception) -> Response:
    LOGGER.error("the database does not answer (%s)", type(error).__name__)
    message = "The database does not answer. Films that arrive are refused until it does; their senders keep them."
    if for_programs(request):
        return JSONResponse({"detail": message}, UNAVAILABLE)
    return render(request, None, "error.html.j2", status=UNAVAILABLE, title="Not available", message=message)


def _plain_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    headers = error.headers if isinstance(error, HTTPException) else None
    if for_programs(request):
        return JSONResponse({"detail": detail}, status, headers)
    return render(request, None, "error.html.j2", status=status, title=f"Error {status}", message=detail)


async def _not_understood(request: Request, error: Exception) -> Response:
    if for_programs(request) and isinstance(error, RequestValidationError):
        return await request_validation_exception_handler(request, error)
    message = "The page was asked for with something that it does not know."
    return render(request, None, "error.html.j2", status=UNPROCESSABLE, title="Not understood", message=message)


def invite_first(engine: Engine, settings: NodeSettings) -> str | None:
    """Return a link for the first account, an admin's, if nobody can sign in yet."""
    with engine.begin() as connection:
        if accounts.has_accounts(connection):
            return None
        secret = accounts.invite(connection, FIRST_ACCOUNT, "admin", actor="web")
    return f"{settings.web.base_url}/invitations/{secret}"


def main(home: str) -> None:
    """Answer on the web port of the node at `home` until told to stop."""
    stopping = process.begin("web")
    try:
        settings = load_settings(Path(home))
        engine = open_database(settings.database.url)
        listening = _listen(settings.web)
        link = invite_first(engine, settings)
    except (CxrTriageError, SQLAlchemyError) as error:
        LOGGER.error("%s", error if isinstance(error, CxrTriageError) else "the database does not answer")
        os._exit(process.CANNOT_START)
    if link:
        LOGGER.info("nobody can sign in yet; this link makes the account %r, once: %s", FIRST_ACCOUNT, link)
    node_state.keep_beating(engine, "web", stopping)
    _note(engine, "start")
    LOGGER.info("pages on %s", settings.web.base_url)
    finished = run(create_app(Path(home), settings, engine), listening, stopping)
    _note(engine, "stop")
    os._exit(0 if finished else 1)  # Python would wait for a picture that is being made


def run(app: FastAPI, listening: socket.socket, stopping: threading.Event) -> bool:
    """Answer on a socket until told to stop; return whether that is why it ended.

    Uvicorn runs in a thread of its own, where it leaves the signals to `process.begin`.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # see `request_log`
            server_header=False,
            proxy_headers=True,  # from 127.0.0.1 alone, where the proxy that speaks TLS stands
            timeout_graceful_shutdown=STOP_S,
        )
    )
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server", daemon=True)
    serving.start()
    while serving.is_alive() and not stopping.wait(LOOK_S):
        pass
    server.should_exit = True
    serving.join(2 * STOP_S)
    return stopping.is_set()


def _listen(web: WebSettings) -> socket.socket:
    """Return the listening socket; ConfigError if the port cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
        listening = socket.create_server((web.host, web.port), family=family)
        # connections inherit it; asyncio sets it for sockets of its own alone, and without it an answer waits 40 ms
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {web.host} port {web.port}: {error.strerror or error}. Choose another [web] host or "
            "port, or stop what uses it."
        ) from error


def _note(engine: Engine, event: str) -> None:
    """Note start or end in the audit trail; without a database there is none."""
    with suppress(SQLAlchemyError), engine.begin() as connection:
        audit.record(connection, event, actor="web")
