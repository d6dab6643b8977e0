"""RSNA Pneumonia Detection Challenge: 26,684 films of ChestX-ray14, read again by radiologists."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import finished
from cxrtriage.data.labels.table import read_table, require_columns
from cxrtriage.errors import SourceError

LABELS = {"Normal": 0, "No Lung Opacity / Not Normal": 1, "Lung Opacity": 1}


def rsna(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of the RSNA challenge from `stage_2_detailed_class_info.csv`.

    Normal: class "Normal".
    Abnormal: "Lung Opacity" and "No Lung Opacity / Not Normal".
    Left out: nothing. The file has a row for each box drawn; those of one film say the same.

    The set's `patientId` numbers films, not patients, so each film counts as one patient. The films are a part
    of ChestX-ray14: never train on one of the two sets and test on the other.

    Parameters
    ----------
    table : the file of classes
    images : the folder that holds `stage_2_train_images/`, or films converted from those

    References
    ----------
    Shih et al., Augmenting the NIH chest radiograph dataset with expert annotations of possible pneumonia,
    Radiology: Artificial Intelligence 2019.
    """
    table = Path(table)
    classes = read_table(table)
    require_columns(classes, ("patientId", "class"), str(table))
    classes = classes.drop_duplicates(["patientId", "class"])
    unknown = classes.loc[~classes["class"].isin(LABELS), "class"]
    if len(unknown):
        raise SourceError(f"{table} has the class '{unknown.iloc[0]}', expected {', '.join(LABELS)}. Check the file.")
    rows = pd.DataFrame(
        {
            "path": classes["patientId"] + ".dcm",
            "label": classes["class"].map(LABELS),
            "finding": classes["class"],
            "source": "rsna",
        }
    )
    return finished(rows, table, images, {})
