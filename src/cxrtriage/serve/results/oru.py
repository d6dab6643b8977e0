"""A result as an HL7 message: a delivery in, ORU^R01 2.5.1 over MLLP out; the information system reads it.

It is preliminary throughout (OBR-25 and OBX-11 P, never F): only a radiologist's report is final. Sent again
it has the same control ID (MSH-10), so that a receiver can tell a repetition.

References
----------
HL7 Version 2.5.1, 7.3.1 (ORU), 7.4.1 (OBR), 7.4.2 (OBX); tables 0078, 0085, 0123. Codes: DICOM PS3.16 annex D, LOINC
36554-4, SNOMED CT.
"""

import hashlib

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.database import reading
from cxrtriage.serve.hl7 import mllp
from cxrtriage.serve.hl7.messages import Message, NotHl7Error, escaped, joined, segment, timestamp
from cxrtriage.serve.results.facts import ResultFacts, result_facts
from cxrtriage.serve.results.outbox import Context, Delivery, Refused

NORMALITY = {
    "normal": ("17621005^Normal^SCT", "N"),
    "abnormal": ("263654008^Abnormal^SCT", "A"),
    "emergent": ("263654008^Abnormal^SCT", "AA"),
}
PRELIMINARY = "P"
CAUTION = "Preliminary result of a computer, not for diagnosis; no radiologist has verified it."


def deliver(delivery: Delivery, context: Context) -> None:
    """Send one result and wait for the answer.

    Raises
    ------
    Refused
        If the receiver rejects it (AR), which it will do again.
    DeliveryError
        If it cannot be reached, does not answer, has trouble of its own (AE), or answers something else.
    """
    if delivery.result_id is None:
        raise Refused("this delivery names no result.")
    with reading(context.engine) as connection:
        facts = result_facts(connection, context.home, delivery.result_id)
    control_id = hashlib.sha256(delivery.key.encode()).hexdigest()[:20]
    receiver = context.settings.hl7_out
    answer = mllp.exchange(receiver.host, receiver.port, oru(facts, control_id), context.settings.delivery.limit_s)
    _check(answer, control_id)


def oru(facts: ResultFacts, control_id: str) -> bytes:
    """Return the message on a result.

    Parameters
    ----------
    control_id : MSH-10, at most 20 characters
    """
    made_at = timestamp(facts.made_at)
    order = facts.order
    accession_number = escaped(facts.accession_number)
    procedure = "36554-4^XR Chest Single view^LN"
    if order is not None and order.procedure_code:
        local = (order.procedure_code, order.procedure_text, order.procedure_scheme or "L")
        procedure = "^".join([procedure, *map(escaped, local)])
    header = {
        3: "CXRTRIAGE",
        7: made_at,
        9: "ORU^R01^ORU_R01",
        10: control_id,
        11: "P",
        12: "2.5.1",
        15: "AL",
        16: "NE",
        18: "UNICODE UTF-8",
    }
    person = {
        1: "1",
        3: escaped(facts.patient.patient_id),
        5: _name(facts.patient.name),
        7: escaped(facts.patient.birth_date),
        8: facts.patient.sex if facts.patient.sex in ("M", "F", "O") else "U",
    }
    request = {
        1: "1",
        2: escaped(order.placer_order_number) if order else "",
        3: (escaped(order.filler_order_number) if order else "") or accession_number,
        4: procedure,
        7: timestamp(facts.received_at),
        16: escaped(order.provider_id) if order else "",
        18: accession_number,
        22: made_at,
        24: "RAD",
        25: PRELIMINARY,
    }
    return joined(
        [
            segment("MSH", header),
            segment("PID", person),
            segment("OBR", request),
            *_observations(facts, made_at),
            segment("NTE", {1: "1", 2: "L", 3: escaped(CAUTION)}),
        ]
    )


def _observations(facts: ResultFacts, made_at: str) -> list[str]:
    """Return the segments OBX: normality, probability, model, study."""
    normality, flag = NORMALITY[facts.decision]
    told = [
        {2: "CWE", 3: "121402^Normality^DCM", 5: normality, 8: flag},
        {2: "NM", 3: "122157^Probability^DCM", 5: f"{facts.probability:.4f}", 6: "1^no units^UCUM"}
        | {7: f"<{facts.threshold:.4f}", 8: flag},
        {2: "ST", 3: "111001^Algorithm Name^DCM", 5: escaped(f"cxrtriage {facts.architecture}")},
        {2: "ST", 3: "111003^Algorithm Version^DCM", 5: escaped(facts.model_version)},
        {2: "ST", 3: "110180^Study Instance UID^DCM", 5: escaped(facts.study_instance_uid)},
    ]
    return [
        segment("OBX", {**part, 1: str(number), 4: "1", 11: PRELIMINARY, 14: made_at})
        for number, part in enumerate(told, 1)
    ]


def _name(name: str) -> str:
    """Return a DICOM name as XPN: of its ways of writing the first, and suffix before prefix (PS3.5 6.2.1)."""
    family, given, middle, prefix, suffix = [*name.split("=")[0].split("^"), "", "", "", "", ""][:5]
    return "^".join(escaped(part) for part in (family, given, middle, suffix, prefix)).rstrip("^")


def _check(answer: bytes, control_id: str) -> None:
    """Raise unless an answer says that the message was taken. Its texts are not repeated: they may name the patient."""
    try:
        message = Message(answer)
    except NotHl7Error as error:
        raise DeliveryError(f"its answer is no HL7 message: {error}") from error
    said = next(iter(message.named("MSA")), None)
    if said is None or said.value(2) != control_id:
        raise DeliveryError("it answered another message than was sent.")
    code = said.value(1).upper()
    if code in ("AA", "CA"):
        return
    why = next((part.value(3) for part in message.named("ERR") if part.value(3).isdigit()), "")
    told = f"it answered {code if code.isalpha() else 'nothing known'}" + (
        f", error {why} of table 0357" if why else ""
    )
    if code in ("AR", "CR"):
        raise Refused(f"{told}: rejected. See the receiver's log, then try again.")
    raise DeliveryError(f"{told}.")
