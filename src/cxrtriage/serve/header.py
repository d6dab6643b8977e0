"""What the node needs to know of a received film before any pixel is decoded; `files` asks.

In comes a DICOM file from anywhere, damaged or hostile too; out comes a `Header` with text that every
database takes, or `NotUnderstoodError`. Its `content_sha256` tells whether a film that comes again under
the same UID is the same film.
"""

import hashlib
import json
import re
import warnings
import zlib
from dataclasses import asdict, dataclass
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.tag import BaseTag, Tag

from cxrtriage.errors import SourceError

ELEMENTS = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "AccessionNumber", "Modality", "BodyPartExamined", "ViewPosition", "PresentationIntentType", "StudyDate",
    "AcquisitionDate", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge",
]  # fmt: skip
TAGS: Any = [Tag(keyword) for keyword in ELEMENTS]
DEFLATED = "1.2.840.10008.1.2.1.99"
PIXEL_GROUP = 0x7FE0
MAX_HEADER_BYTES = 4 * 2**20  # of a deflated data set that are unpacked
LARGE_BYTES = 100_000  # elements above are passed over
CHUNK = 2**20
UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # PS3.5 9.1, but for leading zeros, which some devices write
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


class NotUnderstoodError(SourceError):
    """A received object is no film that could be kept and found again."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Whom a film shows, as the header has it. `repr` shows nothing of it."""

    name: str
    patient_id: str
    birth_date: str
    sex: str

    def __repr__(self) -> str:
        return "Patient(...)"


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of a film; text is "" where the header has none."""

    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    accession_number: str
    modality: str
    body_part: str
    view_position: str
    presentation_intent: str
    age_years: float | None  # from Patient's Age, else from birth and study date
    patient: Patient
    content_sha256: str  # of the pixels as encoded and of all the facts above
    file_sha256: str
    file_bytes: int


def read_header(path: Path) -> Header:
    """Read the header of a DICOM file, and its whole content once for the hashes.

    Raises
    ------
    NotUnderstoodError
        If it is no DICOM file, or lacks a valid SOP Class, SOP Instance, Study or Series Instance UID.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # pydicom's quote values
            meta = read_file_meta_info(path)
            syntax = str(meta.TransferSyntaxUID)
            header, pixels_at = _parse(file, syntax)
            facts = _facts(header, syntax)
            file_sha256, pixels_sha256, size = _hashes(file, pixels_at)
    except NotUnderstoodError:
        raise
    except OSError as error:
        if error.errno:
            raise
        raise NotUnderstoodError("it ends within its header.") from None
    except Exception as error:  # a damaged header breaks wherever it likes; its text may quote values
        raise NotUnderstoodError(f"its header cannot be read ({type(error).__name__}).") from None
    content = hashlib.sha256(json.dumps([facts, pixels_sha256], sort_keys=True).encode()).hexdigest()
    patient = Patient(**facts.pop("patient"))
    return Header(**facts, patient=patient, content_sha256=content, file_sha256=file_sha256, file_bytes=size)


def valid_uid(uid: str) -> bool:
    """Tell whether a string can be a UID: digits and dots, at most 64."""
    return len(uid) <= 64 and UID.fullmatch(uid) is not None


def _parse(file: BinaryIO, syntax: str) -> tuple[Dataset, int]:
    """Return the header's elements, and where in the file the pixels begin (a deflated file's: at its data set)."""
    if syntax != DEFLATED:
        header: Dataset = dcmread(file, stop_before_pixels=True, defer_size=LARGE_BYTES, specific_tags=TAGS)
        return header, file.tell()
    # pydicom would unpack all of it, and a small file can hold gigabytes
    start = 128 + 4 + 12 + int(read_file_meta_info(Path(file.name)).FileMetaInformationGroupLength)
    file.seek(start)
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(MAX_HEADER_BYTES), MAX_HEADER_BYTES)
    return read_dataset(BytesIO(unpacked), False, True, stop_when=_at_pixels, specific_tags=TAGS), start


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group >= PIXEL_GROUP


def _facts(header: Dataset, syntax: str) -> dict[str, Any]:
    """Return the fields of `Header` that the header itself tells, as JSON has them."""
    facts: dict[str, Any] = {
        "sop_instance_uid": _uid(header, "SOPInstanceUID"),
        "study_instance_uid": _uid(header, "StudyInstanceUID"),
        "series_instance_uid": _uid(header, "SeriesInstanceUID"),
        "sop_class_uid": _uid(header, "SOPClassUID"),
        "transfer_syntax_uid": syntax,
        "accession_number": _text(header, "AccessionNumber", 16),
        "modality": _text(header, "Modality", 16),
        "body_part": _text(header, "BodyPartExamined", 16),
        "view_position": _text(header, "ViewPosition", 16),
        "presentation_intent": _text(header, "PresentationIntentType", 16),
        "age_years": _age_years(header),
    }
    facts["patient"] = asdict(
        Patient(
            name=_text(header, "PatientName", 324),
            patient_id=_text(header, "PatientID", 64),
            birth_date=_text(header, "PatientBirthDate", 8),
            sex=_text(header, "PatientSex", 16),
        )
    )
    return facts


def _hashes(file: BinaryIO, pixels_at: int) -> tuple[str, str, int]:
    """Return the SHA-256 of the file and of what follows `pixels_at`, and the file's size."""
    file.seek(0)
    whole = hashlib.sha256(file.read(pixels_at))
    pixels = hashlib.sha256()
    while chunk := file.read(CHUNK):
        whole.update(chunk)
        pixels.update(chunk)
    return whole.hexdigest(), pixels.hexdigest(), file.tell()


def _uid(header: Dataset, keyword: str) -> str:
    uid = _text(header, keyword, 65)
    if not valid_uid(uid):
        raise NotUnderstoodError(f"it has no valid {keyword}.")
    return uid


def _text(header: Dataset, keyword: str, longest: int) -> str:
    """Return an element as one line that any database takes: no NUL, no broken Unicode, not too long."""
    value = header.get(keyword)
    line = "" if value is None else str(value)
    # PS3.5 6.1.3 allows no control characters in these; ESC of a character set is gone after decoding
    printable = "".join(sign for sign in line if sign.isprintable())
    return printable.strip()[:longest]


def _age_years(header: Dataset) -> float | None:
    """Return the patient's age: many devices leave Patient's Age (0010,1010) out and give the birth date."""
    age = re.fullmatch(r"(\d{1,3})([DWMY])", _text(header, "PatientAge", 16))
    if age:
        return round(int(age[1]) * YEARS[age[2]], 2)
    born = _date(header, "PatientBirthDate")
    taken = _date(header, "AcquisitionDate") or _date(header, "StudyDate")
    if born is None or taken is None or taken < born:
        return None
    return round((taken - born).days / 365.25, 2)


def _date(header: Dataset, keyword: str) -> date | None:
    try:
        return datetime.strptime(_text(header, keyword, 8), "%Y%m%d").date()
    except ValueError:
        return None
