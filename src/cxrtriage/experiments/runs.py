"""One run: a network trained on some films with one seed, in a folder of its own.

    runs/<name>/
      history.csv                   a row an epoch
      validation.csv, test.csv      film, patient, label, logit, probability (calibrated), films and patients by number
      run.json                      what it is, and what it took; written last
      train/                        the model file and the rest; large, and not needed by tables and curves

In comes a `RunPlan`; `results` and `figures` read the small files only. A run that is done is skipped as long as its
settings are those asked for, one that was interrupted goes on, and one with other settings is refused.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage import __version__
from cxrtriage.atomic import lock_or_refuse, replacing
from cxrtriage.config import Recipe, TrainSettings
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import ConfigError
from cxrtriage.evaluate.predicting import predictions_table
from cxrtriage.experiments.films import Films, prepare_films, split_hash, with_split
from cxrtriage.model.bundle import load_model
from cxrtriage.pipeline import train_and_calibrate
from cxrtriage.train.run import FREE_TO_CHANGE

JUDGED = ("validation", "test")
# Training time of a film relative to GoogLeNet, measured on two cores at 224 pixels: 25, 8 and 3 films a second.
COST = {"googlenet": 1.0, "inception_v3": 3.0, "resnet152": 8.0}


@dataclass(frozen=True, slots=True, eq=False)
class RunPlan:
    """A run to be made.

    Parameters
    ----------
    name : of its folder; says what it is
    recipe : of the preparation
    settings : of the training
    split : (N,) str by film number: "train", "validation", "test", or "" for films left out
    """

    name: str
    recipe: Recipe
    settings: TrainSettings
    split: np.ndarray

    @property
    def training_films(self) -> int:
        """Films that it trains on."""
        return int((self.split == "train").sum())

    @property
    def work(self) -> float:
        """Work at most, in films that GoogLeNet trains on at 224 pixels."""
        films = self.training_films * (self.settings.epochs or 1)
        return films * COST[self.settings.net] * (self.recipe.size / 224) ** 2


def folder_of(out: Path, name: str) -> Path:
    """Return the folder of a run."""
    return out / "runs" / name


def model_of(out: Path, name: str) -> Path:
    """Return the model file of a run."""
    return folder_of(out, name) / "train" / "model.safetensors"


def is_done(plan: RunPlan, films: Films, out: Path) -> bool:
    """Tell whether a run is there already.

    Raises
    ------
    ConfigError
        If there is a run of that name with other settings or films.
    """
    path = folder_of(out, plan.name) / "run.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))["identity"]
    for name, asked in identity_of(plan, films).items():
        if found.get(name) != asked:
            raise ConfigError(
                f"{path.parent} holds a run with {name}={found.get(name)}, but {name}={asked} was asked for now. "
                "Give another --out; what was made with different settings is never mixed."
            )
    return True


def identity_of(plan: RunPlan, films: Films) -> dict[str, Any]:
    """Return all that a run's result depends on, as it stands in `run.json`."""
    settings = plan.settings.model_dump(mode="json", exclude={*FREE_TO_CHANGE, "init"})
    init = plan.settings.init
    return {
        "films": split_hash(films.hash, plan.split),
        "init": None if init is None else hashlib.sha256(init.read_bytes()).hexdigest(),
        **{f"preparation.{name}": value for name, value in plan.recipe.model_dump().items()},
        **settings,
    }


def perform(plan: RunPlan, films: Films, out: Path, workers: int | None = None) -> None:
    """Train, calibrate and measure a run, unless it is done.

    Parameters
    ----------
    plan : what to do
    films : of the experiment
    out : folder of the experiments
    workers : processes that prepare films

    Raises
    ------
    ConfigError
        If another process is at work on it: experiments share runs.
    """
    if is_done(plan, films, out):
        return
    folder = folder_of(out, plan.name)
    (folder / "train").mkdir(parents=True, exist_ok=True)
    with (folder / "train" / ".lock").open("w") as lock:
        lock_or_refuse(lock, f"another process is at work on {folder}. Wait for it, or choose another --out.")
        _train_and_measure(plan, films, out, folder, workers)


def _train_and_measure(plan: RunPlan, films: Films, out: Path, folder: Path, workers: int | None) -> None:
    prepared = with_split(prepare_films(films, plan.recipe, out, workers), plan.split)
    model = train_and_calibrate(prepared, folder / "train", plan.settings)
    history = pd.read_csv(folder / "train" / "history.csv")
    _write_csv(history, folder / "history.csv")
    loaded = load_model(model)
    for split in JUDGED:
        table = predictions_table(loaded, prepared, split)
        table = table.rename(columns={"film_number": "film", "patient_number": "patient"})
        _write_csv(table[["film", "patient", "label", "logit", "probability"]], folder / f"{split}.csv")
    _write_card(plan, films, prepared, history, folder)
    (folder / "train" / "last.ckpt").unlink(missing_ok=True)  # three times the model's size, and of no more use


def load_run(out: Path, name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the content of a run's `run.json`, and its history."""
    folder = folder_of(out, name)
    return json.loads((folder / "run.json").read_text(encoding="utf-8")), pd.read_csv(folder / "history.csv")


def load_scores(out: Path, name: str, split: str) -> pd.DataFrame:
    """Return what a run says of the films of a split, indexed by film number."""
    return pd.read_csv(folder_of(out, name) / f"{split}.csv", index_col="film")


def _write_card(plan: RunPlan, films: Films, prepared: PreparedSet, history: pd.DataFrame, folder: Path) -> None:
    """Write `run.json`: from then on the run is done."""
    split = prepared.manifest["split"]
    trained = int((split == "train").sum())
    area = history["validation_auroc"]
    best = int(area.fillna(-math.inf).argmax()) if area.notna().any() else int(history["validation_loss"].argmin())
    card = {
        "name": plan.name,
        "identity": identity_of(plan, films),
        "films": {name: int((split == name).sum()) for name in ("train", *JUDGED)},
        "epochs": len(history),
        "best_epoch": int(history["epoch"].iloc[best]),
        "steps": int(history["step"].iloc[-1]),
        "films_seen": trained * len(history),
        "seconds": float(history["seconds"].iloc[-1]),
        "work": plan.work,
        "version": __version__,
    }
    with replacing(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(card, indent=1), encoding="utf-8")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
