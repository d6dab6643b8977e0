"""Who talks to the node in tests: DCMTK's programs, an SCU that sends any bytes, and the node itself as a process."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from cxrtriage.serve.intake.taking import SOP_CLASSES, TRANSFER_SYNTAXES
from cxrtriage.serve.receiver import VERIFICATION
from cxrtriage.serve.settings import DATABASE_VARIABLE
from films import film_pixels, make_dicom

PREAMBLE = 128 + 4


def dcmtk(
    program: str, *arguments: object, check: bool = True, inside: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK program, or skip; pynetdicom installs programs of the same names that are no second opinion."""
    dcmsend = shutil.which("dcmsend")  # this name is DCMTK's alone
    if dcmsend is None:
        pytest.skip("DCMTK is not installed")
    command = [*inside, str(Path(dcmsend).with_name(program)), *map(str, arguments)]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)


def film(path: Path, seed: int = 0, side: int = 128, **tags: Any) -> Path:
    """Write a film with UIDs of its own."""
    uids = {"SOPInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    made = make_dicom(path, film_pixels(side, side, seed=seed), **{**uids, **tags})
    header = dcmread(made)
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.save_as(made)
    return made


def data_set(path: Path) -> bytes:
    """Return the encoded data set of a file, without preamble and file meta information."""
    length = int(read_file_meta_info(path).FileMetaInformationGroupLength)
    return path.read_bytes()[PREAMBLE + 12 + length :]


@contextmanager
def association(port: int, calling_ae: str = "TESTER", syntax: str | None = None) -> Iterator[Association]:
    """Yield an association with the node on this machine."""
    entity = AE(calling_ae)
    entity.add_requested_context(VERIFICATION)
    for sop_class in SOP_CLASSES:
        entity.add_requested_context(sop_class, [syntax] if syntax else TRANSFER_SYNTAXES[0])
    made = entity.associate("127.0.0.1", port)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()


def send_bytes(association: Association, content: bytes, uid: str, sop_class: str = SOP_CLASSES[1]) -> int | None:
    """Send any bytes as a data set; return the DICOM status, None if the association ended instead."""
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPInstanceUID = uid
    request.AffectedSOPClassUID = sop_class
    request.Priority = 2
    request.DataSet = BytesIO(content)
    context = next(cx for cx in association.accepted_contexts if cx.abstract_syntax == sop_class)
    association._reactor_checkpoint.clear()  # or the association's own thread would take the answer
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, context.context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return None if answer is None else int(answer.Status)


def send(association: Association, path: Path) -> int | None:
    """Send a DICOM file as it is."""
    meta = read_file_meta_info(path)
    return send_bytes(
        association, data_set(path), str(meta.MediaStorageSOPInstanceUID), str(meta.MediaStorageSOPClassUID)
    )


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class Node:
    """`cxrtriage serve` as a process of its own, with an SQLite database under `home`; used as a context."""

    def __init__(self, home: Path, model: Path, settings: str = "", python_path: Path | None = None) -> None:
        self.home, self.model, self.python_path = home, model, python_path
        self.port = free_port()
        home.mkdir(parents=True, exist_ok=True)
        self.web_port = free_port()
        text = f'[dicom]\nhost = "127.0.0.1"\nport = {self.port}\n[store]\nmin_free_gib = 0.1\n{settings}'
        text += f"\n[web]\nport = {self.web_port}\n"
        (home / "cxrtriage.toml").write_text(text)
        self.log = home / "log.txt"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(40)

    def start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if self.python_path:
            environment["PYTHONPATH"] = str(self.python_path)
        command = [sys.executable, "-m", "cxrtriage", "serve", "--home", str(self.home), "--model", str(self.model)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.wait_until(self.answers)

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the node ended:\n{self.log.read_text()}")
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until(self, condition: Any, limit_s: float = 120) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {limit_s} s in vain:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def children(self, *names: str) -> list[int]:
        """Return the process ids of the node's processes of these names, also of those whose parent is gone."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            named = any(name.encode() in words for name in names)
            if b"cxrtriage.serve" in words and named and str(self.home).encode() in words:
                found.append(int(entry.parent.name))
        return found

    def kill(self, name: str) -> None:
        for pid in self.children(name):
            os.kill(pid, signal.SIGKILL)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.home / "cxrtriage.sqlite", timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def states(self) -> list[str]:
        return [state for (state,) in self.rows("SELECT state FROM job ORDER BY id")]

    def settled(self, films: int) -> bool:
        states = self.states()
        return len(states) == films and not {"received", "running"} & set(states)


@contextmanager
def role_of_node(
    home: Path, url: str, role: str, *options: object, inside: Sequence[str] = (), ends_within: float = 60
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one role of a node on PostgreSQL, under the command `inside` where given; it must end in time."""
    command = [*inside, sys.executable, "-m", "cxrtriage", "serve", "--home", home, "--role", role, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", DATABASE_VARIABLE: url}
    with (home / f"{role}.log").open("a") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(ends_within) == 0
