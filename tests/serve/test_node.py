"""The whole node as processes: films through it, its processes killed, films that kill it."""

import gc
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from cxrtriage.cli import app
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import load_model, save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import probabilities
from cxrtriage.serve.__main__ import MODULES
from cxrtriage.serve.intake.taking import CANNOT_UNDERSTAND, SUCCESS
from cxrtriage.serve.process import GRACE_S
from cxrtriage.serve.supervise import STOP_S
from serve.peers import Node, association, data_set, dcmtk, film, free_port, send, send_bytes
from serve.results.peers_out import scp

# pynetdicom leaves sockets of aborted and refused connections to the garbage collector, and its reader
# thread may end with an error where an abort meets a rejection; both are its own and harm nobody
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{warning}")
    for warning in ("pytest.PytestUnraisableExceptionWarning", "pytest.PytestUnhandledThreadExceptionWarning")
]

QUICK = "[worker]\nattempts = 2\nbackoff_s = 0.1\nfilm_limit_s = 8\n"
PERSON = {"PatientName": "Verysecret^Name", "PatientID": "SECRETID", "PatientBirthDate": "19501231"}

# Opening the film with this Study ID kills or stops the process, as a crashing or hanging decoder in C would
POISON = """
import os, signal, sys
looking = False
def poison(event, arguments):
    global looking
    if event != "open" or looking or not str(arguments[0]).endswith(".dcm"):
        return
    looking = True
    with open(arguments[0], "rb") as file:
        head = file.read(4000)
    looking = False
    if b"CRASHING" in head:
        os.kill(os.getpid(), signal.SIGSEGV)
    while b"HANGING" in head:
        pass
if "worker" in sys.orig_argv:
    sys.addaudithook(poison)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node"), model_file, QUICK) as node:
        yield node


def results(node: Node) -> list[tuple[str, int]]:
    return node.rows(
        "SELECT sop_instance_uid, count(result.id) FROM instance "
        "LEFT JOIN result ON instance.id = result.instance_id GROUP BY sop_instance_uid"
    )


def test_phantoms_sent_by_dcmtk_are_scored_as_the_model_scores_their_files(
    node: Node, tmp_path: Path, model_file: Path
) -> None:
    make_phantoms(tmp_path, 3, 256, format="dicom", workers=1)
    paths = sorted((tmp_path / "images").iterdir())
    before = len(node.states())
    dcmtk("storescu", "127.0.0.1", node.port, *paths)
    node.wait_until(lambda: node.settled(before + 3))
    model = load_model(model_file)
    films = np.stack([prepare_film(read_film(path), model.card.recipe) for path in paths])
    found = node.rows("SELECT probability FROM result ORDER BY instance_id")
    assert [value for (value,) in found] == pytest.approx(probabilities(model, films).tolist(), abs=1e-6)


def test_what_is_not_scored_says_why_and_has_no_result(node: Node, tmp_path: Path) -> None:
    child = film(tmp_path / "child.dcm", PatientAge=None, PatientBirthDate="20200101", StudyDate="20240101")
    lateral = film(tmp_path / "lateral.dcm", ViewPosition="LL")
    before = len(node.states())
    dcmtk("dcmsend", "127.0.0.1", node.port, child, lateral)
    node.wait_until(lambda: node.settled(before + 2))
    found = node.rows("SELECT state, reason FROM job ORDER BY id DESC LIMIT 2")[::-1]
    assert [state for state, _ in found] == ["not_assessed"] * 2
    assert "age 4" in found[0][1]
    assert "view LL" in found[1][1]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return a film's bytes with a few of them changed, cut out or doubled; the header more often than the pixels."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(min(len(changed), draw.choice([600, len(changed)])))
        match draw.randrange(4):
            case 0:
                changed[at] = draw.randrange(256)
            case 1:
                del changed[at : at + draw.randrange(1, 50)]
            case 2:
                changed[at:at] = changed[at : at + draw.randrange(1, 50)]
            case _:
                changed = changed[: max(at, 200)] if draw.random() < 0.2 else changed
    return bytes(changed)


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_films_neither_crash_the_node_nor_stick_in_its_queue(node: Node, tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    before, workers = len(node.states()), node.children("worker")
    stored = 0
    with association(node.port) as peer:
        for number in range(count):
            uid = generate_uid()
            path = film(tmp_path / "a.dcm", number, side=64, SOPInstanceUID=uid, **PERSON)
            status = send_bytes(peer, mutated(data_set(path), draw), uid)
            assert status in (SUCCESS, CANNOT_UNDERSTAND, 0xA900)
            stored += status == SUCCESS
        good = film(tmp_path / "good.dcm")
        assert send(peer, good) == SUCCESS
    assert count * 0.2 < stored < count
    node.wait_until(lambda: node.settled(before + stored + 1), 300)
    assert node.states()[-1] == "done"
    assert node.children("worker") == workers
    assert not [word for word in ("Verysecret", "SECRETID", "19501231") if word in node.log.read_text()]


def test_twenty_associations_at_once_take_little_memory(node: Node, tmp_path: Path) -> None:
    """Twenty films of 18 MB at once are 360 MB; held in memory they would show."""
    padding = bytes(18_000_000)
    paths = [film(tmp_path / f"1.2.{n}", n, SOPInstanceUID=f"1.2.{n}") for n in range(20)]
    before = len(node.states())
    with ThreadPoolExecutor(20) as threads:
        statuses = list(threads.map(lambda path: _deliver(node, path, padding), paths))
    assert statuses == [SUCCESS] * 20
    (receiver,) = node.children("receiver")
    peak = next(line for line in Path(f"/proc/{receiver}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 250 * 1024
    node.wait_until(lambda: node.settled(before + 20))


def _deliver(node: Node, path: Path, padding: bytes) -> int | None:
    trailing = b"\xfc\xff\xfc\xffOB\0\0" + len(padding).to_bytes(4, "little")  # Data Set Trailing Padding (FFFC,FFFC)
    with association(node.port) as peer:
        return send_bytes(peer, data_set(path) + trailing + padding, path.name)


def test_the_check_says_in_sentences_what_answers(node: Node) -> None:
    answer = CliRunner().invoke(app, ["serve", "--home", str(node.home), "--model", str(node.model), "--check"])
    assert answer.exit_code == 0, answer.output
    for said in ("can be written", "SQLite) answers", "answers C-ECHO", "loads: googlenet, 128 px"):
        assert said in answer.output


def test_the_check_fails_where_something_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "cxrtriage.toml").write_text(f"[dicom]\nport = {free_port()}\n[store]\nmin_free_gib = 1e6\n")
    answer = CliRunner().invoke(app, ["serve", "--home", str(tmp_path), "--model", str(tmp_path / "none"), "--check"])
    assert answer.exit_code == 1
    assert "The disk is low" in answer.output
    assert "there is no model file" in answer.output
    assert "is free" in answer.output


def test_a_stopped_node_leaves_no_process_and_a_killed_one_neither(tmp_path: Path, model_file: Path) -> None:
    with Node(tmp_path, model_file, QUICK) as node:
        node.wait_until(lambda: "scoring with" in node.log.read_text())
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        node.wait_until(lambda: not node.children(*MODULES), GRACE_S + 25)
        node.start()
        node.process.send_signal(signal.SIGTERM)
        # in time even on a busy machine, though `answers` has just looked at the port and said nothing
        assert node.process.wait(STOP_S + 20) == 0
        assert not node.children(*MODULES)


def test_a_running_node_scores_with_a_second_model_in_shadow_shows_it_and_goes_back(
    tmp_path: Path, model_file: Path
) -> None:
    """Without a restart, and with every result kept."""
    torch.manual_seed(1)
    card = ModelCard(architecture="googlenet", recipe=Recipe(size=128))
    save_model(tmp_path / "other.safetensors", build_network("googlenet", 2, 128), card)
    home = tmp_path / "home"

    def command(*words: object) -> str:
        done = CliRunner().invoke(app, ["node", "model", *map(str, words), "--home", str(home)])
        assert done.exit_code == 0, done.output
        return done.output.split()[0]

    with Node(home, model_file, QUICK) as node:
        dcmtk("dcmsend", "127.0.0.1", node.port, film(tmp_path / "1.dcm", 1))
        node.wait_until(lambda: node.settled(1))
        first, worker = node.rows("SELECT sha256 FROM model_version")[0][0], node.children("worker")
        second = command("add", tmp_path / "other.safetensors")
        node.wait_until(lambda: node.settled(2))  # the open study, again
        dcmtk("dcmsend", "127.0.0.1", node.port, film(tmp_path / "2.dcm", 2))
        node.wait_until(lambda: node.settled(4))
        counted = "SELECT substr(model_sha256, 1, 12), count(*) FROM result GROUP BY model_sha256"
        assert dict(node.rows(counted)) == {first[:12]: 2, second: 2}
        assert command("activate", second) == second
        assert command("back") == first[:12]
        dcmtk("dcmsend", "127.0.0.1", node.port, film(tmp_path / "3.dcm", 3))
        node.wait_until(lambda: node.settled(5))
        assert dict(node.rows(counted)) == {first[:12]: 3, second: 2}, "the one gone back from is retired"
        assert node.children("worker") == worker


def test_films_that_crash_or_hang_a_decoder_are_parked_and_the_others_scored(tmp_path: Path, model_file: Path) -> None:
    poison = tmp_path / "poison"
    poison.mkdir()
    (poison / "sitecustomize.py").write_text(POISON)
    films = [film(tmp_path / f"{name}.dcm", StudyID=name) for name in ("CRASHING", "HANGING", "HEALTHY")]
    once = QUICK.replace("attempts = 2", "attempts = 1")
    with Node(tmp_path / "home", model_file, once, poison) as node:
        dcmtk("dcmsend", "127.0.0.1", node.port, *films)
        node.wait_until(lambda: node.settled(3), 60)
        assert node.states() == ["failed", "failed", "done"]
        reasons = [reason for (reason,) in node.rows("SELECT reason FROM job ORDER BY id")]
        assert all("died or hung over this film" in reason for reason in reasons[:2])


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_processes_killed_at_any_moment_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, model_file: Path, kills: int
) -> None:
    """A modality sends again whatever had no answer, and a PACS takes the evidence, while processes are killed."""
    draw = random.Random(kills)
    acknowledged, number = set(), 0
    with scp() as (pacs, outward), Node(tmp_path / "home", model_file, _to(outward.pacs.port)) as node:
        for kill in range(kills):
            target = ("receiver", "worker", "sender", "web", "parent")[kill % 5]
            until = time.monotonic() + draw.uniform(0.1, 1.2)
            paths = [
                film(tmp_path / f"{number + n}.dcm", n, side=512, SOPInstanceUID=f"1.2.{number + n}") for n in range(4)
            ]
            number += 4
            with ThreadPoolExecutor(1) as threads:
                sending = threads.submit(_send_until_acknowledged, node.port, paths)
                time.sleep(max(0.0, until - time.monotonic()))
                if target == "parent":
                    node.process.kill()
                    node.process.wait()
                    node.start()
                else:
                    node.kill(target)
                acknowledged |= sending.result()
        node.wait_until(lambda: node.settled(number), 120)
        assert acknowledged == {f"1.2.{n}" for n in range(number)}
        assert sorted(results(node)) == sorted((uid, 1) for uid in acknowledged)
        assert set(node.states()) == {"done"}
        assert len(list((node.home / "films").rglob("*.dcm"))) == number
        node.wait_until(lambda: node.rows("SELECT DISTINCT state FROM outbox") == [("sent",)], 120)
        assert len(set(pacs.received)) == number, "each result once, under a UID of its own, however often it was sent"
        assert CliRunner().invoke(app, ["audit", "verify", "--home", str(node.home)]).exit_code == 0
    gc.collect()  # see pytestmark


def _to(pacs_port: int) -> str:
    """Return settings under which nothing is given up, with a PACS."""
    never = QUICK.replace("attempts = 2", "attempts = 1000")
    delivery = "[delivery]\nattempts = 1000\nbackoff_s = 0.1\nlimit_s = 3\n"
    return f'{never}{delivery}[pacs]\nhost = "127.0.0.1"\nport = {pacs_port}\nae_title = "SCP"\n'


def _send_until_acknowledged(port: int, paths: list[Path]) -> set[str]:
    missing = {path.stem: path for path in paths}
    missing = {f"1.2.{name}": path for name, path in missing.items()}
    done = set()
    deadline = time.monotonic() + 120
    while len(done) < len(paths):
        assert time.monotonic() < deadline
        with association(port) as peer:
            for uid, path in missing.items():
                if not peer.is_established:
                    break
                if uid not in done and send_bytes(peer, data_set(path), uid) == SUCCESS:
                    done.add(uid)
        time.sleep(0.05)
    return done


def test_a_node_that_cannot_start_says_why_and_ends_with_status_1(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(model_file.read_bytes()[:1000])
    (tmp_path / "cxrtriage.toml").write_text(f"[dicom]\nport = {free_port()}\n")
    command = [sys.executable, "-m", "cxrtriage", "serve", "--home", tmp_path]
    done = subprocess.run(
        [*command, "--model", tmp_path / "broken.safetensors"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "not a whole safetensors file" in done.stderr
    assert "Traceback" not in done.stderr
