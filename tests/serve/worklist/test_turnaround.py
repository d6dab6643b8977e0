from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cxrtriage.serve.database import reading
from cxrtriage.serve.worklist.turnaround import _first_come_first_served, figures
from serve.worklist.rows import NOW, Rows, minutes_ago


def test_the_same_readings_in_the_order_of_arrival_are_what_first_come_first_served_would_have_been(rows: Rows) -> None:
    rows.study(40, 0.1, read_min_ago=10)  # came first, read last
    rows.study(30, 0.9, read_min_ago=20)
    with reading(rows.engine) as connection:
        found = figures(connection, NOW, hours=1)
    assert (found["received"], found["flagged_share"], found["time_to_result_s"]["max"]) == (2, 0.5, 1.0)
    assert found["time_to_read_s"]["abnormal"] == {"studies": 1, "p50": 600.0, "p95": 600.0, "max": 600.0}
    assert found["first_come_first_served_s"]["abnormal"]["p50"] == 1200.0
    assert found["time_to_read_s"]["routine"]["p50"] == 1800.0
    assert found["first_come_first_served_s"]["routine"]["p50"] == 1200.0


def test_a_stat_order_makes_urgent_what_the_model_did_not_flag(rows: Rows) -> None:
    rows.study(5, 0.1, order="stat")
    rows.study(5, 0.9)
    rows.study(5)
    with reading(rows.engine) as connection:
        assert figures(connection, NOW)["flagged_share"] == 0.5


def test_waiting_counts_the_unread_by_rank(rows: Rows) -> None:
    rows.study(40, 0.1)
    rows.study(30, 0.9)
    rows.study(3, order="stat")
    with reading(rows.engine) as connection:
        waiting = figures(connection, NOW)["waiting_s"]
    assert {name: (row["studies"], row["max"]) for name, row in waiting.items()} == {
        "emergent": (1, 180.0), "abnormal": (1, 1800.0), "routine": (1, 2400.0),
    }  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=30))
def test_the_order_of_reading_moves_no_time_from_one_study_to_nobody(pairs: list[tuple[int, int]]) -> None:
    """However they are read, the waits sum to the same, as each reading is used once."""
    times = [(minutes_ago(max(pair)), minutes_ago(min(pair))) for pair in pairs]
    fair = _first_come_first_served(times)
    assert min(fair, default=0) >= 0
    assert round(sum(fair)) == round(sum((end - start) / timedelta(seconds=1) for start, end in times))
