"""The section on the films: how many, of whom, how they were divided, which were left out, and what some look like.

In comes a `Run`, out goes what `templates/films.html.j2` shows.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.duplicates import duplicates_sentence
from cxrtriage.data.prepared.equalise import count_levels
from cxrtriage.errors import SourceError
from cxrtriage.records import LABEL_NAMES, SPLITS
from cxrtriage.report.charts import grey_levels_chart
from cxrtriage.report.naming import Naming
from cxrtriage.report.pictures import show_film
from cxrtriage.report.reading import Run
from cxrtriage.report.words import count, percent

EXAMPLES = 2  # films of each class that are shown
TRIED = 6  # films that are looked for where the first ones are gone
OTHER_FILE = re.compile(r"\S*[/\\]\S*[^\s:,;.]|\S+\.(?:png|jpe?g|tiff?|dcm|dicom)\b", re.IGNORECASE)  # a mask, say
MOST_VIEWS = 4  # named in a table's cell


def films(run: Run, naming: Naming, side: int) -> dict[str, Any]:
    """Return the section.

    Parameters
    ----------
    run : the files
    naming : what films are called on the page
    side : of pictures, in pixels
    """
    every = _every_film(run)
    rows = [_row(name, group) for name, group in _splits(every)]
    sources = every["source"].fillna("unnamed source") if "source" in every.columns else None
    return {
        "rows": rows,
        "known": {column for column in ("age", "women", "views") if any(row[column] != "–" for row in rows)},
        "sources": [] if sources is None or sources.nunique() < 2 else _source_rows(every.assign(source=sources)),
        "emergent": bool((every["label"] == 2).any()),
        "several_splits": len(rows) > 1,
        "shared": _shared_patients(every),
        "duplicates": None if run.duplicates is None else duplicates_sentence(run.duplicates),
        "rejected": None if run.rejects is None else grouped_reasons(run.rejects),
        "rejected_names": naming.identify and run.rejects is not None and [Path(p).name for p in run.rejects["path"]],
        "examples": _examples(run, naming, side),
        "size": run.prepared.recipe.size if run.prepared else None,
    }


def grouped_reasons(rejects: pd.DataFrame) -> list[tuple[str, int]]:
    """Return why films were left out and how many for each reason, the commonest first, without any name of a file.

    Examples
    --------
    >>> paths = ["/films/x.png", "/films/y.png"]
    >>> rejects = pd.DataFrame({"path": paths, "reason": [f"cannot read {path}: it ends early" for path in paths]})
    >>> grouped_reasons(rejects)
    [('cannot read the film: it ends early', 2)]
    """

    def nameless(path: str, reason: str) -> str:
        for name in (path, Path(path).name):
            reason = reason.replace(name, "the film")
        return OTHER_FILE.sub("a file", reason)

    reasons = Counter(
        nameless(str(path), str(why)) for path, why in zip(rejects["path"], rejects["reason"], strict=True)
    )
    return reasons.most_common()


def _every_film(run: Run) -> pd.DataFrame:
    """Return a row a film that was used: of the prepared set in a fit, else the films that were measured."""
    if not run.is_fit:
        return run.predictions
    if run.prepared is None:
        return run.predictions if run.manifest is None else run.manifest
    return run.prepared.manifest[~run.prepared.manifest["path"].duplicated()]


def _splits(every: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the films of each split, then all."""
    if "split" not in every.columns or every["split"].nunique() < 2:
        return [("all films", every)]
    names = [name for name in SPLITS if (every["split"] == name).any()]
    return [*((name, every[every["split"] == name]) for name in names), ("all films", every)]


def _row(name: str, group: pd.DataFrame) -> dict[str, Any]:
    """Count one split."""
    return {
        "name": name,
        "films": count(len(group)),
        "patients": count(group["patient_id"].nunique() + group["patient_id"].isna().sum())
        if "patient_id" in group.columns
        else "–",
        "classes": [count((group["label"] == label).sum()) for label in range(len(LABEL_NAMES))],
        "abnormal": percent((group["label"] > 0).mean()),
        "age": _ages(group),
        "women": _women(group),
        "views": _views(group),
    }


def _ages(group: pd.DataFrame) -> str:
    """Return median and range of the ages in years."""
    ages = pd.to_numeric(group["age"], errors="coerce").dropna() if "age" in group.columns else pd.Series(dtype=float)
    return f"{ages.median():.0f} ({ages.min():.0f}–{ages.max():.0f})" if len(ages) else "–"


def _women(group: pd.DataFrame) -> str:
    sex = group["sex"].dropna() if "sex" in group.columns else pd.Series(dtype=str)
    return percent((sex == "F").mean()) if len(sex) else "–"


def _views(group: pd.DataFrame) -> str:
    views = group["view_position"].dropna() if "view_position" in group.columns else pd.Series(dtype=str)
    shares = views.value_counts(normalize=True)[:MOST_VIEWS]
    return ", ".join(f"{view} {percent(share)}" for view, share in shares.items()) or "–"


def _source_rows(every: pd.DataFrame) -> list[dict[str, Any]]:
    """Count each source, in each split."""
    splits = _splits(every)
    return [
        {
            "name": name,
            "films": [count((group["source"] == name).sum()) for _, group in splits],
            "abnormal": percent((every.loc[every["source"] == name, "label"] > 0).mean()),
        }
        for name in sorted(every["source"].unique())
    ]


def _shared_patients(every: pd.DataFrame) -> int | None:
    """Return how many patients have films in more than one split; None where that is not known."""
    if not {"split", "patient_id"} <= set(every.columns) or every["split"].nunique() < 2:
        return None
    places = every[["patient_id", "split"]].dropna().drop_duplicates()["patient_id"]
    return int(places[places.duplicated()].nunique())


def _examples(run: Run, naming: Naming, side: int) -> list[dict[str, Any]]:
    """Show the first films of each class before and after equalisation, as far as they are still to be found."""
    if run.prepared is None or "path" not in run.predictions.columns:
        return []
    row_of = {path: row for row, path in reversed(list(enumerate(run.prepared.manifest["path"])))}
    shown = []
    for label, name in enumerate(LABEL_NAMES):
        of_class = run.predictions[run.predictions["label"] == label].drop_duplicates("patient_id")
        found = 0
        for path in of_class["path"].head(TRIED):
            try:
                stored = read_film(path).pixels
            except SourceError:
                continue  # gone since it was prepared
            after = np.asarray(run.prepared.images[row_of[path]])
            lowest = int(np.iinfo(stored.dtype).min)
            shown.append(
                {
                    "title": f"{name.capitalize()}: {naming.film(path)}",
                    "before": show_film(stored, side),
                    "before_levels": grey_levels_chart(count_levels(np.ascontiguousarray(stored)), lowest, "as stored"),
                    "after": show_film(after, side),
                    "after_levels": grey_levels_chart(np.bincount(after.ravel(), minlength=256), 0, "equalised"),
                }
            )
            found += 1
            if found == EXAMPLES:
                break
    return shown
