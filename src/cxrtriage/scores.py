"""The table of scores: a row a film, on disk as it comes, and taken up again after an interruption.

In come films and what scores them; out goes a CSV with the columns of `Prediction`, which has its name only when it is
whole.
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
from cxrtriage.records import Prediction

COLUMNS = [field.name for field in fields(Prediction)]


def write_scores(
    films: Sequence[Path], out: Path, score: Callable[[Sequence[Path]], Iterator[Prediction]], made_from: str
) -> int:
    """Score films and write a CSV; return how many were not assessed.

    Rows go into a hidden file beside `out` until all are there. If that is cut off, the next call with the same films
    and `made_from` begins behind the last whole row; a film that changed since then is scored again, and all after it.

    Parameters
    ----------
    films : paths, in the order of the rows
    out : CSV to write
    score : gives the predictions of the films that are left, such as `score_films` with its model
    made_from : whatever else the rows depend on: model, engine, prevalence

    Raises
    ------
    ConfigError
        If another process is writing the same table.
    CxrTriageError
        If the disk is full; the rows that are there are kept.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{hashlib.sha256(made_from.encode()).hexdigest()[:12]}.partial")
    # file names need not be text, and a row may be cut off within a letter
    with disk_full_told(out), unfinished.open("a+", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        lock_or_refuse(stream, f"another process is writing {out}. Wait for it, or choose another --out.")
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
        unfinished.replace(out)
    return not_assessed


def _row(prediction: Prediction) -> dict[str, str]:
    row = asdict(prediction)
    if prediction.probability is not None:
        row["probability"] = f"{prediction.probability:.4f}"
    return row


def _rows_done(stream: IO[str], films: Sequence[Path]) -> list[dict[str, str]]:
    """Return the whole rows of an earlier start that still hold, from the first film on."""
    written = os.fstat(stream.fileno()).st_mtime_ns
    stream.seek(0)
    content = stream.read()
    rows: list[dict[str, str]] = []
    table = csv.DictReader(io.StringIO(content[: content.rfind("\n") + 1], newline=""), strict=True)
    try:
        for film, row in zip(films, islice(table, len(films)), strict=False):
            if row["path"] != str(film) or None in row.values() or _changed_since(film, written):
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


def _changed_since(film: Path, moment_ns: int) -> bool:
    try:
        return film.stat().st_ctime_ns > moment_ns
    except OSError:
        return True  # it is scored again, and its row says why it cannot be
