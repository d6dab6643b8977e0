"""Which films train which run: nested volumes, and a leak between the films of a patient.

In come rows of a manifest; out go orders and numbers of films. `films` and `plans` read them.
"""

import numpy as np
import pandas as pd

from cxrtriage.errors import ConfigError

STUDY_VOLUMES = (3_000, 10_000, 50_000)
FEWEST = 16  # training films: two optimiser steps of the smallest batch


def nested_order(films: pd.DataFrame, seed: int) -> np.ndarray:
    """Order films so that the first n of them are a random choice of patients, for every n.

    Patients stand together (only the last one may be there in part), and each class has its share in every beginning,
    so smaller volumes lie within larger ones and differ from them in number only.

    Parameters
    ----------
    films : rows of a manifest: `patient_id`, `label`
    seed : of the choice

    Returns
    -------
    (n,) int, positions in `films`

    Examples
    --------
    >>> films = pd.DataFrame({"patient_id": list("aabcd"), "label": [1, 1, 0, 1, 0]})
    >>> order = nested_order(films, seed=0)
    >>> sorted(films["label"].iloc[order[:2]].tolist()) in ([0, 1], [1, 1])
    True
    """
    patient, ids = pd.factorize(films["patient_id"], sort=True)  # numbered by id: the order of rows does not matter
    abnormal = np.zeros(len(ids), dtype=bool)
    np.logical_or.at(abnormal, patient, films["label"].to_numpy() > 0)
    random = np.random.default_rng(seed)
    place = np.empty(len(ids))
    for of_class in (abnormal, ~abnormal):
        members = random.permutation(np.flatnonzero(of_class))
        place[members] = (np.arange(len(members)) + random.random()) / max(1, len(members))
    return np.argsort(place[patient], kind="stable")


def resolve_volumes(asked: tuple[float, ...] | None, films: int) -> tuple[int, ...]:
    """Return numbers of training films, ascending.

    Parameters
    ----------
    asked : numbers of films, or shares up to 1; None for the study's
    films : training films there are

    Raises
    ------
    ConfigError
        If fewer than two different numbers are left, or one is too small to train on.

    Examples
    --------
    >>> resolve_volumes((0.1, 1.0), films=5000), resolve_volumes(None, films=60_000)
    ((500, 5000), (3000, 10000, 50000))
    """
    if asked is None:
        study = STUDY_VOLUMES[-1]
        asked = STUDY_VOLUMES if films >= study else tuple(max(FEWEST / films, part / study) for part in STUDY_VOLUMES)
    numbers = sorted({min(films, round(volume * films) if volume <= 1 else int(volume)) for volume in asked})
    if len(numbers) < 2 or numbers[0] < FEWEST:
        raise ConfigError(
            f"--volumes come to {', '.join(map(str, numbers))} of {films} training films, expected at least two "
            f"different numbers of {FEWEST} films or more. Give shares such as 0.1,0.33,1.0, or more films."
        )
    return tuple(numbers)


def leaking_split(films: pd.DataFrame, fold: int, folds: int, seed: int) -> np.ndarray:
    """Split films as the study did: films of a tested patient are trained on too.

    The test films are dealt out into `folds`. Those of fold `fold` are tested; other films of their patients go into
    training, where each takes the place of a random training film. So as many films train as by patient, and over all
    folds every test film is tested once, with the share (folds - 1) / folds of its patient's other films in training.

    Parameters
    ----------
    films : manifest with `patient_id` and a `split` by patient
    fold, folds : which part of the test films is tested, counted from 0, and of how many
    seed : of the choice of the training films that make room

    Returns
    -------
    (N,) str: "train", "validation", "test", or "" for films left out

    Raises
    ------
    ConfigError
        If there are too few training films to make room.
    """
    split = films["split"].to_numpy(dtype=object).copy()
    tested = np.flatnonzero(split == "test")
    # dealt along the patients, so that the films of each are spread over the folds
    dealt = np.random.default_rng(0).permutation(tested)
    dealt = dealt[np.argsort(films["patient_id"].to_numpy()[dealt], kind="stable")]
    in_fold = np.zeros(len(films), dtype=bool)
    in_fold[dealt[fold::folds]] = True
    rest = np.setdiff1d(tested, np.flatnonzero(in_fold))
    leaks = rest[films["patient_id"].iloc[rest].isin(set(films["patient_id"][in_fold])).to_numpy()]
    split[rest] = ""
    room = int((split == "train").sum())
    if len(leaks) > room:
        raise ConfigError(
            f"{len(leaks)} films of tested patients are to take the place of training films, of which there are "
            f"{room}. Take more training films (--films), or a split with fewer films to test on."
        )
    making_room = np.random.default_rng([seed, fold]).choice(
        np.flatnonzero(split == "train"), len(leaks), replace=False
    )
    split[making_room] = ""
    split[leaks] = "train"
    return split.astype(str)
