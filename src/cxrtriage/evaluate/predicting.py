"""A model's predictions on a prepared set, as a table with a row a film, for `evaluation` and `recalibrate`."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import SourceError
from cxrtriage.model.bundle import Model, weights_sha256
from cxrtriage.model.known_films import fingerprints, known_films
from cxrtriage.predict import abnormal_logit, calibrate, emergent_share, predict_logits, require_recipe
from cxrtriage.records import REVIEWED_WEIGHTS

logger = logging.getLogger("cxrtriage")


def predictions_table(model: Model, prepared: PreparedSet, split: str | None = "test") -> pd.DataFrame:
    """Score the films of a prepared set.

    Parameters
    ----------
    model : from `load_model`
    prepared : set prepared by the model's recipe
    split : "train", "validation" or "test"; None takes all films

    Returns
    -------
    pd.DataFrame
        A row a film (the first draw of each): `path`, `label`, `probability` (calibrated, of abnormal), `p_emergent`
        (with three classes), `decision` (at the model's threshold), `logit` (of abnormal, before calibration), and the
        other columns of the manifest.

    Raises
    ------
    ModelError
        If the set was prepared otherwise than the model expects.
    SourceError
        If there are no films in the split, or none but those whose readers knew this model's score.
    """
    require_recipe(model, prepared.recipe)
    rows = measured_rows(model, prepared, split)
    logits = predict_logits(model, prepared.images if len(rows) == len(prepared.images) else prepared.images[rows])
    logit = abnormal_logit(logits)
    probability = calibrate(logit, model.card.calibration)
    films = prepared.manifest.iloc[rows].reset_index(drop=True)
    scored = pd.DataFrame({"path": films["path"], "label": films["label"], "probability": probability})
    if logits.shape[1] == 3:
        scored["p_emergent"] = probability * emergent_share(logits)
    scored["decision"] = np.where(probability >= model.card.threshold, "abnormal", "normal")
    scored["logit"] = logit
    return pd.concat([scored, films.drop(columns=scored.columns, errors="ignore")], axis=1)


def measured_rows(model: Model, prepared: PreparedSet, split: str | None) -> np.ndarray:
    """Return the rows of the films that `predictions_table` has, in its order."""
    return _not_influenced(model, prepared, rows_of(prepared, split))


def _not_influenced(model: Model, prepared: PreparedSet, rows: np.ndarray) -> np.ndarray:
    """Leave out films labelled by readers of a node who worked with this very model: they would flatter it."""
    if REVIEWED_WEIGHTS not in prepared.manifest:
        return rows
    influenced = (prepared.manifest[REVIEWED_WEIGHTS].iloc[rows] == weights_sha256(model)).to_numpy()
    if influenced.all():
        raise SourceError(
            "all films were labelled by readers who worked with this very model, so they cannot measure it. "
            "Measure it on films that were labelled without it."
        )
    if influenced.any():
        logger.warning("left out: %d films labelled by readers who worked with this very model", influenced.sum())
    return rows[~influenced]


def told_if_known(model: Model, path: Path, prepared: PreparedSet, split: str | None) -> list[str]:
    """Say in a sentence on how many of the measured films the model was made, in none where there is no such film.

    Parameters
    ----------
    model, path : from `load_model`, and the file that it came from
    prepared, split : as for `predictions_table`
    """
    rows = measured_rows(model, prepared, split)
    known = known_films(path)
    count = sum(not fingerprints([prepared.images[row]]).isdisjoint(known) for row in rows)
    if not count:
        return []
    sentence = (
        f"The model was trained or calibrated on {count:,} of these {len(rows):,} films, so the figures are too good. "
        "Measure it on films of other patients."
    )
    logger.warning(sentence)
    return [sentence]


def rows_of(prepared: PreparedSet, split: str | None) -> np.ndarray:
    """Return the rows of a split's films, the first draw of each; SourceError where there are none."""
    films = prepared.manifest
    first = ~films["path"].duplicated()
    rows = np.flatnonzero(first if split is None else first & (films["split"] == split))
    if not len(rows):
        raise SourceError(
            f"{prepared.path} has no {split or ''} films to measure a model on; its manifest's split column has "
            f"{', '.join(sorted(films['split'].astype(str).unique())) if split else 'no rows'}."
        )
    return rows
