"""Guangzhou Women and Children's Medical Center: 5,856 films of children aged one to five."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.film.source import find_films
from cxrtriage.data.labels.adapters.selection import finished
from cxrtriage.errors import SourceError

# person12_bacteria_34, IM-0115-0001, NORMAL2-IM-0012-0001-0002, BACTERIA-40699-0001: what comes before the film
PATIENT = r"^(person\d+|(?:NORMAL\d*-)?[A-Z]+-\d+)"
LABELS = {"NORMAL": 0, "PNEUMONIA": 1}


def guangzhou(folder: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of the Guangzhou set from its folder (`chest_xray`).

    Normal: films in folders named NORMAL.
    Abnormal: films in folders named PNEUMONIA, bacterial or viral.
    Left out: nothing. The set's own folders train, val and test are not taken as the split: val has 16 films,
    and the same person numbers occur in several of them. Two diseases under one person number count as one
    patient, which at worst keeps strangers together. All films are AP and of children.

    Parameters
    ----------
    folder : holds NORMAL and PNEUMONIA, at any depth
    images : the same folder, if the films lie elsewhere

    References
    ----------
    Kermany et al., Identifying medical diagnoses and treatable diseases by image-based deep learning, Cell 2018.
    """
    root = Path(folder) if images is None else Path(images)
    films = [film for film in map(Path, find_films([root])) if film.parent.name in LABELS]
    if not films:
        raise SourceError(f"{root} holds no films in folders named NORMAL and PNEUMONIA. Give the set's folder.")
    stems = pd.Series([film.stem for film in films])
    rows = pd.DataFrame(
        {
            "path": [str(film.absolute()) for film in films],
            "label": [LABELS[film.parent.name] for film in films],
            "patient_id": "guangzhou-" + stems.str.extract(PATIENT, expand=False).fillna(stems),
            "view_position": "AP",
            "age_group": "child",
            "source": "guangzhou",
        }
    )
    return finished(rows, Path(folder), images, {})
