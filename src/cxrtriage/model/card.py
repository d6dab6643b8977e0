"""What a model file says about itself; `bundle` reads and writes it with the weights.

It stands apart from them, so that a process that shows results need not load PyTorch to know which model made them.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from cxrtriage import __version__
from cxrtriage.config import Recipe
from cxrtriage.errors import ModelError
from cxrtriage.records import LABEL_NAMES, Calibration, OperatingPoint

METADATA_KEY = "cxrtriage"
FORMAT = 2  # raised when an older cxrtriage could not read the file rightly; 2 may hold the network in int8 too

FEWEST_FILMS_TO_CHECK = 500
MOST_AUROC_FALL = 0.002
MOST_DECISIONS_CHANGED = 0.005


class Scope(BaseModel):
    """The films that a model was trained on, and so is meant for.

    Parameters
    ----------
    films : training films
    patients : training patients; None where they were not told apart
    views : view positions among them, such as ("AP", "PA"); empty where not known
    age_years : lowest and highest age among them; None where not known
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    films: int = 0
    patients: int | None = None
    views: tuple[str, ...] = ()
    age_years: tuple[float, float] | None = None


class PrecisionCheck(BaseModel):
    """What a network of reduced precision changes, on films that it was not trained on.

    Parameters
    ----------
    films : how many
    auroc_fall : AUROC in fp32 less that in reduced precision
    decisions_changed : share of the films, at the threshold of the model
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    films: int
    auroc_fall: float
    decisions_changed: float

    @property
    def passed(self) -> bool:
        """Whether so little changed, on so many films, that the model may be run that way."""
        return (
            self.films >= FEWEST_FILMS_TO_CHECK
            and self.auroc_fall <= MOST_AUROC_FALL
            and self.decisions_changed <= MOST_DECISIONS_CHANGED
        )


class ModelCard(BaseModel):
    """What a model file says about itself.

    Parameters
    ----------
    architecture : name of the network, see `architectures.NETWORKS`
    classes : what the outputs mean, ("normal", "abnormal") or those and "emergent"
    recipe : how a film must be prepared for this network
    calibration : turns the abnormal logit into a probability
    operating_points : thresholds with what each reached on the split that chose it
    decision : name of the operating point that decides, or "0.5"
    scope : the films that it was trained on and is meant for
    sources : names of the hospitals or sets it was trained on
    data_hash : hash of the manifest it was trained on
    training : settings as resolved
    validation : figures on the validation films
    precision : what reduced precision, "bf16" or "int8", changes; only what passes is used
    version : version of cxrtriage that wrote the file
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    architecture: str
    classes: tuple[str, ...] = LABEL_NAMES[:2]
    recipe: Recipe
    calibration: Calibration = Calibration()
    operating_points: list[OperatingPoint] = Field(default_factory=list)
    decision: str = "0.5"
    scope: Scope = Scope()
    sources: list[str] = Field(default_factory=list)
    data_hash: str = ""
    training: dict[str, JsonValue] = Field(default_factory=dict)
    validation: dict[str, JsonValue] = Field(default_factory=dict)
    precision: dict[str, PrecisionCheck] = Field(default_factory=dict)
    version: str = __version__

    @model_validator(mode="after")
    def _agree(self) -> "ModelCard":
        if self.classes not in (LABEL_NAMES[:2], LABEL_NAMES):
            raise ValueError(f"classes must be {LABEL_NAMES[:2]} or {LABEL_NAMES}, got {self.classes}")
        names = ["0.5", *(point.name for point in self.operating_points)]
        if self.decision not in names:
            raise ValueError(f"decision must be one of {names}, got {self.decision!r}")
        return self

    @property
    def threshold(self) -> float:
        """The probability from which a film is called abnormal."""
        return next((point.threshold for point in self.operating_points if point.name == self.decision), 0.5)

    @property
    def calibrated_at(self) -> float | None:
        """The share of abnormal films at which the probabilities hold; None where the model is not calibrated."""
        prevalence = self.validation.get("prevalence")
        if self.validation.get("not_calibrated") or not isinstance(prevalence, float):
            return None
        return prevalence if 0 < prevalence < 1 else None

    @property
    def not_determined(self) -> list[str]:
        """What the validation films were too few for, a sentence each: calibration, operating points."""
        undetermined = self.validation.get("undetermined")
        sentences = [
            self.validation.get("not_calibrated"),
            *(undetermined.values() if isinstance(undetermined, dict) else []),
        ]
        return [str(sentence) for sentence in sentences if sentence]


def load_card(path: Path) -> ModelCard:
    """Read only the card of a model file; the weights stay unread. Raises `ModelError` as `load_model` does."""
    if not path.exists():
        raise ModelError(f"there is no model file {path}.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"cannot read {path}: not a whole safetensors file ({error}). Copy the model file again."
        ) from error
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path} is a safetensors file without a cxrtriage card, so nothing says how films must be prepared "
            "for it. Give a model that 'cxrtriage train' or 'cxrtriage fit' wrote; weights alone go to --init."
        )
    try:
        content = json.loads(metadata[METADATA_KEY])
        version = int(content["format"])
        if version > FORMAT:
            raise ModelError(
                f"{path} has format {version}, this cxrtriage {__version__} reads up to {FORMAT}. Update cxrtriage."
            )
        return ModelCard.model_validate(content["card"])
    except (ValueError, KeyError, TypeError) as error:  # ValidationError is a ValueError
        finding = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else repr(error)
        raise ModelError(f"cannot read the card of {path}: {finding}. Copy or train the model again.") from error
