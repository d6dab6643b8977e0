"""The table of scores: a row a film, on disk as it comes, and taken up again after an interruption.

In come films and what scores them; out goes a CSV with the columns of `Prediction`, which has its name only when it is
whole. A table that is to be in a store grows on this machine and is put there when it is whole.
"""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import IO

from cxrtriage.atomic import disk_full_told, lock_or_refuse
from cxrtriage.data.remote.address import Address, is_url, shown
from cxrtriage.data.remote.fetch import changed_ns
from cxrtriage.data.remote.put import finish, put, working_folder
from cxrtriage.records import Prediction

CLOCKS_DIFFER_NS = 60 * 10**9  # of a store and this machine; some stores count in whole seconds
COLUMNS = [field.name for field in fields(Prediction)]


def write_scores(
    films: Sequence[Address], out: Address, score: Callable[[Sequence[Address]], Iterator[Prediction]], made_from: str
) -> int:
    """Score films and write a CSV; return how many were not assessed.

    Rows go into a hidden file beside `out` until all are there. If that is cut off, the next call with the same films
    and `made_from` begins behind the last whole row; a film that changed since then is scored again, and all after it.

    Parameters
    ----------
    films : paths and URLs, in the order of the rows
    out : CSV to write, or URL of it
    score : gives the predictions of the films that are left, such as `score_films` with its model
    made_from : whatever else the rows depend on: model, engine, prevalence

    Raises
    ------
    ConfigError
        If another process is writing the same table, or the store of a URL cannot be written to; the rows that are
        there are kept.
    CxrTriageError
        If the disk is full; the rows that are there are kept.
    """
    place = working_folder(out) / "scores.csv" if is_url(out) else Path(out)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_name(f".{place.name}.{hashlib.sha256(made_from.encode()).hexdigest()[:12]}.partial")
    # file names need not be text, and a row may be cut off within a letter
    with disk_full_told(place), unfinished.open("a+", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        lock_or_refuse(stream, f"another process is writing {shown(out)}. Wait for it, or choose another --out.")
        rows = _rows_done(stream, films)
        not_assessed = sum(row["decision"] == "not assessed" for row in rows)
        stream.truncate(len(_table(rows).encode(errors="surrogateescape")) if rows else 0)
        writer = csv.DictWriter(stream, COLUMNS)
        if not rows:
            writer.writeheader()
        for prediction in score(films[len(rows) :]):
            not_assessed += prediction.probability is None
            writer.writerow(_row(prediction))
            stream.flush()
        os.fsync(stream.fileno())
        if is_url(out):
            put({unfinished: out})
            finish(place.parent)
        else:
            unfinished.replace(place)
    return not_assessed


def _row(prediction: Prediction) -> dict[str, str]:
    row = asdict(prediction)
    if prediction.probability is not None:
        row["probability"] = f"{prediction.probability:.4f}"
    return row


def _rows_done(stream: IO[str], films: Sequence[Address]) -> list[dict[str, str]]:
    """Return the whole rows of an earlier start that still hold, from the first film on."""
    written = os.fstat(stream.fileno()).st_mtime_ns
    stream.seek(0)
    content = stream.read()
    rows: list[dict[str, str]] = []
    table = csv.DictReader(io.StringIO(content[: content.rfind("\n") + 1], newline=""), strict=True)
    try:
        found = list(islice(table, len(films)))
        changed = _changed_since(films[: len(found)], written)
        for film, row, is_changed in zip(films, found, changed, strict=False):
            if row["path"] != shown(film) or None in row.values() or is_changed:
                break
            rows.append(row)
    except csv.Error:  # cut off within quotes
        pass
    return rows if content.startswith(_table(rows)) else []


def _table(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _changed_since(films: Sequence[Address], moment_ns: int) -> Iterator[bool]:
    """Tell of each film whether it is missing, not known to be as old, or changed: it is scored again."""
    in_store = changed_ns(film for film in films if is_url(film))
    for film in films:
        if is_url(film):
            changed = next(in_store)
            yield changed is None or changed > moment_ns - CLOCKS_DIFFER_NS
            continue
        try:
            yield Path(film).stat().st_ctime_ns > moment_ns
        except OSError:
            yield True  # its row says why it cannot be scored
