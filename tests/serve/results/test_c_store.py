"""Evidence to a PACS by C-STORE: only what the PACS says it has counts as sent."""

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom.sop_class import SecondaryCaptureImageStorage  # type: ignore[attr-defined]

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.results.c_store import store
from cxrtriage.serve.results.outbox import Context, Refused
from cxrtriage.serve.results.overlay import make_overlay
from cxrtriage.serve.results.structured_report import make_structured_report
from cxrtriage.serve.settings import NodeSettings
from serve.peers import dcmtk, free_port
from serve.results.orthanc import Orthanc
from serve.results.peers_out import certificate, scp, sends_to
from serve.results.results import Home, written

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of pynetdicom's sockets


@pytest.fixture
def report(home: Home) -> Dataset:
    return make_structured_report(home.facts(home.result(home.film())))


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0x0111, 0x0107, 0x0116])
def test_success_and_warnings_are_sent(report: Dataset, status: int) -> None:
    with scp(status) as (peer, settings):
        store(report, settings)
    assert peer.received == [report.SOPInstanceUID]


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0213])
def test_what_time_may_mend_is_tried_again(report: Dataset, status: int) -> None:
    with scp(status) as (_, settings), pytest.raises(DeliveryError, match=f"answered {status:04X}H") as raised:
        store(report, settings)
    assert not isinstance(raised.value, Refused)


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0124, 0xFE00, 0x0999])
def test_refusals_and_what_nobody_knows_are_parked_with_their_status(report: Dataset, status: int) -> None:
    with scp(status) as (_, settings), pytest.raises(Refused, match=f"answered {status:04X}H"):
        store(report, settings)


def test_a_meaning_stands_beside_the_status(report: Dataset) -> None:
    with scp(0xA700) as (_, settings), pytest.raises(DeliveryError, match="out of resources"):
        store(report, settings)


def test_a_pacs_that_takes_no_such_objects_is_said_so(report: Dataset) -> None:
    with (
        scp(sop_classes=(SecondaryCaptureImageStorage,)) as (_, settings),
        pytest.raises(Refused, match="does not take Comprehensive 3D SR"),
    ):
        store(report, settings)


def test_a_pacs_that_rejects_our_name_is_quoted(report: Dataset) -> None:
    with scp() as (peer, settings):
        peer.entity.require_called_aet = True
        wrong = settings.model_copy(update={"pacs": settings.pacs.model_copy(update={"ae_title": "OTHER"})})
        with pytest.raises(DeliveryError, match=r"rejected the association .*Called AE title not recognised"):
            store(report, wrong)


def test_nobody_there_and_nobody_answering_are_tried_again(report: Dataset) -> None:
    with pytest.raises(DeliveryError, match="cannot be reached"):
        store(report, sends_to(free_port()))
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        settings = sends_to(mute.getsockname()[1])
        quick = settings.model_copy(update={"delivery": settings.delivery.model_copy(update={"limit_s": 0.5})})
        with pytest.raises(DeliveryError) as raised:
            store(report, quick)
    assert not isinstance(raised.value, Refused)


def test_a_destination_taken_out_of_the_settings_is_refused(report: Dataset) -> None:
    with pytest.raises(Refused, match=r"no \[pacs\] host"):
        store(report, NodeSettings())


def test_tls_is_spoken_to_who_shows_a_known_certificate_and_to_nobody_else(report: Dataset, tmp_path: Path) -> None:
    own, key = certificate(tmp_path, "pacs")
    other, _ = certificate(tmp_path, "other")
    node, node_key = certificate(tmp_path, "node")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(node))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(own, key)
    ours = {"tls_certificate": node, "tls_key": node_key}
    with scp(tls=server, tls_ca=own, **ours) as (peer, settings):
        store(report, settings)
        assert len(peer.received) == 1
        for pacs in ({"tls_ca": other, **ours}, {}):
            wrong = sends_to(settings.pacs.port, **pacs)
            with pytest.raises(DeliveryError):
                store(report, wrong)
        assert len(peer.received) == 1
    with pytest.raises(Refused, match=r"certificates of \[pacs\] cannot be used: No such file"):
        store(report, sends_to(1, tls_ca=tmp_path / "none.pem"))


def test_orthanc_shows_report_and_overlay_in_the_films_study_and_holds_each_once(
    home: Home, orthanc: Orthanc, tmp_path: Path
) -> None:
    facts = home.facts(home.result(home.film(AccessionNumber="A5", SpecificCharacterSet="ISO_IR 100",
                                             PatientName="Müller^Jörg", StudyDate="20261118")))  # fmt: skip
    dcmtk("storescu", "-aec", "ORTHANC", "127.0.0.1", orthanc.port, facts.film)
    report = make_structured_report(facts)
    overlay = make_overlay(facts, Context(home.path, NodeSettings(), home.engine))
    for made in (report, overlay, report):
        store(made, orthanc.as_pacs())
    found = orthanc.find(StudyInstanceUID=facts.study_instance_uid)
    assert sorted(tags["Modality"] for tags in found) == ["DX", "OT", "SR"]
    assert {(tags["PatientName"], tags["AccessionNumber"]) for tags in found} == {("Müller^Jörg", "A5")}
    (study,) = (s for s in orthanc.get("/studies?expand")
                if s["MainDicomTags"]["StudyInstanceUID"] == facts.study_instance_uid)  # fmt: skip
    assert len(study["Series"]) == 3
    (tmp_path / "sr.dcm").write_bytes(orthanc.file(SOPInstanceUID=report.SOPInstanceUID))
    held = dcmread(tmp_path / "sr.dcm")
    assert held.ContentSequence == dcmread(written(report, tmp_path / "ours.dcm")).ContentSequence
    assert '"Probability")="0.75"' in dcmtk("dsrdump", "+U8", tmp_path / "sr.dcm").stdout
    another = make_structured_report(replace(facts, model_sha256="c" * 64))
    store(another, orthanc.as_pacs())
    assert len(orthanc.find(StudyInstanceUID=facts.study_instance_uid, Modality="SR")) == 2
