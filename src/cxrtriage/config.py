"""Settings of the stages, checked once at the door.

Each is a frozen pydantic model, so a set, a run and a model file can carry the settings they were made
with, and two of them can be compared field by field.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """How a film becomes what the network sees. Defined once, carried by sets and model files.

    Parameters
    ----------
    size : side S of the prepared array, in pixels
    downsample : "random" keeps one pixel drawn uniformly from each cell of the S x S grid (the study's
        way); "area" averages the equalised pixels of the cell
    fit : "stretch" maps the whole film onto the square (the study's way); "pad" keeps its proportions
    crop_edges : cut away constant borders (collimation, scanner bed) before anything else
    mask_border : leave border and saturated markers out of the equalisation's histogram
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=224, ge=32, le=2048)
    downsample: Literal["random", "area"] = "random"
    fit: Literal["stretch", "pad"] = "stretch"
    crop_edges: bool = False
    mask_border: bool = False

    def describe(self) -> str:
        """Return the recipe as one line, for messages that compare two of them."""
        return ", ".join(f"{name}={value}" for name, value in self.model_dump().items())
