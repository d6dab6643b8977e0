"""How well the source of a film can be told from what the network sees: a probe of what betrays the hospital.

A logistic regression learns to name the source from a film's pooled features. Normal films of adults only, as many of
each source, so that neither disease nor age nor prevalence can tell. What it reaches on test patients bounds what the
classifier could use instead of disease; it says nothing about whether the classifier does.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.evaluate.film_facts import film_facts
from cxrtriage.evaluate.intervals import percentile_interval
from cxrtriage.model.lung_lite import CROP_SIZE, LungLite
from training.packaged.films import CHILDREN

ADULT_FROM = 18  # years; where no age is known, the source is one of adults
FILMS = 300  # to learn from, of each source at most
INVERSE_REGULARISATION = 1e-2  # 2,560 features of some 900 films
RESAMPLES = 1000

Features = Callable[[np.ndarray], np.ndarray]  # rows of the set -> (N, F)


def source_probe(network: LungLite, films: PreparedSet) -> list[tuple[str, float, float, float]]:
    """Return what was looked at, the probe's balanced accuracy on test patients and its 95 % interval, a row each.

    Parameters
    ----------
    network : the packaged one, trained
    films : from `films.public_films`; the film files must still be where they were
    """
    looks: dict[str, Features] = {
        "file, sharpness, border, brightness": lambda rows: facts(films, rows),
        "the same trunks, whole films": lambda rows: pooled(network, films, rows, whole),
        "the network's features: crops of the lungs": lambda rows: pooled(network, films, rows, network.crop),
    }
    return [(name, *source_told(films, look)) for name, look in looks.items()]


def source_told(films: PreparedSet, look: Features) -> tuple[float, float, float]:
    """Return the balanced accuracy on test patients of a probe of one kind of features, with its 95 % interval."""
    learned, tested = rows_of(films, "train", FILMS), rows_of(films, "test", None)
    source = films.manifest["source"].to_numpy()
    told = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000, class_weight="balanced")
    probe = make_pipeline(StandardScaler(), told)
    probe.fit(look(learned), source[learned])
    right = probe.predict(look(tested)) == source[tested]
    return balanced(right, source[tested], films.manifest["patient_id"].to_numpy()[tested])


def rows_of(films: PreparedSet, split: str, most: int | None) -> np.ndarray:
    """Return the normal adults' films of a split, at most so many of each source, one a patient."""
    table = films.manifest
    adult = (table["source"] != CHILDREN) & ~(table["age"] < ADULT_FROM)
    chosen = table[adult & (table["split"] == split) & (table["label"] == 0)].drop_duplicates(["source", "patient_id"])
    rows = [pool.index.to_numpy()[:most] for _, pool in chosen.sample(frac=1, random_state=0).groupby("source")]
    return np.concatenate(rows)


def facts(films: PreparedSet, rows: np.ndarray) -> np.ndarray:
    table = pd.DataFrame([film_facts(path) for path in films.manifest["path"].iloc[rows]])
    return table[sorted(table.columns)].fillna(-1.0).to_numpy(dtype=float)


def whole(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, (CROP_SIZE, CROP_SIZE), mode="area")


def pooled(network: LungLite, films: PreparedSet, rows: np.ndarray, cut: Callable[[Tensor], Tensor]) -> np.ndarray:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            pictures = torch.from_numpy(films.images[rows[start : start + 64]]).unsqueeze(1).float() / 255
            parts.append(network.trunks(cut(pictures)).mean(dim=(2, 3)).numpy())
    return np.concatenate(parts)


def balanced(right: np.ndarray, source: np.ndarray, patient: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over sources of the share told rightly, with the interval of a bootstrap over patients."""
    table = pd.DataFrame({"right": right, "source": source, "patient": patient})
    generator = np.random.default_rng(0)
    groups = [group.groupby("patient")["right"].mean().to_numpy() for _, group in table.groupby("source")]
    replicates = [np.mean([generator.choice(group, len(group)).mean() for group in groups]) for _ in range(RESAMPLES)]
    return (float(np.mean([group.mean() for group in groups])), *percentile_interval(np.array(replicates)))
