import re
import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.hl7.mllp import FrameReader, MessageTooLongError, exchange, framed
from serve.hl7.peer import mllp_peer

plain_bytes = st.lists(st.integers(0, 255).filter(lambda byte: byte not in (0x0B, 0x1C))).map(bytes)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(messages=st.lists(plain_bytes), noise=st.lists(plain_bytes), cuts=st.lists(st.integers(0, 400)))
def test_messages_come_out_whole_however_the_bytes_arrive(
    messages: list[bytes], noise: list[bytes], cuts: list[int]
) -> None:
    between = noise + [b""] * len(messages)
    data = b"".join(gap + framed(message) for gap, message in zip(between, messages, strict=False))
    reader = FrameReader()
    found = [message for piece in in_pieces(data, cuts) for message in reader.feed(piece)]
    assert found == messages
    assert not reader.inside


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)))
def test_any_bytes_give_what_a_pattern_finds_in_them(data: bytes, cuts: list[int]) -> None:
    """The second source: a regular expression over the whole."""
    reader = FrameReader()
    found = [message for piece in in_pieces(data, cuts) for message in reader.feed(piece)]
    assert found == re.findall(rb"\x0b([^\x0b\x1c]*)\x1c", data, re.DOTALL)


@given(broken=plain_bytes, message=plain_bytes)
def test_a_message_begun_anew_drops_what_was_broken_off(broken: bytes, message: bytes) -> None:
    assert FrameReader().feed(b"\x0b" + broken + framed(message)) == [message]


def test_a_message_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert FrameReader(10).feed(framed(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(MessageTooLongError, match="longer than 10 bytes"):
        FrameReader(10).feed(framed(b"x" * 11))


def test_no_more_than_the_limit_is_held_while_a_message_never_ends() -> None:
    reader = FrameReader(1000)
    reader.feed(b"\x0b")
    for _ in range(10):
        reader.feed(b"x" * 100)
    with pytest.raises(MessageTooLongError):
        reader.feed(b"x")


def test_noise_between_messages_is_not_held() -> None:
    reader = FrameReader(10)
    for _ in range(100):
        assert reader.feed(b"x" * 100) == []
    assert reader.feed(framed(b"m")) == [b"m"]


@pytest.mark.parametrize("byte", [b"\x0b", b"\x1c"])
def test_what_would_end_a_message_cannot_be_sent(byte: bytes) -> None:
    with pytest.raises(ValueError, match="holds no VT"):
        framed(b"MSH" + byte)


def test_a_message_goes_out_and_its_answer_comes_back() -> None:
    with mllp_peer(lambda message: b"got " + message) as peer:
        assert exchange("127.0.0.1", peer.port, b"MSH", 5) == b"got MSH"
        assert peer.received == [b"MSH"]


def test_a_peer_that_says_nothing_costs_the_limit_and_no_more() -> None:
    with mllp_peer(lambda _: None) as peer:
        started = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no answer within 0\.2 s"):
            exchange("127.0.0.1", peer.port, b"MSH", 0.2)
        assert time.monotonic() - started < 20


def test_a_peer_that_breaks_off_is_an_error() -> None:
    with mllp_peer(lambda _: b"") as peer, pytest.raises(DeliveryError, match="closed the connection"):
        exchange("127.0.0.1", peer.port, b"MSH", 5)


def test_a_peer_that_is_not_there_is_an_error() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(DeliveryError, match="cannot be reached"):
            exchange("127.0.0.1", bound.getsockname()[1], b"MSH", 5)
