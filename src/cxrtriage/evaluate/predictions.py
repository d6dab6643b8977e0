"""Any table of predictions made regular: a CSV or a data frame in, one row a film with known columns and types out.

`evaluation` reads it. A table needs `label` and `probability`; of the optional columns `patient_id` and `source` are
filled in where they are missing, `age`, `view_position`, `sex`, `age_group`, `finding` and `p_emergent` are used where
they are there, and all others are carried along.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cxrtriage.errors import SourceError
from cxrtriage.records import LABEL_NAMES

ONE_SOURCE = "all films"  # what a table without a `source` column comes from


def read_predictions(path: Path) -> pd.DataFrame:
    r"""Read a CSV with `label,probability[,patient_id,source,...]`.

    Parameters
    ----------
    path : CSV file, UTF-8, separated by commas

    Returns
    -------
    pd.DataFrame
        As from `check_predictions`.

    Raises
    ------
    SourceError
        One sentence, if the file cannot be read or `check_predictions` finds fault with it.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "predictions.csv"
    >>> _ = file.write_text("label,probability\nnormal,0.1\n2,0.8\n")
    >>> read_predictions(file)["label"].tolist()
    [0, 2]
    """
    try:
        table = pd.read_csv(path, dtype={"patient_id": str, "label": str, "source": str}, encoding="utf-8-sig")
    except FileNotFoundError:
        raise SourceError(f"cannot read predictions: {path} does not exist.") from None
    except IsADirectoryError:
        raise SourceError(f"cannot read predictions: {path} is a folder, expected a CSV file.") from None
    except pd.errors.EmptyDataError:
        raise SourceError(f"cannot read predictions: {path} is empty, expected a CSV with a header.") from None
    except (pd.errors.ParserError, UnicodeDecodeError, PermissionError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise SourceError(f"cannot read predictions from {path}, expected a CSV in UTF-8: {reason}.") from None
    return check_predictions(table, str(path))


def check_predictions(table: pd.DataFrame, name: str = "the predictions") -> pd.DataFrame:
    """Return a copy with labels as 0/1/2, probabilities as floats, and every film's patient and source filled in.

    A film without `patient_id` is its own patient.

    Parameters
    ----------
    table : one row a film; `label` as 0/1/2 or its name, `probability` of abnormal in [0, 1]
    name : what to call the table in an error

    Returns
    -------
    pd.DataFrame
        `label` int64, `probability` float64, `patient_id` str, `source` str, and the other columns as they came.

    Raises
    ------
    SourceError
        One sentence, naming the first row at fault, counted as the lines of a CSV are (the header is line 1).

    Examples
    --------
    >>> check_predictions(pd.DataFrame({"label": ["abnormal"], "probability": [0.7]}))["label"].tolist()
    [1]
    """
    missing = [column for column in ("label", "probability") if column not in table.columns]
    if missing:
        raise SourceError(
            f"cannot evaluate {name}: it has no column {' and none '.join(missing)}; "
            f"found {', '.join(map(str, table.columns))}, expected at least label and probability, "
            "separated by commas."
        )
    if table.empty:
        raise SourceError(f"cannot evaluate {name}: it has no rows, expected one row a film.")
    films = table.reset_index(drop=True).copy()

    known = {written: label for label, label_name in enumerate(LABEL_NAMES) for written in (str(label), label_name)}
    written = films["label"].astype(str).str.strip().str.lower().str.removesuffix(".0")
    labels = written.map(known)
    _refuse(labels.isna(), films["label"], name, "label", "0, 1, 2, normal, abnormal or emergent")
    films["label"] = labels.astype(np.int64)

    probability = pd.to_numeric(films["probability"], errors="coerce")
    _refuse(~probability.between(0, 1), films["probability"], name, "probability", "a number from 0 to 1")
    films["probability"] = probability.astype(np.float64)

    if "p_emergent" in films.columns:
        emergent = pd.to_numeric(films["p_emergent"], errors="coerce")
        _refuse(~emergent.between(0, 1), films["p_emergent"], name, "p_emergent", "a number from 0 to 1")
        films["p_emergent"] = emergent.astype(np.float64)

    own_patient = pd.Series([f"film in line {row + 2}" for row in range(len(films))])
    known_patient = films["patient_id"] if "patient_id" in films.columns else pd.Series(None, films.index, dtype=object)
    films["patient_id"] = known_patient.where(known_patient.notna(), own_patient).astype(str)
    films["source"] = films["source"].fillna("unnamed source").astype(str) if "source" in films.columns else ONE_SOURCE
    return films


def _refuse(bad: pd.Series, found: pd.Series, name: str, column: str, expected: str) -> None:
    """Raise for the first bad row."""
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    more = f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""
    value = "nothing" if pd.isna(found.iloc[row]) else f"'{found.iloc[row]}'"
    raise SourceError(
        f"cannot evaluate {name}: line {row + 2} has {value} as {column}{more}, expected {expected}; "
        "correct or remove the row."
    )
