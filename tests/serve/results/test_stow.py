"""Evidence to a PACS by STOW-RS: what its answer says of the object decides, not that there was an answer."""

import json
import socket

import pytest
from pydicom import Dataset

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.results.outbox import Refused
from cxrtriage.serve.results.stow import TOKEN_VARIABLE, encoded, store
from cxrtriage.serve.results.structured_report import make_structured_report
from cxrtriage.serve.settings import DeliverySettings, NodeSettings, StowSettings
from serve.peers import free_port
from serve.results.orthanc import Orthanc
from serve.results.peers_out import http_server
from serve.results.results import Home


@pytest.fixture
def report(home: Home) -> Dataset:
    return make_structured_report(home.facts(home.result(home.film())))


def failed(*reasons: int) -> bytes:
    items = [{"00081197": {"vr": "US", "Value": [reason]}} for reason in reasons]
    return json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode()


STORED = json.dumps({"00081199": {"vr": "SQ", "Value": [{}]}}).encode()


def settings(url: str) -> NodeSettings:
    return NodeSettings(stow=StowSettings(url=url), delivery=DeliverySettings(limit_s=3))


def test_orthanc_takes_it_and_holds_it_once(home: Home, orthanc: Orthanc) -> None:
    facts = home.facts(home.result(home.film()))
    for _ in range(2):
        store(make_structured_report(facts), orthanc.as_stow())
    (found,) = orthanc.find(StudyInstanceUID=facts.study_instance_uid)
    assert (found["Modality"], found["PatientID"]) == ("SR", facts.patient.patient_id)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, STORED),
        (200, b""),
        (200, b"<NativeDicomModel/>"),
        (202, STORED),
        (202, failed(0xB000)),
        (409, failed(0x0111)),
    ],
)
def test_stored_and_stored_with_a_warning_are_sent(report: Dataset, status: int, body: bytes) -> None:
    with http_server(status, body) as (url, received):
        store(report, settings(url + "/dicom-web/"))
    ((path, headers, content),) = received
    assert path == "/dicom-web/studies"
    assert encoded(report) in content
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (503, b""), (429, b""), (409, failed(0xA700)), (202, failed(0x0110)), (200, failed(0xA700))],
)
def test_what_time_may_mend_is_tried_again(report: Dataset, status: int, body: bytes) -> None:
    with http_server(status, body) as (url, _), pytest.raises(DeliveryError) as raised:
        store(report, settings(url))
    assert not isinstance(raised.value, Refused)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (409, failed(0xC000), "answered C000H"),
        (202, failed(0xA900), "answered A900H"),
        (409, b"{}", "409 without a reason"),
        (200, failed(0xB000, 0xC000), "answered C000H"),
        (400, b"", "answered 400"),
        (401, b"", "answered 401"),
        (404, b"", "answered 404"),
        (302, b"", "answered 302"),
        (204, b"", "answered 204"),
    ],
)
def test_refusals_are_parked_with_their_status(report: Dataset, status: int, body: bytes, told: str) -> None:
    with http_server(status, body) as (url, _), pytest.raises(Refused, match=told):
        store(report, settings(url))


def test_a_token_from_the_environment_is_shown_and_never_told(report: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    with http_server(403) as (url, received), pytest.raises(Refused) as raised:
        store(report, settings(url))
    assert received[0][1]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(raised.value)


def test_nobody_there_and_nobody_answering_are_tried_again(report: Dataset) -> None:
    with pytest.raises(DeliveryError, match="cannot be reached") as raised:
        store(report, settings(f"http://user:s3cret@127.0.0.1:{free_port()}"))
    assert "s3cret" not in str(raised.value)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(DeliveryError, match="ReadTimeout"):
            store(report, settings(f"http://127.0.0.1:{mute.getsockname()[1]}"))


@pytest.mark.parametrize("url", ["pacs/dicom-web", "ftp://pacs", "http://pacs:port", ""])
def test_what_is_no_url_is_refused(report: Dataset, url: str) -> None:
    with pytest.raises(Refused, match="stow"):
        store(report, settings(url))
