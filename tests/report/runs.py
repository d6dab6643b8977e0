"""A folder as `cxrtriage fit` leaves it, built in code in a second, with names that must not get onto the page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import save_file

from cxrtriage.atomic import replacing
from cxrtriage.config import Recipe
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.evaluate.evaluation import evaluate_predictions, measured_films
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.records import OperatingPoint
from films import film_pixels
from prediction_tables import made_up_predictions

SIZE = 64
METHODS = ("opposite", "grad-cam", "integrated-gradients", "occlusion")
NOISE = "opposite_from_noise_to_abnormal"
KINDS = (
    "most_sure_abnormal", "most_sure_normal", "missed", "false_alarm", "opposite_from_abnormal", "opposite_from_normal",
    NOISE, "opposite_from_noise_to_normal",
)  # fmt: skip


def entry(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "lower": estimate - 0.1, "upper": estimate + 0.1}


def predictions_of_fit(folder: Path, films: int = 240, sources: int = 1, emergent: bool = False) -> pd.DataFrame:
    """Predictions whose file names and patients are such that a page must not show them."""
    table = made_up_predictions(films, sources=sources, emergent=emergent)
    table["patient_id"] = "PID_" + table["patient_id"].str[1:] + "_DOE"
    table["path"] = [str(folder / "films" / f"SMITH_{row:04d}_JANE.png") for row in range(films)]
    return table


def make_evaluation(folder: Path, table: pd.DataFrame, audit: bool = False) -> dict[str, Any]:
    """Write predictions.csv and metrics.json, without the figures that the page does not read."""
    points = [
        OperatingPoint(
            name=name, threshold=threshold, abnormal_patients=60, normal_patients=60, sensitivity=(0.9, 0.8, 1.0),
            specificity=(0.5, 0.4, 0.6),
        )
        for name, threshold in (("sensitivity 0.95", 0.2), ("youden", 0.5), ("cost 5:1", 0.3))
    ]  # fmt: skip
    metrics = evaluate_predictions(table, operating_points=points, decision="sensitivity 0.95", resamples=60)
    if audit:
        metrics["audit"] = make_audit(metrics)
        metrics["made_from"] = {"model": "a" * 64, "set": "b" * 64, "version": "0.1.0", "seed": 0}
    folder.mkdir(parents=True, exist_ok=True)
    measured_films(table, metrics).to_csv(folder / "predictions.csv", index=False)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def make_audit(metrics: dict[str, Any], baseline: float = 0.6) -> dict[str, Any]:
    blocks = {
        name: {
            "films": block["films"],
            "network": block["figures"]["auroc"],
            "baseline": entry(baseline),
            "telling_fact": entry(0.55),
            "lungs_blanked": entry(0.62),
            "border_only": entry(0.5),
            "network_less_baseline": entry(0.2),
            "can_show_anatomy": baseline < 0.8,
        }
        for name, block in metrics["every_film"]["sources"].items()
    }
    first = next(iter(blocks.values()))
    return {
        "split": "test", "films": 240, "training_films": 600, "facts": 79, "telling_fact": "left border brightest",
        "sources": blocks, "mean_over_sources": first if len(blocks) > 1 else None,
        "verdict": "The network's AUROC is above the baseline.",
    }  # fmt: skip


def make_fit(folder: Path, *, sources: int = 1, emergent: bool = False, explanations: bool = True) -> Path:
    """Write every file that a report reads into `folder`, and return it."""
    table = predictions_of_fit(folder, sources=sources, emergent=emergent)
    metrics = make_evaluation(folder / "evaluation", table, audit=True)
    (folder / "films").mkdir()
    measured = pd.read_csv(folder / "evaluation" / "predictions.csv")
    measured["split"] = "test"
    on_disk = pd.concat([measured.groupby("label").head(12), measured.tail(1)])
    for number, path in enumerate(on_disk["path"]):
        Image.fromarray(film_pixels(90, 80, bits=14, seed=number)).save(path)
    broken = str(folder / "films" / "JONES_0001_JIM.png")
    Path(broken).write_bytes(b"no film")
    manifest = pd.concat([on_disk, on_disk.tail(1).assign(path=broken, patient_id="PID_X_ROE")], ignore_index=True)
    manifest["split"] = np.where(manifest.index % 4 == 0, "train", "test")
    manifest["split"] = manifest.groupby("patient_id")["split"].transform("first")
    manifest.to_csv(folder / "manifest.csv", index=False)
    columns = ["path", "label", "patient_id", "source", "view_position", "sex", "age", "split"]
    prepare_set(manifest[columns], folder / "prepared", Recipe(size=SIZE), workers=1, max_rejected=1.0)
    pair = manifest["path"].head(2).tolist()
    pd.DataFrame([[*pair, "exact", "test", "test", 0, 0]], columns=DUPLICATE_COLUMNS).to_csv(
        folder / "duplicates.csv", index=False
    )
    make_run(folder / "run")
    if explanations:
        make_explanations(folder / "explanations", measured)
    assert metrics["audit"]
    return folder


DUPLICATE_COLUMNS = ["path_a", "path_b", "kind", "split_a", "split_b", "label_a", "label_b"]


def make_run(folder: Path) -> None:
    """Write history, settings and a model file that has a card and no weights worth the name."""
    folder.mkdir()
    epochs = np.arange(1, 13)
    pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": 0.7 * 0.9**epochs,
            "train_accuracy": 1 - 0.45 * 0.9**epochs,
            "validation_loss": 0.55 + 0.005 * (epochs - 5) ** 2,
            "validation_accuracy": 0.75 - 0.002 * (epochs - 6) ** 2,
            "validation_auroc": 0.82 - 0.003 * (epochs - 6) ** 2,
        }
    ).to_csv(folder / "history.csv", index=False)
    (folder / "config.toml").write_text(
        '[settings]\nnet = "googlenet"\nrecipe = "clinical"\nseed = 3\ninit = "/home/user/secret/start.pth"\n'
        'monitor = "auroc"\n[resolved]\nfilms = 600\nepochs = 12\nremarks = ["two classes"]\n'
        f'[recipe]\nsize = {SIZE}\ncrop_edges = true\n[data]\npath = "/home/user/secret/prepared"\nhash = "abc"\n'
    )
    card = ModelCard(
        architecture="googlenet",
        recipe=Recipe(size=SIZE),
        scope=Scope(films=600, patients=400, views=("AP", "PA"), age_years=(18, 90)),
        sources=["hospital a"],
        data_hash="b" * 64,
        validation={"undetermined": {"cost 9:1": "cost 9:1 cannot be determined: too few patients."}},
    )
    envelope = json.dumps({"format": 1, "card": card.model_dump(mode="json")})
    with replacing(folder / "model.safetensors") as temporary:
        save_file({"weight": np.zeros(1, np.float32)}, temporary, metadata={"cxrtriage": envelope})


def make_explanations(folder: Path, measured: pd.DataFrame, side: int = 200) -> None:
    """Write explanations as the contract between `explain` and `report` has them."""
    (folder / "cases").mkdir(parents=True)
    rows = []
    for number, kind in enumerate(kind for kind in KINDS for _ in range(2)):
        film, picture = measured.iloc[number], f"case_{number}.png"
        noise, opposite = kind.startswith("opposite_from_noise"), kind.startswith("opposite")
        pixels = film_pixels(side, 3 * side if opposite else side, bits=8, seed=number)
        Image.fromarray(np.dstack([pixels, pixels, 255 - pixels])).save(folder / "cases" / picture)
        rows.append(
            {
                "kind": kind,
                "path": None if noise else film["path"],
                "label": None if noise else film["label"],
                "probability": None if noise else film["probability"],
                "decision": None if noise else film["decision"],
                "method": "opposite" if opposite else "occlusion",
                "picture": picture,
                "before": 0.9 if opposite else None,
                "after": 0.04 if opposite else None,
                "reached": (number % 2 == 0) if opposite else None,
                "sentence": "The evidence lies in the right lower zone.",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "cases.csv", index=False)
    measures = (
        "peak_in_lesion",
        "mass_in_lesion",
        "mass_ratio",
        "deletion",
        "insertion",
        "randomisation",
        "noise_stability",
    )
    content = {
        "made_from": {"model": "a" * 64}, "split": "test", "films": 64, "seed": 0, "size": SIZE,
        "methods": {
            method: {name: entry(0.1 + 0.1 * number) for name in measures}
            | {"exposed": method == "opposite", "seconds_a_film": 0.1, "randomisation_steps": []}
            for number, method in enumerate(METHODS)
        },
        "references": {
            "chance": {"peak_in_lesion": entry(0.05), "deletion": None},
            "centre": {"peak_in_lesion": entry(0.1), "map": "a Gaussian at the film's centre"},
        },
        "lesions": {"films": 40, "median_area_share": 0.06},
        "recommended": "occlusion", "reason": "Its peak lies in the lesion in 40 of 100 films.",
        "symmetry": {
            "untouched": [
                {"class": name, "region": region, "films": 30, "symmetry": entry(0.8)}
                for name in ("normal", "abnormal", "difference") for region in ("whole", "lungs")
            ],
            "step": [
                {"from": "abnormal", "form": form, "region": "whole", "films": 30} | {
                    name: entry(0.7) for name in ("before", "after", "change", "random_change", "excess")
                }
                for form in ("plain", "film-like")
            ],
            "difference_image": [],
            "sentence": "The step does not make films more symmetric than a random change does.",
        },
        "notes": ["Randomisation was measured on 16 films."],
    }  # fmt: skip
    (folder / "explanations.json").write_text(json.dumps(content))
