"""A PostgreSQL of the tests' own, in a folder that goes away with it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

PORT = 5432


@contextmanager
def postgres_server(listen: str = "", inside: Sequence[str] = ()) -> Iterator[Path]:
    """Yield the folder of a running server's socket; skip where PostgreSQL is not installed.

    Parameters
    ----------
    listen : address that it listens on, and whose neighbours it believes; none by default
    inside : command that runs another, say in a network namespace
    """
    bins = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    initdb = shutil.which("initdb", path=os.pathsep.join([*map(str, bins), os.environ["PATH"]]))
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="cxrpg"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # it refuses to run as root
    if as_user:
        shutil.chown(folder, "postgres")
    folder.chmod(0o755)

    def run(program: str, *arguments: object) -> None:
        command = [*inside, *as_user, str(Path(initdb).with_name(program)), *map(str, arguments)]
        # not captured: the server would hold the pipe open
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    data = folder / "data"
    run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    if listen:
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {listen}/24 trust\n")
    options = f"-c listen_addresses='{listen}' -c unix_socket_directories={folder} -c port={PORT} -c fsync=off"
    run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield folder
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)
