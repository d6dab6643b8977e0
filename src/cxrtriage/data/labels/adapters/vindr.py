"""VinDr-CXR: 18,000 PA films; each training film read by three radiologists, each test film by five together."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import finished
from cxrtriage.data.labels.table import read_table, require_columns

NORMAL = "No finding"


def vindr(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of VinDr-CXR from `image_labels_train.csv` or `image_labels_test.csv`.

    Normal: most of the film's readers say "No finding".
    Abnormal: most do not. `p_abnormal` is the share of readers who do not, so that a film on which they
    disagree counts as uncertain in training; the test films have one reading, agreed upon by five.
    Left out: nothing. The set names no patients, so each film counts as one.

    Parameters
    ----------
    table : the file of labels, one row for each film and reader
    images : the folder that holds `train/` or `test/` with the DICOM files, or films converted from them

    References
    ----------
    Nguyen et al., VinDr-CXR, Scientific Data 2022, arXiv:2012.15029.
    """
    table = Path(table)
    readings = read_table(table)
    require_columns(readings, ("image_id", NORMAL), str(table))
    abnormal = pd.to_numeric(readings[NORMAL], errors="coerce") != 1
    p_abnormal = abnormal.groupby(readings["image_id"]).mean().reset_index(name="p_abnormal")
    rows = pd.DataFrame(
        {
            "path": p_abnormal["image_id"] + ".dicom",
            "label": (p_abnormal["p_abnormal"] > 0.5).astype(int),
            "p_abnormal": p_abnormal["p_abnormal"],
            "view_position": "PA",
            "source": "vindr",
        }
    )
    return finished(rows, table, images, {})
