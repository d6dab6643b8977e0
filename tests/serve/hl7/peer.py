"""An MLLP receiver of our own, written apart from the product's: it takes messages and answers as it is told."""

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def acknowledgement(code: str, error: str = "") -> Callable[[bytes], bytes | None]:
    """Answer with this code; the text quotes the patient's name, as real ones do."""

    def answer(message: bytes) -> bytes:
        control_id = message.split(b"\r")[0].split(b"|")[9].decode()
        lines = ["MSH|^~\\&|PACS||CXRTRIAGE||20261118||ACK^R01^ACK|77|P|2.5.1", f"MSA|{code}|{control_id}|DOE^JANE?"]
        if error:
            lines.append(f"ERR|||{error}^no^HL70357|E||||DOE^JANE is not known")
        return "\r".join([*lines, ""]).encode()

    return answer


@dataclass
class Peer:
    port: int
    received: list[bytes] = field(default_factory=list)


@contextmanager
def mllp_peer(answer: Callable[[bytes], bytes | None]) -> Iterator[Peer]:
    """Listen on a free port; an answer of None is none, of b"" breaks the connection off."""
    asleep = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            data = b""
            while not data.endswith(b"\x1c\r"):
                more = self.request.recv(4096)
                if not more:
                    return
                data += more
            found = re.fullmatch(rb"\x0b(.*)\x1c\r", data, re.DOTALL)
            assert found
            peer.received.append(found[1])
            answered = answer(found[1])
            if answered is None:
                asleep.wait(30)
            elif answered:
                self.request.sendall(b"\x0b" + answered + b"\x1c\r")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        peer = Peer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield peer
        finally:
            asleep.set()
            server.shutdown()
            thread.join()
