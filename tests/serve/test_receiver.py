"""The DICOM door, with DCMTK's programs and with peers that misbehave."""

import gc
import logging
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForProcessing
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import Engine

from cxrtriage.errors import ConfigError
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.intake.taking import (
    CANNOT_UNDERSTAND,
    OTHER_SOP_CLASS,
    OUT_OF_RESOURCES,
    SOP_CLASSES,
    SUCCESS,
    TRANSFER_SYNTAXES,
)
from cxrtriage.serve.receiver import PDU_BYTES, Receiver
from cxrtriage.serve.settings import DicomSettings
from films import ENCODERS, film_pixels, make_dicom
from serve.peers import association, data_set, dcmtk, film, free_port, send, send_bytes
from serve.test_files import counts, kept

# pynetdicom leaves sockets of aborted and refused connections to the garbage collector, and its reader
# thread may end with an error where an abort meets a rejection; both are its own and harm nobody
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{warning}")
    for warning in ("pytest.PytestUnraisableExceptionWarning", "pytest.PytestUnhandledThreadExceptionWarning")
]

Door = Callable[..., AbstractContextManager[Receiver]]


@pytest.fixture
def door(sqlite: Engine, tmp_path: Path) -> Door:
    """Opens a receiver on this machine with the settings given."""

    @contextmanager
    def opened(**settings: Any) -> Iterator[Receiver]:
        dicom = DicomSettings(**{"host": "127.0.0.1", "port": free_port(), **settings})
        with FilmStore(tmp_path / "home", sqlite, 0.001) as store, Receiver(dicom, store) as receiver:
            yield receiver
        gc.collect()  # see pytestmark

    return opened


def wait_until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_empty(receiver: Receiver) -> bool:
    return not list(receiver.store.incoming.glob("*.dcm"))


def test_dcmtk_echoes_and_stores(door: Door, sqlite: Engine, tmp_path: Path) -> None:
    films = [film(tmp_path / f"{n}.dcm", n) for n in range(3)]
    with door() as receiver:
        dcmtk("echoscu", "127.0.0.1", receiver.port)
        dcmtk("storescu", "127.0.0.1", receiver.port, *films[:2])
        dcmtk("dcmsend", "127.0.0.1", receiver.port, *films)  # two of them again
        assert is_empty(receiver)
    assert counts(sqlite) == [3, 3, 3, 3]
    assert sorted(map(data_set, kept(tmp_path / "home"))) == sorted(map(data_set, films))


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_every_transfer_syntax_is_kept_as_it_was_encoded(door: Door, tmp_path: Path, syntax: str) -> None:
    if syntax in ("1.2.840.10008.1.2.4.202",):
        pytest.skip("no encoder at hand for HTJ2K with RPCL")
    native = syntax.startswith("1.2.840.10008.1.2") and syntax not in ENCODERS
    assert native or syntax in ENCODERS
    bits = 8 if syntax.endswith("4.50") else 12
    path = make_dicom(tmp_path / "a.dcm", film_pixels(bits=bits), bits, transfer_syntax=syntax)
    with door() as receiver, association(receiver.port, syntax=syntax) as peer:
        assert send(peer, path) == SUCCESS
    (only,) = kept(tmp_path / "home")
    assert data_set(only) == data_set(path)
    assert dcmread(only).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("sop_class", [ComputedRadiographyImageStorage, DigitalXRayImageStorageForProcessing])
def test_computed_radiography_and_raw_films_are_kept_too(door: Door, tmp_path: Path, sop_class: str) -> None:
    path = film(tmp_path / "a.dcm", SOPClassUID=sop_class)
    with door() as receiver:
        dcmtk("storescu", "127.0.0.1", receiver.port, path)
    assert len(kept(tmp_path / "home")) == 1


def test_another_kind_of_image_is_not_negotiated(door: Door, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")  # CT
    with door() as receiver:
        assert dcmtk("storescu", "127.0.0.1", receiver.port, path, check=False).returncode != 0
    assert kept(tmp_path / "home") == []


def test_what_was_not_announced_and_nonsense_are_refused_with_their_status(door: Door, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm", SOPInstanceUID="1.2.3")
    with door() as receiver, association(receiver.port) as peer:
        assert send_bytes(peer, data_set(path), "1.2.3", SOP_CLASSES[0]) == OTHER_SOP_CLASS
        assert send_bytes(peer, data_set(path), "1.2.4") == CANNOT_UNDERSTAND
        assert send_bytes(peer, b"nonsense" * 100, "1.2.3") == CANNOT_UNDERSTAND
        assert send_bytes(peer, data_set(path)[:200], "1.2.3") == CANNOT_UNDERSTAND
        assert send_bytes(peer, data_set(path), "1.2.3") == SUCCESS  # the association has survived it all
        assert is_empty(receiver)
    assert len(kept(tmp_path / "home")) == 1


def test_the_same_film_over_eight_associations_at_once_is_kept_once(door: Door, sqlite: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")

    def deliver(port: int) -> int | None:
        with association(port) as peer:
            return send(peer, path)

    with door() as receiver, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(deliver, [receiver.port] * 8)) == [SUCCESS] * 8
    assert counts(sqlite) == [1, 1, 1, 1]
    assert len(kept(tmp_path / "home")) == 1


def test_a_low_disk_refuses_and_recovers_by_itself(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = film(tmp_path / "a.dcm")
    with door() as receiver, association(receiver.port) as peer:
        free = receiver.store.min_free_bytes
        receiver.store.min_free_bytes = int(shutil.disk_usage(tmp_path).free * 1.5)
        assert send(peer, path) == OUT_OF_RESOURCES
        receiver.store.min_free_bytes = free
        assert send(peer, path) == SUCCESS
    assert "with 0xA700" in caplog.text
    assert "store.min_free_gib" in caplog.text


def test_a_small_disk_is_never_filled(sqlite: Engine, tmp_path: Path) -> None:
    """Twenty films of 2 MiB for a disk of 24 MiB, of which 8 are to stay free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        films = [film(tmp_path / f"{n}.dcm", n, side=1024) for n in range(12)]
        dicom = DicomSettings(host="127.0.0.1", port=free_port())
        with FilmStore(disk, sqlite, 8 / 1024) as store, Receiver(dicom, store) as receiver:
            with association(receiver.port) as peer:
                statuses = [send(peer, path) for path in films]
                stored = statuses.count(SUCCESS)
                assert statuses == [SUCCESS] * stored + [OUT_OF_RESOURCES] * (12 - stored)
                assert 5 <= stored <= 9
                for path in kept(disk)[:4]:  # somebody makes room
                    path.unlink()
                assert send(peer, films[-1]) == SUCCESS
            assert is_empty(receiver)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_database_that_does_not_answer_is_a_refusal_too(door: Door, sqlite: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    with door() as receiver, association(receiver.port) as peer:
        with sqlite.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE patient RENAME TO away")
        assert send(peer, path) == OUT_OF_RESOURCES
        with sqlite.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO patient")
        assert send(peer, path) == SUCCESS
    assert counts(sqlite) == [1, 1, 1, 1]


def test_a_transfer_that_breaks_off_leaves_nothing(door: Door, sqlite: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm", side=1024)
    for way in ("abort", "close"):
        with door() as receiver, association(receiver.port) as peer:
            _start_sending(peer, data_set(path)[:1_000_000])
            wait_until(lambda door=receiver: not is_empty(door))
            if way == "abort":
                peer.abort()
            else:
                peer.dul.socket.socket.shutdown(socket.SHUT_RDWR)
            wait_until(lambda door=receiver: is_empty(door))
    assert counts(sqlite) == [0, 0, 0, 0]


def _start_sending(peer: Any, content: bytes) -> None:
    """Send the beginning of a C-STORE by hand: its command, and a part of its data set that says more will come."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPInstanceUID, request.AffectedSOPClassUID = "1.2.3", SOP_CLASSES[1]
    request.DataSet = BytesIO(content)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    context = next(cx for cx in peer.accepted_contexts if cx.abstract_syntax == SOP_CLASSES[1])
    parts = list(message.encode_msg(context.context_id, 2**16))
    for part in parts[:-1]:  # the last would say that it is the last
        peer.dul.send_pdu(part)


def test_a_film_above_the_limit_ends_the_association(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = film(tmp_path / "a.dcm", side=1024)  # 2 MiB
    with door(max_instance_mib=1) as receiver:
        assert dcmtk("storescu", "127.0.0.1", receiver.port, path, check=False).returncode != 0
        wait_until(lambda: is_empty(receiver))
        small = film(tmp_path / "b.dcm")
        dcmtk("storescu", "127.0.0.1", receiver.port, small)
    assert caplog.text.count("dicom.max_instance_mib = 1") == 1
    assert len(kept(tmp_path / "home")) == 1


def test_a_longer_pdu_than_agreed_is_not_read(door: Door) -> None:
    with door() as receiver, association(receiver.port) as peer:
        peer.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, PDU_BYTES * 1000))
        wait_until(lambda: not peer.is_established)


def test_silent_peers_are_disconnected_and_hold_up_nobody(door: Door, tmp_path: Path) -> None:
    with (
        door(idle_s=1) as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)) as silent,
        association(receiver.port) as halted,
    ):
        halted.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 5000) + bytes(100))  # and no more of it
        silent.sendall(b"\x01")
        dcmtk("echoscu", "127.0.0.1", receiver.port)
        wait_until(lambda: len(receiver._entity.active_associations) == 0)


def test_a_look_at_the_port_takes_no_association_away(door: Door) -> None:
    with door(max_associations=1) as receiver:
        for _ in range(3):
            socket.create_connection(("127.0.0.1", receiver.port)).close()

        def answers() -> bool:
            with association(receiver.port) as peer:
                return bool(peer.is_established)

        wait_until(answers)


def test_more_associations_than_allowed_are_rejected_for_the_time_being(door: Door) -> None:
    with door(max_associations=2) as receiver:
        with association(receiver.port) as one, association(receiver.port) as two, association(receiver.port) as three:
            assert (one.is_established, two.is_established, three.is_rejected) == (True, True, True)
            assert three.acceptor.primitive.result == 0x02  # transient
        wait_until(lambda: len(receiver._entity.active_associations) == 0)
        with association(receiver.port) as again:
            assert again.is_established


def test_only_callers_and_addresses_that_are_named_may_send(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with door(allow_ae=("XR1",), allow_address=("127.0.0.0/8",)) as receiver:
        dcmtk("echoscu", "-aet", "XR1", "127.0.0.1", receiver.port)
        assert dcmtk("echoscu", "-aet", "XR2", "127.0.0.1", receiver.port, check=False).returncode != 0
    with door(allow_address=("10.0.0.0/8", "::1")) as receiver:
        assert dcmtk("echoscu", "127.0.0.1", receiver.port, check=False).returncode != 0
    assert "refused a connection from 127.0.0.1" in caplog.text


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of our own for each end, and one of a stranger."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("node", "peer", "stranger"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        made = subprocess.run(
            [*command, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"], capture_output=True
        )
        assert made.returncode == 0, made.stderr
    return folder


def test_tls_takes_peers_with_a_certificate_and_no_others(door: Door, certificates: Path, tmp_path: Path) -> None:
    path = film(tmp_path / "a.dcm")
    tls = {"tls_certificate": "node.pem", "tls_key": "node.key", "tls_ca": "peer.pem"}
    with door(**{key: certificates / name for key, name in tls.items()}) as receiver:

        def storescu(name: str) -> int:
            pair = [certificates / f"{name}.key", certificates / f"{name}.pem"]
            arguments = ["+tls", *pair, "+cf", certificates / "node.pem", "127.0.0.1", receiver.port, path]
            return dcmtk("storescu", *arguments, check=False).returncode

        # one that never shakes hands is not waited for by the others
        with socket.create_connection(("127.0.0.1", receiver.port)):
            assert storescu("peer") == 0
        assert storescu("stranger") != 0
        assert dcmtk("storescu", "127.0.0.1", receiver.port, path, check=False).returncode != 0  # no TLS at all
        assert storescu("peer") == 0
    assert len(kept(tmp_path / "home")) == 1


def test_tls_files_that_do_not_fit_are_named(tmp_path: Path, certificates: Path, sqlite: Engine) -> None:
    wrong = DicomSettings(tls_certificate=certificates / "node.pem", tls_key=certificates / "peer.key")
    with pytest.raises(ConfigError, match=r"TLS files of \[dicom\]"):
        Receiver(wrong, FilmStore(tmp_path, sqlite, 1))


def test_no_name_birth_date_or_patient_number_is_logged(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    person = {"PatientName": "Verysecret^Name", "PatientID": "SECRETID", "PatientBirthDate": "19501231"}
    path = film(tmp_path / "a.dcm", SOPInstanceUID="1.2.3", **person)
    with door() as receiver, association(receiver.port) as peer:
        assert send(peer, path) == SUCCESS
        for uid, content in (("1.2.4", data_set(path)), ("1.2.3", data_set(path).replace(b"1950", b"xxxx"))):
            send_bytes(peer, content, uid)
    everything = caplog.text + "".join(capfd.readouterr())
    assert "kept instance 1.2.3" in caplog.text
    assert not [word for word in ("Verysecret", "SECRETID", "19501231") if word in everything]


def test_a_port_in_use_is_told(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrtriage.serve.receiver.BIND_S", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1 port"),
        door(port=other.getsockname()[1]),
    ):
        pass


def test_the_receiver_loads_no_torch() -> None:
    code = "import sys, cxrtriage.serve.receiver; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
