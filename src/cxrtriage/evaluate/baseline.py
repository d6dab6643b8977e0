"""How far one gets without looking at the anatomy: a classifier on facts of files, borders and brightness.

In come manifest rows of films to learn from and films to score; the films are read again as they were stored, because
preparation removes most of what gives them away. Out goes a score a film. `audit` compares it with the network's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from cxrtriage.data.prepared.workers import Died, Workers
from cxrtriage.evaluate.film_facts import film_facts
from cxrtriage.machine import cpu_count
from cxrtriage.metrics import auroc
from cxrtriage.progress import progress_bar

MINIMUM_FILMS = 10  # of each class to learn from
CATEGORIES = ("view_position", "source")


@dataclass(frozen=True)
class Baseline:
    """What the baseline says of the scored films.

    Parameters
    ----------
    scores : (N,) float64 in [0, 1], its probability of abnormal; None where it could not be trained
    facts : number of facts that differ among the films it learned from
    telling : the one fact that told the classes best among the films it learned from, "" if none
    telling_scores : (N,) float64, that fact of the scored films, turned so that higher is more abnormal
    problem : one sentence, why there are no scores; "" where there are
    """

    scores: np.ndarray | None = None
    facts: int = 0
    telling: str = ""
    telling_scores: np.ndarray | None = None
    problem: str = ""


def no_anatomy_baseline(
    learn: pd.DataFrame, score: pd.DataFrame, *, workers: int | None = None, seed: int = 0
) -> Baseline:
    """Train on some films and score others, without anatomy.

    Parameters
    ----------
    learn, score : rows of a manifest: `path`, `label`, optional `view_position`, `age`, `source`
    workers : processes that read films; None takes all processors
    seed : of the classifier

    Returns
    -------
    Baseline
    """
    truth = learn["label"].to_numpy() > 0
    if min(truth.sum(), (~truth).sum()) < MINIMUM_FILMS:
        return Baseline(
            problem=f"The no-anatomy baseline needs at least {MINIMUM_FILMS} training films of each class, found "
            f"{truth.sum()} abnormal and {(~truth).sum()} normal."
        )
    rows = pd.concat([learn, score], ignore_index=True)
    facts = _read_facts([str(path) for path in rows["path"]], workers)
    unreadable = facts.isna().all(axis=1)
    if unreadable.mean() > 0.5:
        return Baseline(
            problem=f"The no-anatomy baseline needs the films as stored, and {unreadable.sum()} of {len(rows)} can no "
            f"longer be read, such as {rows['path'][unreadable].iloc[0]}."
        )
    if "age" in rows.columns:
        facts["age"] = pd.to_numeric(rows["age"], errors="coerce")
    for column in CATEGORIES:
        if column in rows.columns:
            codes, _ = pd.factorize(rows[column], sort=True)
            facts[column] = np.where(codes < 0, np.nan, codes)
    missing = facts.isna()
    facts = facts.join(missing.loc[:, missing.any()].add_suffix(" missing").astype(float))  # that tells something too
    to_learn = facts.iloc[: len(learn)]
    facts = facts.loc[:, to_learn.min() < to_learn.max()]

    to_learn, to_score = facts.iloc[: len(learn)], facts.iloc[len(learn) :]
    classifier = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=300,
        max_leaf_nodes=15,
        min_samples_leaf=10,
        l2_regularization=1.0,
        max_features=0.3,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1, "openmp"):  # on a few thousand rows, threads wait for each other longer than they work
        scores = classifier.fit(to_learn, truth).predict_proba(to_score)[:, 1]
    middle = to_learn.median()
    alone = pd.Series({name: auroc(truth, to_learn[name].fillna(middle[name]).to_numpy()) for name in facts.columns})
    telling = str((alone - 0.5).abs().idxmax())
    rising = 1 if alone[telling] >= 0.5 else -1
    return Baseline(
        scores=scores,
        facts=len(facts.columns),
        telling=telling,
        telling_scores=rising * to_score[telling].fillna(middle[telling]).to_numpy(),
    )


def _read_facts(paths: Sequence[str], workers: int | None) -> pd.DataFrame:
    """Return the facts of each film, a row each; nan for a film that can no longer be read."""
    count = min(workers or cpu_count(), max(1, len(paths) // 20))
    rows: list[dict[str, float]] = []
    with Workers(count) as pool, progress_bar("reading films for the audit", len(paths), "films") as advance:
        for facts in pool.map(film_facts, paths):
            rows.append({} if isinstance(facts, Died) else facts)
            advance(1)
    return pd.DataFrame(rows, index=range(len(paths)))
