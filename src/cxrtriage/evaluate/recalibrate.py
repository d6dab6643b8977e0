"""Fit a model's probabilities and thresholds to labelled films, and store them in the model file.

In come a model file and a prepared set, its validation films after training or those of another place; the card of the
model file is rewritten, its weights are not. Whatever these films cannot determine is said, and stored with the reason.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.evaluate.calibration import fit_calibration, why_not_calibrated
from cxrtriage.evaluate.measures import Measuring, measure
from cxrtriage.evaluate.operating import choose_operating_points
from cxrtriage.evaluate.precision import check_precisions
from cxrtriage.evaluate.predicting import measured_rows, predictions_table, rows_of
from cxrtriage.evaluate.predictions import check_predictions
from cxrtriage.model.bundle import load_model, replace_card
from cxrtriage.model.card import FEWEST_FILMS_TO_CHECK, ModelCard
from cxrtriage.model.known_films import fingerprints
from cxrtriage.model.quantised import FILMS
from cxrtriage.predict import calibrate
from cxrtriage.records import Calibration

logger = logging.getLogger("cxrtriage")


def recalibrate_model(path: Path, prepared: PreparedSet, split: str | None = "validation") -> ModelCard:
    """Fit temperature, intercept and operating points, and write them into a model file.

    Parameters
    ----------
    path : model file; its card is replaced, and the films are added to those that it knows
    prepared : labelled films, prepared by the model's recipe
    split : which of them; None takes all

    Returns
    -------
    ModelCard
        As written. `validation` holds the `split`, the figures on it (see `measures.measure`; among them the
        `prevalence` at which the probabilities hold) and, as sentences, why the model is `not_calibrated` ("" where it
        is) and which operating points are `undetermined`. `precision` holds what bf16 and int8 change, where there are
        500 films, the processor computes in bf16, and NNCF is installed; the network in int8 goes into the file where
        it may be used.

    Raises
    ------
    ModelError
        If the model file cannot be read, or the films were prepared otherwise than it expects.
    SourceError
        If there are no such films.
    """
    model = load_model(path)
    films = check_predictions(predictions_table(model, prepared, split))
    logit, truth = films["logit"].to_numpy(), films["label"].to_numpy() > 0
    not_calibrated = why_not_calibrated(logit, truth)
    calibration = Calibration() if not_calibrated else fit_calibration(logit, truth)
    films["probability"] = calibrate(logit, calibration)
    name = split or "the set"
    choice = choose_operating_points(truth, films["probability"].to_numpy(), films["patient_id"].to_numpy(), split=name)
    for sentence in [not_calibrated, *choice.undetermined.values()]:
        if sentence:
            logger.info(sentence)

    threshold = next((point.threshold for point in choice.points if point.name == choice.decision), 0.5)
    figures, _, _ = measure(films.sort_values("probability", ignore_index=True), Measuring(threshold=threshold))
    validation: dict[str, Any] = {
        "split": name,
        "not_calibrated": not_calibrated,
        "undetermined": choice.undetermined,
        **figures,
    }
    card = model.card.model_copy(
        update={
            "calibration": calibration,
            "operating_points": choice.points,
            "decision": choice.decision,
            "validation": validation,
            "precision": {},  # what was checked held for other thresholds
        }
    )
    rows = measured_rows(model, prepared, split)
    int8 = None
    if len(rows) >= FEWEST_FILMS_TO_CHECK:
        ranges_from = prepared.images[_to_take_ranges_from(prepared, rows)]
        card, int8 = check_precisions(model, card, prepared.images[rows], truth, logit, ranges_from)
    replace_card(path, card, int8, fingerprints(prepared.images[row] for row in rows))
    return card


def _to_take_ranges_from(prepared: PreparedSet, checked: np.ndarray) -> np.ndarray:
    """Return rows of films for `quantise`: training films, so that the check is on others; without any, the checked."""
    trained = "split" in prepared.manifest and bool((prepared.manifest["split"] == "train").any())
    rows = rows_of(prepared, "train") if trained else checked
    return np.asarray(rows[np.linspace(0, len(rows) - 1, min(FILMS, len(rows))).astype(int)])
