"""STOW-RS over a real server, with dicomweb-client as the peer, DCMTK's files and bodies that are wrong."""

import http.client
import json
import logging
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from dicomweb_client import DICOMwebClient
from fastapi import FastAPI
from pydicom import Dataset, dcmread
from pydicom.uid import JPEGLosslessSV1
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from cxrtriage.serve.database import reading
from cxrtriage.serve.settings import DicomSettings, NodeSettings, StoreSettings
from cxrtriage.serve.tables import audit, instance
from cxrtriage.serve.web import accounts, stow
from cxrtriage.serve.web.access import Visitor
from cxrtriage.serve.web.app import create_app
from serve.peers import dcmtk, film
from serve.test_files import counts, kept

BOUNDARY = "simple-boundary"
TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@dataclass
class Door:
    """A running server."""

    app: FastAPI
    port: int
    token: dict[str, str]

    @property
    def client(self) -> DICOMwebClient:
        return DICOMwebClient(f"http://127.0.0.1:{self.port}/dicom-web", headers=self.token)

    def head(self, length: int) -> bytes:
        """Return how a request begins, for peers that then do it wrong."""
        fields = {"Host": "x", "Content-Type": TYPE, "Content-Length": length, **self.token}
        lines = [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join(["POST /dicom-web/studies HTTP/1.1", *lines, "\r\n"]).encode()

    def post(
        self, body: Any, path: str = "/dicom-web/studies", content_type: str = TYPE, **headers: str
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, body, {"Content-Type": content_type, **self.token, **headers})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content else None
        finally:
            connection.close()


@pytest.fixture
def door(sqlite: Engine, tmp_path: Path) -> Callable[..., AbstractContextManager[Door]]:
    @contextmanager
    def opened(min_free_gib: float = 0.001, **dicom: Any) -> Iterator[Door]:
        settings = NodeSettings(dicom=DicomSettings(**dicom), store=StoreSettings(min_free_gib=min_free_gib))
        app = create_app(tmp_path / "home", settings, sqlite)
        with sqlite.begin() as connection:
            secret = accounts.add_token(connection, f"room-{secrets.token_hex(2)}", "reader")
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=[[listening]])
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Door(app, listening.getsockname()[1], {"Authorization": f"Bearer {secret}"})
        finally:
            server.should_exit = True
            thread.join()
            listening.close()

    return opened


def body_of(*contents: bytes, content_type: str = "application/dicom") -> bytes:
    parts = [f"--{BOUNDARY}\r\nContent-Type: {content_type}\r\n\r\n".encode() + content for content in contents]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def reasons(answer: dict[str, Any]) -> list[int]:
    return [
        item["00081197"]["Value"][0]
        for tag in ("00081198", "0008119A")
        for item in answer.get(tag, {}).get("Value", [])
    ]


def is_empty(home: Path) -> bool:
    return not list((home / "incoming").glob("*/*.dcm"))


def test_dicomweb_client_stores_films(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    paths = [film(tmp_path / f"{n}.dcm", n) for n in range(3)]
    with door() as opened:
        answer = opened.client.store_instances([dcmread(path) for path in paths])
        assert is_empty(tmp_path / "home")
    assert {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence} == {
        dcmread(path).SOPInstanceUID for path in paths
    }
    assert "FailedSOPSequence" not in answer
    assert counts(sqlite) == [3, 3, 3, 3]
    assert {dcmread(path).PixelData for path in kept(tmp_path / "home")} == {dcmread(path).PixelData for path in paths}
    with reading(sqlite) as connection:
        assert set(connection.execute(select(instance.c.calling_ae)).scalars()) == {"STOW"}
        films = audit.c.event == "transferred"
        rows = connection.execute(select(audit.c.actor, audit.c.address).where(films)).all()
    assert len(rows) == 3
    assert rows[0].actor.startswith("room-")
    assert rows[0].address == "127.0.0.1"
    assert not list((tmp_path / "home" / "incoming").iterdir())  # the server has gone, and with it its folder


def test_a_file_that_dcmtk_compressed_is_kept_byte_for_byte_once(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    dcmtk("dcmcjpeg", "+e1", film(tmp_path / "a.dcm"), tmp_path / "b.dcm")
    content = (tmp_path / "b.dcm").read_bytes()
    with door() as opened:
        answers = [opened.post(body_of(content)) for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    (only,) = kept(tmp_path / "home")
    assert only.read_bytes() == content
    assert dcmread(only).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert (
        Dataset.from_json(answers[0][1]).ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        == dcmread(only).SOPInstanceUID
    )


def test_in_a_study_only_its_films_are_taken(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    inside, outside = film(tmp_path / "a.dcm", StudyInstanceUID="1.2.3"), film(tmp_path / "b.dcm")
    with door() as opened:
        answer = opened.client.store_instances([dcmread(inside), dcmread(outside)], study_instance_uid="1.2.3")
        status, alone = opened.post(body_of(outside.read_bytes()), "/dicom-web/studies/1.2.3")
        assert opened.post(body_of(outside.read_bytes()), "/dicom-web/studies/1.2.x")[0] == 400
    (failed,) = answer.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (dcmread(outside).SOPInstanceUID, 0x0110)
    assert len(answer.ReferencedSOPSequence) == 1
    assert (status, reasons(alone)) == (409, [0x0110])
    assert counts(sqlite)[1] == 1


@pytest.mark.parametrize(
    ("tags", "reason"),
    [({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, 0x0122), ({"StudyInstanceUID": None}, 0xC000)],
)
def test_what_is_no_film_is_refused_with_its_reason(
    door: Any, sqlite: Engine, tmp_path: Path, tags: dict[str, Any], reason: int
) -> None:
    path = film(tmp_path / "a.dcm")
    header = dcmread(path)
    for keyword, value in tags.items():
        header.pop(keyword)
        if value:
            setattr(header, keyword, value)
            header.file_meta.MediaStorageSOPClassUID = value
    header.save_as(path)
    with door() as opened:
        status, answer = opened.post(body_of(path.read_bytes(), film(tmp_path / "b.dcm").read_bytes()))
        assert opened.post(body_of(path.read_bytes()))[0] == 409
    assert (status, reasons(answer)) == (202, [reason])
    assert counts(sqlite)[1] == 1


def test_a_data_set_of_another_class_than_announced_is_refused(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    content = film(tmp_path / "a.dcm").read_bytes()
    other = content.replace(b"1.2.840.10008.5.1.4.1.1.1.1\0", b"1.2.840.10008.5.1.4.1.1.1\0\0\0", 1)
    with door() as opened:
        status, answer = opened.post(body_of(other))
    assert other != content
    assert (status, reasons(answer)) == (409, [0xA900])


def test_what_is_no_dicom_is_refused_without_a_uid(door: Any, tmp_path: Path) -> None:
    with door() as opened:
        status, answer = opened.post(body_of(b"no film", b""))
        other_type = opened.post(body_of(film(tmp_path / "a.dcm").read_bytes(), content_type="application/dicom+json"))
    assert status == other_type[0] == 409
    assert [item["00081197"]["Value"] for item in answer["0008119A"]["Value"]] == [[0xC000], [0xC000]]
    assert "00081199" not in answer


def test_too_large_an_instance_is_refused_and_the_others_are_kept(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    large, small = film(tmp_path / "large.dcm", side=800), film(tmp_path / "small.dcm")
    assert large.stat().st_size > 2**20 > small.stat().st_size
    with door(max_instance_mib=1) as opened:
        assert opened.post(body_of(large.read_bytes()))[0] == 413
        status, answer = opened.post(body_of(large.read_bytes(), small.read_bytes()))
        assert is_empty(tmp_path / "home")
    assert status == 202
    assert answer["00081198"]["Value"][0]["00081155"]["Value"] == [dcmread(large).SOPInstanceUID]
    assert counts(sqlite)[1] == 1


def test_films_are_refused_while_the_disk_is_low_and_taken_after(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    body = body_of(film(tmp_path / "a.dcm").read_bytes())
    with door() as opened:
        opened.app.state.film_store.min_free_bytes = 2**60
        status, answer = opened.post(body)
        assert is_empty(tmp_path / "home")
        opened.app.state.film_store.min_free_bytes = 0
        assert opened.post(body)[0] == 200
    assert (status, reasons(answer)) == (507, [0xA700])


def test_films_are_refused_while_the_database_fails(
    door: Any, sqlite: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = body_of(film(tmp_path / "a.dcm").read_bytes())

    def fails(*_: object, **__: object) -> None:
        raise OperationalError("", {}, Exception())

    with door() as opened:
        for place in ("cxrtriage.serve.files._insert", "cxrtriage.serve.audit.record"):
            with monkeypatch.context() as patched:
                patched.setattr(place, fails)
                status, answer = opened.post(body)
                assert (status, reasons(answer)) == (503, [0xA700])
        assert opened.post(body)[0] == 200
    assert counts(sqlite)[1] == 1


@pytest.mark.parametrize(
    ("content_type", "headers", "status"),
    [
        ("application/dicom", {}, 415),
        (f"multipart/form-data; boundary={BOUNDARY}", {}, 415),
        (TYPE.replace("dicom", "dicom+json"), {}, 415),
        (TYPE, {"Content-Encoding": "gzip"}, 415),
        ('multipart/related; type="application/dicom"', {}, 400),
        (f"{TYPE}{'x' * 70}", {}, 400),
        (TYPE, {"Accept": "application/dicom+xml"}, 406),
        (TYPE.replace(BOUNDARY, f'"{BOUNDARY}"'), {"Accept": "application/dicom+json"}, 200),
        (f"Multipart/Related; boundary={BOUNDARY}", {}, 200),
    ],
)
def test_what_is_sent_and_wanted_in_another_form_is_refused(
    door: Any, tmp_path: Path, content_type: str, headers: dict[str, str], status: int
) -> None:
    with door() as opened:
        body = body_of(film(tmp_path / "a.dcm").read_bytes())
        assert opened.post(body, content_type=content_type, **headers)[0] == status


def test_a_body_cut_short_keeps_what_came_whole_and_nothing_else(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    contents = [film(tmp_path / f"{n}.dcm", n).read_bytes() for n in range(2)]
    body = body_of(*contents)
    with door() as opened:
        assert opened.post(b"")[0] == 400
        assert opened.post(body_of())[0] == 400
        assert opened.post(b"no parts at all")[0] == 400
        status, answer = opened.post(body[:-1000])
        assert status == 400
        assert "1 instances that came whole before are kept" in answer["detail"]
        with socket.create_connection(("127.0.0.1", opened.port)) as peer:  # one that hangs up in mid-transfer
            head = opened.head(len(body))
            peer.sendall(head + body[:-1000])
        deadline = time.monotonic() + 120
        while not is_empty(tmp_path / "home"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert counts(sqlite)[1] == 1


def test_a_sender_that_falls_silent_is_sent_away(door: Any, tmp_path: Path) -> None:
    body = body_of(film(tmp_path / "a.dcm").read_bytes())
    with door(idle_s=0.3) as opened, socket.create_connection(("127.0.0.1", opened.port), 10) as peer:
        head = opened.head(len(body))
        peer.sendall(head + body[:1000])
        assert peer.recv(1000).startswith(b"HTTP/1.1 408")
        assert is_empty(tmp_path / "home")


def test_without_a_token_nothing_is_taken(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    with door() as opened:
        body = body_of(film(tmp_path / "a.dcm").read_bytes())
        assert opened.post(body, Authorization="Bearer nonsense")[0] == 401
        assert opened.post(body, Authorization="")[0] == 401
    assert counts(sqlite)[1] == 0


def test_a_signed_in_browser_may_not_send(door: Any, tmp_path: Path) -> None:
    reader = Visitor(name="reader", role="reader", csrf_token="x", address="", token=False)
    with door() as opened:
        opened.app.dependency_overrides[stow.MAY_SEND] = lambda: reader
        assert opened.post(body_of(film(tmp_path / "a.dcm").read_bytes()))[0] == 403


def test_no_name_or_number_of_a_patient_is_logged_or_answered(
    door: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secret = {"PatientName": "Verysecret^Name", "PatientID": "SECRETID", "PatientBirthDate": "19501231"}
    good = film(tmp_path / "a.dcm", **secret).read_bytes()
    bad = good.replace(b"1.2.840.10008.5.1.4.1.1.1.1\0", b"1.2.840.10008.5.1.4.1.1.1\0\0\0", 1)
    with door() as opened:
        answer = str(opened.post(body_of(good, bad, good[:700])))
    everything = (caplog.text + answer).upper()
    assert "KEPT INSTANCE" in everything
    assert not [word for word in ("SECRET", "19501231") if word in everything]


def test_the_same_film_from_twenty_at_once_is_kept_once(door: Any, sqlite: Engine, tmp_path: Path) -> None:
    body = body_of(film(tmp_path / "a.dcm").read_bytes())
    with door() as opened, ThreadPoolExecutor(20) as threads:
        statuses = list(threads.map(lambda _: opened.post(body)[0], range(20)))
    assert statuses == [200] * 20
    assert counts(sqlite) == [1, 1, 1, 1]


def test_twenty_films_of_eighteen_megabytes_at_once_take_under_a_hundred_of_memory(
    door: Any, sqlite: Engine, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.dcm", side=3000)
    start, end = body_of(path.read_bytes()).split(path.read_bytes())
    (tmp_path / "body").write_bytes(start)
    with (tmp_path / "body").open("ab") as body, path.open("rb") as content:
        shutil.copyfileobj(content, body)
        body.write(end)

    def send(opened: Door) -> int:
        with (tmp_path / "body").open("rb") as body:  # sent in pieces of 8 KiB
            size = (tmp_path / "body").stat().st_size
            return opened.post(body, **{"Content-Length": str(size)})[0]

    with door() as opened:
        send(opened)  # what is loaded at the first request is not counted
        before = memory()
        with ThreadPoolExecutor(20) as threads, highest_memory() as highest:
            assert list(threads.map(send, [opened] * 20)) == [200] * 20
    assert counts(sqlite)[1] == 1
    assert highest[0] - before < 100 * 2**20


def memory() -> int:
    """Return the memory that this process holds, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def highest_memory() -> Iterator[list[int]]:
    """Watch this process' memory; the list's only element is the highest seen."""
    highest, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], memory())

    thread = threading.Thread(target=watch)
    thread.start()
    yield highest
    done.set()
    thread.join()
