"""A result for a FHIR R4 server: a delivery in, one transaction by POST out; whoever reads the server sees it.

    DiagnosticReport (preliminary) --result--> Observation (Normality, probability)
    Task (priority) --focus--> DiagnosticReport

Identifiers are made from the film and the model. Report and observation are updated where the server has
theirs; a task that is there stays as it is, since somebody may have done it. The patient is named by
identifier alone.

References
----------
FHIR R4, 3.1.0.11 (transaction), 3.1.0.4.3 (conditional update), 3.1.0.8.1 (conditional create).
"""

import json
import os
import uuid
from typing import Any
from urllib.parse import urlencode

from cxrtriage.serve.database import reading
from cxrtriage.serve.notify.posting import post
from cxrtriage.serve.results.facts import ResultFacts, result_facts
from cxrtriage.serve.results.oru import CAUTION
from cxrtriage.serve.results.outbox import Context, Delivery, Refused

TOKEN_VARIABLE = "CXRTRIAGE_FHIR_TOKEN"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED = "http://snomed.info/sct"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
IDENTIFIERS = "urn:ietf:rfc:3986"
NORMALITY = {
    "normal": ("17621005", "Normal", "N"),
    "abnormal": ("263654008", "Abnormal", "A"),
    "emergent": ("263654008", "Abnormal", "AA"),
}
PRIORITIES = ("routine", "urgent", "asap", "stat")  # http://hl7.org/fhir/request-priority, ascending
PRIORITY_OF_DECISION = {"normal": "routine", "abnormal": "urgent", "emergent": "stat"}
Json = dict[str, Any]


def deliver(delivery: Delivery, context: Context) -> None:
    """Post one result.

    Raises
    ------
    Refused
        If the server refuses it for good.
    DeliveryError
        If the server does not answer, or may take it another time.
    """
    if delivery.result_id is None:
        raise Refused("this delivery names no result.")
    with reading(context.engine) as connection:
        facts = result_facts(connection, context.home, delivery.result_id)
    headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    post(context.settings.fhir.url, json.dumps(bundle(facts)).encode(), headers, context.settings.delivery.limit_s)


def bundle(facts: ResultFacts) -> Json:
    """Return the transaction that tells a result."""
    observation, report, task = (_urn(facts, kind) for kind in ("Observation", "DiagnosticReport", "Task"))
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            _entry(observation, "PUT", _observation(facts, observation)),
            _entry(report, "PUT", _report(facts, report, observation)),
            _entry(task, "POST", _task(facts, task, report)),
        ],
    }


def _entry(urn: str, method: str, resource: Json) -> Json:
    """Return one resource and what the server is to do with it."""
    query = urlencode({"identifier": f"{IDENTIFIERS}|{urn}"})
    kind = resource["resourceType"]
    if method == "PUT":
        return {"fullUrl": urn, "resource": resource, "request": {"method": "PUT", "url": f"{kind}?{query}"}}
    request = {"method": "POST", "url": kind, "ifNoneExist": query}
    return {"fullUrl": urn, "resource": resource, "request": request}


def _urn(facts: ResultFacts, kind: str) -> str:
    """Return what a resource is called for ever: made from the film's content and the model."""
    made_from = [kind, facts.sop_instance_uid, facts.content_sha256, facts.model_sha256]
    return uuid.uuid5(uuid.NAMESPACE_OID, " ".join(made_from)).urn


def _observation(facts: ResultFacts, urn: str) -> Json:
    code, display, flag = NORMALITY[facts.decision]
    model = f"cxrtriage {facts.architecture} {facts.model_version}"
    return {
        "resourceType": "Observation",
        "identifier": [_identifier(urn)],
        "status": "preliminary",
        "code": _concept(DICOM, "121402", "Normality"),
        **_subject(facts, "subject"),
        "effectiveDateTime": facts.received_at.isoformat(),
        "issued": facts.made_at.isoformat(),
        "valueCodeableConcept": _concept(SNOMED, code, display),
        "interpretation": [_concept(INTERPRETATION, flag)],
        "note": [{"text": CAUTION}],
        "bodySite": _concept(SNOMED, "816094009", "Chest"),
        "device": {"identifier": {"value": facts.model_sha256}, "display": model},
        "component": [
            _quantity("122157", "Probability", facts.probability),
            {"code": {"text": "Operating point: abnormal at or above"}, **_value(facts.threshold)},
        ],
    }


def _report(facts: ResultFacts, urn: str, observation: str) -> Json:
    code, display, _ = NORMALITY[facts.decision]
    report: Json = {
        "resourceType": "DiagnosticReport",
        "identifier": [_identifier(urn)],
        "status": "preliminary",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
        "code": _concept("http://loinc.org", "36554-4", "XR Chest Single view"),
        **_subject(facts, "subject"),
        "effectiveDateTime": facts.received_at.isoformat(),
        "issued": facts.made_at.isoformat(),
        "result": [{"reference": observation}],
        "imagingStudy": [
            {
                "type": "ImagingStudy",
                "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{facts.study_instance_uid}"},
            }
        ],
        "conclusion": f"{display}, probability {facts.probability:.2f}. {CAUTION}",
        "conclusionCode": [_concept(SNOMED, code, display)],
    }
    if facts.accession_number:
        report["basedOn"] = [{"type": "ServiceRequest", "identifier": _accession(facts.accession_number)}]
    return report


def _task(facts: ResultFacts, urn: str, report: str) -> Json:
    """Return the request to read the study, as urgent as result or order say, whichever is more."""
    said = [PRIORITY_OF_DECISION[facts.decision], facts.order.priority if facts.order else "routine"]
    return {
        "resourceType": "Task",
        "identifier": [_identifier(urn)],
        "status": "requested",
        "intent": "order",
        "priority": max(said, key=PRIORITIES.index),
        "code": {"text": "Read this chest radiograph"},
        "focus": {"reference": report},
        **_subject(facts, "for"),
        "authoredOn": facts.made_at.isoformat(),
    }


def _subject(facts: ResultFacts, field: str) -> Json:
    number = facts.patient.patient_id
    return {field: {"type": "Patient", "identifier": {"value": number}}} if number else {}


def _identifier(urn: str) -> Json:
    return {"system": IDENTIFIERS, "value": urn}


def _accession(number: str) -> Json:
    kind = _concept("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID")
    return {"type": kind, "value": number}


def _concept(system: str, code: str, display: str = "") -> Json:
    coding = {"system": system, "code": code, **({"display": display} if display else {})}
    return {"coding": [coding]}


def _quantity(code: str, display: str, value: float) -> Json:
    return {"code": _concept(DICOM, code, display), **_value(value)}


def _value(value: float) -> Json:
    return {"valueQuantity": {"value": round(value, 4), "system": "http://unitsofmeasure.org", "code": "1"}}
