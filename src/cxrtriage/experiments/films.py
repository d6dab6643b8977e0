"""The films of an experiment: numbered once, prepared once for each recipe, and shared by all runs.

In comes a manifest that is split by patient; out go `Films`, and prepared sets of them. `plans` chooses among the
films by number, `runs` trains on the sets. Films and patients are called by number in everything that is kept, so that
what an experiment writes can be shown to others.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cxrtriage.config import Recipe
from cxrtriage.data.labels.manifest import manifest_hash, read_manifest
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import ConfigError
from cxrtriage.experiments.settings import QUICK_JUDGED, ExperimentSettings
from cxrtriage.experiments.subsets import nested_order
from cxrtriage.records import SPLITS

logger = logging.getLogger("cxrtriage")

FEWEST = 4  # films of each class in each split: fewer tell nothing


@dataclass(frozen=True, slots=True)
class Films:
    """The films of an experiment.

    Parameters
    ----------
    manifest : a row a film, by path; `film_number` counts the rows and `patient_number` the patients
    hash : of the manifest; what was made from other films is told by it
    """

    manifest: pd.DataFrame
    hash: str

    def rows(self, split: str) -> np.ndarray:
        """Return the numbers of a split's films, (n,) int."""
        return np.flatnonzero((self.manifest["split"] == split).to_numpy())


def read_films(path: Path, settings: ExperimentSettings, images: Path | None = None) -> Films:
    """Read a manifest as `cxrtriage manifest` writes it.

    Parameters
    ----------
    path : manifest, split by patient into "train", "validation" and "test"
    settings : `films` and `quick` leave films out
    images : folder that the manifest's paths are looked up in first

    Raises
    ------
    ConfigError
        If the manifest is not split by patient, or a class is as good as missing in a split.
    SourceError
        If it cannot be read.
    """
    manifest = read_manifest(path, images).sort_values("path", ignore_index=True)
    remedy = f"Split it by patient first: cxrtriage manifest {path} --out manifest.csv."
    if "split" not in manifest:
        raise ConfigError(f"{path} has no column split, which experiments need. {remedy}")
    if "split_by" in manifest and (manifest["split_by"] == "image").any():
        raise ConfigError(f"{path} is split by image, expected by patient (experiment split compares both). {remedy}")
    manifest = _limited(manifest, settings)
    for split in SPLITS:
        abnormal = manifest.loc[manifest["split"] == split, "label"] > 0
        if min(abnormal.sum(), (~abnormal).sum()) < FEWEST:
            raise ConfigError(
                f"{path} has {int((~abnormal).sum())} normal and {int(abnormal.sum())} abnormal films for {split}, "
                f"expected at least {FEWEST} of each. Add films, or split it anew with larger shares."
            )
    numbered = manifest.assign(
        film_number=np.arange(len(manifest)), patient_number=pd.factorize(manifest["patient_id"], sort=True)[0]
    )
    return Films(numbered, manifest_hash(numbered))


def _limited(manifest: pd.DataFrame, settings: ExperimentSettings) -> pd.DataFrame:
    """Leave out what is more than asked for, patients at random and the classes in their shares."""
    most = {"train": settings.films}
    if settings.quick:
        most |= {"validation": QUICK_JUDGED, "test": QUICK_JUDGED}
    kept = []
    for split in SPLITS:
        rows = np.flatnonzero((manifest["split"] == split).to_numpy())
        limit = most.get(split)
        if limit is not None and limit < len(rows):
            rows = rows[nested_order(manifest.iloc[rows], seed=0)[:limit]]
        kept.append(rows)
    return manifest.iloc[np.sort(np.concatenate(kept))].reset_index(drop=True)


def prepare_films(films: Films, recipe: Recipe, out: Path, workers: int | None = None) -> PreparedSet:
    """Prepare all films by a recipe, or open the set that was made of them before.

    Parameters
    ----------
    films : from `read_films`
    recipe : of the preparation
    out : folder of the experiments; the set lies in `prepared/` below it
    workers : processes; None takes one for each processor
    """
    return prepare_set(films.manifest, out / "prepared" / recipe_name(recipe), recipe, workers=workers)


def recipe_name(recipe: Recipe) -> str:
    """Return what a recipe is called in the names of folders.

    Examples
    --------
    >>> recipe_name(Recipe(size=224)), recipe_name(Recipe(size=128, contrast="none", downsample="area"))
    ('224px', '128px-none-area')
    """
    defaults = Recipe(size=recipe.size)
    chosen = [
        str(getattr(recipe, name))
        for name in ("contrast", "downsample")
        if getattr(recipe, name) != getattr(defaults, name)
    ]
    return "-".join([f"{recipe.size}px", *chosen])


def with_split(prepared: PreparedSet, split: np.ndarray) -> PreparedSet:
    """Return the same images with another split: runs share a set and differ in who is trained on.

    Parameters
    ----------
    prepared : from `prepare_films`
    split : (N,) str by film number: "train", "validation", "test", or "" for a film that this run does without

    Returns
    -------
    PreparedSet
        Its `source_hash` tells such sets apart, so that training goes on with the same one only.
    """
    manifest = prepared.manifest.assign(split=split[prepared.manifest["film_number"].to_numpy()])
    return replace(prepared, manifest=manifest, source_hash=split_hash(prepared.source_hash, split))


def split_hash(manifest_sha256: str, split: np.ndarray) -> str:
    """Return a SHA-256 of the films and of who is trained, validated and tested on."""
    return hashlib.sha256(f"{manifest_sha256}\n{','.join(split.tolist())}".encode()).hexdigest()
