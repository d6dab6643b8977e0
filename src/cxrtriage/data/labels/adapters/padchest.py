"""PadChest: 160,861 films of 67,625 patients, a quarter labelled by physicians, the others by a network."""

import ast
from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import OLDEST, finished, leave_out
from cxrtriage.data.labels.table import read_table, require_columns

VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP"}  # AP_horizontal: the patient lay
SILENT = {"unchanged", ""}  # labels that say nothing about the film itself
NORMAL, UNLABELLED, UNFIT, CONTRADICTORY = "normal", "no label", "unfit for reading", "normal and a finding"


def padchest(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of PadChest from `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv[.gz]`.

    Normal: the only label is "normal"; "unchanged" beside it does not count.
    Abnormal: any other label, devices and old scars included, since "normal" excludes them here.
    Left out: all views but PA and AP (laterals, obliques, unknown); films taken for children; films that the
    readers excluded or called suboptimal; films without a label or with "unchanged" alone; films called normal
    that have a finding too.

    The column `labelled_by` tells "Physician" from "RNN_model". The birth year serves to compute the age in
    years at the study, which may be one too many, and is not carried along.

    Parameters
    ----------
    table : the file of labels
    images : the folder that holds the films or the numbered folders of them

    References
    ----------
    Bustos et al., PadChest, Medical Image Analysis 2020, arXiv:1901.07441.
    """
    table = Path(table)
    films = read_table(table)
    columns = (
        "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
        "Projection", "MethodLabel", "Pediatric", "Labels",
    )  # fmt: skip
    require_columns(films, columns, str(table))
    films = films[list(columns)]
    readings = {text: _findings(text) for text in films["Labels"].dropna().unique()}
    verdict = films["Labels"].map({text: _verdict(findings) for text, findings in readings.items()}).fillna(UNLABELLED)
    films, left_out = leave_out(
        films.assign(label=(verdict != NORMAL).astype(int)),
        {
            "not PA or AP": ~films["Projection"].isin(VIEWS),
            "child's film": films["Pediatric"] == "PED",
            **{reason: verdict == reason for reason in (UNLABELLED, UNFIT, CONTRADICTORY)},
        },
        table,
    )
    year = pd.to_numeric(films["StudyDate_DICOM"].str[:4], errors="coerce")
    age = year - pd.to_numeric(films["PatientBirth"], errors="coerce")
    rows = pd.DataFrame(
        {
            "path": films["ImageDir"] + "/" + films["ImageID"],
            "label": films["label"],
            "finding": films["Labels"].map({text: "|".join(sorted(found)) for text, found in readings.items()}),
            "patient_id": "padchest-" + films["PatientID"],
            "study_id": "padchest-" + films["StudyID"],
            "view_position": films["Projection"].map(VIEWS),
            "age": age.where(age.between(0, OLDEST)),
            "sex": films["PatientSex_DICOM"],
            "labelled_by": films["MethodLabel"],
            "source": "padchest",
        }
    )
    return finished(rows, table, images, left_out)


def _findings(text: str) -> set[str]:
    """Return the labels in a list such as "['normal', ' unchanged']" that say something about the film."""
    try:
        labels = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return set()
    return {str(label).strip() for label in labels} - SILENT


def _verdict(findings: set[str]) -> str:
    if not findings:
        return UNLABELLED
    if findings & {"exclude", "suboptimal study"}:
        return UNFIT
    if findings == {NORMAL}:
        return NORMAL
    return CONTRADICTORY if NORMAL in findings else "abnormal"
