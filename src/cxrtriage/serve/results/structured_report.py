"""A result as DICOM evidence: its facts in, a Comprehensive 3D SR (TID 1500) out; `evidence` sends it.

    Imaging Measurement Report
    ├── observer: the model as a device, by its UID
    ├── procedure reported: the order's code, else a single-view chest film
    └── Imaging Measurements
        └── Measurement Group: tracking, chest, algorithm, source image
            ├── Normality: Normal or Abnormal
            └── Probability that the film is abnormal

It is complete, preliminary and unverified: no person has seen it.
"""

import warnings

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from cxrtriage.serve.hl7.orders import Order
from cxrtriage.serve.results.dicom_object import (
    MANUFACTURER,
    derived_uid,
    device_uid,
    finish,
    instance_uid,
    read_source,
    series_uid,
)
from cxrtriage.serve.results.facts import ResultFacts

KIND = "structured report"
SERIES_NUMBER = 9901
SINGLE_VIEW = Code("36554-4", "LN", "XR Chest Single view")
NORMALITY = Code("121402", "DCM", "Normality")
CALLED = {
    "normal": Code("17621005", "SCT", "Normal"),
    "abnormal": Code("263654008", "SCT", "Abnormal"),
    "emergent": Code("263654008", "SCT", "Abnormal"),  # the code list knows no degrees; the parameters tell
}
DECIMALS = 6  # of a probability; a DS has 16 characters


def make_structured_report(facts: ResultFacts) -> Dataset:
    """Make the structured report of a result.

    Parameters
    ----------
    facts : of the result; its film must be there, since patient and study are copied from it

    Returns
    -------
    pydicom.Dataset
        With file meta information; the same for the same facts, byte for byte.

    Raises
    ------
    Refused
        If the film is gone or cannot be read.

    References
    ----------
    DICOM PS3.16 TID 1500 (Measurement Report) and TID 1501 (Measurement and Qualitative Evaluation Group);
    PS3.3 A.35.13 (Comprehensive 3D SR).
    """
    source = read_source(facts)
    procedure = procedure_reported(facts.order)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what highdicom finds odd in others' values quotes them
        report = sr.Comprehensive3DSR(
            evidence=[_reference(facts)],
            content=_content(facts, procedure),
            series_instance_uid=series_uid(KIND, facts),
            series_number=SERIES_NUMBER,
            sop_instance_uid=instance_uid(KIND, facts),
            instance_number=facts.result_id,
            manufacturer=MANUFACTURER,
            is_complete=True,
            is_final=False,
            is_verified=False,
            series_description="cxrtriage: preliminary result",
        )
        finish(report, source, facts, texts=[procedure.meaning])
    return report


def procedure_reported(order: Order | None) -> Code:
    """Return the code of the procedure: the order's where it can stand in DICOM, else a single-view chest film.

    Examples
    --------
    >>> procedure_reported(None).meaning
    'XR Chest Single view'
    """
    if order is None or not order.procedure_code.strip() or not order.procedure_scheme.strip():
        return SINGLE_VIEW
    parts = (order.procedure_code, order.procedure_scheme, order.procedure_text or order.procedure_code)
    code, scheme, meaning = (_one_line(part) for part in parts)
    if len(code) > 16 or len(scheme) > 16 or not (code + scheme).isascii():  # PS3.3 8.1, 8.2: SH
        return SINGLE_VIEW
    return Code(code, scheme, meaning[:64].strip())


def _content(facts: ResultFacts, procedure: Code) -> sr.MeasurementReport:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(facts),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=facts.architecture,
        serial_number=facts.model_sha256[:12],
    )
    algorithm = sr.AlgorithmIdentification(
        name=f"{MANUFACTURER} {facts.architecture}",
        version=facts.model_version,
        parameters=[
            f"model file sha256 {facts.model_sha256}",
            f"operating point {round(facts.threshold, DECIMALS)}: abnormal at or above",
            f"called {facts.decision}",
        ],
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=derived_uid("tracking", facts.sop_instance_uid, facts.content_sha256, facts.model_sha256),
            identifier="chest film triage",
        ),
        algorithm_id=algorithm,
        finding_sites=[sr.FindingSite(anatomic_location=Code("816094009", "SCT", "Chest"))],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=facts.sop_class_uid, referenced_sop_instance_uid=facts.sop_instance_uid
            )
        ],
        measurements=[
            sr.Measurement(
                name=codes.DCM.Probability, value=round(facts.probability, DECIMALS), unit=codes.UCUM.NoUnits
            )
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(name=NORMALITY, value=CALLED[facts.decision])],
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=codes.DCM.Device, observer_identifying_attributes=device
            )
        ),
        procedure_reported=procedure,
        imaging_measurements=[group],
    )


def _reference(facts: ResultFacts) -> Dataset:
    """Return what highdicom needs of the film to refer to it; `finish` gives the report its patient and study."""
    film = Dataset()
    film.SOPClassUID = facts.sop_class_uid
    film.SOPInstanceUID = facts.sop_instance_uid
    film.StudyInstanceUID = facts.study_instance_uid
    film.SeriesInstanceUID = facts.series_instance_uid
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(film, keyword, "")
    film.StudyDate = film.StudyTime = None
    return film


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() and sign != "\\" else " " for sign in text).split())
