"""Which films explanations are measured on.

In come a model and a prepared set; out go films, patients, probabilities and lesions for `measuring` and `claim`.

Explanations are measured on films that are abnormal and that the model calls abnormal. "Normal" is the absence of
something and has no place to point at; on a missed film there is no reason for a right answer to be shown, and on a
false alarm no lesion to be found. So the figures say: *where the model is right, does the explanation show why*.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.evaluate.predicting import rows_of
from cxrtriage.model.bundle import Model
from cxrtriage.predict import probabilities, require_recipe

MOST_SCORED = 400  # films of the split that the model scores
MOST_LESIONS = 500  # of other patients, that tell where lesions usually are


@dataclass(frozen=True, slots=True)
class ScoredFilms:
    """Films of a split with what the model says of them.

    Parameters
    ----------
    rows : (N,) int, in the prepared set
    images : (N, S, S) uint8
    abnormal : (N,) bool, by the label
    called : (N,) bool, by the model at its threshold
    probability : (N,) float64, calibrated
    patient_id : (N,) str; the path where patients are not told apart
    """

    rows: np.ndarray
    images: np.ndarray
    abnormal: np.ndarray
    called: np.ndarray
    probability: np.ndarray
    patient_id: np.ndarray

    def pick(self, chosen: np.ndarray) -> "ScoredFilms":
        """Return some of the films, by index or mask."""
        return ScoredFilms(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def score_split(model: Model, prepared: PreparedSet, split: str | None, *, seed: int = 0) -> ScoredFilms:
    """Score the films of a split, or a random 400 of them.

    Raises
    ------
    ModelError
        If the set was prepared otherwise than the model expects.
    SourceError
        If the split has no films.
    """
    require_recipe(model, prepared.recipe)
    rows = rows_of(prepared, split)
    if len(rows) > MOST_SCORED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_SCORED, replace=False))
    images = np.array(prepared.images[rows])
    probability = probabilities(model, images)
    return ScoredFilms(
        rows=rows,
        images=images,
        abnormal=prepared.manifest["label"].to_numpy()[rows] > 0,
        called=probability >= model.card.threshold,
        probability=probability,
        patient_id=patients_of(prepared)[rows],
    )


def patients_of(prepared: PreparedSet) -> np.ndarray:
    """Return the patient of each row of a set, (N,) str."""
    manifest = prepared.manifest
    patients = manifest["patient_id"].fillna(manifest["path"]) if "patient_id" in manifest.columns else manifest["path"]
    return patients.astype(str).to_numpy()


def choose_explained(
    scored: ScoredFilms, prepared: PreparedSet, films: int, *, seed: int = 0
) -> tuple[ScoredFilms, np.ndarray | None, list[str]]:
    """Choose the films that explanations are measured on.

    Parameters
    ----------
    scored : from `score_split`
    prepared : their set
    films : how many at most
    seed : of the choice where there are more

    Returns
    -------
    The films; their lesions, (N, S, S) bool, None where no film has one; and sentences on what was chosen and why.
    """
    found = np.flatnonzero(scored.abnormal & scored.called)
    if not len(found):
        found = np.flatnonzero(scored.abnormal) if scored.abnormal.any() else np.arange(len(scored.rows))
        found = found[np.argsort(-scored.probability[found], kind="stable")][:films]
        notes = ["The model calls none of the abnormal films abnormal, so those with its highest scores are explained."]
    else:
        notes = ["Explained are abnormal films that the model calls abnormal."]
    with_lesion = found[lesion_known(prepared, scored.rows[found])]
    if len(with_lesion):
        missed = int(lesion_known(prepared, scored.rows[scored.abnormal & ~scored.called]).sum())
        notes.append(
            f"{len(with_lesion)} films with a known lesion are called abnormal, {missed} are missed and left out."
        )
        found = with_lesion
    if len(found) > films:
        found = np.sort(np.random.default_rng(seed).choice(found, films, replace=False))
    chosen = scored.pick(found)
    return chosen, lesions_at(prepared, chosen.rows) if len(with_lesion) else None, notes


def lesion_known(prepared: PreparedSet, rows: np.ndarray) -> np.ndarray:
    """Tell which rows have a lesion whose place is known on the whole film, (N,) bool."""
    if prepared.lesion_masks is None:
        return np.zeros(len(rows), bool)
    masks = (prepared.lesion_masks[row] for row in rows)
    return np.array([bool((mask == 1).any() and (mask <= 1).all()) for mask in masks], bool)


def lesions_at(prepared: PreparedSet, rows: np.ndarray) -> np.ndarray:
    """Return where the lesions of rows with a known lesion are, (N, S, S) bool."""
    assert prepared.lesion_masks is not None
    lesions: np.ndarray = np.asarray(prepared.lesion_masks[rows]) == 1
    return lesions


def lesions_of_others(prepared: PreparedSet, patient_id: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return the lesions of up to 500 films of other patients, (M, S, S) bool; of any split, M may be 0."""
    others = np.flatnonzero(~np.isin(patients_of(prepared), patient_id) & ~prepared.manifest["path"].duplicated())
    others = np.random.default_rng(seed).permutation(others[prepared.manifest["label"].to_numpy()[others] > 0])
    known = others[:MOST_LESIONS][lesion_known(prepared, others[:MOST_LESIONS])]
    return lesions_at(prepared, np.sort(known))
