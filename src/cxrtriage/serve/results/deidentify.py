"""Films without their patients: a study in, de-identified DICOM files out; `cxrtriage node deidentify` asks.

DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile, with the Retain Patient Characteristics
Option (sex, age, size, weight: a model's scope and every subgroup analysis need them; ages above 89 become 90).
Whatever is not on the short list `KEPT` is removed or emptied, which is more than the profile asks for and
needs no list of dangers to be complete: private elements, overlays, comments, all dates and times.

UIDs and the patient's number are replaced by a keyed hash, so that the same patient and study are the same
again in a later copy, and nobody without the key can tell whose they were. The key stays in HOME.

What is burned into the pixels stays: names written into a film are not found, and must be looked for by eye.
"""

import hashlib
import hmac
import os
import re
import secrets
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID
from sqlalchemy import Engine, select

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.serve import audit
from cxrtriage.serve.database import reading
from cxrtriage.serve.results.dicom_object import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from cxrtriage.serve.tables import instance, study

KEY_FILE = "deidentify.key"
KEY_BYTES = 32
OLDEST = 89  # years; the few who are older could be told by their age

KEPT = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        # what it is
        "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "PresentationIntentType", "ConversionType",
        "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
        # whom it shows, as far as the option goes
        "PatientSex", "PatientAge", "PatientSize", "PatientWeight",
        # how it was taken
        "BodyPartExamined", "ViewPosition", "PatientPosition", "PatientOrientation", "PatientOrientationCodeSequence",
        "PatientOrientationModifierCodeSequence", "PatientGantryRelationshipCodeSequence", "Laterality",
        "ImageLaterality", "AnatomicRegionSequence", "ViewCodeSequence", "ViewModifierCodeSequence", "KVP", "Exposure",
        "ExposureInuAs", "ExposureTime", "XRayTubeCurrent", "DistanceSourceToDetector", "DistanceSourceToPatient",
        "EstimatedRadiographicMagnificationFactor", "Grid", "FilterType", "FieldOfViewShape", "FieldOfViewDimensions",
        "FieldOfViewRotation", "FieldOfViewHorizontalFlip", "FieldOfViewOrigin", "DetectorType", "Sensitivity",
        "DetectorActiveTime", "RelativeXRayExposure", "ExposureIndex", "TargetExposureIndex", "DeviationIndex",
        "PlateType", "PositionerType", "PositionerPrimaryAngle", "PositionerSecondaryAngle",
        "ImagerPixelSpacing", "PixelSpacing", "PixelSpacingCalibrationType", "DetectorElementSpacing",
        "CollimatorShape", "CollimatorLeftVerticalEdge", "CollimatorRightVerticalEdge",
        "CollimatorUpperHorizontalEdge", "CollimatorLowerHorizontalEdge", "Manufacturer", "ManufacturerModelName",
        # where it stands
        "SeriesNumber", "InstanceNumber", "ImagesInAcquisition",
        # its pixels
        "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SmallestImagePixelValue",
        "LargestImagePixelValue", "PixelAspectRatio", "PixelPaddingValue", "PixelPaddingRangeLimit",
        "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "RescaleIntercept", "RescaleSlope",
        "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction", "ModalityLUTSequence", "VOILUTSequence",
        "LUTDescriptor", "LUTData", "ModalityLUTType", "PresentationLUTShape", "BurnedInAnnotation",
        "QualityControlImage", "PixelData",
        # codes, in the sequences above
        "CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning",
    )
)  # fmt: skip
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
EMPTIED = (  # type 2 in the modules of a radiograph: must be there, need no value
    "StudyDate", "StudyTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime", "AccessionNumber",
    "ReferringPhysicianName", "PatientBirthDate", "StudyID", "Manufacturer", "SeriesNumber", "InstanceNumber",
    "AcquisitionContextSequence", "Laterality", "PatientOrientation", "DetectorID",
)  # fmt: skip
METHOD = "PS3.15 E: basic profile, patient characteristics retained"
METHOD_CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
)


@dataclass(frozen=True, slots=True)
class Copy:
    """What was written.

    Parameters
    ----------
    files : one a film
    maybe_burned_in : how many of them do not say that nothing is burned in
    """

    files: list[Path]
    maybe_burned_in: int


def copy_study(engine: Engine, home: Path, study_instance_uid: str, out: Path, actor: str = "command line") -> Copy:
    """Write a study's films without their patient.

    Parameters
    ----------
    engine, home : of the node
    study_instance_uid : of a study that it has
    out : folder for the files, made if it is not there; each is named by its new UID
    actor : who asked, for the audit trail

    Raises
    ------
    ConfigError
        If the node has no such study, or the folder cannot be written.
    SourceError
        If a film has been deleted or cannot be read.
    """
    with reading(engine) as connection:
        paths = connection.execute(
            select(instance.c.path)
            .join_from(instance, study)
            .where(study.c.study_instance_uid == study_instance_uid)
            .order_by(instance.c.id)
        ).scalars()
        films = [home / path for path in paths]
    if not films:
        raise ConfigError(f"the node at {home} has no study {study_instance_uid}. Take a UID from the reading list.")
    key = load_key(home)
    files = []
    maybe_burned_in = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        for film in films:
            copied = deidentify(_read(film), key)
            maybe_burned_in += copied.get("BurnedInAnnotation") != "NO"
            file = out / f"{copied.SOPInstanceUID}.dcm"
            with replacing(file) as temporary:
                copied.save_as(temporary, enforce_file_format=True)
            files.append(file)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}. Choose another --out.") from error
    with engine.begin() as connection:
        detail: dict[str, JsonValue] = {"films": len(files), "what": "de-identified copy"}
        audit.record(
            connection, "export", actor=actor, action="R", study_instance_uid=study_instance_uid, detail=detail
        )
    return Copy(files, maybe_burned_in)


def deidentify(film: Dataset, key: bytes) -> Dataset:
    """Return a film without its patient; `film` is not changed, its pixels are as encoded.

    Parameters
    ----------
    film : as read from a file
    key : from `load_key`; the same key gives the same patient the same number

    References
    ----------
    DICOM PS3.15 E.1.1, E.2, E.3.7; Table E.1-1.
    """
    made = _kept(film)
    for keyword in EMPTIED:
        if keyword in film and keyword not in made:
            setattr(made, keyword, None)
    for keyword in UIDS:
        if film.get(keyword):
            setattr(made, keyword, hashed_uid(key, str(film[keyword].value)))
    whose = film.get("PatientID") or film.StudyInstanceUID  # or all who have no number would be one
    made.PatientID = made.PatientName = f"ANON{pseudonym(key, 'patient', str(whose)).upper()}"
    if "PatientAge" in made:
        made.PatientAge = _age(str(made.PatientAge or ""))
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = METHOD
    made.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in METHOD_CODES]
    made.LongitudinalTemporalInformationModified = "REMOVED"
    meta = made.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = film.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return made


def pseudonym(key: bytes, kind: str, number: str) -> str:
    """Return the 16 hexadecimal digits that stand for a number of the hospital's under a key.

    Parameters
    ----------
    key : from `load_key`; without it nobody can try all numbers until one fits
    kind : what the number is of, such as "patient": the same number of something else becomes another one
    """
    return hmac.new(key, f"{kind}\0{number}".encode(), hashlib.sha256).hexdigest()[:16]


def hashed_uid(key: bytes, uid: str) -> UID:
    """Return the UID that stands for another one under a key."""
    digest = hmac.new(key, f"uid\0{uid}".encode(), hashlib.sha256).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}")


def load_key(home: Path) -> bytes:
    """Return the key of a node's pseudonyms; made once, readable by its owner alone.

    Raises
    ------
    ConfigError
        If it cannot be read or made, or is no key.
    """
    path = home / KEY_FILE
    try:
        if not path.exists():
            part = home / f"{KEY_FILE}.{secrets.token_hex(4)}"
            part.touch(mode=0o600)
            part.write_bytes(secrets.token_bytes(KEY_BYTES))
            try:
                os.link(part, path)  # of two commands at once, one makes it and both use it
            except FileExistsError:
                pass
            finally:
                part.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}. Check the folder and its owner.") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path} has {len(key)} bytes, expected {KEY_BYTES}. Restore it from a backup, or remove it to get "
            "another one, under which patients get other numbers."
        )
    return key


def _read(path: Path) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            film: Dataset = dcmread(path)
            film.decode()
    except Exception as error:
        what = "has been deleted" if isinstance(error, FileNotFoundError) else f"is damaged ({type(error).__name__})"
        raise SourceError(f"the film {path} {what}, so the study cannot be copied.") from None
    return film


def _kept(data_set: Dataset) -> Dataset:
    """Return the elements of a data set, and of its sequences, that are on the list."""
    made = Dataset()
    for element in data_set:
        if element.tag not in KEPT:
            continue
        if element.VR == "SQ":
            made[element.tag] = DataElement(element.tag, "SQ", [_kept(item) for item in element.value])
        else:
            made[element.tag] = element
    return made


def _age(age: str) -> str:
    """Return an age, cut off above.

    Examples
    --------
    >>> _age("054Y"), _age("093Y"), _age("011M"), _age("very old")
    ('054Y', '090Y', '011M', '')
    """
    if not re.fullmatch(r"\d{3}[DWMY]", age):
        return ""
    return f"{OLDEST + 1:03d}Y" if age.endswith("Y") and int(age[:3]) > OLDEST else age


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
