"""The files of a fit or an evaluation, read for the report.

In comes a folder, out goes a `Run` in which everything but the figures may be missing. The sections read it next.
"""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from safetensors import SafetensorError, safe_open

from cxrtriage.data.prepared.store import CARD, REJECTS, PreparedSet, open_prepared, read_card
from cxrtriage.digest import sha256_of
from cxrtriage.errors import SourceError
from cxrtriage.evaluate.predictions import read_predictions

Content = TypeVar("Content")


@dataclass(frozen=True)
class Run:
    """What a folder holds. What it does not hold is None or empty.

    Parameters
    ----------
    folder : of the fit or the evaluation
    metrics : content of `metrics.json`
    predictions : one row a film, from `evaluate.predictions.read_predictions`
    manifest : every labelled film, with its split where there was one
    prepared : the set that was trained or measured on
    rejects : films that could not be used: `path`, `reason`
    duplicates : pairs of films that are the same: see `data.prepared.duplicates.find_duplicates`
    versions : of what prepared the films
    history : one row an epoch
    config : content of `run/config.toml`
    budget : content of `budget.json`
    card : what the model file says of itself
    model_hash : SHA-256 of the model file as it is now
    explanations : content of `explanations/explanations.json`
    cases : rows of `explanations/cases.csv`
    explained : folder of the explanations
    """

    folder: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    manifest: pd.DataFrame | None = None
    prepared: PreparedSet | None = None
    rejects: pd.DataFrame | None = None
    duplicates: pd.DataFrame | None = None
    versions: dict[str, str] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    config: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    model_hash: str | None = None
    explanations: dict[str, Any] | None = None
    cases: pd.DataFrame | None = None
    explained: Path = Path("explanations")

    @property
    def is_fit(self) -> bool:
        """Whether the folder is that of a fit, and not of an evaluation alone."""
        return (self.folder / "evaluation").is_dir()


def read_run(folder: Path) -> Run:
    """Read the folder of `cxrtriage fit` or of `cxrtriage evaluate`.

    Parameters
    ----------
    folder : holds `evaluation/metrics.json` (a fit) or `metrics.json` (an evaluation)

    Raises
    ------
    SourceError
        If there are no figures in the folder, or a file in it is damaged; the message names it.
    """
    measured = folder / "evaluation" if (folder / "evaluation" / "metrics.json").exists() else folder
    if not (measured / "metrics.json").exists():
        raise SourceError(
            f"cannot report on {folder}: it holds neither evaluation/metrics.json nor metrics.json. Give the folder "
            "that 'cxrtriage fit' or 'cxrtriage evaluate' wrote with --out; if a fit was interrupted, start it again."
        )
    model = folder / "run" / "model.safetensors"
    prepared = folder / "prepared"
    explained = folder / "explanations"
    return Run(
        folder=folder,
        metrics=_read(measured / "metrics.json", _json),
        predictions=read_predictions(measured / "predictions.csv"),
        manifest=_if_there(folder / "manifest.csv", _table),
        prepared=_if_there(prepared / CARD, lambda _: open_prepared(prepared)),
        rejects=_if_there(prepared / REJECTS, _table),
        duplicates=_if_there(folder / "duplicates.csv", _table),
        versions=_if_there(prepared / CARD, lambda _: read_card(prepared).versions) or {},
        history=_if_there(folder / "run" / "history.csv", pd.read_csv),
        config=_if_there(folder / "run" / "config.toml", lambda path: tomllib.loads(path.read_text("utf-8"))) or {},
        budget=_if_there(folder / "budget.json", _json) or {},
        card=_if_there(model, _model_card) or {},
        model_hash=_if_there(model, sha256_of),
        explanations=_if_there(explained / "explanations.json", _json),
        cases=_if_there(explained / "cases.csv", _table),
        explained=explained,
    )


def _if_there(path: Path, read: Callable[[Path], Content]) -> Content | None:
    return _read(path, read) if path.exists() else None


def _read(path: Path, read: Callable[[Path], Content]) -> Content:
    """Read a file, or say in one sentence that it is damaged."""
    try:
        return read(path)
    except (
        ValueError,
        KeyError,
        OSError,
        SafetensorError,
    ) as error:  # JSON, TOML, CSV and UTF-8 errors are ValueErrors
        raise SourceError(
            f"cannot report on {path}: it is damaged ({type(error).__name__}). Run the command that wrote it again."
        ) from error


def _table(path: Path) -> pd.DataFrame:
    """Read a CSV in which identifiers stay text."""
    return pd.read_csv(path, dtype={"patient_id": str, "path": str, "source": str, "reason": str, "sentence": str})


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _model_card(path: Path) -> dict[str, Any]:
    """Return the card in the metadata of a model file; no weight is read."""
    with safe_open(path, framework="numpy") as file:
        card: dict[str, Any] = json.loads(file.metadata()["cxrtriage"])["card"]
    return card
