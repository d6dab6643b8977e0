"""One line of the log for a request: method, route, status, time; and for a fault of ours where in the code it stands.

Neither what was asked with nor what was answered is logged: a search, a link's token or an error's text may hold what
nobody else must read. So the line names the route (`/studies/{study_instance_uid}`), not the path, and of an error its
type and place, not its message, which may quote a row.
"""

import logging
import time
import traceback
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger(__name__)
QUIET = ("/static/", "/healthz", "/readyz", "/metrics", "/list")  # asked for all the time
PLACES = 3  # innermost lines of code that an error went through
ERROR = 500


class RequestLog:
    """Logs every request, and answers 500 where a fault of ours leaves it without an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        except Exception as error:  # the server would log it with its message
            LOGGER.error("a fault of ours: %s", describe(error))
            if status == 0:
                await PlainTextResponse("Something went wrong; the node's log says where.", ERROR)(
                    scope, receive, send_noting
                )
        if status < ERROR and scope["path"].startswith(QUIET):
            return
        took_ms = 1000 * (time.monotonic() - started)
        LOGGER.info("%s %s %d in %.0f ms", scope["method"], _route(scope), status, took_ms)


def describe(error: BaseException) -> str:
    """Return an error's type and where it came from, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"


def _route(scope: Scope) -> str:
    """Return the route as it is declared; for a path that is none nothing of what was asked."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(no such page)"
