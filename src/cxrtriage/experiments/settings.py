"""What may be chosen of an experiment; `films` and `plans` read it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cxrtriage.model.architectures import SMALLEST_SIZE

Net = Literal["googlenet", "inception_v3", "resnet152"]


class ExperimentSettings(BaseModel):
    """Choices of an experiment; everything else is the study's, or follows from the number of films.

    Parameters
    ----------
    size : side of the films in pixels, wherever size is not what is compared
    sizes : sides that are compared
    nets : networks that are compared with the first of them
    volumes : numbers of training films, or shares of them up to 1; None takes the study's 3,000, 10,000 and 50,000
        where there are as many, and the same shares of what there is otherwise
    seeds : runs of each arm
    epochs : at most; None takes what `train` takes for the number of films
    batch : films a step; None takes what `train` takes for the number of films, less where a volume is small
    budget_s : wall-clock seconds for each run
    films : training films at most, taken as whole patients; None takes all
    init : weights whose use as a start is compared with a fresh one
    quick : also keep only a few films to validate and test on: shows that everything runs, and proves nothing
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=224, ge=SMALLEST_SIZE, le=2048)
    sizes: tuple[Annotated[int, Field(ge=SMALLEST_SIZE, le=2048)], ...] = Field(default=(224, 512), min_length=2)
    nets: tuple[Net, ...] = Field(default=("googlenet", "inception_v3", "resnet152"), min_length=2)
    volumes: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=2)
    seeds: int = Field(default=3, ge=1, le=100)
    epochs: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=2)
    budget_s: float | None = Field(default=None, gt=0)
    films: int | None = Field(default=None, ge=32)
    init: Path | None = None
    quick: bool = False


# As small as still shows that everything runs.
QUICK: dict[str, Any] = {"size": 128, "sizes": (128, 160), "volumes": (0.5, 1.0), "seeds": 2, "epochs": 1, "films": 48}
QUICK_JUDGED = 32  # films to validate and to test on, each
