from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from cxrtriage.serve.database import reading
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import audit, notice, outbox, review, study
from cxrtriage.serve.worklist import priority, reviews
from serve.worklist.rows import ACTIVE, OLDER, Rows, add_model

MAIL = {"mail": {"host": "mail.example"}}
CONFIRMED = NodeSettings.model_validate(MAIL)
AT_ONCE = NodeSettings.model_validate({**MAIL, "notice": {"when": "result"}})


def told(engine: Engine) -> int:
    """Return how many things are to be told to somebody; without a table of recipients they are parked."""
    with reading(engine) as connection:
        return len(connection.execute(select(outbox)).all()) + len(connection.execute(select(notice)).all())


def row(engine: Engine) -> object:
    with reading(engine) as connection:
        return connection.execute(select(study)).one()


@pytest.mark.parametrize(
    ("probability", "verdict", "abnormal", "rank"),
    [
        (0.9, "agree", True, priority.ABNORMAL),
        (0.9, "disagree", False, priority.ABNORMAL),
        (0.1, "agree", False, priority.ROUTINE),
        (0.1, "disagree", True, priority.ABNORMAL),
        (0.1, "emergent", True, priority.EMERGENT),
        (None, "emergent", True, priority.EMERGENT),
    ],
)
def test_a_verdict_is_kept_with_its_score_raises_the_priority_and_never_lowers_it(
    rows: Rows, tmp_path: Path, probability: float | None, verdict: reviews.Verdict, abnormal: bool, rank: int
) -> None:
    rows.study(10, probability)
    with rows.engine.begin() as connection:
        reviews.give_verdict(connection, 1, "dr.x", verdict, True, settings=CONFIRMED, home=tmp_path)
    with reading(rows.engine) as connection:
        kept = connection.execute(select(review)).one()
        assert connection.execute(select(study.c.rank)).scalar() == rank
    assert (kept.abnormal, kept.probability, kept.score_visible) == (abnormal, probability, True)
    assert kept.model_sha256 == ("" if probability is None else ACTIVE)
    assert (told(rows.engine) > 0) is abnormal, "the physician hears of what a reader calls abnormal"


def test_a_verdict_is_on_the_score_that_the_list_shows(rows: Rows, tmp_path: Path) -> None:
    """An older model's operating point may make the lower probability the flagged one."""
    rows.study(10, 0.4, decision="abnormal")
    with rows.engine.begin() as connection:
        add_model(connection, OLDER, "retired")
        rows.result(connection, 1, 0.6, "normal", OLDER)
        reviews.give_verdict(connection, 1, "dr.x", "agree", True, settings=CONFIRMED, home=tmp_path)
    with reading(rows.engine) as connection:
        kept = connection.execute(select(review)).one()
    assert (kept.abnormal, kept.probability, kept.model_sha256) == (True, 0.4, ACTIVE)


def test_agreeing_needs_a_score(rows: Rows, tmp_path: Path) -> None:
    rows.study(10)
    with pytest.raises(ValueError, match="no score"), rows.engine.begin() as connection:
        reviews.give_verdict(connection, 1, "dr.x", "agree", True, settings=CONFIRMED, home=tmp_path)


def test_a_read_study_leaves_the_list_and_can_be_put_back(rows: Rows, tmp_path: Path) -> None:
    rows.study(10, 0.9)
    with rows.engine.begin() as connection:
        reviews.mark_read(connection, 1, "final report", False, settings=CONFIRMED, home=tmp_path)
    found = row(rows.engine)
    assert (found.read_by, found.reported_abnormal) == ("final report", False)  # type: ignore[attr-defined]
    assert told(rows.engine) == 0
    with rows.engine.begin() as connection:
        reviews.reopen(connection, 1, "dr.x")
    assert row(rows.engine).read_at is None  # type: ignore[attr-defined]
    with reading(rows.engine) as connection:
        assert [line.actor for line in connection.execute(select(audit)).all()] == ["final report", "dr.x"]


def test_a_report_that_follows_a_reader_adds_what_it_found_and_leaves_who_read_it_and_when(
    rows: Rows, tmp_path: Path
) -> None:
    rows.study(10, 0.9)
    read = []
    for by, abnormal in (("dr.x", None), ("final report", True), ("final report", None)):
        with rows.engine.begin() as connection:
            reviews.mark_read(connection, 1, by, abnormal, settings=CONFIRMED, home=tmp_path)
        read.append(row(rows.engine))
    assert len({found.read_at for found in read}) == 1  # type: ignore[attr-defined]
    assert [(found.read_by, found.reported_abnormal) for found in read] == [  # type: ignore[attr-defined]
        ("dr.x", None), ("dr.x", True), ("dr.x", True),
    ]  # fmt: skip


def test_a_site_that_tells_at_the_result_is_not_told_again_by_the_reader(rows: Rows, tmp_path: Path) -> None:
    rows.study(10, 0.9)
    with rows.engine.begin() as connection:
        reviews.mark_read(connection, 1, "dr.x", True, settings=AT_ONCE, home=tmp_path)
    assert told(rows.engine) == 0
