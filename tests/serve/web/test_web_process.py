"""The web process as `supervise` runs it: over a real socket, until it is told to stop."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine, select

from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.process import CANNOT_START
from cxrtriage.serve.settings import SETTINGS_FILE, WebSettings
from cxrtriage.serve.tables import audit, heartbeat
from cxrtriage.serve.web.app import _listen
from serve.peers import free_port

STARTS_IN_S = 120.0


@contextmanager
def web_process(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    home.mkdir(exist_ok=True)
    (home / SETTINGS_FILE).write_text(f"[web]\nport = {port}\n")
    engine = open_database(f"sqlite:///{home}/cxrtriage.sqlite")
    migrate(engine)
    engine.dispose()
    running = subprocess.Popen(
        [sys.executable, "-m", "cxrtriage.serve", "web", str(home)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def answers(port: int) -> None:
    deadline = time.monotonic() + STARTS_IN_S
    while time.monotonic() < deadline:
        try:
            assert httpx2.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}
            return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError("it does not answer")


@pytest.mark.parametrize("how", ["SIGTERM", "the parent is gone"])
def test_it_answers_lives_and_ends_cleanly(home: Path, how: str) -> None:
    port = free_port()
    with web_process(home, port) as running:
        answers(port)
        # what a proxy here passes on is not from here
        assert httpx2.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
        passed_on = httpx2.get(f"http://127.0.0.1:{port}/metrics", headers={"X-Forwarded-For": "10.1.2.3"})
        assert passed_on.status_code == 401
        assert "server" not in passed_on.headers
        if how == "SIGTERM":
            running.send_signal(signal.SIGTERM)
        else:
            assert running.stdin is not None
            running.stdin.close()
            running.stdin = None
        _, log = running.communicate(timeout=60)
    assert running.returncode == 0, log
    assert f"nobody can sign in yet; this link makes the account 'admin', once: http://127.0.0.1:{port}/" in log
    assert "Traceback" not in log
    engine: Engine = open_database(f"sqlite:///{home}/cxrtriage.sqlite")
    with reading(engine) as connection:
        assert [row.name for row in connection.execute(select(heartbeat)).all()] == ["web"]
        events = connection.execute(select(audit.c.event).where(audit.c.actor == "web")).scalars().all()
    engine.dispose()
    assert (events[0], events[-1]) == ("account", "stop")


def test_a_port_that_is_taken_is_named_and_ends_it_for_good(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with web_process(home, port) as running:
            _, log = running.communicate(timeout=STARTS_IN_S)
    assert running.returncode == CANNOT_START
    assert f"cannot listen on 127.0.0.1 port {port}" in log


def test_connections_send_at_once_what_there_is() -> None:
    """Else each answer would wait for the acknowledgement of its own headers."""
    with _listen(WebSettings(port=free_port())) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
