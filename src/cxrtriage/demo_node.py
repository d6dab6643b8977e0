"""The demo's second half: a node that receives phantoms over DICOM, and a picture of its reading list.

The node is the ordinary `cxrtriage serve` in a process of its own; the films reach it by C-STORE, as from a modality.
"""

import logging
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.presentation import build_context

from cxrtriage.data.phantom import make_phantoms
from cxrtriage.errors import CxrTriageError
from cxrtriage.serve.database import now, open_database
from cxrtriage.serve.settings import NodeSettings, commented_toml, load_settings
from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE

logger = logging.getLogger("cxrtriage")

SIZE = 1024
MIN_FREE_GIB = 0.2
START_S, DRAIN_S, STOP_S = 90.0, 120.0, 40.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
READER, PASSWORD = "demo", "a demo has no secrets"
WINDOW = "1440,1000"


class DemoError(CxrTriageError):
    """The demo's node did not do what it should."""


@dataclass(frozen=True, slots=True)
class NodeDemo:
    """What came out: how many studies the node listed, the page, and its picture if there is a browser."""

    studies: int
    page: Path
    picture: Path | None


def run_node_demo(model: Path, out: Path, *, studies: int = 20, seed: int = 0) -> NodeDemo:
    """Send phantoms through a node and save its reading list.

    Parameters
    ----------
    model : model file
    out : folder for the films, the node's HOME and the pictures
    studies : how many phantoms to send
    seed : of the phantoms

    Raises
    ------
    DemoError
        If the node does not start, does not take a film or does not finish.
    """
    films = make_phantoms(out / "node-films", studies, SIZE, format="dicom", seed=seed + 1).parent / "images"
    home = out / "node"
    shutil.rmtree(home, ignore_errors=True)
    with _running(home, model) as (settings, url):
        expected = _send(sorted(films.iterdir()), settings.dicom.port)
        engine = open_database(settings.database.url)
        with engine.begin() as connection:
            secret = accounts.invite(connection, READER, "reader")
        accounts.accept_invitation(engine, secret, PASSWORD)
        cookie = accounts.sign_in(engine, READER, PASSWORD, "127.0.0.1", now())
        engine.dispose()
        with httpx2.Client(base_url=url, cookies={COOKIE: cookie}, timeout=30) as client:
            listed = _drained(client, expected)
            page = out / "reading-list.html"
            page.write_text(_self_contained(client, client.get("/").text), encoding="utf-8")
    return NodeDemo(listed, page, _photographed(page, out / "reading-list.png"))


@contextmanager
def _running(home: Path, model: Path) -> Iterator[tuple[NodeSettings, str]]:
    """Run a node on free ports of this machine."""
    home.mkdir(parents=True)
    ports = [_free_port() for _ in range(2)]
    dicom, web = {"host": "127.0.0.1", "port": ports[0]}, {"port": ports[1]}
    chosen = {"dicom": dicom, "web": web, "store": {"min_free_gib": MIN_FREE_GIB}}
    (home / "cxrtriage.toml").write_text(commented_toml(NodeSettings.model_validate(chosen)), encoding="utf-8")
    settings = load_settings(home)
    log = home / "log.txt"
    command = [sys.executable, "-m", "cxrtriage", "serve", "--home", str(home), "--model", str(model)]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        _wait_until_ready(settings.web.base_url, process, log)
        yield settings, settings.web.base_url
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    problems = "it does not answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx2.get(f"{url}/readyz", timeout=5)
            if answer.status_code == 200:
                return
            problems = " ".join(answer.json()["problems"])
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise DemoError(f"the demo's node did not start: {problems}. See {log}.")


def _send(films: Sequence[Path], port: int) -> int:
    """Send films as a modality would; return how many studies they are."""
    entity = AE("DEMO")
    headers = [dcmread(film, stop_before_pixels=True) for film in films]
    entity.requested_contexts = [
        build_context(sop_class, syntax)
        for sop_class, syntax in {(header.SOPClassUID, header.file_meta.TransferSyntaxUID) for header in headers}
    ]
    association = entity.associate("127.0.0.1", port)
    if not association.is_established:
        raise DemoError("the demo's node refused the association.")
    for film in films:
        status = association.send_c_store(film)
        if status.get("Status") != 0:
            raise DemoError(f"the demo's node did not take {film.name}: status {status.get('Status', 0):04X}.")
    association.release()
    return len({header.StudyInstanceUID for header in headers})


def _drained(client: httpx2.Client, studies: int) -> int:
    """Wait until every study has been assessed or set aside; return how many are listed."""
    deadline = time.monotonic() + DRAIN_S
    while True:
        found = client.get("/api/worklist", params={"limit": 500}).json()
        if found["total"] >= studies and all(study["state"] != "waiting" for study in found["studies"]):
            return int(found["total"])
        if time.monotonic() > deadline:
            raise DemoError(f"the demo's node listed {found['total']} of {studies} studies in {DRAIN_S:.0f} s.")
        time.sleep(0.3)


def _self_contained(client: httpx2.Client, page: str) -> str:
    """Return a page with its style inside and without scripts, so that it can be looked at as a file."""
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)
    return re.sub(
        r'<link[^>]*href="([^"]+\.css[^"]*)"[^>]*>', lambda link: f"<style>{client.get(link[1]).text}</style>", page
    )


def _photographed(page: Path, picture: Path) -> Path | None:
    """Take a picture of a page with the browser that is there; None without one."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    command = [browser, *flags, f"--window-size={WINDOW}", f"--screenshot={picture}", page.absolute().as_uri()]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    return picture if picture.exists() else None


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
