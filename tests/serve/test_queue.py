"""The queue: whatever dies, and whatever the clock does, each film's result counts once."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from cxrtriage.serve import database, queue
from cxrtriage.serve.database import insert_new, reading
from cxrtriage.serve.queue import LONGEST_BACKOFF_S, LeasedFilm, Queue, Score
from cxrtriage.serve.settings import WorkerSettings
from cxrtriage.serve.tables import instance, job, result, study
from serve.worklist.rows import add_model

SCORE = Score(model_sha256="m", probability=0.75, threshold=0.5, decision="abnormal", seconds=0.1)
LIMITS = WorkerSettings(attempts=3, backoff_s=10, film_limit_s=30)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def fill(engine: Engine, films: int) -> None:
    """Put films in the queue, without their files."""
    with engine.begin() as connection:
        study_id = insert_new(
            connection, study, study_instance_uid="1.2", accession_number="", received_at=database.now()
        )
        for number in range(films):
            names = ("series_instance_uid", "sop_class_uid", "transfer_syntax_uid", "modality", "body_part")
            instance_id = insert_new(
                connection,
                instance,
                **dict.fromkeys(names, "1"),
                study_id=study_id,
                sop_instance_uid=f"1.2.{number}",
                content_sha256="c",
                view_position="PA",
                path=f"films/{number}",
                file_sha256="f",
                file_bytes=1,
                calling_ae="A",
                received_at=database.now(),
            )
            assert instance_id is not None
            queue.add(connection, instance_id, "m")


def states(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.execute(select(job.c.state).order_by(job.c.id)).scalars())


def results(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(select(result.c.instance_id).order_by(result.c.instance_id)).scalars())


def reason(engine: Engine) -> str:
    with reading(engine) as connection:
        return connection.execute(select(job.c.reason)).scalar_one()


def taken(films: Queue, owner: str = "a") -> LeasedFilm:
    film = films.take(owner, ["m"])
    assert film is not None
    return film


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def films(engine: Engine, clock: Clock) -> Queue:
    fill(engine, 1)
    clock.time = datetime.now(UTC)
    return Queue(engine, LIMITS, clock)


def test_films_come_in_the_order_they_were_received(engine: Engine) -> None:
    fill(engine, 3)
    films = Queue(engine, LIMITS)
    assert [taken(films).path for _ in range(3)] == [Path(f"films/{number}") for number in range(3)]
    assert films.take("a", ["m"]) is None


def test_a_finished_film_has_its_result_and_is_not_taken_again(engine: Engine, films: Queue) -> None:
    assert films.finish(taken(films), SCORE)
    assert states(engine) == ["done"]
    assert len(results(engine)) == 1
    assert films.take("a", ["m"]) is None


def test_a_worker_whose_lease_ended_can_no_longer_finish(engine: Engine, films: Queue, clock: Clock) -> None:
    slow = taken(films, "slow")
    clock.forward(films.lease.total_seconds() + 1)
    assert films.take("quick", ["m"]) is None  # back in the queue, after the back-off
    clock.forward(LIMITS.backoff_s)
    quick = taken(films, "quick")
    assert quick.fence > slow.fence
    assert not films.finish(slow, SCORE)
    assert not films.set_aside(slow, "")
    assert not films.fail(slow, "")
    assert results(engine) == []
    assert films.finish(quick, SCORE)
    assert not films.finish(quick, SCORE)
    assert len(results(engine)) == 1


def test_what_a_dead_process_held_is_back_at_once_and_nobody_elses(engine: Engine, clock: Clock) -> None:
    fill(engine, 2)
    films = Queue(engine, LIMITS.model_copy(update={"backoff_s": 0}), clock)
    clock.time = datetime.now(UTC)
    dead, alive = taken(films, "dead"), taken(films, "alive")
    assert films.release("dead") == 1
    assert taken(films, "third").job_id == dead.job_id
    assert films.finish(alive, SCORE)


def test_attempts_back_off_and_end_in_a_parked_film_that_a_person_can_retry(
    engine: Engine, films: Queue, clock: Clock
) -> None:
    for attempt in (1, 2, 3):
        film = taken(films)
        assert film.attempt == attempt
        assert films.fail(film, "no luck")
        assert films.take("a", ["m"]) is None
        clock.forward(LIMITS.backoff_s * 2 ** (attempt - 1) - 1)
        assert films.take("a", ["m"]) is None
        clock.forward(1)
    assert states(engine) == ["failed"]
    assert reason(engine) == "no luck (3 attempts)"
    assert films.retry(film.job_id)
    assert not films.retry(film.job_id)
    assert taken(films).attempt == 1


def test_a_film_that_kills_every_worker_is_parked(engine: Engine, films: Queue, clock: Clock) -> None:
    for _ in range(LIMITS.attempts):
        taken(films)
        clock.forward(films.lease.total_seconds() + 1)
        assert films.take("next", ["m"]) is None
        clock.forward(LONGEST_BACKOFF_S)
    assert states(engine) == ["failed"]
    assert "died or hung" in reason(engine)


@pytest.mark.parametrize("how", ["fail", "release", "lease"])
def test_what_a_retired_model_had_in_hand_is_not_put_back_for_nobody(
    engine: Engine, films: Queue, clock: Clock, how: str
) -> None:
    held = taken(films)
    with engine.begin() as connection:
        add_model(connection, "m", "retired")
    if how == "fail":
        assert films.fail(held, "no luck")
    elif how == "release":
        assert films.release("a") == 1
    else:
        clock.forward(films.lease.total_seconds() + 1)
        assert films.take("b", ["m"]) is None
    assert states(engine) == []


def test_a_film_parked_by_a_model_that_was_retired_since_is_not_tried_again(engine: Engine, films: Queue) -> None:
    films.set_aside(taken(films), "a knee")
    with engine.begin() as connection:
        add_model(connection, "m", "retired")
    assert not films.retry(1)
    assert states(engine) == ["not_assessed"]


def test_a_film_set_aside_has_a_reason_and_no_result(engine: Engine, films: Queue) -> None:
    assert films.set_aside(taken(films), "a knee")
    assert (states(engine), reason(engine), results(engine)) == (["not_assessed"], "a knee", [])
    assert films.retry(1)


def test_a_clock_put_back_a_year_strands_nothing(engine: Engine, films: Queue, clock: Clock) -> None:
    films.fail(taken(films), "")
    clock.forward(-365 * 86400)
    held = taken(films)  # though its back-off ends next year
    clock.forward(-365 * 86400)
    assert films.take("a", ["m"]) is None  # given back by a lease that would end next year, after a back-off
    clock.forward(LONGEST_BACKOFF_S)
    assert films.finish(taken(films), SCORE)
    assert not films.finish(held, SCORE)


def test_the_same_model_again_replaces_its_result(engine: Engine, films: Queue) -> None:
    film = taken(films)
    films.finish(film, SCORE)
    with engine.begin() as connection:
        connection.execute(job.update().values(state="failed"))
    films.retry(film.job_id)
    films.finish(taken(films), Score("m", 0.25, 0.5, "normal", 0.1))
    with reading(engine) as connection:
        assert connection.execute(select(result.c.probability)).scalars().all() == [0.25]


def test_many_workers_that_die_at_random_count_each_film_once(engine: Engine) -> None:
    """Every worker draws what happens to it; the dead ones' films come back by their leases or their parent."""
    count, workers = 60, 6
    fill(engine, count)
    films = Queue(engine, WorkerSettings(attempts=1000, backoff_s=0, film_limit_s=30))
    counted: list[int] = []

    def work(number: int) -> None:
        draw = random.Random(number)
        for life in range(10_000):
            owner = f"{number}-{life}"
            film = films.take(owner, ["m"])
            if film is None:
                if not {"received", "running"} & set(states(engine)):
                    return
                continue
            fate = draw.random()
            if fate < 0.2:
                assert films.release(owner) == 1  # it died, its parent saw it
            elif fate < 0.3:
                films.release(owner)
                assert not films.finish(film, SCORE)  # it was taken for dead, and finishes late
            elif fate < 0.4:
                assert films.fail(film, "")
            else:
                assert films.finish(film, SCORE)
                counted.append(film.instance_id)

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(work, range(workers)))
    assert states(engine) == ["done"] * count
    assert sorted(counted) == results(engine)
    assert len(set(counted)) == count


ACTION = st.one_of(
    st.tuples(st.just("take"), st.sampled_from("ab")),
    st.tuples(st.sampled_from(["finish", "set_aside", "fail"]), st.integers(0, 9)),
    st.tuples(st.just("release"), st.sampled_from("ab")),
    st.tuples(st.just("pass"), st.sampled_from([1, 20, 100, 4000, -100_000])),
    st.tuples(st.just("retry"), st.sampled_from([1, 2])),
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTION, max_size=25))
def test_no_order_of_events_strands_a_film_or_counts_it_twice(
    sqlite: Engine, actions: list[tuple[str, str | int]]
) -> None:
    with sqlite.begin() as connection:
        for table in (result, job, instance, study):
            connection.execute(delete(table))
    fill(sqlite, 2)
    with reading(sqlite) as connection:
        jobs = list(connection.execute(select(job.c.id).order_by(job.c.id)).scalars())
    clock = Clock()
    films = Queue(sqlite, WorkerSettings(attempts=2, backoff_s=1, film_limit_s=10), clock)
    given_out: list[LeasedFilm] = []
    finished = []
    for action, argument in actions:
        if action == "take":
            film = films.take(str(argument), ["m"])
            given_out += [film] if film else []
        elif action == "pass":
            clock.forward(float(argument))
        elif action == "release":
            films.release(str(argument))
        elif action == "retry":
            films.retry(jobs[int(argument) - 1])
        elif given_out:
            film = given_out[int(argument) % len(given_out)]
            if action == "finish":
                finished += [film.job_id] if films.finish(film, SCORE) else []
            elif action == "set_aside":
                films.set_aside(film, "reason")
            else:
                films.fail(film, "reason")
    assert len(finished) == len(set(finished))  # nothing leaves `done`
    for _ in range(12):  # with time and a living worker, every film comes to an end
        clock.forward(LONGEST_BACKOFF_S)
        while (film := films.take("survivor", ["m"])) is not None:
            finished += [film.job_id] if films.finish(film, SCORE) else []
    assert not {"received", "running"} & set(states(sqlite))
    assert len(results(sqlite)) == len(set(finished)) == len(finished)
