"""Runs written by hand: the small files of runs of known skill, and a manifest of films that are not there."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from cxrtriage.experiments.films import Films


def write_run(
    out: Path, name: str, *, skill: float, films: int = 200, first: int = 0, seed: int = 0, epochs: int = 4
) -> Path:
    """Write a run whose abnormal films score higher by `skill` standard deviations; two films a patient."""
    random = np.random.default_rng(seed)
    folder = out / "runs" / name
    folder.mkdir(parents=True)
    film = np.arange(first, first + films)
    label = film // 2 % 2
    logit = random.normal(size=films) + skill * label
    table = pd.DataFrame(
        {"film": film, "patient": film // 2, "label": label, "logit": logit, "probability": 1 / (1 + np.exp(-logit))}
    )
    for split in ("validation", "test"):
        table.to_csv(folder / f"{split}.csv", index=False)
    rising = np.linspace(0.6, 0.8, epochs)
    history = pd.DataFrame({"epoch": np.arange(1, epochs + 1), "step": 5 * np.arange(1, epochs + 1), "seconds": 10.0})
    for which in ("train", "validation"):
        history[f"{which}_loss"], history[f"{which}_accuracy"] = 1 - rising, rising + random.normal(0, 0.01, epochs)
    history["validation_auroc"] = rising
    history.to_csv(folder / "history.csv", index=False)
    counts = {"train": 100, "validation": films, "test": films}
    card = {"films": counts, "films_seen": 100 * epochs, "steps": 5 * epochs, "seconds": 10.0, "identity": {}}
    (folder / "run.json").write_text(json.dumps(card))
    return folder


def write_baseline(out: Path, *, skill: float | None, films: int = 200) -> None:
    """Write the baseline's scores; without skill, that there are none."""
    out.mkdir(parents=True, exist_ok=True)
    problem = "The no-anatomy baseline needs more films." if skill is None else ""
    (out / "no_anatomy.json").write_text(json.dumps({"films": "", "problem": problem, "telling_fact": "border"}))
    film = np.arange(films)
    label = film // 2 % 2
    logit = np.random.default_rng(99).normal(size=films) + (skill or 0) * label
    table = pd.DataFrame({"film": film, "patient": film // 2, "label": label, "logit": logit})
    table.to_csv(out / "no_anatomy.csv", index=False)


def make_films(patients: int = 60, films_each: int = 3, *, test: int = 10, validation: int = 10) -> Films:
    """Films of patients, normal and abnormal in turn; the first patients are tested, the next validated on."""
    patient = np.repeat(np.arange(patients), films_each)
    split = np.where(patient < test, "test", np.where(patient < test + validation, "validation", "train"))
    manifest = pd.DataFrame(
        {
            "path": [f"/films/{number:04}.png" for number in range(len(patient))],
            "label": patient % 2,
            "patient_id": [f"p{number:03}" for number in patient],
            "split": split,
            "film_number": np.arange(len(patient)),
            "patient_number": patient,
        }
    )
    return Films(manifest, "0" * 64)
