"""`explain`: films in, an explanation of them out as arrays. Notebooks call it, and `writing` makes files of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.explain.attribution import attribute, evidence_of_change, heat_of
from cxrtriage.explain.opposite import CONFIDENCE, PLAIN, STEPS, Form, OppositeImages, opposite_images
from cxrtriage.model.bundle import Model
from cxrtriage.predict import probabilities
from cxrtriage.records import SourceImage


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a network calls films what it calls them.

    Parameters
    ----------
    method : one of `attribution.METHODS`
    films : (N, S, S) uint8, as the network sees them
    probability : (N,) float64, calibrated, of abnormal
    evidence : (N, S, S) float32, positive for abnormal; see `attribution.attribute`
    heat : (N, S, S) float32 >= 0, where to look; see `attribution.heat_of`
    opposite : the changed films, where the method is "opposite"
    """

    method: str
    films: np.ndarray
    probability: np.ndarray
    evidence: np.ndarray
    heat: np.ndarray
    opposite: OppositeImages | None = None


def explain(
    model: Model,
    films: np.ndarray | Sequence[Path | str | SourceImage],
    method: str = "opposite",
    *,
    target: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
    steps: int = STEPS,
    form: Form = PLAIN,
    seed: int = 0,
) -> Explanation:
    """Explain what a model says of films.

    Parameters
    ----------
    model : from `load_model`
    films : (N, S, S) uint8, prepared by the model's recipe (or noise); or paths, or films from `read_film`
    method : "opposite", "grad-cam", "integrated-gradients" or "occlusion"
    target, confidence, steps, form, seed : of "opposite", see `opposite.opposite_images`; without `target` each film is
        driven to the opposite of what the model calls it at its threshold

    Returns
    -------
    Explanation

    Raises
    ------
    SourceError
        If a film cannot be read.
    ValueError
        If there is no such method, or arrays and options are not as above.

    Examples
    --------
    >>> from cxrtriage import load_model
    >>> from cxrtriage.explain import explain
    >>> model = load_model(Path("fitted/run/model.safetensors"))  # doctest: +SKIP
    >>> explain(model, ["film.dcm"], method="grad-cam").heat.shape  # doctest: +SKIP
    (1, 224, 224)
    """
    images = films if isinstance(films, np.ndarray) else _prepared(model, films)
    probability = probabilities(model, images)
    changed = None
    if method == "opposite":
        if target is None:
            target = (probability < model.card.threshold).astype(int)
        changed = opposite_images(model, images, target, confidence=confidence, steps=steps, form=form, seed=seed)
        evidence = evidence_of_change(changed)
    else:
        evidence = attribute(model, images, method)
    return Explanation(method, images, probability, evidence, heat_of(evidence, method), changed)


def _prepared(model: Model, films: Sequence[Path | str | SourceImage]) -> np.ndarray:
    """Read and prepare films as the model asks for; (N, S, S) uint8."""
    recipe = model.card.recipe
    sources = (film if isinstance(film, SourceImage) else read_film(film) for film in films)
    prepared = [prepare_film(source, recipe) for source in sources]
    return np.stack(prepared) if prepared else np.empty((0, recipe.size, recipe.size), np.uint8)
