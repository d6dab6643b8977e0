"""Chest X-ray triage: learns normal from abnormal on a hospital's own films, and proves how well.

The names below are loaded on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cxrtriage.config import Recipe, TrainSettings
    from cxrtriage.data.film.source import find_films, read_film
    from cxrtriage.data.labels.manifest import read_manifest
    from cxrtriage.data.labels.split import split_manifest
    from cxrtriage.data.phantom import draw_phantom, make_phantoms
    from cxrtriage.data.prepared.prepare import prepare_film
    from cxrtriage.errors import CxrTriageError
    from cxrtriage.evaluate.evaluation import evaluate_predictions
    from cxrtriage.model.bundle import load_model
    from cxrtriage.pipeline import fit
    from cxrtriage.score import score_films

_HOMES = {
    "CxrTriageError": "errors",
    "Recipe": "config",
    "TrainSettings": "config",
    "draw_phantom": "data.phantom",
    "evaluate_predictions": "evaluate.evaluation",
    "find_films": "data.film.source",
    "fit": "pipeline",
    "load_model": "model.bundle",
    "make_phantoms": "data.phantom",
    "prepare_film": "data.prepared.prepare",
    "read_film": "data.film.source",
    "read_manifest": "data.labels.manifest",
    "score_films": "score",
    "split_manifest": "data.labels.split",
}

__all__ = [
    "CxrTriageError",
    "Recipe",
    "TrainSettings",
    "draw_phantom",
    "evaluate_predictions",
    "find_films",
    "fit",
    "load_model",
    "make_phantoms",
    "prepare_film",
    "read_film",
    "read_manifest",
    "score_films",
    "split_manifest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
