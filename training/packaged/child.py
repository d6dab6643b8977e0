"""Whether a film is a small child's, from what both trunks see: mixes their two opinions.

Learned from children of two sources and adults of three, each film moved and exposed at random, so that it is the
chest's shape that tells and not how the film was made.
"""

import logging

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.model.lung_lite import CROP_SIZE, LungLite
from cxrtriage.model.lungs import lung_boxes
from training.packaged.films import CHILDREN, of_split
from training.packaged.views import exposed, moved

logger = logging.getLogger("training")

CHILD_UP_TO, ADULT_FROM = 8, 18  # years; who is between is neither
FILMS = 1200  # of each kind at most
INVERSE_REGULARISATION = 1e-3  # 2,560 features of 2,400 films
CAUGHT = 0.95  # of the children: no more, since an adult taken for a child is the worse mistake


def learn_child(network: LungLite, films: PreparedSet, lungs: np.ndarray, without: str = "") -> tuple[Tensor, Tensor]:
    """Return weight (2560,) and bias () of the classifier's third output.

    Parameters
    ----------
    network : with its trunks; they stay as they are
    films, lungs : as for `trunk.train_trunk`
    without : a source that is not learned from, to see what becomes of its films
    """
    torch.manual_seed(0)
    rows, is_child = _some(films, without)
    pooled = _pooled(network, films, lungs, rows, changed=True)
    spread = pooled.std(axis=0) + 1e-3
    told = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000, class_weight="balanced")
    told.fit((pooled - pooled.mean(axis=0)) / spread, is_child)
    weight = told.coef_[0] / spread
    rows = of_split(films, "validation")
    source = films.manifest["source"].to_numpy()[rows]
    likely = _pooled(network, films, lungs, rows, changed=False) @ weight
    bias = -float(np.quantile(likely[source == CHILDREN], 1 - CAUGHT))
    shares = ", ".join(f"{name} {(likely[source == name] + bias > 0).mean():.1%}" for name in np.unique(source))
    logger.info("taken for a small child on validation: %s%s", shares, f"; learned without {without}" * bool(without))
    return torch.tensor(weight, dtype=torch.float32), torch.tensor(bias, dtype=torch.float32)


def _some(films: PreparedSet, without: str) -> tuple[np.ndarray, np.ndarray]:
    """Return as many rows of children as of adults, sources evenly, and which are children's."""
    rng = np.random.default_rng(0)
    rows = of_split(films, "train")
    table = films.manifest.iloc[rows]
    child = ((table["source"] == CHILDREN) | (table["age"] <= CHILD_UP_TO)).to_numpy()
    adult = ((table["source"] != CHILDREN) & ~(table["age"] < ADULT_FROM)).to_numpy()
    chosen: list[np.ndarray] = []
    for kind in (child, adult):
        sources = sorted(set(table["source"][kind]) - {without})
        for name in sources:
            pool = rows[kind & (table["source"] == name).to_numpy()]
            chosen.append(rng.choice(pool, FILMS // len(sources)))
    both = np.concatenate(chosen)
    return both, np.isin(both, rows[child])


def _pooled(network: LungLite, films: PreparedSet, lungs: np.ndarray, rows: np.ndarray, *, changed: bool) -> np.ndarray:
    pooled = []
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            chosen = rows[start : start + 64]
            pictures = torch.from_numpy(films.images[chosen]).unsqueeze(1).float() / 255
            if changed:
                boxes = lung_boxes(torch.from_numpy(lungs[chosen]).float() / 255)
                crops = exposed(moved(pictures, boxes, CROP_SIZE))
            else:
                crops = network.crop(pictures)
            pooled.append(network.trunks(crops).mean(dim=(2, 3)).numpy())
    return np.concatenate(pooled)
