"""A small HTTP server that keeps what is posted to it and answers as it is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Posted:
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Peer:
    url: str
    posted: list[Posted] = field(default_factory=list)


@contextmanager
def http_peer(*statuses: int) -> Iterator[Peer]:
    """Answer with these, the last for ever; 0 is no answer at all."""
    left, asleep = list(statuses), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            peer.posted.append(Posted(self.path, {name.lower(): text for name, text in self.headers.items()}, content))
            status = left.pop(0) if len(left) > 1 else left[0]
            if status == 0:
                asleep.wait(30)
                return
            self.send_response(status, "DOE^JANE" if status == 599 else None)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        peer = Peer(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield peer
        finally:
            asleep.set()
            server.shutdown()
            thread.join()
