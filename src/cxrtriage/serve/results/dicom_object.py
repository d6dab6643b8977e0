"""What the node's own DICOM objects share: a result's facts in, UIDs, patient, study and equipment out.

`structured_report` and `overlay` build on it. All of an object follows from the film, the model and the
result, its UIDs and times too, so that a delivery made again is the same object, byte for byte.
"""

import hashlib
import uuid
import warnings
from collections.abc import Iterable
from datetime import datetime

from highdicom import ContributingEquipment
from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, encode_string
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import VR, PersonName

from cxrtriage import __version__
from cxrtriage.serve.results.facts import ResultFacts
from cxrtriage.serve.results.outbox import Refused

MANUFACTURER = "cxrtriage"
IMPLEMENTATION_UID = UID("2.25.43318363623442870394664661558669995174")  # PS3.7 D.3.3.2, of this program
IMPLEMENTATION_NAME = "CXRTRIAGE"
UTF_8, LATIN_1 = "ISO_IR 192", "ISO_IR 100"

# Copied as they are, so that a PACS files the object where the film is. PS3.3 C.7.1.1, C.7.2.1, C.7.2.2
PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDsSequence", "EthnicGroup",
    "PatientSpeciesDescription", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
    "ProcedureCodeSequence", "PatientAge", "PatientSize", "PatientWeight", "AdmissionID",
)  # fmt: skip
MUST_BE_THERE = (  # type 2: empty where the film has none
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
SOURCE = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "PatientOrientation", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip


def derived_uid(*parts: str) -> UID:
    """Return a UID that follows from what it names, always the same.

    References
    ----------
    DICOM PS3.5 B.2 (UUID derived UID); RFC 4122 4.3, with SHA-256 instead of SHA-1.

    Examples
    --------
    >>> derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab", "")
    True
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def instance_uid(kind: str, facts: ResultFacts) -> UID:
    """Return the SOP Instance UID of what is made of a kind from a film, in one content of it, by a model."""
    return derived_uid(kind, facts.sop_instance_uid, facts.content_sha256, facts.model_sha256)


def series_uid(kind: str, facts: ResultFacts) -> UID:
    """Return the Series Instance UID of all that is made of a kind in a study by a model."""
    return derived_uid(kind, "series", facts.study_instance_uid, facts.model_sha256)


def device_uid(facts: ResultFacts) -> UID:
    """Return the UID of the model as a device: another model, another device."""
    return derived_uid("device", facts.model_sha256)


def read_source(facts: ResultFacts) -> Dataset:
    """Read of the film's header what an object made from it needs.

    Raises
    ------
    Refused
        If the film is gone, or its header can no longer be read.
    """
    tags = [Tag(keyword) for keyword in (*PATIENT_AND_STUDY, *SOURCE)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            source: Dataset = dcmread(facts.film, stop_before_pixels=True, specific_tags=tags)
            source.decode()
    except FileNotFoundError:
        raise Refused(
            f"the film of instance {facts.sop_instance_uid} has been deleted, so nothing can be made from it."
        ) from None
    except Exception as error:
        raise Refused(
            f"the film of instance {facts.sop_instance_uid} cannot be read ({type(error).__name__}). Check the disk."
        ) from None
    return source


def local_time(source: Dataset, time: datetime) -> datetime:
    """Return a time as an object made from a film gives it: in the film's zone, else in this machine's.

    The zone of one object holds for all its times, the study's among them, which are the film's.
    """
    offset = str(source.get("TimezoneOffsetFromUTC") or "")
    try:
        return time.astimezone(datetime.strptime(offset, "%z").tzinfo)
    except ValueError:
        return time.astimezone()


def finish(made: Dataset, source: Dataset, facts: ResultFacts, texts: Iterable[str] = ()) -> None:
    """Give an object its patient and study, its times, its equipment and its character set.

    Parameters
    ----------
    made : the object, changed in place
    source : from `read_source`
    facts : of the result
    texts : of the object beside the film's, which its character set must have too
    """
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            made[keyword] = source[keyword]
        elif keyword in MUST_BE_THERE:
            setattr(made, keyword, "")
        elif keyword in made:
            delattr(made, keyword)
    made.StudyInstanceUID = facts.study_instance_uid
    chosen = character_set(source, texts)
    if chosen:
        made.SpecificCharacterSet = chosen
    elif "SpecificCharacterSet" in made:
        del made.SpecificCharacterSet
    _set_times(made, source, facts)
    made.Manufacturer = MANUFACTURER
    made.ManufacturerModelName = facts.architecture
    made.DeviceSerialNumber = facts.model_sha256[:12]
    made.SoftwareVersions = [__version__, facts.model_version]
    made.ContributingEquipmentSequence = [_equipment(facts)]
    meta = made.file_meta
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME


def character_set(source: Dataset, texts: Iterable[str]) -> str | list[str]:
    """Choose the character set of an object: the film's, since its PACS knows it, or UTF-8 where that is too small.

    A film that names none but has other than ASCII letters is read as Latin-1 by the whole node, and so
    written.
    """
    named = source.get("SpecificCharacterSet") or ""
    chosen = list(named) if not isinstance(named, str) else named
    words = [*_words(source), *texts]
    if not chosen and all(word.isascii() for word in words):
        return []  # the default repertoire: the element is left out
    chosen = chosen or LATIN_1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encodings = convert_encodings(chosen)
            for word in words:
                encode_string(word, encodings)
    except (UserWarning, UnicodeError, LookupError, ValueError):
        return UTF_8
    return chosen


def _words(data_set: Dataset) -> Iterable[str]:
    """Yield all text of a data set that the character set governs."""
    for element in data_set:
        if element.VR == VR.SQ:
            for item in element.value:
                yield from _words(item)
        elif element.VR == VR.PN:
            values = element.value if element.VM > 1 else [element.value]
            yield from (str(value) for value in values if isinstance(value, PersonName))
        elif element.VR in (VR.SH, VR.LO, VR.ST, VR.LT, VR.UC, VR.UT):
            values = element.value if element.VM > 1 else [element.value]
            yield from (value for value in values if isinstance(value, str))


def _set_times(made: Dataset, source: Dataset, facts: ResultFacts) -> None:
    made_at = local_time(source, facts.made_at)
    for name in ("Content", "InstanceCreation"):
        setattr(made, f"{name}Date", made_at.strftime("%Y%m%d"))
        setattr(made, f"{name}Time", made_at.strftime("%H%M%S"))
    for keyword in ("SeriesDate", "SeriesTime"):  # one for all films of the series, and they come one by one
        if keyword in made:
            delattr(made, keyword)
    if "TimezoneOffsetFromUTC" in source:
        made["TimezoneOffsetFromUTC"] = source["TimezoneOffsetFromUTC"]


def _equipment(facts: ResultFacts) -> ContributingEquipment:
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=facts.architecture,
        software_versions=[__version__, facts.model_version],
        device_serial_number=facts.model_sha256[:12],
        contribution_description="chest film triage: probability that the film is abnormal",
    )
    item.DeviceUID = device_uid(facts)
    return item
