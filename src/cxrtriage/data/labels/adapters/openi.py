"""Open-I, Indiana University: 7,470 films of 3,851 studies, indexed by hand from the reports."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.adapters.selection import finished, leave_out
from cxrtriage.data.labels.table import read_table, require_columns
from cxrtriage.errors import SourceError

UNFIT = "Technical Quality of Image Unsatisfactory"


def openi(table: Path, images: Path | None = None) -> pd.DataFrame:
    """Make a manifest of Open-I from `indiana_reports.csv`, beside which `indiana_projections.csv` must lie.

    Normal: the index (column `MeSH`) says "normal".
    Abnormal: the index says anything else, devices and old scars included.
    Left out: lateral films; studies that were not indexed or of poor technical quality.

    The set has one study a patient. It tells "Frontal" but not AP from PA, so `view_position` stays open.

    Parameters
    ----------
    table : the file of reports
    images : the folder of the films (`images_normalized/`)

    References
    ----------
    Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval,
    JAMIA 2016.
    """
    table = Path(table)
    reports = read_table(table)
    require_columns(reports, ("uid", "MeSH"), str(table))
    projections_path = table.with_name(table.name.replace("reports", "projections"))
    if projections_path == table or not projections_path.exists():
        raise SourceError(f"{table} tells no films: put indiana_projections.csv into the same folder.")
    projections = read_table(projections_path)
    require_columns(projections, ("uid", "filename", "projection"), str(projections_path))
    films = projections.merge(reports[["uid", "MeSH"]], on="uid", how="left")
    terms = films["MeSH"].fillna("")
    films, left_out = leave_out(
        films,
        {
            "not frontal": films["projection"] != "Frontal",
            "not indexed": terms.isin(["", "No Indexing"]),
            "poor technical quality": terms.str.contains(UNFIT, regex=False),
        },
        table,
    )
    rows = pd.DataFrame(
        {
            "path": films["filename"],
            "label": (films["MeSH"].str.lower() != "normal").astype(int),
            "finding": films["MeSH"],
            "patient_id": "openi-" + films["uid"],
            "study_id": "openi-" + films["uid"],
            "source": "openi",
        }
    )
    return finished(rows, table, images, left_out)
