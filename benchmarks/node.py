"""How fast the triage node is on one machine with SQLite: film to list, a burst beside Orthanc, memory, a long list.

Films are phantoms of 3000 x 3000 pixels of 16 bits, each with UIDs and a few pixels of its own, sent from this same
machine, so that sender and node share its processors. `python -m benchmarks.node --minutes 10` is the run whose figures
are stated; `--model FILE` names the model, else the packaged one or, where there is none, an untrained GoogLeNet at
512 px, which takes as long. Orthanc stores the same burst on the same disk, in turns; it neither scores nor lists.
"""

import argparse
import json
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx2
import numpy as np
from pydicom import dcmread
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from benchmarks import Figures
from cxrtriage.data.phantom import make_phantoms

SIDE = 3000  # pixels
BASES = 20  # phantoms drawn; the others differ from them in UIDs and a few pixels
HEADER_BYTES = 16_384  # that hold all UIDs
ROUNDS = 2  # of the burst, for each
REQUESTS = 50
WAIT_S = 900
SETTLED = ("done", "not_assessed", "failed")
UNTRAINED = "untrained GoogLeNet at 512 px"


class Films:
    """Distinct films, made from a few phantoms by changing bytes, which takes no time beside sending them."""

    def __init__(self, folder: Path) -> None:
        make_phantoms(folder, BASES, SIDE, format="dicom", seed=1)
        self.bases = sorted((folder / "images").iterdir())
        self.made = 0

    def write(self, path: Path) -> str:
        """Write the next film; return its SOP Instance UID."""
        base = self.bases[self.made % BASES]
        header = dcmread(base, stop_before_pixels=True)
        content = bytearray(base.read_bytes())
        names = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
        uids = {name: str(header[name].value) for name in names}
        self.made += 1
        new = {name: f"2.25.{rank}{self.made:0{len(uid) - 6}d}" for rank, (name, uid) in enumerate(uids.items(), 1)}
        for name, uid in uids.items():
            content[:HEADER_BYTES] = content[:HEADER_BYTES].replace(uid.encode(), new[name].encode())
        content[-2000:-1992] = self.made.to_bytes(8, "little")
        path.write_bytes(content)
        return new["SOPInstanceUID"]


class Node:
    """`cxrtriage serve` as a process, with SQLite under `home`; used as a context."""

    def __init__(self, home: Path, model: Path | None, role: str = "all") -> None:
        self.home, self.model, self.role = home, model, role
        self.port, self.web_port = free_port(), free_port()
        home.mkdir(parents=True, exist_ok=True)
        (home / "cxrtriage.toml").write_text(
            f'[dicom]\nhost = "127.0.0.1"\nport = {self.port}\n[web]\nport = {self.web_port}\n'
        )

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "cxrtriage", "serve", "--home", str(self.home), "--role", self.role]
        command += [] if self.model is None else ["--model", str(self.model)]
        with (self.home / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        ports = [self.port, self.web_port] if self.role == "all" else [self.web_port]
        wait_until(lambda: all(map(listens, ports)) or self.process.poll() is not None, "the node to start")
        if self.process.poll() is not None:
            raise SystemExit(f"the node did not start:\n{(self.home / 'log').read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def settled(self, after: int = 0) -> list[tuple[int, str, str]]:
        """Return (job, SOP Instance UID, state) of the films that are scored, or will not be."""
        query = (
            "SELECT job.id, sop_instance_uid, state FROM job JOIN instance ON instance.id = job.instance_id "
            f"WHERE job.id > ? AND state IN {SETTLED} ORDER BY job.id"
        )
        with closing(sqlite3.connect(f"file:{self.home}/cxrtriage.sqlite?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, [after]).fetchall()


class Orthanc:
    """Orthanc as it comes, without its REST interface for others; used as a context."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program, self.port, self.http_port = folder, program, free_port(), free_port()
        folder.mkdir(parents=True)
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "AuthenticationEnabled": False,
        }
        (folder / "settings.json").write_text(json.dumps(settings))

    def __enter__(self) -> Self:
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen([self.program, str(self.folder / "settings.json")], stdout=log, stderr=log)
        wait_until(lambda: listens(self.port) and listens(self.http_port), "Orthanc to start")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)

    def stored(self) -> int:
        return int(httpx2.get(f"http://127.0.0.1:{self.http_port}/statistics", timeout=30).json()["CountInstances"])


def measure(minutes: float = 1.0, burst: int = 200, studies: int = 10_000, model: Path | None = None) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, what = (model, model.name) if model is not None else default_model(folder)
        films = Films(folder / "phantoms")
        figures = Figures(
            title=f"The node on one machine, SQLite, {SIDE} x {SIDE} films of 16 bits; model: {what}",
            columns=("", "p50", "p95", "max", "goal"),
            rows=[],
        )
        steady_rate(figures, folder, films, model, round(60 * minutes))
        in_a_burst(figures, folder, films, model, burst)
        long_list(figures, folder / "list", studies)
    return figures


def steady_rate(figures: Figures, folder: Path, films: Films, model: Path, count: int) -> None:
    """One film a second: last byte received to its place on the reading list."""
    with Node(folder / "rate", model) as node, peak_memory(node.process.pid) as peak:
        send(node.port, folder / "a.dcm", films)  # the first pays for loading the model
        wait_until(lambda: len(node.settled()) == 1, "the first film")
        sent: dict[str, float] = {}
        listed: dict[str, float] = {}
        states: list[str] = []
        done = threading.Event()

        def watch() -> None:
            last = 1
            while not done.is_set() or len(listed) < len(sent):
                for job, uid, state in node.settled(last):
                    if uid not in listed:
                        listed[uid] = time.monotonic()
                        states.append(state)
                    last = job if job == last + 1 else last
                time.sleep(0.02)

        watching = threading.Thread(target=watch)
        watching.start()
        start = time.monotonic()
        for number in range(count):
            uid = films.write(folder / "a.dcm")
            time.sleep(max(0.0, start + number - time.monotonic()))
            sent[uid] = send_file(node.port, folder / "a.dcm")
        took = time.monotonic() - start
        done.set()
        wait_until(lambda: not watching.is_alive(), "the last film")
    seconds = [listed[uid] - sent[uid] for uid in sent]
    figures.rows.append((f"last byte to list, {count} films at 1/s, s", *quantiles(seconds), "p50 1, p95 2"))
    figures.rows.append(("memory of all its processes, MiB", "", "", f"{sum(peak.values()):.0f}", "2048"))
    figures.raw["memory, MiB"] = list(peak.values())
    figures.raw["last byte to list, seconds"] = seconds
    figures.notes.append(
        f"{count} films in {took:.0f} s; {states.count('done')} scored, {count - len(listed)} lost. Memory (PSS): "
        + ", ".join(f"{name.split()[0]} {size:.0f}" for name, size in peak.items())
    )
    shutil.rmtree(folder / "rate")


def in_a_burst(figures: Figures, folder: Path, films: Films, model: Path, count: int) -> None:
    """As fast as dcmsend can, to the node and to Orthanc in turns."""
    (folder / "burst").mkdir()
    uids = {films.write(folder / "burst" / f"{number:04d}.dcm") for number in range(count)}
    rates: dict[str, list[float]] = {"node": [], "Orthanc": []}
    lost, drained = 0, []
    orthanc = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    for turn in range(ROUNDS):
        order = ["node", "Orthanc"] if turn % 2 == 0 else ["Orthanc", "node"]
        for who in order:
            home = folder / who
            if who == "node":
                with Node(home, model) as node:
                    start = time.monotonic()
                    rates[who].append(count / dcmsend(node.port, folder / "burst"))
                    wait_until(lambda node=node: len(node.settled()) >= count, "the burst to be scored")  # type: ignore[misc]
                    drained.append(time.monotonic() - start)
                    lost += len(uids - {uid for _, uid, _ in node.settled()})
            elif orthanc:
                with Orthanc(home, orthanc) as peer:
                    rates[who].append(count / dcmsend(peer.port, folder / "burst"))
                    lost_there = count - peer.stored()
                    if lost_there:
                        figures.notes.append(f"Orthanc stored {lost_there} fewer than were sent")
            shutil.rmtree(home, ignore_errors=True)
    for who, values in rates.items():
        if values:
            name = f"burst of {count} stored by {'the node' if who == 'node' else who}, films/s"
            figures.rows.append((name, f"{statistics.median(values):.1f}", "", f"{max(values):.1f}", ""))
            figures.raw[f"burst, {who}, films/s"] = values
    figures.raw["burst sent and scored, seconds"] = drained
    figures.notes.append(f"burst sent and scored in {statistics.median(drained):.0f} s, {lost} lost (goal: 0)")
    if rates["Orthanc"]:
        ratio = [mine / theirs for mine, theirs in zip(rates["node"], rates["Orthanc"], strict=True)]
        figures.notes.append(f"node to Orthanc: {statistics.median(ratio):.2f} (goal: at least 1)")
    else:
        figures.notes.append("Orthanc is not installed: no figure to compare with")
    shutil.rmtree(folder / "burst")


def long_list(figures: Figures, home: Path, studies: int) -> None:
    """The reading list with many studies: its query, and the page as a browser gets it."""
    from cxrtriage.serve.database import now, open_database, reading
    from cxrtriage.serve.migrate import migrate
    from cxrtriage.serve.settings import load_settings
    from cxrtriage.serve.web import accounts
    from cxrtriage.serve.web.access import COOKIE
    from cxrtriage.serve.worklist.reading_list import reading_list

    node = Node(home, None, "web")
    settings = load_settings(home)
    engine = open_database(settings.database.url)
    migrate(engine)
    with engine.begin() as connection:
        fill(connection, studies)
        secret = accounts.invite(connection, "bench", "reader")
    accounts.accept_invitation(engine, secret.rpartition("/")[2], "a sentence is a fine password")
    cookie = accounts.sign_in(engine, "bench", "a sentence is a fine password", "127.0.0.1", now())
    with reading(engine) as connection:
        query = timed(lambda: reading_list(connection, settings, now()))
        found = timed(lambda: reading_list(connection, settings, now(), search="doe"))
        assert reading_list(connection, settings, now())[1] == studies
    engine.dispose()
    with node, httpx2.Client(base_url=f"http://127.0.0.1:{node.web_port}", cookies={COOKIE: cookie}) as browser:
        page = timed(lambda: browser.get("/").raise_for_status())
        assert "DOE" in browser.get("/").text.upper()
    for name, seconds, goal in (("page", page, "50"), ("query", query, ""), ("search", found, "")):
        milliseconds = [1000 * value for value in seconds]
        figures.rows.append((f"reading list of {studies}: {name}, ms", *quantiles(milliseconds), goal))
        figures.raw[f"list {name}, milliseconds"] = milliseconds


def fill(connection: Any, studies: int) -> None:
    """Write the rows of as many scored, unread studies, with one film each."""
    from cxrtriage.config import Recipe
    from cxrtriage.model.card import ModelCard
    from cxrtriage.serve import tables
    from cxrtriage.serve.database import now

    moment, sha256, rng = now(), "a" * 64, np.random.default_rng(0)
    card = ModelCard(architecture="googlenet", recipe=Recipe()).model_dump_json()
    connection.execute(
        tables.model_version.insert().values(
            sha256=sha256, path="models/none", name="none", role="active", card=card, added_at=moment,
            activated_at=moment,
        )
    )  # fmt: skip
    rows: dict[Any, list[dict[str, Any]]] = {
        table: [] for table in (tables.study, tables.instance, tables.patient, tables.job, tables.result)
    }
    for number in range(1, studies + 1):
        at = moment - timedelta(seconds=number)
        probability = float(rng.beta(1, 2))
        abnormal = probability >= 0.5
        rows[tables.study].append(
            {"id": number, "study_instance_uid": f"1.2.{number}", "accession_number": f"A{number}", "received_at": at,
             "rank": int(abnormal), "probability": probability, "first_result_at": at}
        )  # fmt: skip
        rows[tables.instance].append(
            {"id": number, "study_id": number, "sop_instance_uid": f"1.3.{number}", "content_sha256": sha256,
             "series_instance_uid": f"1.4.{number}", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
             "transfer_syntax_uid": "1.2.840.10008.1.2.1", "modality": "DX", "body_part": "CHEST",
             "view_position": "PA", "age_years": 50.0,
             "path": f"films/00/{number}.dcm", "file_sha256": sha256, "file_bytes": 18_000_000,
             "calling_ae": "BENCH", "received_at": at}
        )  # fmt: skip
        rows[tables.patient].append(
            {"instance_id": number, "name": f"DOE^{number}", "patient_id": f"P{number}", "birth_date": "19700101",
             "sex": "F"}
        )  # fmt: skip
        rows[tables.job].append(
            {"instance_id": number, "model_sha256": sha256, "state": "done", "reason": "", "attempt": 1,
             "not_before": at, "fence": 1, "changed_at": at}
        )  # fmt: skip
        rows[tables.result].append(
            {"instance_id": number, "model_sha256": sha256, "probability": probability, "threshold": 0.5,
             "decision": "abnormal" if abnormal else "normal", "seconds": 0.3, "fence": 1, "made_at": at}
        )  # fmt: skip
    for table, values in rows.items():
        connection.execute(table.insert(), values)


def default_model(folder: Path) -> tuple[Path, str]:
    from cxrtriage.config import Recipe
    from cxrtriage.errors import ModelError
    from cxrtriage.model.architectures import build_network
    from cxrtriage.model.bundle import save_model
    from cxrtriage.model.card import ModelCard
    from cxrtriage.score import packaged_model

    try:
        return packaged_model(), "the packaged one"
    except ModelError:
        path = folder / "untrained.safetensors"
        card = ModelCard(architecture="googlenet", recipe=Recipe(size=512))
        save_model(path, build_network("googlenet", 2, 512), card)
        return path, UNTRAINED


def send(port: int, path: Path, films: Films) -> None:
    films.write(path)
    send_file(port, path)


def send_file(port: int, path: Path) -> float:
    """Send a film in an association of its own; return when its last byte had gone to the node."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    header = dcmread(path, stop_before_pixels=True)
    entity = AE("BENCH")
    entity.add_requested_context(Verification)
    entity.add_requested_context(header.SOPClassUID, header.file_meta.TransferSyntaxUID)
    gone: list[float] = []
    association = entity.associate(
        "127.0.0.1", port, evt_handlers=[(evt.EVT_DATA_SENT, lambda _: gone.append(time.monotonic()))]
    )
    status = association.send_c_store(path)
    last = gone[-1]
    association.release()
    if status.get("Status") != 0:
        raise SystemExit(f"the node refused a film: {status}")
    return last


def dcmsend(port: int, folder: Path) -> float:
    """Send all films of a folder as fast as possible; return the seconds until the last was acknowledged."""
    program = shutil.which("dcmsend")
    if program is None:
        raise SystemExit("dcmsend is not installed; it is in the package dcmtk.")
    start = time.monotonic()
    subprocess.run([program, "--scan-directories", "127.0.0.1", str(port), str(folder)], check=True)
    return time.monotonic() - start


@contextmanager
def peak_memory(parent: int) -> Iterator[dict[str, float]]:
    """Yield what becomes MiB by process name at the moment when a process and its descendants held most together."""
    peak: dict[str, float] = {}
    stopping = threading.Event()

    def sample() -> None:
        while not stopping.wait(0.5):
            sizes = {f"{name_of(pid)} {pid}": memory_mib(pid) for pid in family(parent)}
            if sum(sizes.values()) > sum(peak.values()):
                peak.clear()
                peak.update(sizes)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        stopping.set()
        thread.join()


def family(parent: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = [parent]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def name_of(pid: int) -> str:
    """Return which process of the node this is."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "gone"
    return words[words.index("cxrtriage.serve") + 1] if "cxrtriage.serve" in words else "parent"


def memory_mib(pid: int) -> float:
    """Return a process's proportional set size: what it shares is counted once, in parts."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.split("\nPss:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def timed(function: Callable[[], object]) -> list[float]:
    seconds = []
    for _ in range(REQUESTS + 3):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds[3:]  # the first ones fill caches


def quantiles(values: list[float]) -> tuple[str, str, str]:
    return f"{np.quantile(values, 0.5):.3g}", f"{np.quantile(values, 0.95):.3g}", f"{max(values):.3g}"


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {WAIT_S} s in vain for {what}")
        time.sleep(0.05)


if __name__ == "__main__":
    from benchmarks.__main__ import keep, show

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to send one film a second")
    parser.add_argument("--burst", type=int, default=200, help="films of the burst")
    parser.add_argument("--studies", type=int, default=10_000, help="studies on the list")
    parser.add_argument("--model", type=Path, help="model file")
    chosen = parser.parse_args()
    began = time.perf_counter()
    measured = measure(chosen.minutes, chosen.burst, chosen.studies, chosen.model)
    show(measured, time.perf_counter() - began)
    print(keep("node", measured))
