"""Films that are kept while models change or orders come: neither overlooks the other, on either database."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select

from cxrtriage.serve import files, models
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.files import Door
from cxrtriage.serve.header import Header, read_header
from cxrtriage.serve.hl7.messages import Message
from cxrtriage.serve.hl7.orders import take_orders
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.queue import Queue, Score
from cxrtriage.serve.settings import WorkerSettings
from cxrtriage.serve.tables import job, study
from cxrtriage.serve.worklist import priority
from serve.hl7.written import orm
from serve.peers import film
from serve.worklist.rows import ACTIVE, SHADOW, Rows, add_model

OVERTAKES_S = 0.3  # by then the second would be through, if it did not wait


@pytest.fixture
def header(tmp_path: Path) -> Header:
    return read_header(film(tmp_path / "a.dcm", AccessionNumber="A1"))


@contextmanager
def meanwhile(engine: Engine, first: Callable[[Connection], object], then: Callable[[Connection], object]) -> Iterator:
    """Do `first`, begin `then` in another connection before it is committed, and see both to their end."""

    def second() -> None:
        with engine.begin() as connection:
            then(connection)

    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as connection:
            first(connection)
            done: Future[None] = threads.submit(second)
            threading.Event().wait(OVERTAKES_S)
        done.result(timeout=30)
    with reading(engine) as connection:
        yield connection


def keep(header: Header) -> Callable[[Connection], object]:
    return lambda connection: files._insert(connection, header, "A", Door("A"))


def give(sha256: str, role: str) -> Callable[[Connection], object]:
    def change(connection: Connection) -> None:
        add_model(connection, sha256, "retired")
        models._give_role(connection, sha256, role, "x")

    return change


@pytest.mark.parametrize("film_first", [True, False])
@pytest.mark.parametrize("role", ["active", "shadow"])
def test_a_film_kept_while_a_model_comes_is_queued_for_it(
    rows_of_each: Rows, header: Header, film_first: bool, role: str
) -> None:
    both = (keep(header), give(SHADOW, role))
    with meanwhile(rows_of_each.engine, *(both if film_first else both[::-1])) as connection:
        queued = set(connection.execute(select(job.c.model_sha256)).scalars())
    assert queued == ({SHADOW} if role == "active" else {ACTIVE, SHADOW})


@pytest.mark.parametrize("film_first", [True, False])
def test_a_film_kept_while_the_first_model_comes_is_adopted(engine: Engine, header: Header, film_first: bool) -> None:
    both = (keep(header), give(ACTIVE, "active"))
    with meanwhile(engine, *(both if film_first else both[::-1])) as connection:
        assert connection.execute(select(job.c.model_sha256)).scalars().all() == [ACTIVE]


def test_what_a_shadow_model_says_while_it_becomes_active_counts(rows_of_each: Rows) -> None:
    engine = rows_of_each.engine
    with engine.begin() as connection:
        add_model(connection, SHADOW, "shadow")
    rows_of_each.study(10, model=SHADOW)
    films = Queue(engine, WorkerSettings(), on_result=lambda at, study_id, _: priority.refresh(at, study_id))
    held = films.take("w", [SHADOW])
    assert held is not None
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as connection:
            models._give_role(connection, SHADOW, "active", "x")
            done = threads.submit(films.finish, held, Score(SHADOW, 0.9, 0.5, "abnormal", 0.1))
            threading.Event().wait(OVERTAKES_S)
        assert done.result(timeout=30)
    with reading(engine) as connection:
        assert connection.execute(select(study.c.rank)).scalar_one() == priority.ABNORMAL


def test_a_film_given_back_while_its_model_is_retired_is_dropped(rows_of_each: Rows) -> None:
    engine = rows_of_each.engine
    with engine.begin() as connection:
        add_model(connection, SHADOW, "shadow")
    rows_of_each.study(10, model=SHADOW)
    films = Queue(engine, WorkerSettings())
    held = films.take("w", [SHADOW])
    assert held is not None
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as connection:
            models._give_role(connection, SHADOW, "retired", "x")
            done = threads.submit(films.fail, held, "no luck")
            threading.Event().wait(OVERTAKES_S)
        assert done.result(timeout=30)
    with reading(engine) as connection:
        assert connection.execute(select(job.c.id)).all() == []


@pytest.mark.parametrize("film_first", [True, False])
def test_a_film_kept_while_its_stat_order_comes_is_emergent(
    rows_of_each: Rows, header: Header, film_first: bool
) -> None:
    message = Message(orm("A1"))
    both = (keep(header), lambda connection: take_orders(connection, message, sender="RIS", address=""))
    with meanwhile(rows_of_each.engine, *(both if film_first else both[::-1])) as connection:
        assert connection.execute(select(study.c.rank)).scalar_one() == priority.EMERGENT


def test_two_films_do_not_wait_for_each_other(postgres: Callable[[], str], tmp_path: Path, header: Header) -> None:
    engine = open_database(postgres())
    migrate(engine)
    other = read_header(film(tmp_path / "b.dcm", 2))
    with engine.begin() as first, engine.begin() as second:
        keep(header)(first)
        second.exec_driver_sql("SET lock_timeout = '2s'")
        keep(other)(second)
        second.commit()
    engine.dispose()
