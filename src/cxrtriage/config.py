"""Settings of the stages, checked once at the door.

Each is a frozen pydantic model, so a set, a run and a model file can carry the settings they were made
with, and two of them can be compared field by field.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """How a film becomes what the network sees. Defined once, carried by sets and model files.

    Parameters
    ----------
    size : side S of the prepared array, in pixels
    downsample : "random" keeps one pixel drawn uniformly from each cell of the S x S grid (the study's
        way); "area" averages the pixels of the cell, equalised or stretched
    fit : "stretch" maps the whole film onto the square (the study's way); "pad" keeps its proportions
    crop_edges : cut away constant borders (collimation, scanner bed) before anything else
    mask_border : leave border and saturated markers out of the histogram
    contrast : "equalise" gives every grey level its rank (the study's way); "none" stretches the levels linearly
        from the film's lowest to its highest; "clahe" does that, and equalises neighbourhoods once the film has its
        size
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=224, ge=32, le=2048)
    downsample: Literal["random", "area"] = "random"
    fit: Literal["stretch", "pad"] = "stretch"
    crop_edges: bool = False
    mask_border: bool = False
    contrast: Literal["equalise", "none", "clahe"] = "equalise"

    def describe(self) -> str:
        """Return the recipe as one line, for messages that compare two of them."""
        return ", ".join(f"{name}={value}" for name, value in self.model_dump().items())


class TrainSettings(BaseModel):
    """How a network is trained. What is None is picked for the data and the machine, and written down.

    Parameters
    ----------
    net : "googlenet" (22 layers), "inception_v3" (48) or "resnet152" (152)
    recipe : "study": quarter turns, mirror and noise, Adam at a constant rate with coupled L2. "clinical":
        small turns, shifts, scale, contrast and noise, AdamW with warm-up and cosine decay, label
        smoothing and averaged weights
    classes : outputs; "auto" takes 3 with at least 50 emergent training patients, else 2
    epochs : times that every training film is seen; None takes 8 to 40, more on small sets
    budget_s : wall-clock time in seconds for the whole training; the schedule then ends in time
    batch : films in an optimiser step; None picks one that gives at least 20 steps an epoch
    micro_batch : films on a device at once; a step gathers as many as its batch needs
    learning_rate : highest learning rate
    weight_decay : L2 coefficient; None takes the recipe's, 1e-4 coupled or 0.05 decoupled
    dropout : share of features dropped before each classifier
    class_weight : "none", "balanced", or what an abnormal film counts when a normal one counts 1
    init : weights to start from: a torchvision state dict or an earlier model file
    patience : epochs without a better validation figure after which training stops, but not in its first 500
        steps; 0 never stops
    monitor : the validation figure that chooses the best epoch; "loss" is taken where AUROC is undefined
    precision : "bf16" autocast, "fp32", or "auto": bf16 where the hardware has it
    accelerator : "cpu", "gpu", or "auto": a GPU where there is one
    compiled : let PyTorch compile the network before the first step (`torch.compile`)
    devices : processes on this machine, each with a device of its own
    nodes : machines; start the same command on each
    workers : processes that read ahead; None takes none on a CPU and two for a GPU
    seed : of weights, shuffling, dropout and augmentation
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: Literal["googlenet", "inception_v3", "resnet152"] = "googlenet"
    recipe: Literal["study", "clinical"] = "clinical"
    classes: Literal["auto", 2, 3] = "auto"
    epochs: int | None = Field(default=None, ge=1)
    budget_s: float | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, ge=2)
    micro_batch: int | None = Field(default=None, ge=2)
    learning_rate: float = Field(default=0.001, gt=0, allow_inf_nan=False)
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    class_weight: Literal["none", "balanced"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = "none"
    init: Path | None = None
    patience: int = Field(default=10, ge=0)
    monitor: Literal["auroc", "loss"] = "auroc"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    compiled: bool = False
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    workers: int | None = Field(default=None, ge=0)
    seed: int = Field(default=0, ge=0)
