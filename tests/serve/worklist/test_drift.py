from datetime import date, timedelta

from cxrtriage.serve.database import reading
from cxrtriage.serve.tables import review
from cxrtriage.serve.worklist.drift import Week, alarms, weeks
from serve.worklist.rows import ACTIVE, NOW, SHADOW, Rows, add_model

WEEK_MIN = 7 * 24 * 60


def week(number: int, films: int, flagged: float, verdicts: int = 0, agreement: float | None = None) -> Week:
    return Week(date(2026, 11, 2) + timedelta(weeks=number), films, flagged, (0.1, 0.2, 0.3), verdicts, agreement)


def test_weeks_count_the_active_models_films_and_verdicts(rows: Rows) -> None:
    with rows.engine.begin() as connection:
        add_model(connection, SHADOW, "shadow")
    for probability in (0.9, 0.1, 0.2, 0.3):
        rows.study(WEEK_MIN, probability)
    rows.study(10, 0.8)
    with rows.engine.begin() as connection:
        rows.result(connection, 5, 0.99, model=SHADOW)
        for verdict in ("agree", "disagree"):
            connection.execute(
                review.insert().values(
                    study_id=5, account_name="x", verdict=verdict, model_sha256=ACTIVE, score_visible=True, made_at=NOW
                )
            )
    with reading(rows.engine) as connection:
        before, last = weeks(connection, NOW)
    assert (before.monday, before.films, before.flagged_share, before.agreement) == (date(2026, 11, 9), 4, 0.25, None)
    assert (last.monday, last.films, last.flagged_share, last.verdicts, last.agreement) == (
        date(2026, 11, 16), 1, 1.0, 2, 0.5,
    )  # fmt: skip


def test_an_alarm_names_what_moved_beyond_the_limit_and_by_how_much() -> None:
    (sentence,) = alarms([week(0, 100, 0.2), week(1, 300, 0.24), week(2, 100, 0.4)], 0.1)
    assert sentence.startswith("The share of films flagged was 40% in the week of 16 November, 23% in the weeks before")
    assert alarms([week(0, 100, 0.2), week(1, 100, 0.29)], 0.1) == []


def test_few_films_or_verdicts_raise_no_alarm() -> None:
    assert alarms([week(0, 100, 0.2, 10, 1.0), week(1, 20, 0.9, 10, 0.0)], 0.1) == []
    assert len(alarms([week(0, 100, 0.2, 40, 1.0), week(1, 100, 0.2, 40, 0.5)], 0.1)) == 1
    assert alarms([week(0, 100, 0.2)], 0.1) == []
