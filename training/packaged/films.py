"""The public sets as one manifest and one prepared set; phantoms for the lung finder as another."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxrtriage.config import Recipe
from cxrtriage.data.labels.manifest import read_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.phantom.films import make_phantoms
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.data.prepared.store import PreparedSet

RECIPE = Recipe(size=256, downsample="area")
SETS = ("nih", "nih128", "shenzhen", "guangzhou")
CHILDREN = "guangzhou"  # of 1 to 5 years: neither calibrated on nor in scope, see docs/model-card.md
TEST, VALIDATION = 0.2, 0.15  # shares of the patients: wide enough to tell 0.72 from 0.68 on nih128
PHANTOMS = 400


def public_films(data: Path, out: Path, left_out: tuple[str, ...] = ()) -> PreparedSet:
    """Prepare the sets under `data`, split by patient; all films of a source in `left_out` are test films.

    Returns
    -------
    PreparedSet
        of `RECIPE`; a patient with films in `nih` and `nih128` is in one split
    """
    manifest = pd.concat([read_manifest(data / name / "labels.csv") for name in SETS], ignore_index=True)
    kept_apart = manifest["source"].isin(left_out).to_numpy()
    manifest = split_manifest(manifest, test=TEST, validation=VALIDATION, seed=0)
    manifest.loc[kept_apart, "split"] = "test"
    return prepare_set(manifest, out, RECIPE)


def phantom_films(out: Path) -> PreparedSet:
    """Make phantoms with their lungs drawn, and prepare them alike."""
    labels = make_phantoms(out / "films", PHANTOMS, RECIPE.size, seed=11)
    return prepare_set(read_manifest(labels), out / "prepared", RECIPE)


def of_split(films: PreparedSet, split: str) -> np.ndarray:
    """Return the rows of a split."""
    return np.flatnonzero(films.manifest["split"] == split)
