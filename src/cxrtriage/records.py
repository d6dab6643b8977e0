"""The nouns that the rooms hand to each other."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

LABEL_NAMES = ("normal", "abnormal", "emergent")  # labels 0, 1, 2
# column of a manifest: SHA-256 of the weights whose score the reader who labelled the film worked with; "" for none
REVIEWED_WEIGHTS = "reviewed_weights"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One grey film as stored, in one polarity, with where it came from.

    Parameters
    ----------
    pixels : (H, W) uint8, uint16, int8 or int16; grey levels as stored, with low black and high white
        (MONOCHROME2) whatever the file's polarity was
    bits : bits per pixel that the file says are used, 1-16
    polarity_inverted : whether the file was min-is-white (MONOCHROME1) and has been turned round
    pixel_spacing_mm : row and column spacing in mm, where the file tells
    view_position : "PA", "AP", "LL", ... (0018,5101), where the file tells
    provenance : facts that later stages may use, all optional: `path`, `format` ("tiff", "png", "jpeg",
        "dicom"), `compression`, `file_bytes`; of DICOM also `sop_class_uid`, `sop_instance_uid`,
        `series_instance_uid`, `study_instance_uid`, `modality`, `body_part`, `presentation_intent`,
        `patient_age_years`, `patient_sex`. Never a name or a birth date
    """

    pixels: np.ndarray
    bits: int
    polarity_inverted: bool = False
    pixel_spacing_mm: tuple[float, float] | None = None
    view_position: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


class Calibration(BaseModel):
    """Turns a network's logit into a probability: sigmoid(logit / temperature + intercept)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = 1.0
    intercept: float = 0.0


class OperatingPoint(BaseModel):
    """A threshold, what it was chosen for, and what it reached on the split that chose it.

    A film is called abnormal when `probability >= threshold`. `sensitivity` and `specificity` are
    (estimate, lower, upper) with a 95 % interval over patients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # e.g. "sensitivity 0.95", "youden", "cost 5:1"
    threshold: float
    split: str = "validation"
    abnormal_patients: int
    normal_patients: int
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one film: a row of `scores.csv`.

    `probability` is None and `decision` "not assessed" where the film could not be scored; `reason`
    then says why. `warning` tells what puts the film outside the model's scope.
    """

    path: str
    probability: float | None
    decision: str
    reason: str = ""
    warning: str = ""
