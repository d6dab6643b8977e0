"""What the adapters of the public sets share: leaving rows out with a reason, and finishing the manifest."""

from pathlib import Path

import pandas as pd

from cxrtriage.data.labels.lookup import manifest_from_rows
from cxrtriage.errors import SourceError

ADULT = 18.0  # years
OLDEST = 110.0  # years; ages above are slips of the keyboard (ChestX-ray14 has some over 400)


def leave_out(rows: pd.DataFrame, reasons: dict[str, pd.Series], table: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out the rows for which a reason holds; of several reasons for one row the first counts.

    Returns
    -------
    rows : those that stay
    left_out : how many rows each reason took

    Raises
    ------
    SourceError
        If no row of `table` stays.

    Examples
    --------
    >>> views = pd.DataFrame({"view": ["PA", "L", "AP", "L"], "finding": ["none", "none", "unsure", "unsure"]})
    >>> reasons = {"lateral": views.view == "L", "uncertain": views.finding == "unsure"}
    >>> kept, left_out = leave_out(views, reasons, Path("views.csv"))
    >>> len(kept), left_out
    (1, {'lateral': 2, 'uncertain': 1})
    """
    stays = pd.Series(True, index=rows.index)
    left_out = {}
    for reason, holds in reasons.items():
        left_out[reason] = int((stays & holds).sum())
        stays &= ~holds
    if not stays.any():
        counts = ", ".join(f"{reason}: {count}" for reason, count in left_out.items() if count)
        raise SourceError(f"no film of {table} can be used ({counts}). Check that this is the set's whole file.")
    return rows[stays], {reason: count for reason, count in left_out.items() if count}


def finished(rows: pd.DataFrame, table: Path, images: Path | None, left_out: dict[str, int]) -> pd.DataFrame:
    """Return the manifest of rows that have its columns, with `left_out` in its `attrs`.

    Films that are not there are left out too: of the larger sets, few people have all.
    """
    if "age" in rows and "age_group" not in rows:
        group = (rows["age"] < ADULT).map({True: "child", False: "adult"})
        rows = rows.assign(age_group=group.where(rows["age"].notna()))
    manifest = manifest_from_rows(rows, table, images, keep_missing=False)
    absent = len(rows) - len(manifest)
    manifest.attrs["left_out"] = left_out | ({"no such file": absent} if absent else {})
    return manifest


def years(ages: pd.Series) -> pd.Series:
    """Return ages in years from text such as "58", "058Y" or "010M"; impossible ones become missing."""
    parts = ages.astype("str").str.extract(r"^(?P<number>\d+)(?P<unit>[YMWD]?)$")
    per_year = parts["unit"].map({"M": 12.0, "W": 52.18, "D": 365.25}).fillna(1.0)
    value = pd.to_numeric(parts["number"]) / per_year
    return value.where(value <= OLDEST)
