"""The audit trail: what it records, what it refuses, what it notices."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from cxrtriage.serve import audit
from cxrtriage.serve.audit import Head, head_of, record, verify
from cxrtriage.serve.database import insert_new, now, reading
from cxrtriage.serve.tables import audit as table
from cxrtriage.serve.tables import node_state


def tell(engine: Engine, count: int) -> None:
    for number in range(count):
        with engine.begin() as connection:
            record(connection, "accessed", actor="ann", action="R", study_instance_uid=f"1.2.{number}")


def rows(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(select(table).order_by(table.c.id)).all())


def broken(engine: Engine, head: Head | None = None) -> list[str]:
    with reading(engine) as connection:
        return verify(connection, head)


def without_triggers(engine: Engine, statement: Any) -> None:
    """Change the trail as somebody with the database's password could."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for name in ("audit_no_update", "audit_no_delete", "audit_no_replace"):
                connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            connection.execute(text("DROP TRIGGER audit_append_only ON audit"))
            connection.execute(text("DROP FUNCTION audit_append_only"))
        connection.execute(statement)
        audit.make_append_only(connection)


def test_a_row_says_who_did_what_to_which_study(engine: Engine) -> None:
    with engine.begin() as connection:
        record(
            connection, "changed", actor="ann", action="U", outcome=4, address="10.1.2.3",
            study_instance_uid="1.2.3", detail={"verdict": "agree"},
        )  # fmt: skip
    (row,) = rows(engine)
    found = (row.id, row.event, row.actor, row.action, row.outcome, row.address, row.study_instance_uid, row.detail)
    assert found == (1, "changed", "ann", "U", 4, "10.1.2.3", "1.2.3", '{"verdict": "agree"}')
    assert abs((now() - row.at).total_seconds()) < 60


def test_the_hash_is_what_a_person_computes_from_the_documentation(engine: Engine) -> None:
    tell(engine, 2)
    before = "0" * 64
    for row in rows(engine):
        at = row.at.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
        canonical = (
            f'{{"action":"R","actor":"ann","address":"","at":"{at}","detail":"{{}}","event":"accessed","id":{row.id},'
            f'"outcome":0,"previous_sha256":"{before}","study_instance_uid":"1.2.{row.id - 1}"}}'
        )
        assert row.sha256 == hashlib.sha256(canonical.encode()).hexdigest()
        before = row.sha256


REPLACE = """
INSERT OR REPLACE INTO audit
SELECT id, at, event, action, outcome, 'nobody', address, study_instance_uid, detail, previous_sha256, sha256 FROM audit
"""


@pytest.mark.parametrize("attempt", ["update", "renumber", "delete", "all at once"])
def test_the_database_refuses_to_change_or_delete_rows(engine: Engine, attempt: str) -> None:
    statements = {
        "update": update(table).values(actor="nobody"),
        "renumber": update(table).where(table.c.id == 1).values(id=7),
        "delete": delete(table),
        "all at once": text(REPLACE if engine.dialect.name == "sqlite" else "TRUNCATE audit"),
    }
    tell(engine, 2)
    before = rows(engine)
    with pytest.raises(DBAPIError, match="audit trail are never"), engine.begin() as connection:
        connection.execute(statements[attempt])
    assert rows(engine) == before


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (update(table).where(table.c.id == 3).values(actor="bob"), "Row 3 of the audit trail was changed"),
        (update(table).where(table.c.id == 3).values(detail='{"a": 1}'), "Row 3 of the audit trail was changed"),
        (delete(table).where(table.c.id == 3), "Row 3 of the audit trail is missing: the next one is row 4"),
        (delete(table).where(table.c.id == 1), "Row 1 of the audit trail is missing: the next one is row 2"),
        (delete(table).where(table.c.id >= 4), "The audit trail ends at row 3; it had 5 rows before"),
        (delete(table), "The audit trail ends at row 0; it had 5 rows before"),
    ],
)
def test_a_change_past_the_triggers_is_named(engine: Engine, statement: Any, sentence: str) -> None:
    tell(engine, 5)
    with reading(engine) as connection:
        head = head_of(connection)
    assert broken(engine) == broken(engine, head) == []
    without_triggers(engine, statement)
    (found,) = broken(engine, head)
    assert found.startswith(sentence)


def test_a_trail_computed_anew_is_noticed_with_a_head_from_before_and_not_without(engine: Engine) -> None:
    tell(engine, 3)
    with reading(engine) as connection:
        head = head_of(connection)
    forged = [row._asdict() for row in rows(engine)]
    before = forged[0]["sha256"]
    for row in forged[1:]:
        row.update(actor="bob", previous_sha256=before)
        row["sha256"] = before = audit._sha256(row)
    without_triggers(engine, delete(table).where(table.c.id > 1))
    with engine.begin() as connection:
        connection.execute(insert(table), forged[1:])
    assert broken(engine) == []
    assert broken(engine, head) == [
        "Row 3 of the audit trail is not the one of the head kept before: it was rewritten."
    ]


def test_the_end_of_a_trail_may_grow_past_a_head(engine: Engine) -> None:
    tell(engine, 2)
    with reading(engine) as connection:
        head = head_of(connection)
    tell(engine, 2)
    assert broken(engine, head) == []
    assert head.rows == 2


def test_what_is_rolled_back_was_not_done(engine: Engine) -> None:
    with engine.connect() as connection:
        record(connection, "accessed", actor="ann")
    tell(engine, 1)
    with engine.connect() as connection:
        record(connection, "alert", actor="ann")
        connection.rollback()
        record(connection, "sign_in", actor="ann")
        connection.commit()
        connection.commit()
    with engine.begin() as connection:
        record(connection, "sign_out", actor="ann")
        with connection.begin_nested() as savepoint:
            record(connection, "alert", actor="ann")
            savepoint.rollback()
    assert [row.event for row in rows(engine)] == ["accessed", "sign_in", "sign_out"]
    assert broken(engine) == []


def test_several_rows_of_one_transaction_keep_their_order(engine: Engine) -> None:
    with engine.begin() as connection:
        for event in ("start", "changed", "stop"):
            record(connection, event, actor="node")
    assert [row.event for row in rows(engine)] == ["start", "changed", "stop"]


def test_writers_that_lock_other_rows_in_any_order_neither_wait_for_each_other_nor_break_the_chain(
    engine: Engine,
) -> None:
    with engine.begin() as connection:
        for key in ("a", "b"):
            insert_new(connection, node_state, key=key, value="", changed_at=now())

    def write(number: int) -> None:
        with engine.begin() as connection:
            if number % 2:  # were the trail locked here, half of them would wait for the others' row and they for it
                record(connection, "changed", actor=f"writer {number}")
            connection.execute(update(node_state).where(node_state.c.key == "a").values(value=str(number)))
            if not number % 2:
                record(connection, "changed", actor=f"writer {number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    assert len(rows(engine)) == 40
    assert broken(engine) == []


def test_a_row_that_cannot_be_written_undoes_what_it_is_about(sqlite: Engine) -> None:
    with sqlite.begin() as connection:
        connection.execute(text("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END"))
    with sqlite.connect() as connection:
        insert_new(connection, node_state, key="a", value="", changed_at=now())
        record(connection, "changed", actor="ann")
        with pytest.raises(DBAPIError, match="full"):
            connection.commit()
    with reading(sqlite) as connection:
        assert connection.execute(select(node_state)).all() == []


def test_a_row_is_refused_where_it_would_be_lost_or_mean_nothing(sqlite: Engine) -> None:
    with reading(sqlite) as connection, pytest.raises(ValueError, match="only reads"):
        record(connection, "accessed", actor="ann")
    with sqlite.begin() as connection, pytest.raises(ValueError, match="no event 'acessed'"):
        record(connection, "acessed", actor="ann")


def test_names_from_the_network_become_plain_text_of_bounded_length(engine: Engine) -> None:
    with engine.begin() as connection:
        record(connection, "sign_in", actor="a\x00\n\ud800" + "b" * 100, detail={"why": "\x00"})
    (row,) = rows(engine)
    assert row.actor == "a???" + "b" * 60
    assert json.loads(row.detail) == {"why": "\x00"}
    assert broken(engine) == []


def test_the_trail_of_a_new_node_is_whole_and_empty(engine: Engine) -> None:
    assert inspect(engine).has_table("audit")
    with reading(engine) as connection:
        assert head_of(connection) == Head(0, "0" * 64)
    assert broken(engine, Head(0, "0" * 64)) == []
