import hl7
import pytest
from hl7apy.parser import parse_message

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.hl7.messages import Message
from cxrtriage.serve.hl7.orders import take_orders
from cxrtriage.serve.results import oru
from cxrtriage.serve.results.outbox import Context, Outbox, Refused
from cxrtriage.serve.settings import NodeSettings
from serve.hl7 import written
from serve.hl7.peer import acknowledgement, mllp_peer
from serve.results.results import Home

CONTROL_ID = "0123456789abcdef0123"


def message(home: Home, decision: str = "abnormal", **tags: str) -> hl7.Message:
    content = oru.oru(home.facts(home.result(home.film(**tags), decision=decision)), CONTROL_ID)
    assert parse_message(content.decode(), find_groups=True).validate()
    return hl7.parse(content.decode())


@pytest.mark.parametrize(
    ("decision", "code", "flag"),
    [("normal", "17621005", "N"), ("abnormal", "263654008", "A"), ("emergent", "263654008", "AA")],
)
def test_a_result_is_told_as_preliminary_and_never_as_final(home: Home, decision: str, code: str, flag: str) -> None:
    told = message(home, decision)
    observations = told.segments("OBX")
    assert str(told.segment("OBR")[25]) == "P"
    assert {str(observation[11]) for observation in observations} == {"P"}
    values = {str(observation[3]).split("^")[0]: observation for observation in observations}
    assert str(values["121402"][5]).split("^")[0] == code
    assert str(values["121402"][8]) == flag
    assert float(str(values["122157"][5])) == 0.75
    assert str(told.segment("OBR")[4]).startswith("36554-4^XR Chest Single view^LN")
    assert str(values["111003"][5]).endswith("a" * 12)
    assert str(values["110180"][5]).count(".") > 2


def test_patient_and_order_are_named_as_the_order_had_them(home: Home) -> None:
    with home.engine.begin() as connection:
        take_orders(connection, Message(written.orm("A|1^")), sender="RIS", address="")
    with home.engine.begin() as connection:
        content = written.orm("A7", filler="F7", procedure="CXR2^Chest, two views^L")
        take_orders(connection, Message(content), sender="RIS", address="")
    told = message(home, AccessionNumber="A7", PatientName="DOE^JANE^Q^DR^PHD", PatientID="P|1", PatientSex="F")
    person, request = told.segment("PID"), told.segment("OBR")
    assert str(person[5]) == "DOE^JANE^Q^PHD^DR"
    assert told.extract_field("PID", 1, 3) == "P|1"
    assert [str(request[number]) for number in (2, 3, 16, 18)] == ["PL1", "F7", "4711", "A7"]
    assert str(request[4]) == "36554-4^XR Chest Single view^LN^CXR2^Chest, two views^L"


def delivered(home: Home, port: int) -> None:
    settings = NodeSettings.model_validate({"hl7_out": {"host": "127.0.0.1", "port": port}, "delivery": {"limit_s": 2}})
    home.result(home.film(PatientName="DOE^JANE"), settings)
    delivery = Outbox(home.engine, settings.delivery).take("sender")
    assert delivery is not None
    oru.deliver(delivery, Context(home.path, settings, home.engine))


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_what_is_accepted_is_sent(home: Home, code: str) -> None:
    with mllp_peer(acknowledgement(code)) as peer:
        delivered(home, peer.port)
    assert hl7.parse(peer.received[0].decode()).segment("MSH")[9][0] is not None


@pytest.mark.parametrize(("code", "for_good"), [("AE", False), ("CE", False), ("AR", True), ("CR", True)])
def test_trouble_is_tried_again_and_a_rejection_is_parked_without_quoting_it(
    home: Home, code: str, for_good: bool
) -> None:
    with mllp_peer(acknowledgement(code, "204")) as peer, pytest.raises(DeliveryError) as caught:
        delivered(home, peer.port)
    assert isinstance(caught.value, Refused) is for_good
    assert str(caught.value).startswith(f"it answered {code}, error 204 of table 0357")
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, r"no answer within 2 s"),
        (b"", "closed the connection"),
        (b"nonsense", "no HL7 message"),
        (b"MSH|^~\\&|A\rMSA|AA|another\r", "another message"),
        (b"MSH|^~\\&|A\r", "another message"),
    ],
)
def test_anything_else_is_tried_again(home: Home, answer: bytes | None, why: str) -> None:
    with mllp_peer(lambda _: answer) as peer, pytest.raises(DeliveryError, match=why) as caught:
        delivered(home, peer.port)
    assert not isinstance(caught.value, Refused)
