"""Whether a model works as well for the old, for women, for bedside films: AUROC by subgroup.

In comes a regular table (see `predictions`), out goes a list of rows for `metrics.json`. Subgroups are looked at within
each source, because a pooled AUROC also rewards recognising the source.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.evaluate.intervals import RESAMPLES, auroc_with_interval

MINIMUM_PATIENTS = 10  # of each class; below, an AUROC says nothing
AGE_BANDS = {"0-17": (0, 18), "18-39": (18, 40), "40-64": (40, 65), "65+": (65, np.inf)}
COLUMNS = ("view_position", "sex", "age_group")
MOST_VALUES = 20  # of a column; beyond it is not a grouping but an identifier


def subgroup_figures(films: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> list[dict[str, Any]]:
    """Return the AUROC of each subgroup of each source.

    Parameters
    ----------
    films : (N rows) from `check_predictions`; columns `view_position`, `sex`, `age_group`, `age` (years) and `finding`
        (names separated by "|") are used where they are there
    resamples, seed : of the bootstrap

    Returns
    -------
    list of dict
        `source`, `column`, `value`, `films`, `abnormal`, and `auroc` (estimate, lower, upper), or None where there are
        fewer than 10 patients of a class. The row of a finding sets its films against all normal ones of the source.

    Examples
    --------
    >>> films = pd.DataFrame({"label": [0, 1] * 40, "probability": np.linspace(0, 1, 80), "patient_id": range(80)})
    >>> films = films.assign(source="all films", sex=["F", "F", "M", "M"] * 20)
    >>> [(row["value"], row["films"], round(row["auroc"]["estimate"], 2)) for row in subgroup_figures(films)]
    [('F', 40, 0.53), ('M', 40, 0.53)]
    """
    rows = []
    for source, of_source in films.groupby("source"):
        for column, value, chosen in _subgroups(of_source):
            group = of_source[chosen]
            truth, probability = group["label"].to_numpy() > 0, group["probability"].to_numpy()
            patients = group["patient_id"].to_numpy()
            pairs = min(len(np.unique(patients[truth])), len(np.unique(patients[~truth])))
            figure = None
            if pairs >= MINIMUM_PATIENTS:
                figure = auroc_with_interval(truth, probability, patients, resamples=resamples, seed=seed).for_json()
            rows.append(
                {
                    "source": str(source),
                    "column": column,
                    "value": value,
                    "films": len(group),
                    "abnormal": int(truth.sum()),
                    "auroc": figure,
                }
            )
    return rows


def _subgroups(films: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield column, value and the films (N,) bool of each subgroup; a column with a single value is none."""
    for column in COLUMNS:
        if column in films.columns and 2 <= films[column].nunique() <= MOST_VALUES:
            for value in sorted(films[column].dropna().unique(), key=str):
                yield column, str(value), (films[column] == value).to_numpy()

    if "age" in films.columns:
        age = pd.to_numeric(films["age"], errors="coerce").to_numpy()
        bands = {name: (age >= low) & (age < high) for name, (low, high) in AGE_BANDS.items()}
        present = {name: chosen for name, chosen in bands.items() if chosen.any()}
        if len(present) > 1:
            yield from (("age", name, chosen) for name, chosen in present.items())

    if "finding" in films.columns:
        normal = (films["label"] == 0).to_numpy()
        named = films["finding"].astype(str).str.split("|").where(~normal & films["finding"].notna())
        findings = named.explode().value_counts()
        if len(findings) > 1:
            for finding in findings.index[:MOST_VALUES]:
                has = named.map(lambda names, finding=finding: isinstance(names, list) and finding in names).to_numpy()
                yield "finding", str(finding), has | normal
