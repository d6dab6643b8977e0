"""From prepared films to logits and probabilities.

In come a loaded model and (N, S, S) uint8 films prepared by its recipe; out go the network's logits, or
calibrated probabilities. Read next by `score`, `evaluate`, `explain` and `serve`.
"""

from typing import TYPE_CHECKING

import numpy as np

from cxrtriage.config import Recipe
from cxrtriage.engines import Engine, torch_engine
from cxrtriage.errors import ModelError
from cxrtriage.metrics import sigmoid
from cxrtriage.progress import progress_bar
from cxrtriage.records import Calibration

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

FILMS_WORTH_A_BAR = 512


def predict_logits(model: "Model", images: np.ndarray, batch: int = 32, engine: Engine | None = None) -> np.ndarray:
    """Run the network over prepared films, in fp32.

    Parameters
    ----------
    model : from `load_model`
    images : (N, S, S) uint8, a memory map or an array
    batch : films at once; a film's logits do not depend on its neighbours beyond rounding (1e-4 of their size)
    engine : what runs the network, from `choose_engine`; PyTorch on the device it was loaded to unless given

    Returns
    -------
    (N, C) float32, C = 2 or 3

    Raises
    ------
    ValueError
        If the films are not (N, S, S) uint8 with the S of the model's recipe.
    """
    size = model.card.recipe.size
    if images.ndim != 3 or images.shape[1:] != (size, size) or images.dtype != np.uint8:
        raise ValueError(f"expected (N, {size}, {size}) uint8 films, got {images.shape} {images.dtype}")
    run = engine or torch_engine(model)
    logits = np.empty((len(images), len(model.card.classes)), np.float32)
    short = len(images) < FILMS_WORTH_A_BAR
    with progress_bar("scoring", len(images), "films", hidden=short) as advance:
        for start in range(0, len(images), batch):
            films = np.array(images[start : start + batch])
            logits[start : start + batch] = run(films)
            advance(len(films))
    return logits


def abnormal_logit(logits: np.ndarray) -> np.ndarray:
    """Return how much more likely abnormal or emergent is than normal, as a logit.

    Parameters
    ----------
    logits : (N, 2) or (N, 3) float

    Returns
    -------
    (N,) float64: z1 - z0, or log(exp z1 + exp z2) - z0 with three classes

    Examples
    --------
    >>> abnormal_logit(np.array([[0.0, 2.0], [1.0, 0.0]]))
    array([ 2., -1.])
    """
    logits = logits.astype(np.float64)
    return np.asarray(np.logaddexp.reduce(logits[:, 1:], axis=1) - logits[:, 0])


def emergent_share(logits: np.ndarray) -> np.ndarray:
    """Return, of the probability of an abnormal film, the share that is emergent.

    Parameters
    ----------
    logits : (N, 3) float

    Returns
    -------
    (N,) float64 in [0, 1]; times `probabilities` it is P(emergent)
    """
    logits = logits.astype(np.float64)
    return np.asarray(sigmoid(logits[:, 2] - logits[:, 1]))


def calibrate(logit: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Turn abnormal logits (N,) into probabilities (N,) in [0, 1].

    Examples
    --------
    >>> calibrate(np.array([0.0]), Calibration())
    array([0.5])
    """
    return np.asarray(sigmoid(logit / calibration.temperature + calibration.intercept))


def probabilities(model: "Model", images: np.ndarray, batch: int = 32, engine: Engine | None = None) -> np.ndarray:
    """Return the calibrated probability that each film is abnormal or emergent.

    Parameters
    ----------
    model, images, batch, engine : see `predict_logits`

    Returns
    -------
    (N,) float64 in [0, 1]
    """
    return calibrate(abnormal_logit(predict_logits(model, images, batch, engine)), model.card.calibration)


def require_recipe(model: "Model", recipe: Recipe) -> None:
    """Refuse films that were prepared otherwise than the model's training films.

    Parameters
    ----------
    model : from `load_model`
    recipe : how the films were prepared

    Raises
    ------
    ModelError
        If the two differ; the message names both and what to do.
    """
    if model.card.recipe != recipe:
        raise ModelError(
            f"the model expects films prepared with {model.card.recipe.describe()}; these were prepared with "
            f"{recipe.describe()}. Prepare them again with 'cxrtriage prepare MANIFEST --like model.safetensors'."
        )
