"""The sender: what is due arrives, whoever is slow, dead, full or killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from cxrtriage.errors import DeliveryError
from cxrtriage.serve import node_state
from cxrtriage.serve.database import reading
from cxrtriage.serve.results import outbox as module
from cxrtriage.serve.results.outbox import Context, Delivery, Outbox, Refused
from cxrtriage.serve.results.sender import DELIVER, DeliverFunction, Sender
from cxrtriage.serve.settings import DeliverySettings, NodeSettings, ReadingSettings
from cxrtriage.serve.tables import audit, heartbeat, instance, outbox, study
from serve.peers import dcmtk
from serve.results.orthanc import Orthanc
from serve.results.peers_out import scp
from serve.results.results import Home

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of pynetdicom's sockets
]
QUICK = DeliverySettings(limit_s=3, backoff_s=0, attempts=50)


def until(condition: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def sending(home: Home, settings: NodeSettings, deliver: dict[str, DeliverFunction] | None = None) -> Iterator[Sender]:
    """Run a sender in a thread."""
    stopping = threading.Event()
    sender = Sender(Context(home.path, settings, home.engine), f"s{time.monotonic()}", stopping, deliver)
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        yield sender
    finally:
        stopping.set()
        thread.join()


def put(home: Home, *deliveries: tuple[str, str]) -> None:
    """Put deliveries of (destination, kind) in the outbox."""
    home.film()
    with home.engine.begin() as connection:
        study_id = connection.execute(select(study.c.id)).scalars().first() or 0
        for number, (destination, kind) in enumerate(deliveries):
            module.put(connection, destination=destination, kind=kind, key=f"k{number}", study_id=study_id)


def states(home: Home) -> list[str]:
    return [state for state, _ in home.deliveries()]


def test_every_kind_has_a_function_that_sends_it() -> None:
    from importlib import import_module

    for path in DELIVER.values():
        assert callable(import_module(f"cxrtriage.serve.{path}").deliver)


def test_a_destination_that_hangs_holds_up_no_other(home: Home) -> None:
    put(home, ("pacs", "oru"), ("pacs", "oru"), ("mail", "mail"), ("fhir", "fhir"), ("mail", "mail"))
    hang = threading.Event()

    def hangs(_: Delivery, __: Context) -> None:
        assert hang.wait(30)

    def works(_: Delivery, __: Context) -> None:
        return

    with sending(home, NodeSettings(), {"oru": hangs, "mail": works, "fhir": works}):
        until(lambda: states(home) == ["sending", "waiting", "sent", "sent", "sent"])
        hang.set()
        until(lambda: states(home) == ["sent"] * 5)


def test_errors_are_told_and_only_in_words_of_our_own(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    put(home, ("pacs", "refused"), ("mail", "busy"), ("fhir", "broken"), ("stow", "unknown"))

    def fails(error: Exception) -> DeliverFunction:
        def deliver(_: Delivery, __: Context) -> None:
            raise error

        return deliver

    functions = {
        "refused": fails(Refused("no such patient there.")),
        "busy": fails(DeliveryError("full.")),
        "broken": fails(ValueError("Secretname^Jane")),
    }
    limits = NodeSettings(delivery=DeliverySettings(backoff_s=0, attempts=2))
    with sending(home, limits, functions) as sender:
        until(lambda: states(home) == ["parked"] * 4)
        assert "mail: full." in sender.note()
    assert [reason for _, reason in home.deliveries()] == [
        "no such patient there.",
        "full. (2 attempts)",
        "it failed (ValueError). (2 attempts)",
        "it failed (KeyError). (2 attempts)",
    ]
    assert "Secretname" not in caplog.text


def test_a_kind_that_this_version_does_not_know_is_parked(home: Home) -> None:
    put(home, ("pacs", "hologram"))
    with sending(home, NodeSettings()):
        until(lambda: states(home) == ["parked"])
    assert "cannot send hologram" in home.deliveries()[0][1]


def test_nothing_leaves_in_shadow_mode_or_while_the_model_is_off(home: Home) -> None:
    put(home, ("pacs", "oru"))
    sent = threading.Event()

    def works(_: Delivery, __: Context) -> None:
        sent.set()

    with sending(home, NodeSettings(reading=ReadingSettings(shadow=True)), {"oru": works}):
        assert not sent.wait(1)
    with home.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, "drift")
    with sending(home, NodeSettings(), {"oru": works}):
        assert not sent.wait(1)
        with home.engine.begin() as connection:
            node_state.put(connection, node_state.MODEL_OFF, "")
        assert sent.wait(30)
        until(lambda: states(home) == ["sent"])


def test_a_pacs_without_room_gets_it_when_it_has_some(home: Home) -> None:
    with scp(0xA700, 0xA700, 0x0000) as (peer, settings):
        home.result(home.film(), settings)
        seen = []
        with sending(home, settings):
            until(lambda: seen.append(home.deliveries()[0]) or states(home) == ["sent"])  # type: ignore[func-returns-value]
    assert len(peer.received) == 3
    assert len(set(peer.received)) == 1
    assert all("answered A700H (refused: out of resources)" in reason for state, reason in seen if reason)


def test_a_refusal_is_parked_with_what_the_pacs_said_and_sent_after_a_retry(home: Home) -> None:
    with scp(0xC000, 0x0000) as (peer, settings):
        home.result(home.film(), settings)
        with sending(home, settings) as sender:
            until(lambda: states(home) == ["parked"])
            assert "answered C000H" in home.deliveries()[0][1]
            assert sender.outbox.retry(1)
            until(lambda: states(home) == ["sent"])
            until(lambda: sender.note() == "")
    assert len(peer.received) == 2
    with reading(home.engine) as connection:
        row = connection.execute(select(audit).where(audit.c.event == "transferred", audit.c.actor == "sender")).one()
    assert json.loads(row.detail) == {"destination": "pacs", "kind": "structured_report"}


def test_orthanc_that_stops_in_the_middle_has_everything_once_when_it_is_back(home: Home, tmp_path: Path) -> None:
    count = 6
    with Orthanc(tmp_path / "orthanc") as orthanc:
        settings = orthanc.as_pacs(overlay=True).model_copy(update={"delivery": QUICK})
        for number in range(count):
            home.result(home.film(seed=number), settings)
        with sending(home, settings):
            until(lambda: states(home).count("sent") >= 3)
            orthanc.stop()
            until(lambda: any("cannot be reached" in reason for _, reason in home.deliveries()))
            assert states(home).count("sent") < 2 * count
            orthanc.start()
            until(lambda: set(states(home)) == {"sent"}, 60)
        found = orthanc.find(Modality="")
    with reading(home.engine) as connection:
        studies = set(connection.execute(select(study.c.study_instance_uid)).scalars())
    assert sorted(tags["Modality"] for tags in found) == ["OT"] * count + ["SR"] * count
    assert {tags["StudyInstanceUID"] for tags in found} == studies


def start_process(home: Home, owner: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cxrtriage.serve", "sender", str(home.path), owner]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=(home.path / "log").open("ab"))


def test_a_sender_killed_between_sending_and_commit_sends_again_and_the_pacs_has_one(
    home: Home, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRTRIAGE_DATABASE_URL", str(home.engine.url))
    settings = orthanc.as_pacs()
    (home.path / "cxrtriage.toml").write_text(
        f'[pacs]\nhost = "127.0.0.1"\nport = {orthanc.port}\nae_title = "ORTHANC"\n[delivery]\nbackoff_s = 0\n'
    )
    key = home.result(home.film(), settings)
    uid = home.facts(key).study_instance_uid
    dcmtk("storescu", "-aec", "ORTHANC", "127.0.0.1", orthanc.port, home.facts(key).film)
    first = start_process(home, "first")
    try:
        until(lambda: states(home) == ["sending"])
        assert home.engine.url.database is not None
        with closing(sqlite3.connect(home.engine.url.database, isolation_level=None)) as locked:
            locked.execute("BEGIN IMMEDIATE")  # it can send, but not say so
            until(lambda: len(orthanc.find(StudyInstanceUID=uid, Modality="SR")) == 1)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            locked.execute("ROLLBACK")
        assert states(home) == ["sending"]
        assert Outbox(home.engine, QUICK).release("first") == 1  # as its parent does
        second = start_process(home, "second")
        try:
            until(lambda: states(home) == ["sent"])
            with reading(home.engine) as connection:
                beat = connection.execute(select(heartbeat.c.name, heartbeat.c.note)).one()
                attempts = connection.execute(select(outbox.c.attempt)).scalar_one()
            assert tuple(beat) == ("sender", "")
            assert attempts == 2
            second.terminate()
            assert second.wait(60) == 0
        finally:
            _end(second)
    finally:
        _end(first)
    assert len(orthanc.find(StudyInstanceUID=uid, Modality="SR")) == 1
    with reading(home.engine) as connection:
        assert connection.execute(select(instance.c.id)).scalars().all() == [1]
    assert "Doe" not in (home.path / "log").read_text()


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    assert process.stdin is not None
    process.stdin.close()
