import copy
from urllib.parse import parse_qs, urlparse

import pytest
from fhir.resources.R4B.bundle import Bundle

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.hl7.messages import Message
from cxrtriage.serve.hl7.orders import take_orders
from cxrtriage.serve.results import fhir
from cxrtriage.serve.results.outbox import Context, Delivery, Outbox, Refused
from cxrtriage.serve.settings import NodeSettings
from serve.hl7 import written
from serve.notify.http_peer import http_peer
from serve.results.results import Home


def parsed(home: Home, decision: str = "abnormal", **tags: str) -> tuple:
    bundle = Bundle.model_validate(fhir.bundle(home.facts(home.result(home.film(**tags), decision=decision))))
    return tuple(entry.resource for entry in bundle.entry)


@pytest.mark.parametrize(
    ("decision", "code", "flag", "priority"),
    [
        ("normal", "17621005", "N", "routine"),
        ("abnormal", "263654008", "A", "urgent"),
        ("emergent", "263654008", "AA", "stat"),
    ],
)
def test_a_result_is_preliminary_and_its_task_as_urgent_as_it(
    home: Home, decision: str, code: str, flag: str, priority: str
) -> None:
    observation, report, task = parsed(home, decision)
    assert (observation.status, report.status, task.status) == ("preliminary", "preliminary", "requested")
    assert observation.valueCodeableConcept.coding[0].code == code
    assert observation.interpretation[0].coding[0].code == flag
    assert float(observation.component[0].valueQuantity.value) == 0.75
    assert task.priority == priority
    assert report.result[0].reference == observation.identifier[0].value
    assert task.focus.reference == report.identifier[0].value


def test_an_order_can_only_raise_the_tasks_priority(home: Home) -> None:
    for accession, level in (("A1", "S"), ("A2", "R")):
        with home.engine.begin() as connection:
            order = Message(written.orm(accession, quantity=f"1^^^^^{level}"))
            take_orders(connection, order, sender="RIS", address="")
    assert parsed(home, "normal", AccessionNumber="A1")[2].priority == "stat"
    assert parsed(home, "abnormal", AccessionNumber="A2")[2].priority == "urgent"


def test_the_patient_is_named_by_number_alone(home: Home) -> None:
    made = fhir.bundle(home.facts(home.result(home.film(PatientName="DOE^JANE", PatientID="P1"))))
    assert "DOE" not in str(made)
    assert made["entry"][0]["resource"]["subject"]["identifier"] == {"value": "P1"}


def post(home: Home, url: str, limit_s: float = 5) -> tuple[Delivery, Context]:
    settings = NodeSettings.model_validate({"fhir": {"url": url}, "delivery": {"limit_s": limit_s}})
    home.result(home.film(), settings)
    delivery = Outbox(home.engine, settings.delivery).take("sender")
    assert delivery is not None
    return delivery, Context(home.path, settings, home.engine)


def test_a_repetition_updates_instead_of_doubling(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of a few lines that keeps what the conditions of R4 leave: one of each."""
    monkeypatch.setenv(fhir.TOKEN_VARIABLE, "token")
    kept: dict[tuple[str, str], dict] = {}
    with http_peer(200) as peer:
        given = post(home, f"{peer.url}/fhir")
        fhir.deliver(*given)
        fhir.deliver(*given)
    for posted in peer.posted:
        assert posted.path == "/fhir"
        assert posted.headers["authorization"] == "Bearer token"
        assert posted.headers["content-type"] == "application/fhir+json"
        for entry in posted.json["entry"]:
            request, resource = entry["request"], copy.deepcopy(entry["resource"])
            query = request.get("ifNoneExist") or urlparse(request["url"]).query
            (condition,) = parse_qs(query)["identifier"]
            (identifier,) = resource["identifier"]
            assert condition == f"{identifier['system']}|{identifier['value']}"
            if request["method"] == "PUT" or (resource["resourceType"], condition) not in kept:
                kept[resource["resourceType"], condition] = resource
    assert sorted(kind for kind, _ in kept) == ["DiagnosticReport", "Observation", "Task"]


@pytest.mark.parametrize(
    ("status", "for_good"), [(500, False), (409, False), (0, False), (400, True), (401, True), (422, True)]
)
def test_an_answer_says_whether_to_try_again(home: Home, status: int, for_good: bool) -> None:
    with http_peer(status) as peer:
        given = post(home, peer.url, 0.5)
        with pytest.raises(DeliveryError) as caught:
            fhir.deliver(*given)
    assert isinstance(caught.value, Refused) is for_good
