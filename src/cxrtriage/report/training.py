"""The section on training: the curves, and the gap between training and validation in words.

In comes a `Run`, out goes what `templates/training.html.j2` shows.
"""

from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.report.charts import training_charts
from cxrtriage.report.reading import Run
from cxrtriage.report.words import count, number

LOSS_MATTERS = 0.05  # from epoch to epoch a validation loss moves by as much without meaning anything


def training(run: Run) -> dict[str, Any] | None:
    """Return the section, or None where there is no history."""
    if run.history is None or run.history.empty:
        return None
    kept = kept_epoch(run.history, run.config.get("settings", {}).get("monitor", "auroc"))
    return {
        "charts": training_charts(run.history, kept),
        "sentences": gap_in_words(run.history, kept),
        "remarks": run.config.get("resolved", {}).get("remarks", []),
    }


def kept_epoch(history: pd.DataFrame, monitor: str = "auroc") -> int:
    """Return the epoch whose weights the model has: the highest validation AUROC, of equal ones the lowest loss.

    Parameters
    ----------
    history : a row an epoch
    monitor : "auroc" or "loss", as training was told
    """
    loss = history["validation_loss"].fillna(np.inf)
    area = history["validation_auroc"].fillna(-np.inf) if monitor == "auroc" else 0 * loss
    best = pd.DataFrame({"area": -area, "loss": loss}).sort_values(["area", "loss"], kind="stable").index[0]
    return int(history.loc[best, "epoch"])


def gap_in_words(history: pd.DataFrame, kept: int) -> list[str]:
    """Say how far apart training and validation are where the weights were kept, and how the curves end.

    Parameters
    ----------
    history : a row an epoch
    kept : the epoch whose weights the model has

    Examples
    --------
    >>> history = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.7, 0.5], "train_accuracy": [0.5, 0.8]})
    >>> history["validation_loss"], history["validation_accuracy"], history["validation_auroc"] = 0.6, 0.7, [0.7, 0.8]
    >>> for sentence in gap_in_words(history, 2): print(sentence)
    Of 2 epochs, epoch 2 was kept (validation AUROC 0.800).
    There the loss was 0.500 on training and 0.600 on validation films, a gap of 0.100; the accuracy 80 and 70 of 100.
    The validation loss ended within 0.05 of its lowest.
    """
    at: dict[Any, float] = history.set_index("epoch").loc[kept].to_dict()
    area = "" if np.isnan(at["validation_auroc"]) else f" (validation AUROC {at['validation_auroc']:.3f})"
    gap = at["validation_loss"] - at["train_loss"]
    there = (
        f"There the loss was {number(at['train_loss'])} on training and {number(at['validation_loss'])} on "
        f"validation films, a gap of {number(gap)}; the accuracy {100 * at['train_accuracy']:.0f} and "
        f"{100 * at['validation_accuracy']:.0f} of 100."
    )
    sentences = [f"Of {count(len(history), 'epoch')}, epoch {kept} was kept{area}.", there]
    if gap < 0:
        sentences.append(
            "Training can look worse than validation, because it is measured with dropout and on films altered at "
            "random."
        )
    train, validation = history["train_loss"].to_numpy(), history["validation_loss"].to_numpy()
    if len(history) < 2 or not np.isfinite(validation).all():
        return sentences
    lowest = int(validation.argmin())
    if lowest == len(history) - 1:
        sentences.append("The validation loss was lowest at the end, so more epochs might have helped.")
    elif validation[-1] > validation[lowest] + LOSS_MATTERS and train[-1] < train[lowest]:
        sentences.append(
            f"After epoch {int(history['epoch'].iloc[lowest])} the validation loss rose from "
            f"{number(validation[lowest])} to {number(validation[-1])} while the training loss fell, as it does when a "
            "network learns its training films by heart."
        )
    elif validation[-1] <= validation[lowest] + LOSS_MATTERS:
        sentences.append(f"The validation loss ended within {LOSS_MATTERS:g} of its lowest.")
    return sentences
