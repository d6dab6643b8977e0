"""The outbox: written with what it tells, given out once at a time, and never lost."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select, update

from cxrtriage.serve import database
from cxrtriage.serve.database import insert_new, reading
from cxrtriage.serve.results import outbox as module
from cxrtriage.serve.results.outbox import LONGEST_BACKOFF_S, Delivery, Outbox
from cxrtriage.serve.settings import DeliverySettings
from cxrtriage.serve.tables import audit, outbox, study
from serve.test_queue import Clock

LIMITS = DeliverySettings(attempts=3, backoff_s=10, limit_s=5)


def put(engine: Engine, key: str, destination: str = "pacs", study_uid: str = "1.2", rank: int = 0) -> int | None:
    with engine.begin() as connection:
        insert_new(connection, study, study_instance_uid=study_uid, accession_number="", received_at=database.now())
        this = study.c.study_instance_uid == study_uid
        connection.execute(update(study).where(this).values(rank=rank))
        study_id = connection.execute(select(study.c.id).where(this)).scalar_one()
        return module.put(
            connection, destination=destination, kind="oru", key=key, study_id=study_id, content={"number": 1}
        )


def states(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return list(connection.execute(select(outbox.c.state).order_by(outbox.c.id)).scalars())


def reason(engine: Engine) -> str:
    with reading(engine) as connection:
        return connection.execute(select(outbox.c.reason)).scalar_one()


def taken(deliveries: Outbox, owner: str = "a", destination: str | None = None) -> Delivery:
    delivery = deliveries.take(owner, destination)
    assert delivery is not None
    return delivery


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deliveries(engine: Engine, clock: Clock) -> Outbox:
    put(engine, "k1")
    clock.forward(60)
    return Outbox(engine, LIMITS, clock)


def test_nothing_is_in_the_outbox_when_its_transaction_fails(engine: Engine) -> None:
    put(engine, "k1")

    def fails_half_way() -> None:
        with engine.begin() as connection:
            module.put(connection, destination="pacs", kind="oru", key="k2", study_id=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_half_way()
    assert states(engine) == ["waiting"]


def test_the_same_key_is_put_once(engine: Engine) -> None:
    assert put(engine, "k1") == 1
    assert put(engine, "k1") is None
    assert states(engine) == ["waiting"]


def test_what_was_sent_is_not_taken_again_and_stands_in_the_audit_trail(engine: Engine, deliveries: Outbox) -> None:
    delivery = taken(deliveries)
    assert (delivery.destination, delivery.kind, delivery.attempt) == ("pacs", "oru", 1)
    assert delivery.content == {"number": 1}
    assert deliveries.sent(delivery)
    assert states(engine) == ["sent"]
    assert deliveries.take("a") is None
    assert not deliveries.sent(delivery)
    with reading(engine) as connection:
        told = connection.execute(select(audit.c.event, audit.c.actor, audit.c.study_instance_uid)).all()
    assert [tuple(row) for row in told] == [("transferred", "sender", "1.2")]


def test_urgent_studies_go_first_and_then_the_oldest(engine: Engine) -> None:
    for number, rank in enumerate((0, 2, 1, 2)):
        put(engine, f"k{number}", study_uid=f"1.2.{number}", rank=rank)
    deliveries = Outbox(engine, LIMITS)
    assert [taken(deliveries).key for _ in range(4)] == ["k1", "k3", "k2", "k0"]


def test_each_destination_is_taken_and_told_by_itself(engine: Engine, clock: Clock) -> None:
    for number, destination in enumerate(("pacs", "mail", "pacs")):
        put(engine, f"k{number}", destination)
    clock.forward(60)
    deliveries = Outbox(engine, LIMITS, clock)
    assert deliveries.due() == ["mail", "pacs"]
    assert taken(deliveries, destination="mail").key == "k1"
    assert deliveries.take("a", "mail") is None
    assert deliveries.due() == ["pacs"]


def test_attempts_back_off_doubling_and_end_in_a_parked_delivery_that_a_person_can_retry(
    engine: Engine, deliveries: Outbox, clock: Clock
) -> None:
    for attempt in (1, 2, 3):
        delivery = taken(deliveries)
        assert delivery.attempt == attempt
        assert deliveries.fail(delivery, "no answer")
        assert deliveries.take("a") is None
        clock.forward(LIMITS.backoff_s * 2 ** (attempt - 1) - 1)
        assert deliveries.take("a") is None
        assert deliveries.due() == []
        clock.forward(1)
    assert (states(engine), reason(engine)) == (["parked"], "no answer (3 attempts)")
    with reading(engine) as connection:
        (parked,) = Outbox.parked(connection)
    assert (parked.destination, parked.study_instance_uid, parked.attempt) == ("pacs", "1.2", 3)
    assert deliveries.retry(parked.id)
    assert not deliveries.retry(parked.id)
    assert taken(deliveries).attempt == 1


def test_the_back_off_is_never_above_an_hour(engine: Engine, clock: Clock) -> None:
    put(engine, "k1")
    clock.forward(60)
    deliveries = Outbox(engine, DeliverySettings(attempts=2000, backoff_s=10), clock)
    for _ in range(1100):  # 2 to the power of 1100 is no float
        assert deliveries.fail(taken(deliveries), "")
        clock.forward(LONGEST_BACKOFF_S)


def test_a_refusal_is_parked_at_once(engine: Engine, deliveries: Outbox) -> None:
    assert deliveries.fail(taken(deliveries), "not this one", park=True)
    assert (states(engine), reason(engine)) == (["parked"], "not this one")


def test_a_delivery_can_be_put_parked(engine: Engine) -> None:
    put(engine, "k1")
    with engine.begin() as connection:
        key = module.put(connection, destination="mail", kind="mail", key="k2", study_id=1, parked="nobody known")
    deliveries = Outbox(engine, LIMITS)
    taken(deliveries)
    assert deliveries.take("a") is None
    assert key is not None
    assert deliveries.retry(key)
    assert taken(deliveries).id == key


def test_a_sender_whose_lease_ended_can_no_longer_say_how_it_went(
    engine: Engine, deliveries: Outbox, clock: Clock
) -> None:
    slow = taken(deliveries, "slow")
    clock.forward(deliveries.lease.total_seconds() + 1)
    assert deliveries.due() == ["pacs"]
    assert deliveries.take("quick") is None  # waiting again, after the back-off
    assert "died or hung" in reason(engine)
    clock.forward(LIMITS.backoff_s)
    quick = taken(deliveries, "quick")
    assert quick.fence > slow.fence
    assert not deliveries.sent(slow)
    assert not deliveries.fail(slow, "")
    assert deliveries.sent(quick)
    assert states(engine) == ["sent"]


def test_what_a_dead_sender_held_is_back_at_once_and_nobody_elses(engine: Engine, clock: Clock) -> None:
    put(engine, "k1")
    put(engine, "k2")
    clock.forward(60)
    deliveries = Outbox(engine, LIMITS.model_copy(update={"backoff_s": 0}), clock)
    dead, alive = taken(deliveries, "dead"), taken(deliveries, "alive")
    assert deliveries.release("dead") == 1
    assert taken(deliveries, "third").id == dead.id
    assert deliveries.sent(alive)


def test_a_clock_put_back_a_year_strands_nothing(engine: Engine, deliveries: Outbox, clock: Clock) -> None:
    deliveries.fail(taken(deliveries), "")
    clock.forward(-365 * 86400)
    held = taken(deliveries)  # though its back-off ends next year
    clock.forward(-365 * 86400)
    assert deliveries.take("a") is None
    clock.forward(LONGEST_BACKOFF_S)
    assert deliveries.sent(taken(deliveries))
    assert not deliveries.sent(held)


def test_many_senders_that_die_at_random_count_each_delivery_once(engine: Engine) -> None:
    count, senders = 40, 5
    for number in range(count):
        put(engine, f"k{number}")
    deliveries = Outbox(engine, DeliverySettings(attempts=1000, backoff_s=0))
    counted: list[int] = []

    def send(number: int) -> None:
        draw = random.Random(number)
        for life in range(10_000):
            owner = f"{number}-{life}"
            delivery = deliveries.take(owner)
            if delivery is None:
                if set(states(engine)) == {"sent"}:
                    return
                continue
            fate = draw.random()
            if fate < 0.2:
                assert deliveries.release(owner) == 1
            elif fate < 0.3:
                deliveries.release(owner)
                assert not deliveries.sent(delivery)
            elif fate < 0.4:
                assert deliveries.fail(delivery, "")
            else:
                assert deliveries.sent(delivery)
                counted.append(delivery.id)

    with ThreadPoolExecutor(senders) as threads:
        list(threads.map(send, range(senders)))
    assert sorted(counted) == list(range(1, count + 1))


ACTION = st.one_of(
    st.tuples(st.just("take"), st.sampled_from("ab")),
    st.tuples(st.sampled_from(["sent", "fail", "park"]), st.integers(0, 9)),
    st.tuples(st.just("release"), st.sampled_from("ab")),
    st.tuples(st.just("pass"), st.sampled_from([1, 20, 300, 4000, -100_000])),
    st.tuples(st.just("retry"), st.sampled_from([0, 1])),
)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTION, max_size=25))
def test_no_order_of_events_strands_a_delivery_or_counts_it_twice(
    sqlite: Engine, actions: list[tuple[str, str | int]]
) -> None:
    with sqlite.begin() as connection:
        for table in (outbox, study):
            connection.execute(delete(table))
    keys = [put(sqlite, "k1"), put(sqlite, "k2")]
    clock = Clock()
    clock.forward(60)
    deliveries = Outbox(sqlite, DeliverySettings(attempts=2, backoff_s=1, limit_s=5), clock)
    given_out: list[Delivery] = []
    sent = []
    for action, argument in actions:
        if action == "take":
            delivery = deliveries.take(str(argument))
            given_out += [delivery] if delivery else []
        elif action == "pass":
            clock.forward(float(argument))
        elif action == "release":
            deliveries.release(str(argument))
        elif action == "retry":
            deliveries.retry(keys[int(argument)] or 0)
        elif given_out:
            delivery = given_out[int(argument) % len(given_out)]
            if action == "sent":
                sent += [delivery.id] if deliveries.sent(delivery) else []
            else:
                deliveries.fail(delivery, "reason", park=action == "park")
    for _ in range(6):  # with time and a living sender, every delivery comes to an end
        clock.forward(LONGEST_BACKOFF_S)
        while (delivery := deliveries.take("survivor")) is not None:
            sent += [delivery.id] if deliveries.sent(delivery) else []
    assert set(states(sqlite)) <= {"sent", "parked"}
    assert states(sqlite).count("sent") == len(sent) == len(set(sent))
