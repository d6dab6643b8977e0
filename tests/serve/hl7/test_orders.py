import pytest
from sqlalchemy import Engine, select

from cxrtriage.serve.hl7.messages import Message, NotHl7Error
from cxrtriage.serve.hl7.orders import order_of, take_orders
from cxrtriage.serve.tables import audit, imaging_order, study
from cxrtriage.serve.worklist import priority
from serve.hl7 import written
from serve.worklist.rows import Rows


def take(engine: Engine, content: bytes) -> int:
    with engine.begin() as connection:
        return take_orders(connection, Message(content), sender="RIS", address="127.0.0.1")


def orders(engine: Engine) -> list:
    with engine.connect() as connection:
        return list(connection.execute(select(imaging_order).order_by(imaging_order.c.id)).all())


def rank(engine: Engine, uid: str) -> int:
    with engine.connect() as connection:
        return connection.execute(select(study.c.rank).where(study.c.study_instance_uid == uid)).scalar_one()


def actions(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        told = connection.execute(select(audit.c.action, audit.c.event, audit.c.actor).order_by(audit.c.id)).all()
    assert all(row.actor == "RIS" for row in told if row.event == "order")
    return [(row.event, row.action) for row in told]


def test_an_orm_order_is_kept_as_it_was_told(engine: Engine) -> None:
    assert take(engine, written.orm("A1", uid="1.2.3.9")) == 1
    (row,) = orders(engine)
    assert row._mapping.items() >= {
        "accession_number": "A1", "study_instance_uid": "1.2.3.9", "priority": "stat", "provider_id": "4711",
        "service": "ICU", "procedure_code": "CXR2", "procedure_scheme": "L", "procedure_text": "Chest, two views",
        "placer_order_number": "PL1", "filler_order_number": "F1",
    }.items()  # fmt: skip
    assert actions(engine) == [("order", "C")]


@pytest.mark.parametrize(
    ("callback", "email"),
    [
        ("^NET^Internet^j.smith@hospital.example", "j.smith@hospital.example"),  # XTN of 2.3.1 and later
        ("j.smith@hospital.example", "j.smith@hospital.example"),  # as old systems write it
        ("555-1234", ""), ("^NET^Internet^not an address", ""), ("a@b.c, d@e.f", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_address_of_who_ordered_is_kept_where_it_is_one(sqlite: Engine, callback: str, email: str) -> None:
    take(sqlite, written.orm(callback=callback))
    assert orders(sqlite)[0].provider_email == email


def test_an_omi_order_is_kept_as_it_was_told(sqlite: Engine) -> None:
    assert take(sqlite, written.omi("A7", uid="1.2.3.7", priority="A")) == 1
    (row,) = orders(sqlite)
    assert (row.accession_number, row.study_instance_uid, row.priority) == ("A7", "1.2.3.7", "asap")
    assert (row.provider_id, row.service, row.procedure_code) == ("815", "ED", "36554-4")


@pytest.mark.parametrize(
    ("quantity", "timing", "level"),
    [
        ("1^^^^^S", "", "stat"), ("1^^^^^STAT", "", "stat"), ("1^^^^^s", "", "stat"), ("1^^^^^A", "", "asap"),
        ("", "1^^^^^ASAP", "asap"), ("1^^^^^R", "1^^^^^S", "stat"), ("1^^^^^R~1^^^^^S", "", "stat"),
        ("1^^^^^R", "", "routine"), ("1^^^^^T", "", "routine"), ("", "", "routine"), ("S", "", "routine"),
    ],
)  # fmt: skip
def test_the_most_urgent_word_counts(sqlite: Engine, quantity: str, timing: str, level: str) -> None:
    take(sqlite, written.orm(quantity=quantity, timing=timing))
    assert orders(sqlite)[0].priority == level


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5", "2.5.1"])
def test_versions_are_read_alike(sqlite: Engine, version: str) -> None:
    take(sqlite, written.orm(version=version))
    assert (orders(sqlite)[0].accession_number, orders(sqlite)[0].priority) == ("A1", "stat")


def test_a_stat_order_makes_its_study_emergent_whichever_comes_first(engine: Engine, rows_of_each: Rows) -> None:
    before = rows_of_each.study(accession_number="A1")
    assert rank(engine, before) == priority.ROUTINE
    take(engine, written.orm("A1"))
    assert rank(engine, before) == priority.EMERGENT
    take(engine, written.orm("A2"))
    assert rank(engine, rows_of_each.study(accession_number="A2")) == priority.EMERGENT
    assert rank(engine, rows_of_each.study(accession_number="A3")) == priority.ROUTINE


def test_a_study_is_found_by_its_uid_too(sqlite: Engine, rows: Rows) -> None:
    uid = rows.study(accession_number="")
    take(sqlite, written.omi("A1", uid=uid))
    assert rank(sqlite, uid) == priority.EMERGENT
    with sqlite.connect() as connection:
        found = order_of(connection, uid, "")
        assert found is not None
        assert found.provider_id == "815"
        assert order_of(connection, "1.2.999", "") is None
        assert order_of(connection, "1.2.999", "A1") == found


def test_the_same_order_again_changes_nothing(engine: Engine, rows_of_each: Rows) -> None:
    uid = rows_of_each.study(accession_number="A1")
    take(engine, written.orm("A1"))
    kept = orders(engine)
    with engine.begin() as connection:
        key = connection.execute(select(study.c.id)).scalar_one()
        priority.set_by_person(connection, key, priority.ROUTINE, "reader")
    take(engine, written.orm("A1"))
    assert orders(engine) == kept
    assert rank(engine, uid) == priority.ROUTINE  # the person's word came after the order's
    assert actions(engine) == [("order", "C"), ("changed", "U")]


def test_a_later_order_updates_what_it_tells_and_leaves_the_rest(engine: Engine, rows_of_each: Rows) -> None:
    uid = rows_of_each.study(accession_number="A1")
    take(engine, written.orm("A1", quantity="1^^^^^R", uid=uid))
    take(engine, written.orm("A1", control="XO", provider="", procedure="", ward='""'))
    (row,) = orders(engine)
    assert (row.priority, row.provider_id, row.procedure_code, row.service) == ("stat", "4711", "CXR2", "")
    assert row.study_instance_uid == uid
    assert rank(engine, uid) == priority.EMERGENT
    take(engine, written.orm("A1", control="SC", quantity=""))
    assert orders(engine)[0].priority == "stat"
    take(engine, written.orm("A1", control="XO", quantity="1^^^^^R"))
    assert rank(engine, uid) == priority.ROUTINE


@pytest.mark.parametrize(("control", "status"), [("CA", ""), ("DC", ""), ("OC", ""), ("SC", "CA")])
def test_a_cancelled_order_goes_and_its_study_sinks(sqlite: Engine, rows: Rows, control: str, status: str) -> None:
    uid = rows.study(accession_number="A1")
    take(sqlite, written.orm("A1"))
    take(sqlite, written.orm("A1", control=control, status=status))
    assert orders(sqlite) == []
    assert rank(sqlite, uid) == priority.ROUTINE
    take(sqlite, written.orm("A1", control=control, status=status))
    assert actions(sqlite) == [("order", "C"), ("order", "D")]


def test_a_replaced_order_is_followed_by_its_replacement(sqlite: Engine) -> None:
    take(sqlite, written.orm("A1"))
    replaced = written.orm("A1", control="RU")
    new = "ORC|RO|PL2|F2||||1^^^^^A\rOBR|1|PL2|F2|CXR^Chest^L||||||||||||||A2\r"
    assert take(sqlite, replaced + new.encode()) == 2
    assert [(row.accession_number, row.priority) for row in orders(sqlite)] == [("A2", "asap")]


def test_an_order_that_could_not_be_changed_changes_nothing(sqlite: Engine) -> None:
    take(sqlite, written.orm("A1"))
    take(sqlite, written.orm("A1", control="UC", quantity="1^^^^^R"))
    assert [row.priority for row in orders(sqlite)] == ["stat"]


def test_an_examination_ordered_in_two_parts_is_as_urgent_as_the_more_urgent(sqlite: Engine) -> None:
    second = "ORC|NW|PL1|F1||||1^^^^^R\rOBR|2|PL1|F1|CXRL^Lateral^L||||||||||||||A1\r"
    take(sqlite, written.orm("A1") + second.encode())
    assert [row.priority for row in orders(sqlite)] == ["stat"]


def test_without_an_accession_number_the_fillers_number_stands_for_it(sqlite: Engine) -> None:
    take(sqlite, written.orm("", filler="F77"))
    assert orders(sqlite)[0].accession_number == "F77"
    take(sqlite, written.orm("", filler="", uid="1.2.3.4"))
    assert orders(sqlite)[1].accession_number == "1.2.3.4"
    with pytest.raises(NotHl7Error, match="neither accession number"):
        take(sqlite, written.orm("", filler=""))


def test_a_provider_without_a_number_is_named(sqlite: Engine) -> None:
    take(sqlite, written.orm(provider="^Smith&van&der^John"))
    assert orders(sqlite)[0].provider_id == "Smith John"


def test_values_longer_than_their_columns_are_cut_and_bad_uids_left_out(engine: Engine) -> None:
    take(engine, written.orm("A1", provider="9" * 300, ward="W" * 300, procedure="c^" + "t" * 500, uid="../../etc"))
    (row,) = orders(engine)
    assert (len(row.provider_id), len(row.service), len(row.procedure_text)) == (64, 64, 128)
    assert row.study_instance_uid == ""
