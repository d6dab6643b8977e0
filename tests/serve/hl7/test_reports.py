from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from cxrtriage.serve.hl7.messages import Message
from cxrtriage.serve.hl7.orders import take_orders
from cxrtriage.serve.hl7.reports import take_reports
from cxrtriage.serve.tables import audit, outbox, study
from serve.hl7 import written
from serve.worklist.rows import SETTINGS, Rows


def take(engine: Engine, content: bytes, settings: Any = SETTINGS) -> int:
    with engine.begin() as connection:
        return take_reports(
            connection, Message(content), sender="RIS", address="", settings=settings, home=Path("/nowhere")
        )


def read(engine: Engine, uid: str) -> tuple[bool, str, bool | None]:
    with engine.connect() as connection:
        row = connection.execute(select(study).where(study.c.study_instance_uid == uid)).one()
    return row.read_at is not None, row.read_by, row.reported_abnormal


NOT_READ = (False, "", None)


@pytest.mark.parametrize(
    ("status", "flag", "expected"),
    [
        ("F", "A", (True, "final report", True)), ("F", "AA", (True, "final report", True)),
        ("F", "N", (True, "final report", False)), ("C", "N~A", (True, "final report", True)),
        ("F", "", (True, "final report", None)), ("F", "H", (True, "final report", None)),
        ("P", "A", NOT_READ), ("R", "A", NOT_READ), ("", "A", NOT_READ), ("X", "N", NOT_READ),
    ],
)  # fmt: skip
def test_a_final_report_marks_its_study_read(
    sqlite: Engine, rows: Rows, status: str, flag: str, expected: tuple[bool, str, bool | None]
) -> None:
    uid, other = rows.study(accession_number="A1"), rows.study(accession_number="A2")
    assert take(sqlite, written.oru("A1", status=status, flag=flag)) == expected[0]
    assert read(sqlite, uid) == expected
    assert read(sqlite, other) == NOT_READ


def test_a_preliminary_observation_in_a_final_report_says_nothing(sqlite: Engine, rows: Rows) -> None:
    uid = rows.study(accession_number="A1")
    take(sqlite, written.oru("A1", flag="AA", observed="P"))
    assert read(sqlite, uid) == (True, "final report", None)


def test_a_study_is_found_by_uid_or_by_the_number_of_its_order(engine: Engine, rows_of_each: Rows) -> None:
    by_uid, by_order = rows_of_each.study(accession_number=""), rows_of_each.study(accession_number="A2")
    with engine.begin() as connection:
        order = Message(written.orm("A2", filler="F2"))
        take_orders(connection, order, sender="RIS", address="")
    assert take(engine, written.oru("", uid=by_uid, filler="", flag="N")) == 1
    assert take(engine, written.oru("", filler="F2")) == 1
    assert read(engine, by_uid)[2] is False
    assert read(engine, by_order)[2] is True


def test_a_report_without_any_number_marks_nothing(sqlite: Engine, rows: Rows) -> None:
    uid = rows.study(accession_number="")
    assert take(sqlite, written.oru("", filler="")) == 0
    assert read(sqlite, uid) == NOT_READ


@pytest.mark.parametrize(
    ("patient", "same"), [("P1", True), ("00p1", True), ("P2~P1", True), ("P2", False), ("", True)]
)
def test_another_patients_report_under_the_same_number_marks_nothing(
    sqlite: Engine, rows: Rows, caplog: pytest.LogCaptureFixture, patient: str, same: bool
) -> None:
    uid = rows.study(accession_number="A1", patient_id="P1")
    take(sqlite, written.oru("A1", patient=patient))
    assert read(sqlite, uid)[0] is same
    assert ("another patient" in caplog.text) is not same
    assert "DOE" not in caplog.text


def test_the_same_report_twice_marks_once_and_a_correction_counts(engine: Engine, rows_of_each: Rows) -> None:
    uid = rows_of_each.study(accession_number="A1")
    assert take(engine, written.oru("A1", flag="N")) == 1
    assert take(engine, written.oru("A1", flag="N")) == 0
    assert take(engine, written.oru("A1", flag="")) == 0
    assert read(engine, uid)[2] is False
    assert take(engine, written.oru("A1", status="C", flag="A")) == 1
    assert read(engine, uid)[2] is True
    with engine.connect() as connection:
        events = connection.execute(select(audit.c.event).order_by(audit.c.id)).scalars().all()
        details = " ".join(connection.execute(select(audit.c.detail)).scalars())
    assert events == ["order", "changed"] * 2
    assert "DOE" not in details


def test_a_report_on_a_study_that_is_not_here_is_none_of_ours(sqlite: Engine) -> None:
    assert take(sqlite, written.oru("A1")) == 0


def test_an_abnormal_report_tells_the_physician(sqlite: Engine, rows: Rows) -> None:
    rows.study(accession_number="A1")
    settings = SETTINGS.model_copy(update={"mail": SETTINGS.mail.model_copy(update={"host": "localhost"})})
    take(sqlite, written.oru("A1"), settings)
    with sqlite.connect() as connection:
        assert connection.execute(select(outbox.c.kind, outbox.c.state)).all() == [("mail", "parked")]
