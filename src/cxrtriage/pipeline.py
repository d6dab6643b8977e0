"""The stages in order, meeting in files: what `fit` is, and the shorter ways through the same stages.

    labels -> manifest.csv -> prepared/ -> run/model.safetensors -> evaluation/ -> explanations/ -> report.html

Each stage skips what it finds done for the same input, so a second start goes on where the first stopped.
"""

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cxrtriage import __version__
from cxrtriage.atomic import replacing
from cxrtriage.budget import BUDGET_FOR_THE_REST, left_for_training, require_same_budget
from cxrtriage.choices import choose_size, typical_side
from cxrtriage.config import Recipe, TrainSettings
from cxrtriage.data.film.source import read_film
from cxrtriage.data.labels.manifest import read_labelled, read_manifest, save_manifest
from cxrtriage.data.labels.split import require_films, split_manifest
from cxrtriage.data.prepared.build import MOST_REJECTED, prepare_set
from cxrtriage.data.prepared.duplicates import duplicates_sentence, find_duplicates
from cxrtriage.data.prepared.store import PreparedSet, open_prepared
from cxrtriage.digest import sha256_of
from cxrtriage.errors import SourceError
from cxrtriage.evaluate.audit import shortcut_audit
from cxrtriage.evaluate.evaluation import evaluate_predictions, write_evaluation
from cxrtriage.evaluate.figures import draw_curves, draw_equalisation
from cxrtriage.evaluate.predicting import predictions_table, told_if_known
from cxrtriage.evaluate.predictions import read_predictions
from cxrtriage.evaluate.recalibrate import recalibrate_model
from cxrtriage.explain.folder import explain_set
from cxrtriage.explain.measuring import FILMS
from cxrtriage.metrics import shift_prevalence
from cxrtriage.model.bundle import Model, load_model
from cxrtriage.predict import require_recipe
from cxrtriage.records import LABEL_NAMES
from cxrtriage.report import write_report
from cxrtriage.score import check_prevalence
from cxrtriage.train import train
from cxrtriage.train.plan import pick_accelerator

logger = logging.getLogger("cxrtriage")

TIME_TO_EXPLAIN_S = 240  # twice what GoogLeNet at 160 took on two cores; budgets that keep less get no explanations


@dataclass(frozen=True, slots=True)
class FitResult:
    """Where a fit left its files, and its figures.

    Parameters
    ----------
    out : folder of the fit
    model : the model file
    metrics : content of `evaluation/metrics.json`; see `evaluate.evaluation.evaluate_predictions`
    explanations : content of `explanations/explanations.json`, see `explain.measuring.measure_explanations`; None where
        they were left out
    report : the page about all of it
    """

    out: Path
    model: Path
    metrics: dict[str, Any]
    explanations: dict[str, Any] | None
    report: Path


def fit(
    images: Path,
    labels: Path | None = None,
    out: Path = Path("fitted"),
    *,
    net: Literal["googlenet", "inception_v3", "resnet152"] = "googlenet",
    size: int | None = None,
    recipe: Literal["study", "clinical"] = "clinical",
    epochs: int | None = None,
    batch: int | None = None,
    budget_s: float | None = None,
    class_weight: float | Literal["none", "balanced"] = "none",
    classes: Literal["auto", 2, 3] = "auto",
    init: Path | None = None,
    crop_edges: bool = False,
    mask_border: bool = False,
    contrast: Literal["equalise", "none", "clahe"] = "equalise",
    split_by: Literal["patient", "image"] = "patient",
    max_rejected: float = MOST_REJECTED,
    explain_films: int = FILMS,
    devices: int = 1,
    nodes: int = 1,
    workers: int | None = None,
    seed: int = 0,
) -> FitResult:
    """Go from labelled films to a trained, calibrated, measured and explained model, and a report of it.

    Interrupted at any moment and called again with the same arguments, it goes on where it was.

    Parameters
    ----------
    images : folder of films; or, without `labels`, of the folders normal/, abnormal/, emergent/
    labels : CSV or Parquet with `path`, `label` and the optional columns of a manifest; a `split` column
        is respected, otherwise patients are split 81 : 9 : 10 into train, validation and test
    out : folder for the manifest, the prepared set, the run and the evaluation
    size : side of the prepared films in pixels; None picks one for the films and the machine
    budget_s : wall-clock seconds to stay within, all stages together; the training schedule is shortened to fit
    crop_edges, mask_border, contrast : see `config.Recipe`
    split_by : "image" is the study's way: a patient's films may lie on both sides, which flatters the figures
    max_rejected : share of films that may be unreadable before the fit stops
    explain_films : test films that explanations are scored on; 0 leaves explanations out, and so does a budget that is
        too short for them
    workers : processes that prepare films; None takes all processors
    net, recipe, epochs, batch, class_weight, classes, init, devices, nodes, seed : see `config.TrainSettings`

    Returns
    -------
    FitResult

    Raises
    ------
    CxrTriageError
        If the films, the labels or the settings cannot be used; the message says what to do.

    Examples
    --------
    >>> from cxrtriage import fit
    >>> result = fit(Path("images"), Path("labels.csv"), Path("fitted"))  # doctest: +SKIP
    >>> result.metrics["audit"]["verdict"]  # doctest: +SKIP
    """
    began = time.monotonic()
    images, out = Path(images), Path(out)
    require_same_budget(out, budget_s)
    manifest = split_manifest(read_labelled(Path(labels or images), images), by=split_by, seed=seed)
    require_films(manifest, "validation", "calibrate the model on")
    require_films(manifest, "test", "measure the model on")
    save_manifest(manifest, out / "manifest.csv")
    settings = TrainSettings(
        net=net,
        recipe=recipe,
        classes=classes,
        epochs=epochs,
        batch=batch,
        budget_s=budget_s,
        class_weight=class_weight,
        init=init,
        devices=devices,
        nodes=nodes,
        seed=seed,
    )
    if size is None:
        train_films = int((manifest["split"] == "train").sum())
        on_gpu = pick_accelerator(settings) == "gpu"
        size, reason = choose_size(train_films, typical_side(manifest["path"].tolist()), on_gpu)
        logger.info("size %d: %s", size, reason)
    preparation = Recipe(size=size, crop_edges=crop_edges, mask_border=mask_border, contrast=contrast)
    prepared = prepare_set(manifest, out / "prepared", preparation, workers=workers, max_rejected=max_rejected)
    report_duplicates(prepared, out / "duplicates.csv")
    if budget_s is not None:
        settings = left_for_training(settings, out, budget_s, time.monotonic() - began)
    model = train_and_calibrate(prepared, out / "run", settings)
    metrics = measure_fit(model, prepared, out, workers=workers, seed=seed)
    explanations = None
    if budget_s is not None and budget_s * BUDGET_FOR_THE_REST < TIME_TO_EXPLAIN_S:
        logger.info("explanations are left out to stay within the budget; 'cxrtriage explain --score' makes them")
    elif explain_films:
        predictions = pd.read_csv(out / "evaluation" / "predictions.csv", dtype={"patient_id": str})
        explanations = _explain(
            model, prepared, predictions, out / "explanations", explain_films=explain_films, seed=seed
        )
    return FitResult(out, model, metrics, explanations, write_report(out))


def train_and_calibrate(prepared: PreparedSet, out: Path, settings: TrainSettings, *, resume: bool = True) -> Path:
    """Train on a prepared set, fit calibration and operating points on its validation films, return the model file."""
    require_films(prepared.manifest, "validation", "calibrate the model on")
    path = train(prepared, settings, out, resume=resume)
    recalibrate_model(path, prepared)
    return path


def measure_fit(
    path: Path, prepared: PreparedSet, out: Path, *, workers: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure a model on the test films of the set it was trained on, audit shortcuts and draw every figure.

    Parameters
    ----------
    path : model file
    prepared : its training set, with films in the split "test"
    out : folder of the fit, whose `run/history.csv` is drawn too; `evaluation/` is written into it
    workers : processes that read films for the audit
    seed : of the bootstrap and the audit

    Returns
    -------
    dict
        Content of `evaluation/metrics.json`, read back where the same model was measured before.
    """
    made_from = _made_from(path, prepared) | {"seed": seed}
    evaluation = out / "evaluation"
    measured = evaluation / "metrics.json"
    if measured.exists():
        metrics: dict[str, Any] = json.loads(measured.read_text())
        if metrics.get("made_from") == made_from:
            return metrics
    model = load_model(path)
    table = predictions_table(model, prepared, "test")
    metrics = _measure(table, model, seed=seed)
    metrics["audit"] = shortcut_audit(model, prepared, workers=workers, seed=seed)
    metrics["made_from"] = made_from
    draw_curves(pd.read_csv(path.parent / "history.csv"), evaluation / "curves")
    _draw_examples(prepared, evaluation / "equalisation")
    write_evaluation(table, metrics, evaluation)  # last: metrics.json says that all the rest is there
    return metrics


def evaluate_model(
    path: Path,
    films: Path,
    out: Path,
    *,
    images: Path | None = None,
    threshold: float | None = None,
    prevalence: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model on labelled films, which are prepared as the model asks for.

    Parameters
    ----------
    path : model file
    films : manifest, or prepared set; if it has a split, its test films are measured, otherwise all
    out : folder for `predictions.csv`, `metrics.json`, figures, and the prepared films
    images : folder that the manifest's paths are looked up in first
    threshold : in place of the model's own
    prevalence : share of abnormal films where the model is to be used
    seed : of the bootstrap

    Returns
    -------
    dict
        Content of `metrics.json`; see `evaluate.evaluation.evaluate_predictions`.

    Raises
    ------
    ModelError
        If a prevalence is given for a model that is not calibrated.
    """
    model = load_model(path)
    check_prevalence(model.card, prevalence)
    prepared = _prepared_for(model, films, images, out / "prepared")
    split = _measured_split(prepared)
    table = predictions_table(model, prepared, split)
    metrics = _measure(table, model, threshold=threshold, prevalence=prevalence, seed=seed)
    metrics["notes"] += told_if_known(model, path, prepared, split)
    write_evaluation(table, metrics, out)
    return metrics


def explain_model(
    path: Path, films: Path, out: Path, *, images: Path | None = None, explain_films: int = FILMS, seed: int = 0
) -> dict[str, Any]:
    """Score all explanation methods on labelled films, which are prepared as the model asks for, and draw cases.

    Parameters
    ----------
    path : model file
    films : manifest, or prepared set; if it has a split, its test films are explained, otherwise all
    out : folder for `explanations.json`, `cases.csv`, pictures, and the prepared films
    images : folder that the manifest's paths are looked up in first
    explain_films : how many films at most; more give narrower intervals
    seed : see `explain.measuring.measure_explanations`

    Returns
    -------
    dict
        Content of `explanations.json`.
    """
    model = load_model(path)
    prepared = _prepared_for(model, films, images, out / "prepared")
    split = _measured_split(prepared)
    table = predictions_table(model, prepared, split)
    return _explain(path, prepared, table, out, split=split, explain_films=explain_films, seed=seed)


def evaluate_csv(
    predictions: Path, out: Path, *, threshold: float | None = None, prevalence: float | None = None, seed: int = 0
) -> dict[str, Any]:
    """Measure any CSV with `label,probability[,patient_id,source,...]`; write and return as `evaluate_model`."""
    table = read_predictions(predictions)
    metrics = evaluate_predictions(
        table, threshold=0.5 if threshold is None else threshold, prevalence=prevalence, seed=seed
    )
    write_evaluation(table, metrics, out)
    return metrics


def recalibrate_for(path: Path, films: Path, out: Path, *, images: Path | None = None) -> None:
    """Write a copy of a model whose calibration and operating points are fitted to the films of another place.

    Parameters
    ----------
    path : model file
    films : manifest, or prepared set; if it has a split, its validation films are used, otherwise all
    out : model file to write; the prepared films lie beside it
    images : folder that the manifest's paths are looked up in first
    """
    prepared = _prepared_for(load_model(path), films, images, out.with_suffix(".prepared"))
    with replacing(out) as temporary:
        shutil.copyfile(path, temporary)
        recalibrate_model(temporary, prepared, "validation" if "split" in prepared.manifest else None)


def report_duplicates(prepared: PreparedSet, out: Path) -> None:
    """Write the films that a set holds twice to a CSV, and say what was found."""
    found = find_duplicates(prepared.images, prepared.manifest)
    with replacing(out) as temporary:
        found.to_csv(temporary, index=False)
    if len(found):
        logger.warning("%s See %s.", duplicates_sentence(found), out)


def _measure(
    table: pd.DataFrame,
    model: Model,
    *,
    threshold: float | None = None,
    prevalence: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model's predictions at its own operating points, or at a given threshold.

    The model's own moves with the prevalence, so that films are called what `score` calls them.
    """
    card = model.card
    own = card.threshold
    if prevalence is not None and card.calibrated_at is not None:
        own = float(shift_prevalence(own, card.calibrated_at, prevalence))
    return evaluate_predictions(
        table,
        threshold=own if threshold is None else threshold,
        decision=card.decision if threshold is None else None,
        operating_points=card.operating_points,
        prevalence=prevalence,
        calibrated_at=card.calibrated_at,
        notes=card.not_determined,
        seed=seed,
    )


def _explain(
    path: Path,
    prepared: PreparedSet,
    predictions: pd.DataFrame,
    out: Path,
    *,
    explain_films: int,
    split: str | None = "test",
    seed: int = 0,
) -> dict[str, Any]:
    made_from = _made_from(path, prepared)
    return explain_set(
        load_model(path), prepared, predictions, out, made_from=made_from, split=split, films=explain_films, seed=seed
    )


def _measured_split(prepared: PreparedSet) -> str | None:
    """Return "test" where a set is split; all films of others are measured."""
    return "test" if "split" in prepared.manifest else None


def _made_from(path: Path, prepared: PreparedSet) -> dict[str, Any]:
    """Return what tells whether a result is still that of this model and set."""
    return {"model": sha256_of(path), "set": prepared.source_hash, "version": __version__}


def _prepared_for(model: Model, films: Path, images: Path | None, out: Path) -> PreparedSet:
    """Open a prepared set, or prepare the films of a manifest, as the model asks for."""
    if films.is_dir():
        prepared = open_prepared(films)
        require_recipe(model, prepared.recipe)
        return prepared
    return prepare_set(read_manifest(films, images), out, model.card.recipe)


def _draw_examples(prepared: PreparedSet, out: Path) -> None:
    """Draw the first readable test film of each class before and after preparation."""
    test = prepared.manifest[prepared.manifest["split"] == "test"]
    sources, titles = [], []
    for label, name in enumerate(LABEL_NAMES):
        for path in test.loc[test["label"] == label, "path"].head(3):
            try:
                sources.append(read_film(path))
            except SourceError:
                continue  # gone since it was prepared
            titles.append(name)
            break
    if sources:
        draw_equalisation(sources, prepared.recipe, titles, out)
