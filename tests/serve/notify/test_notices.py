import hashlib
import json
import threading

import pytest
from sqlalchemy import select

from cxrtriage.serve import node_state
from cxrtriage.serve.database import reading
from cxrtriage.serve.notify import mail, notices
from cxrtriage.serve.results.outbox import Refused
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import audit, notice, outbox
from cxrtriage.serve.worklist import reviews
from serve.notify.node import TABLE, Node
from serve.worklist.rows import Rows

SMITH, WARD_MAIL, WARD_PAGER, ON_CALL = (
    (1, "smith", "mail"),
    (2, "ward", "mail"),
    (2, "ward", "webhook"),
    (3, "oncall", "webhook"),
)


@pytest.fixture
def ordered(node: Node, rows: Rows) -> str:
    """A study that Dr Smith ordered for the ICU."""
    node.order("A1")
    return rows.study(accession_number="A1")


@pytest.fixture
def ordered_in_each(node_of_each: Node, rows_of_each: Rows) -> str:
    node_of_each.order("A1")
    return rows_of_each.study(accession_number="A1")


def token(node: Node, number: int = 0) -> str:
    with reading(node.engine) as connection:
        contents = connection.execute(select(outbox.c.content).order_by(outbox.c.id)).scalars().all()
    return json.loads(contents[number])["token"]


def acknowledge(node: Node, number: int = 0, name: str = "dr.smith") -> notices.NoticeRow | None:
    given = token(node, number)
    with node.engine.begin() as connection:
        return notices.acknowledge(connection, given, name)


def test_who_ordered_is_told_once_and_only_the_hash_of_the_link_is_kept(
    node_of_each: Node, ordered_in_each: str
) -> None:
    node = node_of_each
    node.tell(ordered_in_each)
    node.tell(ordered_in_each)
    assert node.told() == [SMITH]
    with reading(node.engine) as connection:
        row = connection.execute(select(notice)).one()
    assert row.token_sha256 == hashlib.sha256(token(node).encode()).hexdigest()
    assert token(node) not in str(row)
    assert (row.escalate_at - row.made_at).total_seconds() == 30 * 60


def test_the_link_is_forgotten_once_it_was_sent_and_still_leads_to_its_study(
    node_of_each: Node, ordered_in_each: str
) -> None:
    node = node_of_each
    node.tell(ordered_in_each)
    given, delivery = token(node), node.take()
    node.deliveries.fail(delivery, "the server is away")
    assert token(node) == given, "it will be sent again"
    assert node.deliveries.sent(node.take())
    with reading(node.engine) as connection:
        assert given not in str(connection.execute(select(outbox)).all())
        found = notices.find_notice(connection, given)
    assert found is not None
    assert found.study_instance_uid == ordered_in_each


@pytest.mark.parametrize(
    ("section", "values", "promised"),
    [
        ("mail", {}, "The physician is told."),
        ("notice", {"when": "result"}, "not a reader's word"),
        ("reading", {"shadow": True}, "In shadow mode nobody is told"),
    ],
)
def test_readers_are_promised_a_notice_only_where_one_follows(
    node: Node, ordered: str, section: str, values: dict[str, object], promised: str
) -> None:
    node.set(section, **values)
    with node.engine.begin() as connection:
        assert promised in notices.what_follows(connection, node.settings)
        reviews.give_verdict(
            connection, node.key(ordered), "x", "emergent", False, settings=node.settings, home=node.home
        )
    assert bool(node.told()) == (promised == "The physician is told.")


def test_no_notice_is_promised_while_the_model_is_off_or_nothing_is_set_up(node: Node) -> None:
    with node.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, "new detector")
        assert "no notice leaves before it is on again" in notices.what_follows(connection, node.settings)
        assert "Notices are not set up" in notices.what_follows(connection, NodeSettings())


def test_the_service_is_told_where_the_physician_is_unknown(node: Node, rows: Rows) -> None:
    uid = rows.study(accession_number="A1")
    node.order("A1", provider="99^Nobody")
    node.tell(uid)
    assert node.told() == [(1, "ward", "mail"), (1, "ward", "webhook")]


def test_who_ordered_is_told_at_the_orders_address_where_the_table_has_none(node: Node, rows: Rows) -> None:
    uid = rows.study(accession_number="A1")
    node.order("A1", provider="99^Nobody", ward="ED", callback="^NET^Internet^n.body@hospital.example")
    node.tell(uid)
    assert node.told() == [(1, "n.body@hospital.example", "mail")]
    message = notices.message_of(node.take(), node.context)
    assert message is not None
    assert message.contact.email == "n.body@hospital.example"


def test_the_table_comes_before_the_orders_address(node: Node, rows: Rows) -> None:
    uid = rows.study(accession_number="A1")
    node.order("A1", callback="^NET^Internet^elsewhere@hospital.example")
    node.tell(uid)
    assert node.told() == [SMITH]


def test_the_contact_is_found_by_the_films_header_too(node: Node, rows: Rows) -> None:
    from serve.peers import film

    uid = rows.study(accession_number="")
    (node.home / "films").mkdir()
    film(node.home / "films" / "1.dcm", ReferringPhysicianName="SMITH^JOHN")
    node.tell(uid)
    assert node.told() == [SMITH]


def test_nobody_acknowledges_so_one_after_the_other_is_told_and_then_it_is_unanswered(
    node_of_each: Node, ordered_in_each: str
) -> None:
    node = node_of_each
    node.tell(ordered_in_each)
    assert node.escalate() == 0
    node.pass_minutes(29)
    assert node.escalate() == 0
    node.pass_minutes(2)
    assert node.escalate() == 1
    assert node.escalate() == 0
    assert node.told() == [SMITH, WARD_MAIL, WARD_PAGER]
    assert node.unanswered() == []
    node.pass_minutes(31)
    assert node.escalate() == 2  # both of the ward's; the next is told once
    assert node.told() == [SMITH, WARD_MAIL, WARD_PAGER, ON_CALL]
    node.pass_minutes(31)
    assert node.escalate() == 1
    assert node.told()[-1] == ON_CALL
    (left,) = node.unanswered()
    assert left.study_instance_uid == ordered_in_each
    assert left.recipients == ("smith", "ward", "oncall")
    assert left.waited_s == pytest.approx(93 * 60, abs=30)


def test_senders_on_two_machines_tell_the_next_contact_once(node_of_each: Node, ordered_in_each: str) -> None:
    node = node_of_each
    node.tell(ordered_in_each)
    node.pass_minutes(31)
    threads = [threading.Thread(target=node.escalate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert node.told() == [SMITH, WARD_MAIL, WARD_PAGER]


def test_unanswered_is_shown_also_while_no_sender_runs(node: Node, ordered: str) -> None:
    node.tell(ordered)
    node.pass_minutes(32)
    assert [left.recipients for left in node.unanswered()] == [("smith",)]


def test_an_acknowledged_study_goes_no_further(node_of_each: Node, ordered_in_each: str) -> None:
    node = node_of_each
    node.tell(ordered_in_each)
    found = acknowledge(node)
    assert found is not None
    assert (found.study_instance_uid, found.acknowledged_by, found.recipient) == (ordered_in_each, "dr.smith", "smith")
    again = acknowledge(node, name="somebody else")
    assert again == found  # who did first stays
    with reading(node.engine) as connection:
        assert notices.find_notice(connection, token(node)) == found
    node.pass_minutes(40)
    node.escalate()
    assert node.told() == [SMITH]
    assert node.unanswered() == []
    with reading(node.engine) as connection:
        events = connection.execute(select(audit.c.event, audit.c.actor).where(audit.c.actor == "dr.smith")).all()
        assert len(events) == 1


def test_a_later_contact_acknowledges_for_all(node: Node, ordered: str) -> None:
    node.tell(ordered)
    node.pass_minutes(31)
    node.escalate()
    acknowledge(node, 2)
    node.pass_minutes(31)
    node.escalate()
    assert len(node.told()) == 3
    assert node.unanswered() == []


def test_a_link_that_was_made_up_acknowledges_nothing(node: Node, ordered: str) -> None:
    node.tell(ordered)
    with node.engine.begin() as connection:
        assert notices.acknowledge(connection, "made up", "x") is None
        assert notices.find_notice(connection, "") is None


@pytest.mark.parametrize(("abnormal", "steps"), [(False, 1), (None, 1), (True, 2)])
def test_a_study_read_as_not_abnormal_goes_no_further_and_an_abnormal_one_does(
    node: Node, ordered: str, abnormal: bool | None, steps: int
) -> None:
    node.tell(ordered)
    with node.engine.begin() as connection:
        key = node.key(ordered)
        reviews.mark_read(connection, key, "reader", abnormal, settings=node.settings, home=node.home)
    node.pass_minutes(31)
    node.escalate()
    assert max(step for step, _, _ in node.told()) == steps


def test_a_report_that_does_not_say_what_it_found_takes_back_nobodys_word(node: Node, ordered: str) -> None:
    with node.engine.begin() as connection:
        key, given = node.key(ordered), {"settings": node.settings, "home": node.home}
        reviews.give_verdict(connection, key, "reader", "emergent", score_visible=False, **given)
        reviews.mark_read(connection, key, "final report", None, **given)
    node.pass_minutes(31)
    node.escalate()
    assert node.told()[-1] != SMITH
    node.pass_minutes(62)
    node.escalate()
    node.pass_minutes(62)
    assert [left.study_instance_uid for left in node.unanswered()] == [ordered]


def test_contacts_that_lead_in_a_circle_are_told_once_each(node: Node, ordered: str) -> None:
    node.write_table("key,match,email,webhook,next\na,4711,a@x.example,,b\nb,,b@x.example,,a\n")
    node.tell(ordered)
    for _ in range(4):
        node.pass_minutes(31)
        node.escalate()
    assert node.told() == [(1, "a", "mail"), (2, "b", "mail")]
    assert len(node.unanswered()) == 1


def test_an_unknown_contact_is_parked_and_told_once_the_table_is_corrected(
    node_of_each: Node, rows_of_each: Rows
) -> None:
    node, uid = node_of_each, rows_of_each.study(accession_number="A1")
    node.order("A1", provider="99^Nobody", ward="ED")
    node.tell(uid)
    node.tell(uid)
    ((state, reason),) = node.outbox()
    assert state == "parked"
    assert reason == "recipients.csv has no contact for 99 or ED. Add one, then try again."
    (parked,) = parked_ids(node)
    assert node.deliveries.retry(parked)
    with pytest.raises(Refused, match="no contact for 99 or ED"):
        mail.deliver(delivery := node.take(), node.context)
    assert node.deliveries.fail(delivery, "still unknown", park=True)
    node.write_table(TABLE + "ed,ED,ed@hospital.example,,\n")
    assert node.deliveries.retry(parked)
    delivery = node.take()
    mail.deliver(delivery, node.context)
    assert node.deliveries.sent(delivery)
    assert node.told() == [(1, "ed", "mail")]
    mail.deliver(delivery, node.context)  # a sender that died before it said so
    assert node.told() == [(1, "ed", "mail")]


def parked_ids(node: Node) -> list[int]:
    with reading(node.engine) as connection:
        return [row.id for row in node.deliveries.parked(connection)]


def test_an_unknown_next_contact_is_parked_too(node: Node, ordered: str) -> None:
    node.write_table("key,match,email,webhook,next\na,4711,a@x.example,,b\nb,,,,\n")
    node.tell(ordered)
    node.pass_minutes(31)
    node.escalate()
    assert node.outbox()[1] == (
        "parked",
        "contact b has no address for mail or webhook in recipients.csv. Add one, then try again.",
    )
    node.write_table("key,match,email,webhook,next\na,4711,a@x.example,,b\nb,,b@x.example,,\n")
    assert node.deliveries.retry(*parked_ids(node))
    node.take()
    mail.deliver(node.take(), node.context)
    assert node.told() == [(1, "a", "mail"), (2, "b", "mail")]


def test_a_study_that_names_nobody_is_parked(node: Node, rows: Rows) -> None:
    node.tell(rows.study())
    assert node.outbox()[0][1].startswith("neither an order nor the film names a physician")


def test_a_table_that_cannot_be_read_parks_the_notice_and_not_the_readers_word(node: Node, ordered: str) -> None:
    node.write_table("nonsense")
    node.tell(ordered)
    assert "first line without #" in node.outbox()[0][1]


def test_a_contact_taken_from_the_table_is_parked_when_its_turn_comes(node: Node, ordered: str) -> None:
    node.tell(ordered)
    node.write_table("key,match,email,webhook,next\n")
    with pytest.raises(Refused, match="contact smith is gone"):
        mail.deliver(node.take(), node.context)


def test_nothing_is_told_in_shadow_mode_or_without_a_channel(node: Node, ordered: str) -> None:
    settings = node.settings
    node.set("reading", shadow=True)
    node.tell(ordered)
    node.settings = settings
    node.set("mail", host="")
    node.set("webhook", url="")
    node.tell(ordered)
    assert node.outbox() == []


def test_nothing_in_database_or_reason_names_the_patient(node: Node, rows: Rows) -> None:
    uid = rows.study(accession_number="A1", person="DOE^JANE", birth_date="19500101")
    node.tell(uid)
    node.order("A1")
    node.tell(uid)
    with reading(node.engine) as connection:
        shown = "".join(str(connection.execute(select(table)).all()) for table in (outbox, notice, audit))
    assert len(node.outbox()) == 2
    assert not any(word in shown for word in ("DOE", "JANE", "19500101"))
