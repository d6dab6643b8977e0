"""Split a manifest into training, validation and test: a manifest comes in, the same with `split` goes out.

Patients are dealt out, not films, so that nobody is trained on and tested on. Each label has its share in each
split, and within a label each source.
"""

import logging
from typing import Literal

import numpy as np
import pandas as pd

from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.records import LABEL_NAMES, SPLITS

logger = logging.getLogger("cxrtriage")


def split_manifest(
    frame: pd.DataFrame,
    *,
    test: float = 0.1,
    validation: float = 0.1,
    by: Literal["patient", "image"] = "patient",
    seed: int = 0,
) -> pd.DataFrame:
    """Add `split` to a manifest, or complete the one it has.

    A `split` that the manifest has is kept: only if it has no validation films are some taken, out of training.

    Parameters
    ----------
    frame : a manifest as `check_manifest` returns it
    test : share of the patients to test on, 0 for none
    validation : share of the remaining patients to validate on, 0 for none
    by : "patient" deals out patients, each under the highest label of its films; "image" deals out films, as
        the study did, which flatters the figures wherever patients have several films
    seed : the same seed gives the same split, whatever the order of the rows

    Returns
    -------
    DataFrame
        A copy, rows in the same order, with `split` "train", "validation" or "test". Each label with three
        patients or more is in every split. Split by image, it has a column `split_by` that says so.

    Raises
    ------
    ConfigError
        If a share is not a share, or there are too few patients for every split.

    Examples
    --------
    >>> films = pd.DataFrame({"path": [f"/x/{n}.png" for n in range(200)], "label": [0, 1] * 100})
    >>> split_manifest(films)["split"].value_counts().to_dict()
    {'train': 162, 'test': 20, 'validation': 18}
    """
    for name, share in (("test", test), ("validation", validation)):
        if not 0 <= share < 1:
            raise ConfigError(f"the {name} share is {share:g}, expected a number from 0 to below 1, e.g. 0.1.")
    frame = frame.copy()
    if "split" not in frame:
        frame["split"] = "train"
    elif (frame["split"] == "train").any():
        test = 0.0  # whatever is tested on was chosen already
        if not (frame["split"] == "test").any():
            logger.warning("the split has no test films, so the final figures cannot be measured on this set")
        if (frame["split"] == "validation").any():
            return frame
    else:
        return frame
    if by == "image":
        _warn_of_image_split(frame)
        frame["split_by"] = "image"
    train = frame["split"] == "train"
    unit = "path" if by == "image" or "patient_id" not in frame else "patient_id"
    frame.loc[train, "split"] = _deal(frame[train], unit, test, validation, seed)
    _check_dealt(frame, wanted=[split for split, share in zip(SPLITS, (1.0, validation, test), strict=True) if share])
    return frame


def _deal(frame: pd.DataFrame, unit: str, test: float, validation: float, seed: int) -> np.ndarray:
    """Return the split of each row; rows with one value in the column `unit` stay together."""
    # patients are numbered in the order of their ids, so that the order of the rows does not matter
    patient, ids = pd.factorize(frame[unit], sort=True)
    films = np.bincount(patient)
    label = np.zeros(len(ids), dtype=int)
    np.maximum.at(label, patient, frame["label"].to_numpy())
    sources = frame["source"] if "source" in frame else pd.Series("", index=frame.index)
    source = np.full(len(ids), np.iinfo(int).max)
    np.minimum.at(source, patient, pd.factorize(sources, sort=True)[0])

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(ids))
    split = np.zeros(len(ids), dtype=int)
    for value in range(len(LABEL_NAMES)):
        # evenly along this order means: each source has its share, and patients with few and with many films
        group = np.flatnonzero(label == value)
        group = group[np.lexsort((shuffled[group], films[group], source[group]))]
        for code, share in ((SPLITS.index("test"), test), (SPLITS.index("validation"), validation)):
            taken = _evenly(len(group), share, rng.random())
            split[group[taken]] = code
            group = group[~taken]
    names: np.ndarray = np.array(SPLITS)[split[patient]]
    return names


def _evenly(length: int, share: float, phase: float) -> np.ndarray:
    """Return a mask that takes a share of places, evenly spaced from a `phase` in [0, 1) on.

    It takes at least one place, unless the share is 0, but never the last one left.
    """
    count = max(0, min(max(1, round(share * length)), length - 1)) if share else 0
    steps = np.floor(np.arange(length + 1) * count / max(1, length) + phase)
    return np.diff(steps) > 0


def _check_dealt(frame: pd.DataFrame, wanted: list[str]) -> None:
    """Raise if a wanted split is empty, warn if a split lacks a class that the set has."""
    abnormal = frame["label"] > 0
    for split in wanted:
        if not (frame["split"] == split).any():
            raise ConfigError(
                f"the {len(frame)} films come from too few patients: none is left for {split}. A class is in every "
                "split if it has three patients or more; add films, or set the share to 0."
            )
    for split in frame["split"].unique():
        present = abnormal[frame["split"] == split].unique()
        if len(present) < abnormal.nunique():
            missing = "normal" if present[0] else "abnormal"
            logger.warning("no %s films are left for %s: no figure there can tell the classes apart", missing, split)


def _warn_of_image_split(frame: pd.DataFrame) -> None:
    several = frame["patient_id"].duplicated(keep=False).sum() if "patient_id" in frame else 0
    logger.warning(
        "split by image: %d of the %d films are of patients with several films, who may be trained on and tested on, "
        "which makes the figures too good",
        several, len(frame),
    )  # fmt: skip


def require_films(manifest: pd.DataFrame, split: str, purpose: str) -> None:
    """Refuse, before any time is spent, a set that lacks what is needed after training."""
    if (manifest["split"] == split).any():
        return
    found = ", ".join(f"{count} {name}" for name, count in manifest["split"].value_counts().items())
    raise SourceError(
        f"there are no {split} films to {purpose}: the column split has {found}. "
        f"Mark films as {split} in it, or remove the column to have patients dealt out."
    )
