"""Cases for the report: the model's best and worst test films, and films driven to the opposite label.

In come a model, the prepared set and its predictions on the test films; out go `cases.csv` and a picture a row in
`cases/`. The report reads both. Nothing that is drawn or said names a film or a patient; only the column `path` does.
"""

from collections.abc import Hashable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.atomic import replacing
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.explain.attribution import attribute, heat_of
from cxrtriage.explain.opposite import FILM_LIKE, PLAIN, OppositeImages, noise_films, opposite_images
from cxrtriage.explain.overlay import draw_opposite, draw_saliency
from cxrtriage.model.bundle import Model
from cxrtriage.records import LABEL_NAMES

FILMS = 2  # of each kind
STEPS = 60  # most; a film that is not there by then is shown as far as it went
FORMS = {"plain": PLAIN, "film-like": FILM_LIKE}


@dataclass(frozen=True, slots=True)
class Case:
    """A row of `cases.csv`.

    Parameters
    ----------
    kind : "most_sure_abnormal", "most_sure_normal", "missed", "false_alarm", "opposite_from_abnormal",
        "opposite_from_normal", "opposite_from_noise_to_normal" or "opposite_from_noise_to_abnormal"
    path : the film; "" for noise
    label : 0, 1 or 2; "" for noise
    probability : calibrated, of abnormal
    decision : "normal" or "abnormal", at the model's threshold
    method : one of `attribution.METHODS`
    picture : file name in `cases/`
    before, after : probability before and after the opposite-label steps; "" for saliency
    reached : whether the network came to be as sure as asked for; "" for saliency
    sentence : what is to be seen
    """

    kind: str
    path: str
    label: int | str
    probability: float
    decision: str
    method: str
    picture: str
    before: float | str = ""
    after: float | str = ""
    reached: bool | str = ""
    sentence: str = ""


def write_cases(
    model: Model, prepared: PreparedSet, predictions: pd.DataFrame, out: Path, *, method: str, seed: int = 0
) -> None:
    """Write `cases.csv`, and `cases/` with a picture for each row.

    Parameters
    ----------
    model : from `load_model`
    prepared : the set that holds the films
    predictions : from `evaluate.predicting.predictions_table`: `path`, `label`, `probability`, `decision`
    out : folder
    method : of the best and worst cases, one of `attribution.METHODS`
    seed : of noise and jitter
    """
    cases = [
        *_best_and_worst(model, prepared, predictions, out / "cases", method, seed),
        *_driven_films(model, prepared, predictions, out / "cases", seed),
        *_driven_noise(model, prepared, out / "cases", seed),
    ]
    with replacing(out / "cases.csv") as temporary:
        pd.DataFrame([asdict(case) for case in cases], columns=[field.name for field in fields(Case)]).to_csv(
            temporary, index=False, float_format="%.4f"
        )


def choose_cases(predictions: pd.DataFrame, films: int = FILMS) -> dict[str, pd.DataFrame]:
    """Choose the surest right and wrong calls, one a patient.

    Parameters
    ----------
    predictions : `path`, `label`, `probability`, `decision`, and `patient_id` where patients are told apart
    films : how many of each kind, where there are as many

    Returns
    -------
    dict
        "most_sure_abnormal", "most_sure_normal", "missed" and "false_alarm" to rows of `predictions`, the surest first.

    Examples
    --------
    >>> table = pd.DataFrame({"path": list("abc"), "label": [0, 1, 2], "probability": [0.7, 0.2, 0.9]})
    >>> table["decision"] = ["abnormal", "normal", "abnormal"]
    >>> {kind: rows["path"].tolist() for kind, rows in choose_cases(table).items()}
    {'most_sure_abnormal': ['c'], 'most_sure_normal': [], 'missed': ['b'], 'false_alarm': ['a']}
    """
    rising = predictions.sort_values("probability", kind="stable")
    abnormal, called = rising["label"] > 0, rising["decision"] == "abnormal"
    return {
        "most_sure_abnormal": _one_a_patient(rising[abnormal & called][::-1], films),
        "most_sure_normal": _one_a_patient(rising[~abnormal & ~called], films),
        "missed": _one_a_patient(rising[abnormal & ~called], films),
        "false_alarm": _one_a_patient(rising[~abnormal & called][::-1], films),
    }


def choose_typical(predictions: pd.DataFrame, films: int = FILMS) -> dict[int, pd.DataFrame]:
    """Choose rightly called films whose probability is nearest to the median of theirs, one a patient.

    Typical ones rather than the surest, so that the pictures do not flatter.

    Returns
    -------
    dict
        0 (normal) and 1 (abnormal) to rows of `predictions`.
    """
    abnormal, called = predictions["label"] > 0, predictions["decision"] == "abnormal"
    chosen = {}
    for label, right in ((0, ~abnormal & ~called), (1, abnormal & called)):
        of_class = predictions[right]
        from_median = (of_class["probability"] - of_class["probability"].median()).abs()
        chosen[label] = _one_a_patient(of_class.loc[from_median.sort_values(kind="stable").index], films)
    return chosen


def place_of(heat: np.ndarray) -> str:
    """Say in which ninth of the picture a map (S, S) of numbers from 0 on is hottest, taken together.

    Examples
    --------
    >>> place_of(np.eye(9)[::-1] * np.arange(9))
    'in the upper right of the picture'
    >>> place_of(np.ones((3, 3)) * np.array([0, 1, 0]) * np.array([[0], [1], [0]]))
    'in the centre of the picture'
    """
    thirds = [np.array_split(band, 3, axis=1) for band in np.array_split(heat, 3)]
    down, right = divmod(int(np.argmax([[ninth.mean() for ninth in band] for band in thirds])), 3)
    row, column = ("upper", "middle", "lower")[down], ("left", "centre", "right")[right]
    words = "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"
    return f"in the {words} of the picture"


def _one_a_patient(films: pd.DataFrame, most: int) -> pd.DataFrame:
    return (films.drop_duplicates("patient_id") if "patient_id" in films else films).head(most)


def _best_and_worst(
    model: Model, prepared: PreparedSet, predictions: pd.DataFrame, folder: Path, method: str, seed: int
) -> Iterator[Case]:
    for kind, rows in choose_cases(predictions).items():
        if rows.empty:
            continue
        images = _images_of(prepared, rows)
        for number, (film, evidence, row) in enumerate(
            zip(images, attribute(model, images, method, seed=seed), rows.to_dict("records"), strict=True), start=1
        ):
            picture = f"{kind.replace('_', '-')}-{number}.webp"
            draw_saliency(film, evidence, method, folder / picture)
            sentence = _sentence(kind, evidence, method)
            yield Case(kind, *_facts(row), method, picture, sentence=sentence)


def _driven_films(
    model: Model, prepared: PreparedSet, predictions: pd.DataFrame, folder: Path, seed: int
) -> Iterator[Case]:
    for label, rows in sorted(choose_typical(predictions).items(), reverse=True):
        if rows.empty:
            continue
        kind = f"opposite_from_{LABEL_NAMES[label]}"
        driven = {
            name: opposite_images(
                model, _images_of(prepared, rows), np.full(len(rows), 1 - label), steps=STEPS, form=form, seed=seed
            )
            for name, form in FORMS.items()
        }
        for index, row in enumerate(rows.to_dict("records")):
            for name, changed in driven.items():
                yield _opposite_case(kind, index, name, changed, _facts(row), folder)


def _driven_noise(model: Model, prepared: PreparedSet, folder: Path, seed: int) -> Iterator[Case]:
    for target in (0, 1):
        kind = f"opposite_from_noise_to_{LABEL_NAMES[target]}"
        for name, form in FORMS.items():
            noise = noise_films(1, prepared.recipe.size, form, seed)
            changed = opposite_images(model, noise, np.array([target]), steps=STEPS, form=form, seed=seed)
            probability = float(changed.probability_before[0])
            decision = "abnormal" if probability >= model.card.threshold else "normal"
            yield _opposite_case(kind, 0, name, changed, ("", "", probability, decision), folder)


def _opposite_case(
    kind: str,
    index: int,
    form: str,
    changed: OppositeImages,
    facts: tuple[str, int | str, float, str],
    folder: Path,
) -> Case:
    picture = f"{kind.replace('_', '-')}-{index + 1}-{form}.webp"
    draw_opposite(changed, index, folder / picture)
    target, steps = LABEL_NAMES[changed.target[index]], int(changed.steps[index])
    size = float(np.sqrt(np.mean(changed.difference[index].astype(float) ** 2)))
    place = place_of(heat_of(np.abs(changed.difference[index : index + 1]).astype(np.float32), "opposite")[0])
    arrived = "" if changed.reached[index] else ", which did not make the network sure"
    if steps:
        sentence = (
            f"Driven to {target} in the {form} form by {steps} step{'s' * (steps > 1)}{arrived}; grey levels change by "
            f"{size:.1f} of 255 (root mean square), most {place}."
        )
    else:
        sentence = f"The model was sure of {target} from the start, so nothing was changed."
    return Case(
        kind,
        *facts,
        "opposite",
        picture,
        before=round(float(changed.probability_before[index]), 4),
        after=round(float(changed.probability_after[index]), 4),
        reached=bool(changed.reached[index]),
        sentence=sentence,
    )


def _sentence(kind: str, evidence: np.ndarray, method: str) -> str:
    """Say what a saliency picture shows."""
    sought = "normal" if kind == "most_sure_normal" else "abnormal"  # of a missed film, what should have been heeded
    opening = {
        "most_sure_abnormal": "Rightly called abnormal",
        "most_sure_normal": "Rightly called normal",
        "missed": "Abnormal, but called normal",
        "false_alarm": "Normal, but called abnormal",
    }[kind]
    if method == "opposite":
        return f"{opening}; what would have to change for the opposite lies mostly {place_of(np.abs(evidence))}."
    heat = heat_of((evidence if sought == "abnormal" else -evidence)[None], method)[0]
    if not heat.any():
        return f"{opening}; this method finds no place that speaks for {sought}."
    return f"{opening}; the evidence for {sought} is strongest {place_of(heat)}."


def _facts(row: dict[Hashable, Any]) -> tuple[str, int | str, float, str]:
    return str(row["path"]), int(row["label"]), float(row["probability"]), str(row["decision"])


def _images_of(prepared: PreparedSet, rows: pd.DataFrame) -> np.ndarray:
    """Return the prepared films of some rows of the predictions, (N, S, S) uint8; the first draw of each."""
    paths = prepared.manifest["path"]
    place = pd.Series(np.arange(len(paths)), index=paths)[~paths.duplicated().to_numpy()]
    return np.array(prepared.images[place[rows["path"]].to_numpy()])
