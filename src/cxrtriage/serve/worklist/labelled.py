"""What readers said of the node's films, as a manifest to learn from; `cxrtriage manifest --from-node` writes it.

Readers who saw a model's score do not judge freely. Each row therefore names the weights whose score was there,
and `evaluate` leaves such rows out when it measures these weights, under whatever calibration.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, select

from cxrtriage.errors import SourceError
from cxrtriage.model.bundle import load_model, weights_sha256
from cxrtriage.records import REVIEWED_WEIGHTS
from cxrtriage.serve.results.deidentify import load_key, pseudonym
from cxrtriage.serve.tables import instance, job, model_version, patient, result, review, study
from cxrtriage.serve.worklist.priority import was_shown


def reviewed_films(connection: Connection, home: Path) -> pd.DataFrame:
    """Return the films of studies that readers or final reports called normal, abnormal or emergent.

    Parameters
    ----------
    connection : to the node's database
    home : the node's folder

    Returns
    -------
    DataFrame
        A manifest: `path`, `label`, `patient_id` and `study_id` (hashes under the node's key, no number of the
        hospital), `view_position`, `age`, `source` ("node"), `probability`, `score_visible` (whether the reader had
        seen it) and `reviewed_weights`. The last word on a study counts. Films that were not assessed are left out.

    Raises
    ------
    SourceError
        If there is no such film.
    ConfigError
        If the key cannot be read or made.
    """
    key = load_key(home)
    weights = {
        row.sha256: weights_sha256(load_model(home / row.path))
        for row in connection.execute(select(model_version.c.sha256, model_version.c.path)).all()
    }
    words = {
        row.study_id: row
        for row in connection.execute(select(review).where(review.c.abnormal.is_not(None)).order_by(review.c.id)).all()
    }
    films = connection.execute(
        select(study, instance.c.path, instance.c.view_position, instance.c.age_years, patient.c.patient_id)
        .add_columns(result.c.probability.label("film_probability"), result.c.model_sha256)
        .join_from(instance, study)
        .join(patient)
        .join(job)
        .join(result, (result.c.instance_id == instance.c.id) & (result.c.model_sha256 == job.c.model_sha256))
        .join(model_version, model_version.c.sha256 == result.c.model_sha256)
        .where(job.c.state == "done", was_shown())
        .order_by(instance.c.id, model_version.c.activated_at)
    ).all()
    rows = {}
    for film in films:
        word, abnormal = _last_word(words.get(film.id), film)
        if abnormal is None:
            continue
        rows[film.path] = {  # of several models the one shown last
            "path": str(home / film.path),
            "label": 2 if word and word.verdict == "emergent" else int(abnormal),
            "patient_id": pseudonym(key, "patient", film.patient_id or film.study_instance_uid),
            "study_id": pseudonym(key, "study", film.study_instance_uid),
            "view_position": film.view_position or None,
            "age": film.age_years,
            "source": "node",
            "probability": film.film_probability,
            "score_visible": bool(word.score_visible) if word else True,
            REVIEWED_WEIGHTS: weights.get(film.model_sha256, ""),
        }
    if not rows:
        raise SourceError(f"no study of the node at {home} has been read as normal or abnormal yet.")
    return pd.DataFrame(list(rows.values()))


def _last_word(word: Row[Any] | None, film: Row[Any]) -> tuple[Row[Any] | None, bool | None]:
    """Return the review that counts, and what the study was called; no review where it was read otherwise later.

    A later reading that finds the same leaves the review, which says more: emergent, and whether the score was seen.
    """
    found = film.reported_abnormal
    if word is None or found in (None, word.abnormal):
        return word, found if word is None else word.abnormal
    return (None, found) if film.reported_at > word.made_at else (word, word.abnormal)
