"""The node in parts: receiver, worker and pages started apart, on PostgreSQL, as on three machines that share HOME."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from cxrtriage.data.phantom import make_phantoms
from cxrtriage.serve import node_state
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.tables import job, result
from serve.peers import dcmtk, free_port, role_of_node

WAIT_S = 180


def wait_until(home: Path, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        logs = "".join(path.read_text()[-2000:] for path in home.glob("*.log"))
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain:\n{logs}"
        time.sleep(0.1)


def test_three_roles_on_postgresql_do_what_one_node_does_also_after_a_kill(
    postgres: Callable[[], str], tmp_path: Path, model_file: Path
) -> None:
    films = sorted((make_phantoms(tmp_path / "films", 4, 256, format="dicom", workers=1).parent / "images").iterdir())
    home, url, port, web = tmp_path / "home", postgres(), free_port(), free_port()
    home.mkdir()
    (home / "cxrtriage.toml").write_text(
        f'[dicom]\nhost = "127.0.0.1"\nport = {port}\n[web]\nport = {web}\n[store]\nmin_free_gib = 0.1\n'
    )
    engine = open_database(url)

    def done() -> int:
        with reading(engine) as connection:
            return int(connection.execute(select(func.count()).where(job.c.state == "done")).scalar_one())

    def ready() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{web}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    with ExitStack() as running:
        running.enter_context(role_of_node(home, url, "receiver"))
        wait_until(home, lambda: dcmtk("echoscu", "127.0.0.1", port, check=False).returncode == 0)
        dcmtk("dcmsend", "127.0.0.1", port, *films[:2])  # before there is any model
        worker = running.enter_context(role_of_node(home, url, "worker", "--model", model_file))
        running.enter_context(role_of_node(home, url, "web"))
        wait_until(home, lambda: done() == 2)
        wait_until(home, ready)
        os.kill(worker_of(home), signal.SIGKILL)
        dcmtk("dcmsend", "127.0.0.1", port, *films[2:])
        wait_until(home, lambda: done() == 4)
        assert worker.poll() is None
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(result)).scalar_one() == 4
        assert node_state.get(connection, node_state.MODEL_OFF) == ""
    engine.dispose()


def worker_of(home: Path) -> int:
    """Return the process id of the scoring process."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"cxrtriage.serve" in words and b"worker" in words and str(home).encode() in words:
            return int(entry.parent.name)
    pytest.fail("there is no scoring process")
