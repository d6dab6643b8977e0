"""How fast to learn at which step, and how many steps a time budget allows.

Pure functions: `task` asks for the learning rate of every step, `watch` for the steps that fit.
"""

import math
from typing import Literal

WARM_UP = 0.05  # share of all steps in which the rate rises
FLOOR = 0.01  # share of the highest rate at which the cosine ends
RESERVE = 0.03  # share of the budget kept for saving


def learning_rate(step: int, total_steps: int, highest: float, recipe: Literal["study", "clinical"]) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step : counted from 0
    total_steps : of the run
    highest : the learning rate of the settings
    recipe : "study" keeps it constant; "clinical" rises to it linearly over the first 5 % of the steps and
        falls to 1 % of it along a cosine

    References
    ----------
    Loshchilov, Hutter. SGDR (arXiv 1608.03983); warm-up as in Goyal et al. (1706.02677).
    """
    if recipe == "study":
        return highest
    rising = max(1, round(WARM_UP * total_steps))
    if step < rising:
        return highest * (step + 1) / rising
    done = min(1.0, (step - rising) / max(1, total_steps - rising))
    return highest * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))


def steps_in_time(
    remaining_s: float, step_s: float, validation_s: float, step: int, steps_per_epoch: int, most: int
) -> int:
    """Return the total number of steps, those done included, with which a run ends in time.

    Parameters
    ----------
    remaining_s : what is left of the budget, in seconds
    step_s, validation_s : what a step and a round of validation take
    step : steps done
    steps_per_epoch : after each so many comes a validation, and one at the end
    most : steps planned without a budget

    Examples
    --------
    >>> steps_in_time(remaining_s=100, step_s=1, validation_s=0, step=10, steps_per_epoch=50, most=1000)
    107
    """
    usable = (1 - RESERVE) * remaining_s - validation_s  # the validation at the end
    further = math.floor(usable / (step_s + validation_s / steps_per_epoch))
    return min(most, step + max(0, further))
