"""What every answer carries, so that a browser runs no foreign script and keeps no patient's page.

It also limits how long a form may be: films come in by another door.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# every script, style and picture is a file of this node; nothing stands inline
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
LARGEST_FORM = 100_000  # bytes; films come in by /dicom-web, which has a limit of its own
TOO_LARGE = 413


class Guard:
    """Answers with `HEADERS`, and refuses bodies longer than any page of ours sends, whether or not they say so.

    It passes a body on as it arrives, which is what films need.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if not path.startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        if path.startswith("/dicom-web"):
            await self.app(scope, receive, send_with_headers)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > LARGEST_FORM:
            too_large = PlainTextResponse("The request is too large.", TOO_LARGE)
            await too_large(scope, receive, send_with_headers)
        else:
            await self.app(scope, _limited(receive), send_with_headers)


def _limited(receive: Receive) -> Receive:
    """Return a way to receive a body that ends in a refusal when it grows too long."""
    arrived = 0

    async def receive_some() -> Message:
        nonlocal arrived
        message = await receive()
        arrived += len(message.get("body", b""))
        if arrived > LARGEST_FORM:
            raise HTTPException(TOO_LARGE, "The request is too large.")
        return message

    return receive_some
