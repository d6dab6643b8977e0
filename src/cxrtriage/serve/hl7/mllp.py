"""MLLP, the framing of HL7 v2 on a TCP connection, both ways: bytes in, messages out, and back.

    <VT> message <FS> <CR>        0x0B ... 0x1C 0x0D

A message holds neither VT nor FS, so a VT always begins one (what a peer broke off before it is dropped) and
an FS ends one, also where the CR is missing. What stands between messages is passed over.

References
----------
HL7 Version 2, Transport Specification: MLLP, Release 1.
"""

import socket
import time

from cxrtriage.errors import DeliveryError

VT, FS, CR = b"\x0b", b"\x1c", b"\x0d"
MAX_MESSAGE_BYTES = 8 * 2**20  # a final report may hold a whole PDF
CHUNK = 2**16


class MessageTooLongError(ValueError):
    """A peer sends a longer message than is taken."""


def framed(message: bytes) -> bytes:
    """Return a message as it goes over the connection.

    Raises
    ------
    ValueError
        If it holds a byte that would end or begin a message.
    """
    if VT in message or FS in message:
        raise ValueError("an HL7 message holds no VT (0x0B) and no FS (0x1C)")
    return VT + message + FS + CR


class FrameReader:
    """Cuts what arrives, in whatever pieces, into messages.

    Parameters
    ----------
    max_bytes : of one message; no more than that, and the last piece, is held

    Attributes
    ----------
    inside : bool
        Whether a message has begun and not ended.
    """

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.inside = False
        self._begun = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Return the messages that end in this piece.

        Raises
        ------
        MessageTooLongError
            If a message is longer than `max_bytes`.
        """
        messages = []
        while received:
            if not self.inside:
                _, started, received = received.partition(VT)
                self.inside = bool(started)
                continue
            part, ended, after = received.partition(FS)
            *_, restarted, last = part.rpartition(VT)
            if restarted:
                self._begun.clear()
            if len(self._begun) + len(last) > self.max_bytes:
                raise MessageTooLongError(f"a message is longer than {self.max_bytes} bytes")
            self._begun += last
            received = after
            if ended:
                messages.append(bytes(self._begun))
                self._begun.clear()
                self.inside = False
        return messages


def exchange(host: str, port: int, message: bytes, limit_s: float) -> bytes:
    """Send one message on a connection of its own and return the answer.

    Parameters
    ----------
    limit_s : to connect, and again for all of sending and being answered

    Raises
    ------
    DeliveryError
        If the peer cannot be reached, breaks off, or does not answer in time.
    """
    reader = FrameReader()
    try:
        with socket.create_connection((host, port), timeout=limit_s) as connection:
            deadline = time.monotonic() + limit_s
            connection.sendall(framed(message))
            while True:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                received = connection.recv(CHUNK)
                if not received:
                    raise DeliveryError("it closed the connection without an answer.")
                answers = reader.feed(received)
                if answers:
                    return answers[0]
    except TimeoutError as error:
        raise DeliveryError(f"no answer within {limit_s:g} s.") from error
    except OSError as error:
        raise DeliveryError(f"it cannot be reached ({error.strerror or type(error).__name__}).") from error
    except MessageTooLongError as error:
        raise DeliveryError(f"its answer is of no use: {error}.") from error
