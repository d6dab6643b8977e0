import logging
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hl7
import pytest
from hl7apy.parser import parse_message
from sqlalchemy import Engine, select, text

from cxrtriage.errors import ConfigError, DeliveryError
from cxrtriage.serve.hl7 import listener
from cxrtriage.serve.hl7.listener import Listener, Taker
from cxrtriage.serve.hl7.mllp import FrameReader, exchange, framed
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.open_node import open_node
from cxrtriage.serve.settings import Hl7Settings, load_settings
from cxrtriage.serve.tables import audit, heartbeat, imaging_order, study
from serve.hl7 import written
from serve.worklist.rows import SETTINGS, Rows

ANY_PORT = Hl7Settings(host="127.0.0.1")
NAMES = re.compile("DOE|JANE|19500101")


def acknowledged(answer: bytes) -> tuple[str, str]:
    """Return code and control ID of an answer, as the library reads it, once hl7apy found it to be valid."""
    assert parse_message(answer.decode(), find_groups=False).validate()
    said = hl7.parse(answer.decode()).segment("MSA")
    return str(said[1]), str(said[2])


@contextmanager
def node(engine: Engine, settings: Hl7Settings = ANY_PORT) -> Iterator[Listener]:
    with Listener(settings, Taker(engine, SETTINGS, Path("/nowhere")).answer) as running:
        yield running


def send(running: Listener, content: bytes) -> tuple[str, str]:
    return acknowledged(exchange("127.0.0.1", running.port, content, 20))


def orders(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {row.accession_number: row.priority for row in connection.execute(select(imaging_order))}


def test_orders_and_reports_are_committed_when_they_are_answered(rows_of_each: Rows) -> None:
    engine, uid = rows_of_each.engine, rows_of_each.study(accession_number="A1")
    with node(engine) as running:
        assert send(running, written.orm("A1")) == ("AA", "M1")
        assert orders(engine) == {"A1": "stat"}
        assert send(running, written.omi("A2")) == ("AA", "M2")
        assert send(running, written.oru("A1")) == ("AA", "M3")
    with engine.connect() as connection:
        row = connection.execute(select(study).where(study.c.study_instance_uid == uid)).one()
    assert (row.read_by, row.reported_abnormal) == ("final report", True)


def test_many_peers_at_once_are_all_answered(rows_of_each: Rows) -> None:
    """Each orders the same and one of its own, as interfaces do that send everything twice."""
    engine, said = rows_of_each.engine, []
    uid = rows_of_each.study(accession_number="SAME")

    def peer(number: int) -> None:
        for accession in ("SAME", f"A{number}"):
            answer = send(running, written.orm(accession, control_id=f"{number}{accession}"))
            said.append(answer)

    with node(engine) as running:
        threads = [threading.Thread(target=peer, args=[number]) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(said) == sorted(("AA", f"{n}{name}") for n in range(10) for name in ("SAME", f"A{n}"))
    assert len(orders(engine)) == 11
    with engine.connect() as connection:
        assert connection.execute(select(study.c.rank).where(study.c.study_instance_uid == uid)).scalar_one() == 2


def test_several_messages_on_one_connection_are_answered_in_order(sqlite: Engine) -> None:
    with node(sqlite) as running, socket.create_connection(("127.0.0.1", running.port), timeout=30) as peer:
        peer.sendall(framed(written.orm("A1", control_id="1")) + b"\r\n" + framed(written.orm("A2", control_id="2")))
        answers = b""
        while answers.count(b"\x1c\r") < 2:
            answers += peer.recv(4096)
    assert re.findall(rb"MSA\|AA\|(\d)", answers) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("content", "control_id"),
    [
        (written.joined(written.header("ADT^A01"), "PID|1||P1||DOE^JANE"), "M1"),
        (written.joined(written.header("ORM^O01", version="3.0"), "ORC|NW"), "M1"),
        (written.joined(written.header("ORM^O01")), "M1"),
        (written.orm("", filler=""), "M1"),
        (written.joined(written.header("ORM^O01", control_id=""), "ORC|NW"), ""),
        (written.joined(written.header("ORU^R01")), "M1"),
        (b"GET / HTTP/1.1", ""),
        (b"", ""),
    ],
)
def test_what_cannot_be_understood_is_rejected_with_a_sentence(
    sqlite: Engine, caplog: pytest.LogCaptureFixture, content: bytes, control_id: str
) -> None:
    with node(sqlite) as running:
        answer = exchange("127.0.0.1", running.port, content, 5)
    read = hl7.parse(answer.decode())
    said = read.segment("MSA")
    assert (str(said[1]), str(said[2])) == ("AR", control_id)
    if control_id:  # without one there can be no valid answer
        acknowledged(answer)
    assert str(said[3]).endswith(".")
    assert ("ERR" in {str(part[0]) for part in read}) == (str(read.segment("MSH")[12]) >= "2.5")
    assert not NAMES.search(answer.decode() + caplog.text)
    assert orders(sqlite) == {}


def test_a_database_that_does_not_answer_is_ae_and_the_same_message_is_taken_later(sqlite: Engine) -> None:
    with node(sqlite) as running:
        with sqlite.begin() as connection:
            connection.execute(text("ALTER TABLE imaging_order RENAME TO away"))
        assert send(running, written.orm("A1")) == ("AE", "M1")
        with sqlite.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO imaging_order"))
        assert send(running, written.orm("A1")) == ("AA", "M1")
    assert orders(sqlite) == {"A1": "stat"}


def test_an_error_of_our_own_is_ae_and_says_no_name(
    sqlite: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr(listener, "take_orders", broken)
    with node(sqlite) as running:
        answer = exchange("127.0.0.1", running.port, written.orm(), 5)
    assert acknowledged(answer) == ("AE", "M1")
    assert not NAMES.search(answer.decode() + caplog.text)


def test_an_old_order_sent_once_more_does_not_undo_a_newer_one(sqlite: Engine) -> None:
    with node(sqlite) as running:
        old = written.orm("A1", quantity="1^^^^^R", control_id="1")
        send(running, old)
        send(running, written.orm("A1", control="XO", control_id="2"))
        assert send(running, old) == ("AA", "1")
    assert orders(sqlite) == {"A1": "stat"}


def test_no_name_reaches_log_or_audit_trail(rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    rows.study(accession_number="A1")
    caplog.set_level(logging.DEBUG)
    with node(rows.engine) as running:
        for content in (written.orm(), written.omi(), written.oru(), written.oru(patient="P9")):
            assert not NAMES.search(exchange("127.0.0.1", running.port, content, 5).decode())
    with rows.engine.connect() as connection:
        trail = str(connection.execute(select(audit)).all())
    assert "RIS" in trail
    assert not NAMES.search(caplog.text + trail)


def test_only_addresses_that_are_named_may_connect(sqlite: Engine) -> None:
    with (
        node(sqlite, ANY_PORT.model_copy(update={"allow_address": ("10.0.0.0/8",)})) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=30) as peer,
    ):
        assert closed(peer)
    with node(sqlite, ANY_PORT.model_copy(update={"allow_address": ("127.0.0.0/8",)})) as running:
        assert send(running, written.orm()) == ("AA", "M1")


def test_a_port_in_use_is_named(sqlite: Engine) -> None:
    with node(sqlite) as running:
        second = Listener(ANY_PORT.model_copy(update={"port": running.port}), lambda message, _: message)
        with pytest.raises(ConfigError, match=rf"port {running.port}: .*Choose another \[hl7\]"):
            second.__enter__()


def test_a_message_without_end_is_cut_off(sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "FrameReader", lambda: FrameReader(1000))
    with node(sqlite) as running, socket.create_connection(("127.0.0.1", running.port), timeout=30) as peer:
        peer.sendall(b"\x0b" + b"x" * 2000)
        assert closed(peer)


def test_a_slow_peer_is_cut_off_and_holds_up_nobody(sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MESSAGE_S", 2)
    with node(sqlite) as running, socket.create_connection(("127.0.0.1", running.port), timeout=30) as slow:
        slow.sendall(b"\x0bMSH")
        assert send(running, written.orm()) == ("AA", "M1")
        assert closed(slow)


def test_a_peer_that_is_silent_between_messages_stays(sqlite: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MESSAGE_S", 0.5)
    with node(sqlite) as running, socket.create_connection(("127.0.0.1", running.port), timeout=30) as peer:
        threading.Event().wait(1)
        peer.sendall(framed(written.orm()))
        assert b"MSA|AA|M1" in peer.recv(4096)


def test_more_connections_than_the_limit_are_refused_until_one_ends(sqlite: Engine) -> None:
    with node(sqlite) as running:
        open_ones = [socket.create_connection(("127.0.0.1", running.port), 5) for _ in range(listener.MOST_CONNECTIONS)]
        for peer in open_ones:
            peer.sendall(framed(b""))
            assert b"MSA|AR" in peer.recv(4096)
        with socket.create_connection(("127.0.0.1", running.port), 5) as one_more:
            assert closed(one_more)
        for peer in open_ones:
            peer.close()
        for _ in range(400):  # the other side needs a moment to see it
            try:
                assert send(running, written.orm()) == ("AA", "M1")
                break
            except DeliveryError:
                threading.Event().wait(0.05)
        else:
            pytest.fail("no connection became free")


def test_mutated_messages_are_all_answered_and_crash_nothing(rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    """2,000 of them, by bytes changed, cut, repeated and exchanged; the answer is one that a sender can read."""
    rows.study(accession_number="A1")
    taker, dice = Taker(rows.engine, SETTINGS, Path("/nowhere")), random.Random(7)
    sources = [written.orm(uid="1.2.3.1"), written.omi(), written.oru(uid="1.2.3.1"), written.oru(flag="N~AA")]
    codes = []
    for _ in range(2000):
        answer = taker.answer(mutated(dice.choice(sources), dice), "127.0.0.1")
        codes.append(str(hl7.parse(answer.decode()).segment("MSA")[1]))
    assert set(codes) <= {"AA", "AR"}  # AE would be an error of ours
    assert min(codes.count("AA"), codes.count("AR")) > 100
    assert "error of this program" not in caplog.text
    assert taker.answer(written.orm("LAST"), "127.0.0.1").count(b"MSA|AA|M1") == 1


def mutated(content: bytes, dice: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at, to = sorted((dice.randrange(len(data) + 1), dice.randrange(len(data) + 1)))
        kind = dice.randrange(6)
        if kind == 0:
            data[at:at] = bytes(dice.randrange(256) for _ in range(dice.randint(1, 5)))
        elif kind == 1:
            del data[at : min(to, at + 20)]
        elif kind == 2:
            data[at:at] = data[at:to]
        elif kind == 3:
            data[at:at] = dice.choice([b"|", b"^", b"~", b"\\", b"&", b"\r", b"\x00", b'""', b"\\X00\\", b"\\.sp9\\"])
        elif kind == 4 and data:
            data[dice.randrange(len(data))] = dice.randrange(256)
        else:
            data = data[: max(to, 30)]
    return bytes(data)


def closed(peer: socket.socket) -> bool:
    """Wait until the other side closes, which it does without a word."""
    try:
        return peer.recv(1) == b""
    except ConnectionError:
        return True


def test_the_process_takes_orders_shows_that_it_lives_and_stops(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = load_settings(tmp_path)
    file = tmp_path / "cxrtriage.toml"
    file.write_text(re.sub(r"(\[hl7\].*?)# port =", rf"\1port = {port}", file.read_text(), flags=re.DOTALL))
    with open_node(tmp_path) as (_, engine):
        migrate(engine)
        command = [sys.executable, "-m", "cxrtriage.serve", "listener", str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert f"port {port}" in process.stderr.readline()
            assert acknowledged(exchange("127.0.0.1", port, written.orm(), 20)) == ("AA", "M1")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            said = process.stderr.read()
        assert orders(engine) == {"A1": "stat"}
        with engine.connect() as connection:
            assert connection.execute(select(heartbeat.c.name)).scalars().all() == ["listener"]
    assert "ORM^O01 from 127.0.0.1: AA" in said
    assert not NAMES.search(said)
    assert settings.hl7.port is None  # off unless it is asked for
