"""MIMIC-CXR-JPG: 377,110 films of 65,379 patients, labels mined from reports, with uncertain ones."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.chexpert import FINDINGS, NORMAL, is_normal, unusable
from cxrtriage.data.labels.adapters.selection import finished, leave_out
from cxrtriage.data.labels.table import read_table, require_columns
from cxrtriage.errors import SourceError


def mimic(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of MIMIC-CXR-JPG from `mimic-cxr-2.0.0-chexpert.csv[.gz]`.

    Beside it must lie `mimic-cxr-2.0.0-metadata.csv[.gz]`; if `mimic-cxr-2.0.0-split.csv[.gz]` lies there too,
    the set's own split is taken over.

    Normal: "No Finding" is 1 for the study, with or without support devices, as in CheXpert.
    Abnormal: any of the twelve findings is 1 for the study.
    Left out: films that are not AP or PA or of unknown view; films of studies without labels; as in CheXpert,
    studies with only uncertain findings, and those with neither a finding nor "No Finding".

    Parameters
    ----------
    table : the file of labels by CheXpert's labeller (NegBio's has the same columns)
    images : the folder that holds `files/`, if the table lies elsewhere

    References
    ----------
    Johnson et al., MIMIC-CXR-JPG, arXiv:1901.07042.
    """
    table = Path(table)
    labels = read_table(table)
    require_columns(labels, ("subject_id", "study_id", NORMAL, *FINDINGS), str(table))
    metadata_path = _beside(table, "metadata")
    if metadata_path is None:
        raise SourceError(f"{table} tells no views: put mimic-cxr-2.0.0-metadata.csv.gz into the same folder.")
    films = read_table(metadata_path)
    require_columns(films, ("dicom_id", "subject_id", "study_id", "ViewPosition"), str(metadata_path))
    films = films[["dicom_id", "subject_id", "study_id", "ViewPosition"]]
    films = films.merge(labels.assign(labelled=True), on=["subject_id", "study_id"], how="left")
    split_path = _beside(table, "split")
    if split_path is not None:
        split = read_table(split_path)
        require_columns(split, ("dicom_id", "split"), str(split_path))
        films = films.merge(split[["dicom_id", "split"]], on="dicom_id", how="left")

    films, left_out = leave_out(
        films,
        {
            "not AP or PA": ~films["ViewPosition"].isin(["AP", "PA"]),
            "no labels": films["labelled"].isna(),
            **unusable(films),
        },
        table,
    )
    subject, study = films["subject_id"], films["study_id"]
    rows = pd.DataFrame(
        {
            "path": "files/p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + films["dicom_id"] + ".jpg",
            "label": (~is_normal(films)).astype(int),
            "patient_id": "mimic-" + subject,
            "study_id": "mimic-" + study,
            "view_position": films["ViewPosition"],
            "source": "mimic",
        }
    )
    if split_path is not None:
        rows["split"] = films["split"].replace("validate", "validation")
    return finished(rows, table, images, left_out)


def _beside(table: Path, kind: str) -> Path | None:
    """Return the set's other table of this kind in the folder of `table`, packed or not."""
    return next(iter(sorted(table.parent.glob(f"mimic-cxr-*-{kind}.csv*"))), None)
