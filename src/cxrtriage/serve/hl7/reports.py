"""Final reports: ORU^R01 in, studies marked read out; they leave the reading list.

Only OBR-25 F (final) or C (corrected) counts, and of the observations only those with the same word in OBX-11: a
preliminary result, such as this node's own on its way back, marks nothing.

References
----------
HL7 Version 2.5.1, 7.3.1 (ORU), tables 0123 (OBR-25), 0085 (OBX-11), 0078 (OBX-8).
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, or_, select

from cxrtriage.serve import audit
from cxrtriage.serve.header import valid_uid
from cxrtriage.serve.hl7.messages import Message, NotHl7Error, Segment
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import imaging_order, instance, patient, study
from cxrtriage.serve.worklist import priority, reviews

LOGGER = logging.getLogger(__name__)
FINAL = {"F", "C"}
STUDY_UID_CODES = {"110180", "113014"}  # DCM Study Instance UID; DICOM Study
BY = "final report"


def take_reports(
    connection: Connection, message: Message, *, sender: str, address: str, settings: NodeSettings, home: Path
) -> int:
    """Mark as read the studies that a message has final reports of; a study that is not here is none of ours.

    Parameters
    ----------
    connection : of the transaction that is committed before the message is answered
    sender, address : who sent it, for the audit trail
    settings, home : as `reviews.mark_read` takes them

    Returns
    -------
    int
        How many studies were marked.

    Raises
    ------
    NotHl7Error
        If it has no segment OBR.
    """
    if not message.named("OBR"):
        raise NotHl7Error("it has no segment OBR.")
    marked = 0
    for request, observations in _reports(message):
        if request.value(25).upper() not in FINAL:
            continue
        abnormal = _abnormal(observations)
        for row in connection.execute(_matching(request, observations).order_by(study.c.id)).all():
            if not _same_patient(connection, row.id, message):
                LOGGER.warning(
                    "a final report names study %s, but another patient; not marked read", row.study_instance_uid
                )
                continue
            if row.read_at is not None and abnormal in (None, row.reported_abnormal):
                continue  # the same report again, or one that adds nothing
            audit.record(
                connection,
                "order",
                actor=sender,
                action="U",
                address=address,
                study_instance_uid=row.study_instance_uid,
                detail={"report": request.value(25).upper()},
            )
            reviews.mark_read(connection, row.id, BY, abnormal, settings=settings, home=home)
            marked += 1
    return marked


def _reports(message: Message) -> Iterator[tuple[Segment, list[Segment]]]:
    """Yield each OBR with the OBX that belong to it."""
    request: Segment | None = None
    observations: list[Segment] = []
    for segment in message.segments:
        if segment.name == "OBR":
            if request is not None:
                yield request, observations
            request, observations = segment, []
        elif segment.name == "OBX":
            observations.append(segment)
    if request is not None:
        yield request, observations


def _abnormal(observations: list[Segment]) -> bool | None:
    """Return what a report found, from OBX-8; None where it does not say."""
    flags = {
        observation.value(8, 1, number).upper()
        for observation in observations
        if observation.value(11).upper() in ("", *FINAL)
        for number in observation.repetitions(8)
    }
    if flags & {"A", "AA"}:
        return True
    return False if "N" in flags else None


def _matching(request: Segment, observations: list[Segment]) -> Select[Any]:
    """Return which studies a report is on: by UID, accession number, or the order that has its number."""
    uids = [observation.value(5) for observation in observations if observation.value(3) in STUDY_UID_CODES]
    conditions: list[ColumnElement[bool]] = [study.c.study_instance_uid.in_([uid for uid in uids if valid_uid(uid)])]
    accession_number, filler = request.value(18), request.value(3)
    if accession_number or filler:
        conditions.append(study.c.accession_number == (accession_number or filler))
    if filler:
        ordered = priority.order_matches(study.c.study_instance_uid, study.c.accession_number)
        conditions.append(exists().where(imaging_order.c.filler_order_number == filler, ordered))
    return select(study).where(or_(*conditions))


def _same_patient(connection: Connection, study_id: int, message: Message) -> bool:
    """Tell whether a report can be on a study's patient: accession numbers of two hospitals may be the same.

    Numbers are compared without leading zeros, which systems add or drop; without any there is nothing to compare.
    """
    reported = {
        _bare(person.value(field, 1, number))
        for person in message.named("PID")
        for field in (2, 3, 4)
        for number in person.repetitions(field)
    } - {""}
    here = {
        _bare(patient_id)
        for patient_id in connection.execute(
            select(patient.c.patient_id).join_from(patient, instance).where(instance.c.study_id == study_id)
        ).scalars()
    } - {""}
    return not reported or not here or bool(reported & here)


def _bare(number: str) -> str:
    return number.strip().casefold().lstrip("0")
