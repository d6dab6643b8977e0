"""The two tuberculosis sets of the US National Library of Medicine: Shenzhen (662 films), Montgomery (138)."""

import re
from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import finished
from cxrtriage.errors import SourceError

SEX = re.compile(r"\b(f|m|female?|male)\b", re.IGNORECASE)  # some of Shenzhen's readings say "femal"
AGE = re.compile(r"(\d+) *(y|month|day)", re.IGNORECASE)
PER_YEAR = {"y": 1.0, "month": 12.0, "day": 365.25}


def shenzhen(folder: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of the Shenzhen set from its folder (`ChinaSet_AllFiles`).

    Normal: the file name ends in 0.
    Abnormal: it ends in 1, manifestations of tuberculosis.
    Left out: nothing. All films are PA; each is a patient. Age and sex come from `ClinicalReadings/`, and
    `lung_mask` from masks named `..._mask.png` (Stirenko 2018), where they are.

    Parameters
    ----------
    folder : holds `CXR_png/`
    images : the folder of the films, if they lie elsewhere

    References
    ----------
    Jaeger et al., Two public chest X-ray datasets for computer-aided screening of pulmonary diseases, Quant.
    Imaging Med. Surg. 2014. Masks: Stirenko et al., 2018, arXiv:1803.01199.
    """
    rows = _rows(Path(folder), images, "CHNCXR_*_[01].png", "shenzhen")
    masks = {
        mask.name.removesuffix("_mask.png"): str(mask.absolute()) for mask in Path(folder).rglob("CHNCXR_*_mask.png")
    }
    if masks:
        rows["lung_mask"] = rows["path"].map(lambda path: masks.get(Path(path).stem))
    return finished(rows, Path(folder), images, {})


def montgomery(folder: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of the Montgomery County set from its folder (`MontgomerySet`).

    Normal: the file name ends in 0.
    Abnormal: it ends in 1, manifestations of tuberculosis.
    Left out: nothing. All films are PA; each is a patient. Age and sex come from `ClinicalReadings/`. The masks
    are not taken, since there is one file for each lung.

    Parameters
    ----------
    folder : holds `CXR_png/`
    images : the folder of the films, if they lie elsewhere

    References
    ----------
    Jaeger et al., as for `shenzhen`.
    """
    return finished(_rows(Path(folder), images, "MCUCXR_*_[01].png", "montgomery"), Path(folder), images, {})


def _rows(folder: Path, images: Path | None, pattern: str, source: str) -> pd.DataFrame:
    root = folder if images is None else Path(images)
    films = sorted((root / "CXR_png").glob(pattern)) or sorted(root.glob(pattern))
    if not films:
        raise SourceError(f"{root} and its folder CXR_png hold no films named {pattern}. Give the set's folder.")
    readings = [folder / "ClinicalReadings" / f"{film.stem}.txt" for film in films]
    texts = [reading.read_text(errors="replace") if reading.exists() else "" for reading in readings]
    return pd.DataFrame(
        {
            "path": [str(film.absolute()) for film in films],
            "label": [int(film.stem[-1]) for film in films],
            "patient_id": [f"{source}-{film.stem}" for film in films],
            "view_position": "PA",
            "age": [_age(text) for text in texts],
            "sex": [_sex(text) for text in texts],
            "source": source,
        }
    )


def _age(reading: str) -> float:
    found = AGE.search(reading)
    return int(found[1]) / PER_YEAR[found[2].lower()] if found else float("nan")


def _sex(reading: str) -> str | None:
    found = SEX.search(reading)
    return found[1][0].upper() if found else None
