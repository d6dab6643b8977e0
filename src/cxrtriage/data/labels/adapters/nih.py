"""NIH ChestX-ray14: 112,120 frontal films of 30,805 patients, labels mined from reports."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import finished, years
from cxrtriage.data.labels.table import read_table, require_columns


def nih(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of ChestX-ray14 from `Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`.

    Normal: "No Finding". The label was mined from the report; on review a part of these films is abnormal.
    Abnormal: any of the 14 findings.
    Left out: nothing, the set marks nothing as uncertain. Impossible ages (some are above 400) become missing.

    Parameters
    ----------
    table : the file of labels
    images : the folder that holds the `images_001` ... folders or the films; also films converted to another
        size or format, since they are found by name

    References
    ----------
    Wang et al., ChestX-ray8, CVPR 2017, arXiv:1705.02315. On the labels: Oakden-Rayner, Exploring large-scale
    public medical image datasets, Acad. Radiol. 2020.
    """
    table = Path(table)
    labels = read_table(table)
    sex = "Patient Sex" if "Patient Sex" in labels else "Patient Gender"
    columns = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", sex, "View Position")
    require_columns(labels, columns, str(table))
    rows = pd.DataFrame(
        {
            "path": labels["Image Index"],
            "label": (labels["Finding Labels"] != "No Finding").astype(int),
            "finding": labels["Finding Labels"],
            "patient_id": "nih-" + labels["Patient ID"].str.zfill(8),
            "view_position": labels["View Position"],
            "age": years(labels["Patient Age"]),
            "sex": labels[sex],
            "source": "nih",
        }
    )
    return finished(rows, table, images, {})
