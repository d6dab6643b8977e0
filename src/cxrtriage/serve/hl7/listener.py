"""The HL7 door: messages in over MLLP, orders and final reports kept; a process of its own, started by `supervise`.

    AA  done, and committed; or nothing to do
    AE  the database does not answer, or an error of this program: send it again
    AR  it cannot be understood, or is of a kind that this node does not take: sending it again is of no use

The answer follows the commit, so a sender that had none sends again, which does no harm: the same order
changes nothing, and a study is marked read once. Nothing that a message holds is logged but its kind.
"""

import hashlib
import logging
import os
import re
import secrets
import socket
import socketserver
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import ConfigError
from cxrtriage.serve import database, node_state, process
from cxrtriage.serve.database import open_database
from cxrtriage.serve.hl7.messages import Message, NotHl7Error, escaped, joined, segment, timestamp
from cxrtriage.serve.hl7.mllp import CHUNK, FrameReader, MessageTooLongError, framed
from cxrtriage.serve.hl7.orders import take_orders
from cxrtriage.serve.hl7.reports import take_reports
from cxrtriage.serve.settings import Hl7Settings, NodeSettings, load_settings

LOGGER = logging.getLogger(__name__)
ORDERS = {("ORM", "O01"), ("OMI", "O23")}
REPORTS = {("ORU", "R01")}
MOST_CONNECTIONS = 20
MESSAGE_S = 60.0  # from a message's first byte to its last, and for a peer to take its answer
KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
REMEMBERED = 10_000  # orders seen since the process began
VERSION = re.compile(r"2\.[1-8](\.[0-9])?")
ERRORS = {"AR": "200^Unsupported message type^HL70357", "AE": "207^Application internal error^HL70357"}


class Taker:
    """Takes messages into the database and says how it went.

    Parameters
    ----------
    engine : from `open_database`
    settings, home : of the node
    """

    def __init__(self, engine: Engine, settings: NodeSettings, home: Path) -> None:
        self.engine = engine
        self.settings = settings
        self.home = home
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, content: bytes, address: str) -> bytes:
        """Take one message, without its frame, from a peer at an address; return the answer to it."""
        message = None
        try:
            message = Message(content)
            said = self._take(message, content, address)
            code = "AA"
        except NotHl7Error as error:
            code, said = "AR", str(error)
        except SQLAlchemyError as error:
            code, said = "AE", f"the database does not answer ({type(error).__name__}). Send it again."
        except Exception as error:  # ours to mend; its text could quote the message
            code, said = "AE", f"an error of this program ({type(error).__name__}). Send it again."
        kind = "^".join(part for part in message.kind if part.isalnum())[:16] if message else "what is no message"
        LOGGER.log(logging.INFO if code == "AA" else logging.WARNING, "%s from %s: %s, %s", kind, address, code, said)
        return _answer(message, code, said)

    def _take(self, message: Message, content: bytes, address: str) -> str:
        if not message.control_id:
            raise NotHl7Error("it has no control ID (MSH-10).")
        if not VERSION.fullmatch(message.header.value(12)):
            raise NotHl7Error("it is not of version 2 (MSH-12).")
        sender = message.header.value(3)[:64] or "hl7"
        if message.kind in ORDERS:
            # an old order sent once more after a newer one would undo that
            seen = hashlib.sha256(content).digest()
            if self._knows(seen):
                return "had it already."
            with self.engine.begin() as connection:
                count = take_orders(connection, message, sender=sender, address=address)
            self._remember(seen)
            return f"{count} order(s)."
        if message.kind in REPORTS:
            with self.engine.begin() as connection:
                count = take_reports(
                    connection, message, sender=sender, address=address, settings=self.settings, home=self.home
                )
            return f"{count} study(ies) marked read."
        raise NotHl7Error("this node takes ORM^O01, OMI^O23 and ORU^R01 (MSH-9).")

    def _knows(self, seen: bytes) -> bool:
        with self._lock:
            return seen in self._seen

    def _remember(self, seen: bytes) -> None:
        with self._lock:
            self._seen[seen] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)


class Listener:
    """A running HL7 door; used as a context.

    Parameters
    ----------
    settings : where to listen, whom to let in
    answer : a message and its sender's address in, the answer out; called from several threads at once

    Attributes
    ----------
    port : int
        That it listens on.

    Raises
    ------
    ConfigError
        On entering, if the port cannot be used.
    """

    def __init__(self, settings: Hl7Settings, answer: Callable[[bytes, str], bytes]) -> None:
        self.settings = settings
        self.answer = answer
        self.port = settings.port or 0
        self._networks = [ip_network(address) for address in settings.allow_address]
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        listener = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                listener._serve(self.request, str(self.client_address[0]))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False
            request_queue_size = MOST_CONNECTIONS

            def verify_request(self, request: Any, client_address: Any) -> bool:
                return listener._lets_in(str(client_address[0]))

            def handle_error(self, request: Any, client_address: Any) -> None:
                LOGGER.exception("a connection from %s ended by an error of this program", client_address[0])

        if ":" in self.settings.host:
            Server.address_family = socket.AF_INET6
        try:
            self._server = Server((self.settings.host, self.port), Handler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self.settings.host} port {self.port}: {error.strerror}. "
                "Choose another [hl7] host or port, or stop what uses it."
            ) from error
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=[0.1], name="hl7", daemon=True).start()
        LOGGER.info("listening on %s port %d for HL7", self.settings.host, self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            _hang_up(connection)

    def _lets_in(self, address: str) -> bool:
        peer = ip_address(address.split("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        if not self._networks or any(peer in network for network in self._networks):
            return True
        LOGGER.warning("refused a connection from %s, which hl7.allow_address does not name", address)
        return False

    def _serve(self, connection: socket.socket, address: str) -> None:
        """Answer the messages of one connection until it ends."""
        if not self._free.acquire(blocking=False):
            LOGGER.warning("refused a connection from %s: %d are open already", address, MOST_CONNECTIONS)
            return
        self._connections.add(connection)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # else one cut off stays for ever
            for option, value in KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
            self._converse(connection, address)
        except TimeoutError:
            LOGGER.warning("closed a connection from %s: a message took longer than %g s", address, MESSAGE_S)
        except MessageTooLongError as error:
            LOGGER.warning("closed a connection from %s: %s", address, error)
        except OSError as error:
            LOGGER.info("a connection from %s ended (%s)", address, type(error).__name__)
        finally:
            self._connections.discard(connection)
            self._free.release()

    def _converse(self, connection: socket.socket, address: str) -> None:
        """Read and answer. Between messages a peer may be silent for ever, as many are; within one it may not."""
        reader = FrameReader()
        begun_at = 0.0
        while True:
            left = begun_at + MESSAGE_S - time.monotonic()
            connection.settimeout(max(left, 0.001) if reader.inside else None)
            received = connection.recv(CHUNK)
            if not received:
                return
            begun_at = begun_at if reader.inside else time.monotonic()
            for message in reader.feed(received):
                connection.settimeout(MESSAGE_S)
                connection.sendall(framed(self.answer(message, address)))
                begun_at = time.monotonic()


def _answer(message: Message | None, code: str, said: str) -> bytes:
    """Return the general acknowledgement (2.5.1, 2.9.2) of a message, of None if it was none."""

    def asked(field: int, component: int = 1) -> str:
        return escaped(message.header.value(field, component)) if message else ""

    event, version = asked(9, 2), asked(12)
    if not VERSION.fullmatch(version):
        version = "2.5.1"
    header = {
        3: "CXRTRIAGE",
        5: asked(3),
        6: asked(4),
        7: timestamp(database.now()),
        9: f"ACK^{event}^ACK" if event else "ACK",
        10: secrets.token_hex(10),
        11: asked(11) or "P",
        12: version,
        18: "UNICODE UTF-8",
    }
    segments = [segment("MSH", header), segment("MSA", {1: code, 2: asked(10), 3: escaped(said)[:80]})]
    if code in ERRORS and version >= "2.5":  # before that ERR was another one
        segments.append(segment("ERR", {3: ERRORS[code], 4: "E", 8: escaped(said)}))
    return joined(segments)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it is gone already
        connection.shutdown(socket.SHUT_RDWR)


def main(home: str) -> None:
    """Take messages for the node at `home` until told to stop."""
    stopping = process.begin("listener")
    try:
        settings = load_settings(Path(home))
        engine = open_database(settings.database.url)
        taker = Taker(engine, settings, Path(home))
        with Listener(settings.hl7, taker.answer):
            node_state.keep_beating(engine, "listener", stopping)
            stopping.wait()
    except ConfigError as error:
        LOGGER.error("%s", error)
        os._exit(process.CANNOT_START)
