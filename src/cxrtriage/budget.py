"""The wall-clock budget of a fit: what was asked for, and how much of it is left for training.

Both stand in the fit's folder, since what is left differs from start to start.
"""

import json
from pathlib import Path

from cxrtriage.atomic import replacing
from cxrtriage.config import TrainSettings
from cxrtriage.errors import ConfigError
from cxrtriage.train.watch import LAST_CHECKPOINT

BUDGET = "budget.json"
BUDGET_FOR_THE_REST = 0.15  # share of a budget kept for measuring and explaining the model


def require_same_budget(out: Path, budget_s: float | None) -> None:
    """Refuse to take up a fit with another budget, before any time is spent."""
    path = out / BUDGET
    if not path.exists() and not (out / "run" / LAST_CHECKPOINT).exists():
        return
    before = json.loads(path.read_text())["budget_s"] if path.exists() else None
    if before != budget_s:
        found, asked = (f"a budget of {each:.0f} s" if each else "no budget" for each in (before, budget_s))
        raise ConfigError(
            f"{out} holds a fit with {found}, but {asked} was asked for now. Give the same, or another --out."
        )


def left_for_training(settings: TrainSettings, out: Path, budget_s: float, spent_s: float) -> TrainSettings:
    """Give training what is left of a budget; a fit that is taken up again keeps what it was given first."""
    path = out / BUDGET
    if path.exists():
        left = json.loads(path.read_text())["training_s"]
    else:
        left = max(1.0, budget_s * (1 - BUDGET_FOR_THE_REST) - spent_s)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"budget_s": budget_s, "training_s": left}))
    return settings.model_copy(update={"budget_s": left})
