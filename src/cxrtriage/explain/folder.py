"""The folder `explanations/` of a fit: every method scored on the test films, and cases in pictures.

    explanations/
      cases.csv, cases/    best and worst cases, opposite-label images; see `cases`
      explanations.json    see `measuring`; written last, so where it is the rest is there too

In come a model, a prepared set and the predictions on it; the report reads the folder.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from cxrtriage.atomic import replacing
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.explain.cases import write_cases
from cxrtriage.explain.measuring import FILMS, measure_explanations
from cxrtriage.model.bundle import Model

EXPLANATIONS = "explanations.json"


def explain_set(
    model: Model,
    prepared: PreparedSet,
    predictions: pd.DataFrame,
    out: Path,
    *,
    made_from: dict[str, Any],
    split: str | None = "test",
    films: int = FILMS,
    seed: int = 0,
) -> dict[str, Any]:
    """Score all explanation methods on a set and draw cases by the one that comes out best.

    Parameters
    ----------
    model : from `load_model`
    prepared : set prepared by the model's recipe
    predictions : on the films of `split`, from `evaluate.predicting.predictions_table`
    out : folder; what it holds is kept if it was made from the same
    made_from : what the result depends on, kept with it
    split : whose films are explained; None takes all
    films : how many are explained at most
    seed : see `measure_explanations`

    Returns
    -------
    dict
        Content of `explanations.json`.
    """
    done = out / EXPLANATIONS
    made_from = made_from | {"films": films, "seed": seed}
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        if found.get("made_from") == made_from:
            return found
    result = measure_explanations(model, prepared, split=split, films=films, seed=seed) | {"made_from": made_from}
    write_cases(model, prepared, predictions, out, method=result["recommended"], seed=seed)
    with replacing(done) as temporary:
        content = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(content + "\n", encoding="utf-8")
    return result
