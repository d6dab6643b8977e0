"""A DICOM file in, a grey film and the few facts that later stages may use out; `source.read_film` calls it.

Only the elements named in `ELEMENTS` are parsed, so no name or birth date is ever held in memory. Grey levels
stay as stored (see `dicom_pixels`), but for three things:

    stored levels -> Modality LUT Sequence, where there is one, since it need not be linear
                  -> polarity: min-is-white, or a falling rescale slope, is turned round
                  -> padding set to black

A rising rescale and the VOI window are not applied: they map grey levels strictly upwards, and what comes next,
histogram equalisation, gives the same result for every such map.
"""

import math
import re
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue

from cxrtriage.data.film.admission import MAX_PIXELS, damaged, inverted
from cxrtriage.data.film.dicom_pixels import read_pixels
from cxrtriage.records import SourceImage

ELEMENTS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "PresentationIntentType",
    "PatientAge", "PatientSex", "BodyPartExamined", "ViewPosition", "PixelSpacing", "ImagerPixelSpacing",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "ModalityLUTSequence", "PresentationLUTShape",
]  # fmt: skip
FACTS = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "presentation_intent": "PresentationIntentType",
    "patient_sex": "PatientSex",
}
DEFLATED = b"1.2.840.10008.1.2.1.99"
MAX_INFLATED_BYTES = 2 * MAX_PIXELS + 50_000_000  # the pixels, and room for a header
LARGE_BYTES = 1_000_000  # elements above are passed over: no header value is that long
OLDEST_YEARS = 130  # as in a manifest
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def read_dicom(path: Path) -> SourceImage:
    """Read a single-frame DICOM image, with or without preamble, in any usual transfer syntax.

    Returns
    -------
    SourceImage
        `pixels` are uint8 or uint16, or int8 or int16 where Pixel Representation (0028,0103) is signed.

    Raises
    ------
    SourceError
        If the object holds no whole single grey film.

    References
    ----------
    DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT), C.8.11.3 (DX image); PS3.5 A.4 (encapsulation).
    """
    with path.open("rb") as file:
        deflated = DEFLATED in file.read(1024)
        stream: BufferedReader | BytesIO = _inflate(path, file) if deflated else file
        stream.seek(0)
        header = dcmread(
            stream, defer_size=LARGE_BYTES, stop_before_pixels=True, force=True, specific_tags=list(ELEMENTS)
        )
        pixels, bits, compression = read_pixels(path, stream, header)
    padding = _padding(pixels, header)
    if header.get("ModalityLUTSequence"):
        pixels, bits = _looked_up(pixels, header)
    min_is_white = _min_is_white(header)
    if min_is_white:
        pixels = inverted(pixels, bits)
    if padding is not None:
        pixels[padding] = -(1 << (bits - 1)) if pixels.dtype.kind == "i" else 0
    return SourceImage(
        pixels,
        bits,
        polarity_inverted=min_is_white,
        pixel_spacing_mm=_pixel_spacing(header),
        view_position=_text(header, "ViewPosition"),
        provenance={"format": "dicom", "compression": "deflate" if deflated else compression, **_facts(header)},
    )


def _inflate(path: Path, file: BufferedReader) -> BytesIO:
    """Unpack a deflated data set, PS3.5 A.5, without its file meta information and within a limit."""
    file.seek(128 + 4 + 12 + int(read_file_meta_info(path).FileMetaInformationGroupLength))
    room = np.empty(MAX_INFLATED_BYTES, np.uint8)  # what is not written to takes no memory
    try:
        inflated = imagecodecs.deflate_decode(file.read(), raw=True, out=room.data)  # libdeflate: half the time of zlib
    except imagecodecs.DeflateError:
        raise damaged(path, "its deflated data set is cut short or larger than a film's") from None
    return BytesIO(inflated)


def _looked_up(pixels: np.ndarray, header: Dataset) -> tuple[np.ndarray, int]:
    """Apply the Modality LUT, PS3.3 C.11.1.1; return the levels it gives and their bits.

    `pydicom.pixels.apply_modality_lut` does not take tables of 9 to 15 bits.
    """
    lut = header.ModalityLUTSequence[0]
    entries, first, bits = (int(value) for value in lut.LUTDescriptor)
    table = lut.LUTData  # of VR US: numbers, OW: bytes
    if isinstance(table, bytes):
        size = 1 if len(table) < 2 * (entries or 65536) else 2
        table = np.frombuffer(table, f"{'<' if header.original_encoding[1] else '>'}u{size}")
    levels = np.asarray(table, np.uint16) & ((1 << bits) - 1)
    index = pixels.astype(np.int32) - np.array(first).astype(pixels.dtype)  # first value: of the pixels' sign
    return levels[index.clip(0, len(levels) - 1)], bits


def _min_is_white(header: Dataset) -> bool:
    """Tell whether the lowest stored level is meant to be shown white.

    In a DX image Presentation LUT Shape only repeats the Photometric Interpretation (PS3.3 C.8.11.3): INVERSE
    goes with MONOCHROME1, so the two do not cancel. Some devices write MONOCHROME1 with a wrong IDENTITY;
    the Photometric Interpretation, which every image has, then decides.
    """
    inverse: bool = header.PhotometricInterpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"
    falling = any(slope < 0 for slope in _numbers(header, "RescaleSlope"))
    return inverse != falling


def _padding(pixels: np.ndarray, header: Dataset) -> np.ndarray | None:
    """Return where the film is only filled up to a rectangle: PS3.3 C.7.5.1.1.2. None if nowhere."""
    ends = _numbers(header, "PixelPaddingValue") + _numbers(header, "PixelPaddingRangeLimit")
    if not ends or "PixelPaddingValue" not in header:
        return None
    # devices write the value of a signed film as unsigned and the other way round
    levels = np.array(ends, np.int64).astype(pixels.dtype)
    padding = (pixels >= levels.min()) & (pixels <= levels.max())
    return padding if padding.any() else None


def _facts(header: Dataset) -> dict[str, Any]:
    """Return the provenance of `SourceImage` that the header holds."""
    facts: dict[str, Any] = {name: _text(header, keyword) for name, keyword in FACTS.items()}
    age = re.fullmatch(r"(\d{1,3})([DWMY])", _text(header, "PatientAge") or "")
    years = int(age[1]) * YEARS[age[2]] if age else None
    facts["patient_age_years"] = years if years is not None and years <= OLDEST_YEARS else None  # 999Y: not known
    return {name: fact for name, fact in facts.items() if fact is not None}


def _pixel_spacing(header: Dataset) -> tuple[float, float] | None:
    """Return the spacing of rows and columns in mm: at the patient if known, else at the detector."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = _numbers(header, keyword)
        if len(spacing) == 2 and all(0 < side < math.inf for side in spacing):
            return spacing[0], spacing[1]
    return None


def _text(header: Dataset, keyword: str) -> str | None:
    """Return an element as text, None if it is absent or empty."""
    value = header.get(keyword)
    return str(value).strip() or None if value is not None else None


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """Return the numbers of an element, none of them if it is absent or no number."""
    try:
        value = header.get(keyword)
        values = [] if value is None else value if isinstance(value, MultiValue) else [value]
        return [float(number) for number in values]
    except (TypeError, ValueError):
        return []
