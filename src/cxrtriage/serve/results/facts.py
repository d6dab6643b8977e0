"""What every message about a result is made from: the key of a result in, its facts out; `plan`'s kinds read them.

They come from the rows alone, so that they are there in milliseconds and also when the film is gone. A DICOM
object needs more of the film's header; `structured_report` and `overlay` read that from the film itself.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select

from cxrtriage.serve.header import Patient
from cxrtriage.serve.hl7.orders import Order, order_of
from cxrtriage.serve.tables import instance, model_version, patient, result, study


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """A result, its film, its patient and its model.

    Parameters
    ----------
    content_sha256 : of the film's pixels and header
    film : its file, absolute; retention may have deleted it
    model_sha256 : of the model file
    model_name : of the file that was added
    model_version : of cxrtriage that wrote the model, and the beginning of its hash: changes with every model
    probability, threshold : in [0, 1]
    decision : "normal", "abnormal" or "emergent"
    order : None where none came
    """

    result_id: int
    study_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    content_sha256: str
    film: Path
    accession_number: str
    patient: Patient
    model_sha256: str
    model_name: str
    model_version: str
    architecture: str
    probability: float
    threshold: float
    decision: str
    made_at: datetime
    received_at: datetime
    order: Order | None


def result_facts(connection: Connection, home: Path, result_id: int) -> ResultFacts:
    """Return what is known of a result.

    Parameters
    ----------
    connection : may be one that only reads
    home : the node's folder
    result_id : key of a row of `result`

    Raises
    ------
    sqlalchemy.exc.NoResultFound
        If there is no such result.
    """
    row = connection.execute(
        select(
            result,
            instance.c.study_id,
            instance.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.content_sha256,
            instance.c.path,
            instance.c.received_at,
            study.c.study_instance_uid,
            study.c.accession_number,
            model_version.c.name.label("model_name"),
            model_version.c.card,
        )
        .join_from(result, instance)
        .join(study)
        .join(model_version, model_version.c.sha256 == result.c.model_sha256)
        .where(result.c.id == result_id)
    ).one()
    card = json.loads(row.card)  # not as a `ModelCard`, or every process that sends would load torch
    return ResultFacts(
        result_id=row.id,
        study_id=row.study_id,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        content_sha256=row.content_sha256,
        film=home.absolute() / row.path,
        accession_number=row.accession_number,
        patient=_patient(connection, row.instance_id),
        model_sha256=row.model_sha256,
        model_name=row.model_name,
        model_version=f"{card['version']}+{row.model_sha256[:12]}",
        architecture=card["architecture"],
        probability=row.probability,
        threshold=row.threshold,
        decision=row.decision,
        made_at=row.made_at,
        received_at=row.received_at,
        order=order_of(connection, row.study_instance_uid, row.accession_number),
    )


def _patient(connection: Connection, instance_id: int) -> Patient:
    row = connection.execute(select(patient).where(patient.c.instance_id == instance_id)).first()
    if row is None:  # deleted, or withheld from this database role
        return Patient(name="", patient_id="", birth_date="", sex="")
    return Patient(name=row.name, patient_id=row.patient_id, birth_date=row.birth_date, sex=row.sex)
