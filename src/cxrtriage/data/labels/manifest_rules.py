"""What a manifest is: a frame with its columns in any form comes in, the same frame in one checked form goes out.

    path        absolute path of the film, or its URL          required
    label       0 normal, 1 abnormal, 2 emergent               required; the names are taken too
    patient_id  films of one patient stay in one split         without it each study, or else film, is a patient
    study_id, view_position, age_group, source                 text
    sex         F, M or O                                      "female" and "male" are taken too; else text
    age         years                                          0-130
    p_abnormal  the reader's certainty that it is abnormal     0-1
    weight      how much the film counts in training           0 or more; blank is 1
    lung_mask, lesion_mask   absolute paths of masks           missing where there is none
    split       train, validation or test                      for every film or for none

Other columns are carried along. Two rows with one `patient_id` are one patient, whatever their `source` is:
sets overlap, and a patient of two sets must not be trained on in one and tested in the other. Where two
hospitals number their patients alike, put the hospital in front of the number.
"""

import logging
import os
from collections.abc import Iterable
from itertools import takewhile

import numpy as np
import pandas as pd

from cxrtriage.data.labels.table import FIRST_ROW, require_columns
from cxrtriage.data.remote.address import is_url, shown
from cxrtriage.errors import SourceError
from cxrtriage.records import LABEL_NAMES, SPLITS

MASKS = ("lung_mask", "lesion_mask")
PATHS = ("path", *MASKS)
TEXTS = ("patient_id", "study_id", "view_position", "sex", "age_group", "source", "split")
NUMBERS = {"age": (0.0, 130.0), "p_abnormal": (0.0, 1.0), "weight": (0.0, np.inf)}  # lowest and highest

SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "o": "O", "other": "O"}  # DICOM's letters

logger = logging.getLogger("cxrtriage")


def check_manifest(frame: pd.DataFrame, name: str = "the manifest") -> pd.DataFrame:
    """Check that a frame is a manifest and bring it into the form at the top of this file.

    Parameters
    ----------
    frame : with the manifest's columns, in any form that has the same meaning; left as it is. Paths may be
        relative to the working directory. Row numbers in messages are its index + 2, as a spreadsheet counts
        the rows below a header
    name : what the frame is called in messages

    Returns
    -------
    DataFrame
        With a fresh index, and with `patient_id` in any case: a film without one belongs to its study, and
        without that is its own patient, under its path relative to the folder that all films share.

    Raises
    ------
    SourceError
        If a rule is broken: the message names column, row and value, and what was expected.

    Examples
    --------
    >>> films = pd.DataFrame({"path": ["/x/a.png", "/x/b.png"], "label": ["normal", 2.0], "patient_id": [1, 1]})
    >>> check_manifest(films)["label"].tolist()
    [0, 2]
    """
    require_columns(frame, ("path", "label"), name)
    frame = as_text(frame, (*PATHS, *TEXTS))
    if frame.empty:
        raise SourceError(f"{name} has no rows, expected one a film.")
    refuse(frame["path"].isna(), frame, "path", "the path of a film", name)
    for column in set(PATHS) & set(frame.columns):
        frame[column] = frame[column].map(absolute, na_action="ignore")
    twice = frame["path"].duplicated()
    if twice.any():
        path = frame.loc[twice, "path"].iloc[0]
        first, second = (int(row) + FIRST_ROW for row in frame.index[frame["path"] == path][:2])
        raise SourceError(f"{name} names the film {shown(path)} in row {first} and in row {second}. Keep one of them.")

    frame["label"] = _labels(frame, name)
    for column in NUMBERS.keys() & frame.columns:
        frame[column] = _numbers(frame, column, name)
    if "weight" in frame:
        frame["weight"] = frame["weight"].fillna(1.0)
    if "sex" in frame:
        frame["sex"] = frame["sex"].str.lower().map(SEXES).fillna(frame["sex"])
    frame["patient_id"] = _patients(frame, name)
    if "split" in frame and frame["split"].isna().all():
        frame = frame.drop(columns="split")
    if "split" in frame:
        frame["split"] = frame["split"].str.lower()
        refuse(~frame["split"].isin(SPLITS), frame, "split", "train, validation or test", name)
        _refuse_torn_patients(frame, name)
    return frame.reset_index(drop=True)


def as_text(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return a copy of `frame` with those of `columns` that it has as stripped text, blank as missing."""
    frame = frame.copy()
    for column in set(columns) & set(frame.columns):
        values = frame[column]
        if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
            values = values.astype("Int64")  # whole numbers with gaps among them were read as floats
        text = values.astype("str").str.strip()
        frame[column] = text.where(values.notna() & (text != ""))
    return frame


def refuse(wrong: pd.Series, frame: pd.DataFrame, column: str, expected: str, name: str) -> None:
    """Raise a `SourceError` that names the first `wrong` value of a column, if there is one."""
    if not wrong.any():
        return
    position = int(wrong.to_numpy().argmax())
    value = frame[column].iloc[position]
    found = "blank" if pd.isna(value) else f"'{value}'"
    film = "" if column == "path" else f" ({shown(frame['path'].iloc[position])})"
    others = f" in this row and {wrong.sum() - 1} more" if wrong.sum() > 1 else ""
    raise SourceError(
        f"{name}: {column} in row {int(frame.index[position]) + FIRST_ROW}{film} is {found}, expected {expected}. "
        f"Correct it{others}, or remove the row{'s' if others else ''}."
    )


def common_folder(frame: pd.DataFrame) -> str:
    """Return the folder, with a separator at its end, that holds every film and mask of a manifest."""
    paths = pd.concat([frame[column].dropna() for column in PATHS if column in frame])
    first, last = paths.min(), paths.max()  # what these two have in common, all have
    separator = "/" if is_url(first) else os.sep
    pairs = zip(first.split(separator)[:-1], last.split(separator), strict=False)
    return "".join(part + separator for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def absolute(place: str) -> str:
    """Return a path as an absolute one, and a URL as it is."""
    return place if is_url(place) else os.path.abspath(place)  # noqa: PTH100 (pathlib takes more than twice the time)


def _labels(frame: pd.DataFrame, name: str) -> pd.Series:
    text = frame["label"].astype("str").str.strip().str.lower()
    codes = text.map({label: float(code) for code, label in enumerate(LABEL_NAMES)})
    codes = codes.fillna(pd.to_numeric(text, errors="coerce"))
    refuse(~codes.isin(range(len(LABEL_NAMES))), frame, "label", f"0, 1, 2 or {', '.join(LABEL_NAMES)}", name)
    return codes.astype("int64")


def _numbers(frame: pd.DataFrame, column: str, name: str) -> pd.Series:
    low, high = NUMBERS[column]
    values = pd.to_numeric(frame[column], errors="coerce").astype("float64")
    written = frame[column].notna() & (frame[column].astype("str").str.strip() != "")
    wrong = written & ~(values.between(low, high) & np.isfinite(values))
    expected = f"a number from {low:g} to {high:g}" if np.isfinite(high) else f"a number not below {low:g}"
    refuse(wrong, frame, column, f"{expected}, or nothing", name)
    return values


def _patients(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return `patient_id`, filled in where there is none; that is said, since it weakens every figure."""
    unknown = pd.Series(np.nan, index=frame.index, dtype="str")
    given = frame.get("patient_id", unknown).fillna(frame.get("study_id", unknown))
    alone = given.isna()
    if alone.any():
        logger.warning(
            "%d of the %d films of %s have no patient_id and no study_id, so each counts as a patient of its own; if "
            "patients have several films, add the column, or the same patients are trained on and tested on",
            alone.sum(), len(frame), name,
        )  # fmt: skip
    return given.where(~alone, frame["path"].str.removeprefix(common_folder(frame)))


def _refuse_torn_patients(frame: pd.DataFrame, name: str) -> None:
    """Raise if films of one patient lie in two splits, unless they were split by image on purpose."""
    if "split_by" in frame and (frame["split_by"] == "image").all():
        return
    pairs = frame[["patient_id", "split"]].drop_duplicates()
    torn = pairs.loc[pairs["patient_id"].duplicated(), "patient_id"].unique()
    if len(torn):
        films = frame[frame["patient_id"] == torn[0]].drop_duplicates("split")
        where = " and ".join(
            f"{shown(path)} is {split}" for path, split in zip(films["path"], films["split"], strict=True)
        )
        raise SourceError(
            f"{name} puts films of one patient into different splits ({len(torn)} patients): {where}. "
            "Put them into one, or remove the column split to have it made."
        )
