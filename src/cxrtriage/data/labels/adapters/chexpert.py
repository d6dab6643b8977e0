"""CheXpert: 224,316 films of 65,240 patients, labels mined from reports, with uncertain ones."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import finished, leave_out, years
from cxrtriage.data.labels.table import read_table, require_columns

FINDINGS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
)  # fmt: skip
NORMAL = "No Finding"


def chexpert(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of CheXpert from `train.csv` or `valid.csv`.

    Normal: "No Finding" is 1. Support devices do not matter: a pacemaker or a line is no disease, and if only
    abnormal films had devices, the network would learn the devices.
    Abnormal: any of the twelve findings is 1.
    Left out: lateral films; films with a finding that is uncertain (-1) and none that is certain; films of
    which the report says neither that there is a finding nor that there is none. Age 0 becomes missing.

    Parameters
    ----------
    table : the file of labels, in the folder that holds `train/` and `valid/`
    images : that folder, if the table lies elsewhere

    References
    ----------
    Irvin et al., CheXpert, AAAI 2019, arXiv:1901.07031.
    """
    table = Path(table)
    labels = read_table(table)
    columns = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NORMAL, *FINDINGS)
    require_columns(labels, columns, str(table))
    lateral = (labels["Frontal/Lateral"] == "Lateral") | ~labels["AP/PA"].isin(["AP", "PA"])
    labels, left_out = leave_out(labels, {"lateral": lateral, **unusable(labels)}, table)
    ids = labels["Path"].str.extract(r"(?P<patient>patient\d+)/(?P<study>study\d+)")
    age = years(labels["Age"])
    rows = pd.DataFrame(
        {
            "path": labels["Path"].str.replace(r"^CheXpert-v1\.0[^/]*/", "", regex=True),
            "label": (~is_normal(labels)).astype(int),
            "patient_id": "chexpert-" + ids["patient"],
            "study_id": "chexpert-" + ids["patient"] + "-" + ids["study"],
            "view_position": labels["AP/PA"],
            "age": age.where(age > 0),
            "sex": labels["Sex"].map({"Male": "M", "Female": "F"}),
            "source": "chexpert",
        }
    )
    return finished(rows, table, images, left_out)


def unusable(labels: pd.DataFrame) -> dict[str, pd.Series]:
    """Return which rows of CheXpert's labeller say neither normal nor abnormal, and why."""
    findings = labels[list(FINDINGS)].apply(pd.to_numeric, errors="coerce")
    normal = is_normal(labels)
    certain = (findings == 1).any(axis=1)
    return {
        "uncertain finding": (findings == -1).any(axis=1) & ~certain & ~normal,
        "normal and a finding": normal & certain,
        "neither normal nor a finding": ~normal & ~certain,
    }


def is_normal(labels: pd.DataFrame) -> pd.Series:
    """Return which rows CheXpert's labeller calls normal."""
    return pd.to_numeric(labels[NORMAL], errors="coerce") == 1
