import hashlib
import hmac
import time

import pytest

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.notify import webhook
from cxrtriage.serve.results.outbox import Delivery, Refused
from serve.notify.http_peer import http_peer
from serve.notify.node import Node
from serve.worklist.rows import Rows


@pytest.fixture
def delivery(node: Node, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Delivery:
    monkeypatch.setenv(webhook.SECRET_VARIABLE, "secret")
    node.order("A1", provider="")
    node.tell(rows.study(accession_number="A1", person="DOE^JANE"))
    return node.take("webhook")


def test_a_post_is_signed_and_holds_a_link_and_no_word_on_the_patient(node: Node, delivery: Delivery) -> None:
    with http_peer(200) as peer:
        node.set("webhook", url=f"{peer.url}/page")
        webhook.deliver(delivery, node.context)
        webhook.deliver(delivery, node.context)
    posted, again = peer.posted
    assert posted.path == "/page"
    assert posted.json["link"] == f"https://triage.hospital.example/notices/{delivery.content['token']}"
    assert (posted.json["recipient"], posted.json["contact"], posted.json["step"]) == ("ward", "pager-3", 1)
    assert posted.json["id"] == again.json["id"]
    at = posted.headers["x-cxrtriage-timestamp"]
    assert abs(int(at) - time.time()) < 60
    expected = hmac.new(b"secret", at.encode() + b"." + posted.content, hashlib.sha256).hexdigest()
    assert posted.headers["x-cxrtriage-signature"] == f"sha256={expected}"
    assert not any(word in posted.content for word in (b"DOE", b"P1", b"A1", b"1.2.3"))


@pytest.mark.parametrize(
    ("status", "for_good"),
    [(500, False), (503, False), (429, False), (408, False), (400, True), (401, True), (404, True), (302, True)],
)
def test_an_answer_says_whether_to_try_again(node: Node, delivery: Delivery, status: int, for_good: bool) -> None:
    with http_peer(status, 200) as peer:
        node.set("webhook", url=peer.url)
        with pytest.raises(DeliveryError, match=f"answered {status}") as caught:
            webhook.deliver(delivery, node.context)
        assert isinstance(caught.value, Refused) is for_good
        webhook.deliver(delivery, node.context)


def test_no_answer_is_tried_again(node: Node, delivery: Delivery) -> None:
    node.set("delivery", limit_s=0.2)
    with http_peer(0) as peer:
        node.set("webhook", url=peer.url)
        with pytest.raises(DeliveryError, match=r"no answer within 0\.2 s"):
            webhook.deliver(delivery, node.context)
    with pytest.raises(DeliveryError, match="cannot be reached"):
        webhook.deliver(delivery, node.context)


def test_without_a_secret_nothing_is_posted(node: Node, delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(webhook.SECRET_VARIABLE)
    with http_peer(200) as peer:
        node.set("webhook", url=peer.url)
        with pytest.raises(Refused, match="CXRTRIAGE_WEBHOOK_SECRET is not set"):
            webhook.deliver(delivery, node.context)
    assert peer.posted == []
