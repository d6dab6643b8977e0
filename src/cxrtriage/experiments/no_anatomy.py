"""What can be had without anatomy on the films of an experiment: the line that every AUROC is held against.

In come the films; out goes a score a film that is validated or tested on, kept in `no_anatomy.csv` so that tables can
be made again without the films. See `evaluate.baseline`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError
from cxrtriage.evaluate.baseline import no_anatomy_baseline
from cxrtriage.experiments.films import Films

SCORES, CARD = "no_anatomy.csv", "no_anatomy.json"


def score_without_anatomy(films: Films, out: Path, *, workers: int | None = None) -> None:
    """Train the baseline on the training films and score those that are judged, unless that is done.

    Parameters
    ----------
    films : of the experiment
    out : folder of the experiments; `no_anatomy.csv` and `no_anatomy.json` are written into it
    workers : processes that read films

    Raises
    ------
    ConfigError
        If the folder holds the scores of other films.
    """
    if (out / CARD).exists():
        if json.loads((out / CARD).read_text())["films"] != films.hash:
            raise ConfigError(
                f"{out} holds experiments on other films than this manifest's. Give another --out; experiments on "
                "different films are never mixed."
            )
        return
    judged = np.sort(np.concatenate([films.rows("validation"), films.rows("test")]))
    score = films.manifest.iloc[judged].reset_index(drop=True)
    baseline = no_anatomy_baseline(films.manifest.iloc[films.rows("train")], score, workers=workers)
    table = pd.DataFrame({"film": judged, "patient": score["patient_number"], "label": score["label"]})
    table["logit"] = np.nan if baseline.scores is None else baseline.scores  # only its order counts
    with replacing(out / SCORES) as temporary:
        table.to_csv(temporary, index=False, float_format="%.7g")
    card = {"films": films.hash, "problem": baseline.problem, "telling_fact": baseline.telling}
    with replacing(out / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=1), encoding="utf-8")


def load_baseline(out: Path) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Return the baseline's scores by film number, None where it could not be trained, and what is known of it."""
    card = json.loads((out / CARD).read_text(encoding="utf-8"))
    return None if card["problem"] else pd.read_csv(out / SCORES, index_col="film"), card
