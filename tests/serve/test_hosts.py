"""The node on hosts of its own, joined by a network that can be cut: namespaces of the kernel, as root."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select, text

from cxrtriage.data.phantom import make_phantoms
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.tables import job, result
from serve.peers import dcmtk, role_of_node
from serve.postgres import PORT, postgres_server

ADDRESSES = {"front": "10.77.0.1", "scorer": "10.77.0.2", "spare": "10.77.0.3"}
DICOM, WEB = 11112, 8080
CUT_S = 45  # longer than the node waits for a database that does not answer


def ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True)


def on(host: str) -> list[str]:
    return ["ip", "netns", "exec", f"cxr-{host}"]


@pytest.fixture
def network() -> Iterator[None]:
    """Three hosts and a switch between them."""
    try:
        ip("netns", "add", "cxr-switch")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces cannot be made here")
    with ExitStack() as made:
        made.callback(ip, "netns", "del", "cxr-switch")
        ip("-n", "cxr-switch", "link", "add", "bridge", "type", "bridge")
        ip("-n", "cxr-switch", "link", "set", "bridge", "up")
        for host, address in ADDRESSES.items():
            ip("netns", "add", f"cxr-{host}")
            made.callback(ip, "netns", "del", f"cxr-{host}")
            ip("link", "add", "eth0", "netns", f"cxr-{host}", "type", "veth", "peer", host, "netns", "cxr-switch")
            ip("-n", "cxr-switch", "link", "set", host, "master", "bridge", "up")
            ip("-n", f"cxr-{host}", "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", f"cxr-{host}", "link", "set", device, "up")
        yield


@pytest.mark.slow
def test_a_host_that_drops_off_the_network_costs_time_only_and_does_nothing_twice_when_it_is_back(
    network: None, tmp_path: Path, model_file: Path
) -> None:
    films = sorted((make_phantoms(tmp_path / "films", 8, 256, format="dicom", workers=1).parent / "images").iterdir())
    home = tmp_path / "home"
    home.mkdir()
    (home / "cxrtriage.toml").write_text(
        f'[dicom]\nhost = "{ADDRESSES["front"]}"\nport = {DICOM}\n[web]\nport = {WEB}\n[store]\nmin_free_gib = 0.1\n'
        "[worker]\nfilm_limit_s = 5\n"
    )

    def wait_until(condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in home.glob("*.log"))
            assert time.monotonic() < deadline, f"waited {seconds} s in vain:\n{logs}"
            time.sleep(0.2)

    def send(*paths: Path) -> None:
        dcmtk("dcmsend", ADDRESSES["front"], DICOM, *paths, inside=on("spare"))

    def readiness() -> str:
        command = [*on("front"), "curl", "-s", "-m", "5", f"http://127.0.0.1:{WEB}/readyz"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    with ExitStack() as running:
        folder = running.enter_context(postgres_server(ADDRESSES["front"], on("front")))
        own = f"postgresql://postgres@/postgres?host={folder}&port={PORT}"
        admin = create_engine(own.replace("://", "+psycopg://", 1), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("CREATE DATABASE node"))
        admin.dispose()
        engine = open_database(own.replace("/postgres?", "/node?"))
        running.callback(engine.dispose)

        def jobs(state: str) -> int:
            with reading(engine) as connection:
                return int(connection.execute(select(func.count()).where(job.c.state == state)).scalar_one())

        url = f"postgresql://postgres@{ADDRESSES['front']}/node"
        running.enter_context(role_of_node(home, url, "receiver", inside=on("front")))
        wait_until(
            lambda: dcmtk("echoscu", ADDRESSES["front"], DICOM, check=False, inside=on("spare")).returncode == 0, 90
        )
        running.enter_context(
            role_of_node(home, url, "worker", "--model", model_file, inside=on("scorer"), ends_within=90)
        )
        running.enter_context(role_of_node(home, url, "web", inside=on("front")))
        send(*films[:2])
        wait_until(lambda: jobs("done") == 2, 90)
        wait_until(lambda: '"ready":true' in readiness(), 60)

        ip("-n", "cxr-switch", "link", "set", "scorer", "down")
        send(*films[2:5])
        time.sleep(CUT_S)
        assert "worker" in readiness()  # gives no sign of life
        assert jobs("done") == 2
        ip("-n", "cxr-switch", "link", "set", "scorer", "up")
        wait_until(lambda: jobs("done") == 5, 90)  # the host is back, and goes on by itself

        send(*films[5:])
        ip("-n", "cxr-switch", "link", "set", "scorer", "down")  # with films in hand, or just before or after
        running.enter_context(role_of_node(home, url, "worker", "--model", model_file, inside=on("spare")))
        wait_until(lambda: jobs("done") == 8, 150)  # another host takes them, those in hand after their lease
        ip("-n", "cxr-switch", "link", "set", "scorer", "up")
        time.sleep(5)
        with reading(engine) as connection:
            counted = connection.execute(select(func.count(), func.count(result.c.instance_id.distinct()))).one()
        assert tuple(counted) == (8, 8)
        ip("-n", "cxr-switch", "link", "set", "scorer", "down")  # cut off, it must still end when it is told to
