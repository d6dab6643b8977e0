"""Audit rows as DICOM PS3.15 A.5 has them, and the commands that show them."""

from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import typer
from pydicom.sr.codedict import codes
from sqlalchemy import delete, text
from typer.testing import CliRunner

from cxrtriage.cli import auditing
from cxrtriage.serve.audit import EVENTS, Head, record
from cxrtriage.serve.audit_message import EVENT_IDS, EVENT_TYPES, SETTING_CHANGED, as_dicom_xml
from cxrtriage.serve.database import now, open_database
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.settings import load_settings
from cxrtriage.serve.tables import audit as table

# PS3.15 A.5.1: which elements may stand in which, and the attributes that each needs
CONTENT = {
    "AuditMessage": (
        ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"],
        set(),
    ),
    "EventIdentification": (
        ["EventID", "EventTypeCode"],
        {"EventActionCode", "EventDateTime", "EventOutcomeIndicator"},
    ),
    "EventID": ([], {"csd-code", "codeSystemName", "originalText"}),
    "EventTypeCode": ([], {"csd-code", "codeSystemName", "originalText"}),
    "ActiveParticipant": ([], {"UserID", "UserIsRequestor"}),
    "AuditSourceIdentification": (["AuditSourceTypeCode"], {"AuditSourceID"}),
    "AuditSourceTypeCode": ([], {"csd-code"}),
    "ParticipantObjectIdentification": (
        ["ParticipantObjectIDTypeCode", "ParticipantObjectName", "ParticipantObjectDetail"],
        {"ParticipantObjectID"},
    ),
    "ParticipantObjectIDTypeCode": ([], {"csd-code", "codeSystemName", "originalText"}),
    "ParticipantObjectName": ([], set()),
    "ParticipantObjectDetail": ([], {"type", "value"}),
}


def row(event: str, **values: object) -> SimpleNamespace:
    common = {
        "id": 7, "at": now(), "event": event, "action": "E", "outcome": 0, "actor": "ann <&> \"bob\"",
        "address": "10.1.2.3", "study_instance_uid": "1.2.3", "sha256": "f",
        "detail": '{"why": "<\\u0000>", "films": 2}',
    }  # fmt: skip
    return SimpleNamespace(**{**common, **values})


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("study_instance_uid", ["1.2.3", ""])
def test_every_event_becomes_a_message_of_the_standards_shape(event: str, study_instance_uid: str) -> None:
    message = ElementTree.fromstring(as_dicom_xml(row(event, study_instance_uid=study_instance_uid)))
    for element in message.iter():
        children, attributes = CONTENT[element.tag]
        assert [child.tag for child in element] == sorted((c.tag for c in element), key=children.index)
        assert attributes <= set(element.attrib)
    for needed in ("EventIdentification/EventID", "ActiveParticipant", "AuditSourceIdentification"):
        assert message.find(needed) is not None


def test_codes_are_those_of_the_standard() -> None:
    used = {*EVENT_IDS.values(), *EVENT_TYPES.values(), *SETTING_CHANGED}
    known = {(code.value, code.meaning) for group in (codes.cid400, codes.cid401) for code in group.concepts.values()}
    assert used <= known
    assert set(EVENT_IDS) == set(EVENTS)


def test_a_message_tells_who_where_when_and_what() -> None:
    moment = now()
    message = ElementTree.fromstring(as_dicom_xml(row("sign_in", at=moment, outcome=4)))
    event = message.find("EventIdentification")
    person = message.find("ActiveParticipant")
    about = message.find("ParticipantObjectIdentification")
    assert event is not None
    assert person is not None
    assert about is not None
    assert event.attrib["EventDateTime"] == moment.isoformat(timespec="milliseconds")
    assert event.attrib["EventOutcomeIndicator"] == "4"
    assert (person.attrib["UserID"], person.attrib["NetworkAccessPointID"]) == ('ann <&> "bob"', "10.1.2.3")
    assert about.attrib["ParticipantObjectID"] == "1.2.3"
    details = {d.attrib["type"]: b64decode(d.attrib["value"]).decode() for d in about.iter("ParticipantObjectDetail")}
    assert details == {"row": "7", "sha256": "f", "why": "<\x00>", "films": "2"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    engine = open_database(load_settings(tmp_path).database.url)
    migrate(engine)
    for number in range(4):
        with engine.begin() as connection:
            record(connection, "accessed", actor="ann", action="R", study_instance_uid=f"1.2.{number}")
    engine.dispose()
    return tmp_path


def command(*words: object) -> tuple[int, str]:
    app = typer.Typer()
    auditing.add_commands(app)
    done = CliRunner().invoke(app, ["audit", *map(str, words)])
    return done.exit_code, done.output


def cut(home: Path) -> None:
    engine = open_database(load_settings(home).database.url)
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER audit_no_delete"))
        connection.execute(delete(table).where(table.c.id == 4))
    engine.dispose()


def test_verify_prints_a_head_that_a_later_run_compares_with(home: Path) -> None:
    status, said = command("verify", "--home", home)
    assert status == 0
    assert "whole: 4 rows" in said
    head = said.split()[-1]
    assert Head.parse(head).rows == 4
    cut(home)
    status, said = command("verify", "--home", home)
    assert status == 1
    assert "its end is missing" in said
    (home / "audit.head").unlink()
    assert command("verify", "--home", home, "--head", head)[0] == 1
    assert command("verify", "--home", home)[0] == 0  # what a chain alone cannot show


def test_export_writes_every_row_and_records_itself(home: Path) -> None:
    out = home / "audit.xml"
    assert command("export", "--home", home, "--out", out) == (0, f"{out}\n")
    messages = ElementTree.parse(out).getroot()
    ids = [element.attrib["csd-code"] for element in messages.iter("EventID")]
    assert ids == ["110103"] * 4 + ["110101"]
