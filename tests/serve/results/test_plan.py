"""Who is told of a result, and what a message is made from."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select

from cxrtriage.serve import node_state
from cxrtriage.serve.database import reading
from cxrtriage.serve.results import plan
from cxrtriage.serve.settings import (
    FhirSettings,
    Hl7OutSettings,
    MailSettings,
    NodeSettings,
    NoticeSettings,
    PacsSettings,
    ReadingSettings,
    StowSettings,
)
from cxrtriage.serve.tables import imaging_order, model_version, outbox
from serve.results.results import MADE_AT, Home

ALL = NodeSettings(
    pacs=PacsSettings(host="pacs", overlay=True),
    stow=StowSettings(url="http://pacs/dicom-web", structured_report=False, overlay=True),
    hl7_out=Hl7OutSettings(host="ris"),
    fhir=FhirSettings(url="http://fhir"),
)


def told(engine: Engine) -> set[tuple[str, str]]:
    with reading(engine) as connection:
        return {tuple(row) for row in connection.execute(select(outbox.c.destination, outbox.c.kind))}


@pytest.fixture
def node(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """On both databases."""
    made = Home(tmp_path_factory.mktemp("home"), engine)
    made.add_model()
    return made


def test_each_configured_destination_gets_each_of_its_kinds_once(node: Home) -> None:
    key = node.result(node.film(), ALL)
    expected = {
        ("pacs", "structured_report"),
        ("pacs", "overlay"),
        ("stow", "overlay"),
        ("hl7_out", "oru"),
        ("fhir", "fhir"),
    }
    assert told(node.engine) == expected
    with node.engine.begin() as connection:
        plan.result_ready(connection, ALL, key, node.path)  # the worker died after its commit, and did it again
    assert len(node.deliveries()) == len(expected)


def test_nobody_is_told_where_nothing_is_configured(node: Home) -> None:
    node.result(node.film(), NodeSettings())
    assert told(node.engine) == set()


def test_nothing_leaves_in_shadow_mode_while_the_model_is_off_or_of_another_model(node: Home) -> None:
    node.result(node.film(seed=1), ALL.model_copy(update={"reading": ReadingSettings(shadow=True)}))
    with node.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, "drift")
    node.result(node.film(seed=2), ALL)
    with node.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, "")
        connection.execute(model_version.update().values(role="shadow"))
    node.result(node.film(seed=3), ALL)
    assert told(node.engine) == set()


def test_a_site_that_chose_so_tells_the_physician_at_once_of_what_is_not_normal(node: Home) -> None:
    settings = NodeSettings(
        notice=NoticeSettings(when="result", recipients=node.path / "recipients.csv"), mail=MailSettings(host="mail")
    )
    node.result(node.film(seed=1), settings, probability=0.1, decision="normal")
    assert told(node.engine) == set()
    node.result(node.film(seed=2), settings)
    assert told(node.engine) == {("mail", "mail")}


def test_facts_come_from_result_film_patient_model_and_order(node: Home) -> None:
    instance_id = node.film(StudyInstanceUID="1.2.77", AccessionNumber="A77", PatientName="Müller^Jörg",
                            SpecificCharacterSet="ISO_IR 100")  # fmt: skip
    key = node.result(instance_id, probability=0.625)
    facts = node.facts(key)
    assert facts.order is None
    assert (facts.study_instance_uid, facts.accession_number) == ("1.2.77", "A77")
    assert (facts.probability, facts.threshold, facts.decision, facts.made_at) == (0.625, 0.5, "abnormal", MADE_AT)
    assert facts.patient.name == "Müller^Jörg"
    assert "Müller" not in repr(facts)
    assert (facts.model_sha256, facts.model_name, facts.architecture) == (node.model, "model.safetensors", "googlenet")
    assert facts.model_version.endswith("+aaaaaaaaaaaa")
    assert facts.film.is_absolute()
    assert facts.film.is_file()
    with node.engine.begin() as connection:
        for number, at in (("P1", 1), ("P2", 2)):
            connection.execute(
                imaging_order.insert().values(
                    accession_number=f"other{number}" if number == "P2" else "A77",
                    study_instance_uid="1.2.77",
                    priority="stat",
                    provider_id="dr7",
                    service="ED",
                    procedure_code="XRCH",
                    procedure_scheme="99RIS",
                    procedure_text="Chest",
                    placer_order_number=number,
                    filler_order_number="F1",
                    received_at=datetime(2026, 11, at, tzinfo=UTC),
                )
            )
    order = node.facts(key).order
    assert order is not None
    assert (order.placer_order_number, order.procedure_code, order.provider_id) == ("P2", "XRCH", "dr7")  # the latest
