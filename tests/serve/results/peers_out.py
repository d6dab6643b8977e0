"""Peers that answer what a test tells them to: a Storage SCP and an HTTP server."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SecondaryCaptureImageStorage  # type: ignore[attr-defined]

from cxrtriage.serve.settings import DeliverySettings, NodeSettings, PacsSettings


class Scp:
    """A PACS that answers the given statuses one after the other, the last for ever."""

    def __init__(self, statuses: list[int], sop_classes: tuple[str, ...]) -> None:
        self.statuses = statuses
        self.entity = AE("SCP")
        for sop_class in sop_classes:
            self.entity.add_supported_context(sop_class)
        self.received: list[str] = []

    def answer(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


@contextmanager
def scp(
    *statuses: int,
    sop_classes: tuple[str, ...] = (Comprehensive3DSRStorage, SecondaryCaptureImageStorage),
    tls: ssl.SSLContext | None = None,
    **more: Any,
) -> Iterator[tuple[Scp, NodeSettings]]:
    """Yield the PACS, and settings that send to it; `more` are of [pacs]."""
    peer = Scp(list(statuses) or [0], sop_classes)
    handlers = [(evt.EVT_C_STORE, peer.answer)]
    server = peer.entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
    try:
        yield peer, sends_to(server.socket.getsockname()[1], **more)
    finally:
        server.shutdown()
        peer.entity.shutdown()


def sends_to(port: int, **more: Any) -> NodeSettings:
    """Return settings that send to a PACS at a port, and do not wait long for it."""
    return NodeSettings(
        pacs=PacsSettings(**{"host": "127.0.0.1", "port": port, "ae_title": "SCP", **more}),
        delivery=DeliverySettings(limit_s=3, backoff_s=0, attempts=5),
    )


@contextmanager
def http_server(status: int, body: bytes = b"") -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Yield the URL of a server that answers all alike, and what it was sent: path, headers, body."""
    received: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, dict(self.headers), content))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate of this machine, signed by itself; return it and its key."""
    import shutil
    import subprocess

    import pytest

    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    file, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file, key
