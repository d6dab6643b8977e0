"""A result as a picture for the PACS: its facts in, a Secondary Capture out; `evidence` sends it.

The film small, under it the result in words, and beside it the heat map where `web.explanations` is on. All
of it is burned in, "not for diagnostic use" too, so that no viewer can lose it.
"""

import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import highdicom
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from cxrtriage.data.film.source import read_film
from cxrtriage.errors import ModelError, SourceError
from cxrtriage.serve.results.dicom_object import MANUFACTURER, finish, instance_uid, read_source, series_uid
from cxrtriage.serve.results.facts import ResultFacts
from cxrtriage.serve.results.outbox import Context, Refused

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

KIND = "overlay"
SERIES_NUMBER = 9902
LONG_SIDE = 1200  # of the film, pixels; enough to recognise it, too little to read from
LEAST_WIDTH = 900  # so that the words fit
BAND = 160  # under the film, pixels
DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles of the grey levels that become black and white
METHOD = "grad-cam"
BLACK, WHITE, ORANGE, GREY = (0, 0, 0), (235, 235, 235), (230, 159, 0), (160, 160, 160)  # orange: Okabe and Ito
WARNING = "PREVIEW, NOT FOR DIAGNOSTIC USE"
IN_WORDS = {"normal": "below operating point", "abnormal": "ABNORMAL", "emergent": "EMERGENT"}


def make_overlay(facts: ResultFacts, context: Context) -> Dataset:
    """Make the Secondary Capture of a result.

    Parameters
    ----------
    facts : of the result; its film must be there
    context : `settings.web.explanations` says whether there is a heat map; the model is under `home`

    Returns
    -------
    pydicom.Dataset
        With file meta information and 8-bit RGB pixels.

    Raises
    ------
    Refused
        If the film or the model is gone or cannot be read.

    References
    ----------
    DICOM PS3.3 A.8.1 (Secondary Capture).
    """
    source = read_source(facts)
    heat = context.settings.web.explanations
    picture = draw(facts, _model(context.home / "models" / f"{facts.model_sha256}.safetensors") if heat else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what highdicom finds odd in others' values quotes them
        made = highdicom.sc.SCImage(
            pixel_array=picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),  # one that is well-formed; emptied below
            study_instance_uid=facts.study_instance_uid,
            series_instance_uid=series_uid(KIND, facts),
            series_number=SERIES_NUMBER,
            sop_instance_uid=instance_uid(KIND, facts),
            instance_number=facts.result_id,
            manufacturer=MANUFACTURER,
            series_description="cxrtriage: preliminary result",
        )
        finish(made, source, facts)
    for keyword in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):  # highdicom's: when this program ran
        if keyword in made:
            delattr(made, keyword)
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.ConversionType = "WSD"  # made on a workstation
    made.PatientOrientation = []  # with words and a second picture in it, it has none
    made.BodyPartExamined = "CHEST"
    made.BurnedInAnnotation = "YES"
    made.RecognizableVisualFeatures = "NO"
    made.ImageComments = "Preview, not for diagnostic use"
    made.DerivationDescription = "film reduced, with the result of an algorithm burned in"
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in source:  # PS3.3 C.7.6.1.1.5: once lossy, lossy for ever
            made[keyword] = source[keyword]
    made.SourceImageSequence = [_reference(facts)]
    return made


def draw(facts: ResultFacts, model: "Model | None") -> np.ndarray:
    """Draw the film, the result in words and, with a model, the heat map; (H, W, 3) uint8.

    Raises
    ------
    Refused
        If the film cannot be read.
    """
    try:
        film = read_film(facts.film)
        panels = [_grey(film.pixels)]
        if model is not None:
            panels.append(_heat(facts.film, model, panels[0].shape[0]))
    except SourceError as error:
        raise Refused(f"the film of instance {facts.sop_instance_uid} cannot be drawn. Check the disk.") from error
    height = panels[0].shape[0]
    width = max(LEAST_WIDTH, sum(panel.shape[1] for panel in panels))
    picture = np.zeros((height + BAND, width, 3), np.uint8)
    left = (width - sum(panel.shape[1] for panel in panels)) // 2
    for panel in panels:
        picture[:height, left : left + panel.shape[1]] = panel
        left += panel.shape[1]
    return _with_words(picture, height, facts, right=None if model is None else left - panels[-1].shape[1])


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Return a film small and in 8 bits, as RGB."""
    scale = LONG_SIDE / max(pixels.shape)
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(pixels.astype(np.float32), size, interpolation=method)
    low, high = np.percentile(small, (DARKEST, BRIGHTEST))
    grey = np.clip((small - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=-1)


def _heat(film: Path, model: "Model", height: int) -> np.ndarray:
    """Return the film as the network saw it, evidence for abnormal in orange, (height, height, 3) uint8."""
    from cxrtriage.explain import explain  # torch takes seconds, and most nodes send no heat map
    from cxrtriage.explain.overlay import colour_overlay, strongest_of

    found = explain(model, [film], method=METHOD)
    evidence = found.evidence[0]
    coloured = colour_overlay(found.films[0], evidence, strongest_of(evidence))
    resized: np.ndarray = cv2.resize(coloured, (height, height), interpolation=cv2.INTER_LINEAR)
    return resized


def _with_words(picture: np.ndarray, top: int, facts: ResultFacts, right: int | None) -> np.ndarray:
    """Write the result under the film, which ends at `top`, and what the panel that begins at `right` shows."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    words, small = ImageFont.load_default(36), ImageFont.load_default(22)
    colour = WHITE if facts.decision == "normal" else ORANGE
    pen.text((16, top + 10), f"cxrtriage: {IN_WORDS[facts.decision]}", colour, words)
    score = f"probability {facts.probability:.2f}, operating point {facts.threshold:.2f}"
    pen.text((16, top + 58), score, WHITE, small)
    pen.text((16, top + 90), f"model {facts.architecture} {facts.model_version}", GREY, small)
    pen.text((16, top + 122), f"{WARNING}. Result of an algorithm, seen by no physician.", ORANGE, small)
    if right is not None:
        note = "the film as the network saw it:\norange speaks for abnormal, blue for normal"
        pen.multiline_text((right + 16, top + 58), note, GREY, small)
    for left in (0, right):  # on the pictures too, since a crop would lose the band
        if left is not None:
            pen.text((left + 16, 12), WARNING, ORANGE, small, stroke_width=2, stroke_fill=BLACK)
    return np.asarray(image)


def _reference(facts: ResultFacts) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(facts.sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(facts.sop_instance_uid)
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


@lru_cache(maxsize=1)
def _model(path: Path) -> "Model":
    from cxrtriage.model.bundle import load_model

    try:
        return load_model(path)
    except ModelError as error:
        raise Refused(f"the heat map cannot be made: {error}") from error
