"""What readers say of a study: a verdict on the model's score, and that it has been read; the pages and HL7 call it.

A verdict is kept with the model version and with whether the score was on the screen, so that agreement can be
counted honestly and the films can be learned from later (`cxrtriage manifest --from-node`).
"""

from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, case, func, select, update

from cxrtriage.serve import audit
from cxrtriage.serve.database import now
from cxrtriage.serve.notify import notices
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import instance, model_version, result, review, study
from cxrtriage.serve.worklist import priority

Verdict = Literal["agree", "disagree", "emergent"]


def give_verdict(
    connection: Connection,
    study_id: int,
    account_name: str,
    verdict: Verdict,
    score_visible: bool,
    *,
    settings: NodeSettings,
    home: Path,
) -> None:
    """Keep what a reader says of the score; tell the physician if that makes the study abnormal.

    Parameters
    ----------
    verdict : "agree" or "disagree" with the highest score of the study, or "emergent"
    score_visible : whether the reader had seen the score

    Raises
    ------
    ValueError
        If the study has no score to agree or disagree with.
    """
    scores = connection.execute(
        select(result.c.model_sha256, result.c.probability, result.c.decision)
        .join_from(result, instance)
        .join(model_version, model_version.c.sha256 == result.c.model_sha256)
        .where(instance.c.study_id == study_id, priority.was_shown())
    ).all()
    # the one that the list shows: two models may have operating points of their own
    score = max(scores, key=lambda row: (priority.RANK_OF_DECISION[row.decision], row.probability), default=None)
    if score is None and verdict != "emergent":
        raise ValueError("the study has no score to agree or disagree with")
    called_abnormal = score is not None and score.decision != "normal"
    abnormal = verdict == "emergent" or called_abnormal == (verdict == "agree")
    connection.execute(
        review.insert().values(
            study_id=study_id,
            account_name=account_name,
            verdict=verdict,
            abnormal=abnormal,
            model_sha256=score.model_sha256 if score else "",
            probability=score.probability if score else None,
            score_visible=score_visible,
            made_at=now(),
        )
    )
    row = connection.execute(select(study).where(study.c.id == study_id)).one()
    uid, detail = row.study_instance_uid, {"verdict": verdict, "score_visible": score_visible}
    audit.record(connection, "changed", actor=account_name, action="U", study_instance_uid=uid, detail=detail)
    wanted = priority.EMERGENT if verdict == "emergent" else priority.ABNORMAL if abnormal else priority.ROUTINE
    if wanted > row.rank:
        priority.set_by_person(connection, study_id, wanted, account_name)
    if abnormal:
        _confirmed(connection, study_id, settings, home)


def mark_read(
    connection: Connection,
    study_id: int,
    by: str,
    abnormal: bool | None,
    *,
    settings: NodeSettings,
    home: Path,
) -> None:
    """Take a study off the list; tell the physician if it was found abnormal.

    Who read it first, and when, stays: a report that follows a reader adds what it found.

    Parameters
    ----------
    by : account's name, or "final report"
    abnormal : what reader or report found; None where it does not say
    """
    this = study.c.id == study_id
    first_by = case((study.c.read_at.is_(None), by), else_=study.c.read_by)
    values: dict[str, Any] = {"read_at": func.coalesce(study.c.read_at, now()), "read_by": first_by}
    if abnormal is not None:
        values |= {"reported_abnormal": abnormal, "reported_at": now()}
    connection.execute(update(study).where(this).values(values))
    uid = connection.execute(select(study.c.study_instance_uid).where(this)).scalar_one()
    detail = {"read": True, "abnormal": abnormal}
    audit.record(connection, "changed", actor=by, action="U", study_instance_uid=uid, detail=detail)
    if abnormal:
        _confirmed(connection, study_id, settings, home)


def reopen(connection: Connection, study_id: int, by: str) -> None:
    """Put a study back on the list, where it was."""
    this = study.c.id == study_id
    connection.execute(
        update(study).where(this).values(read_at=None, read_by="", reported_abnormal=None, reported_at=None)
    )
    uid = connection.execute(select(study.c.study_instance_uid).where(this)).scalar_one()
    audit.record(connection, "changed", actor=by, action="U", study_instance_uid=uid, detail={"read": False})


def _confirmed(connection: Connection, study_id: int, settings: NodeSettings, home: Path) -> None:
    if settings.notice.when == "confirmed":
        notices.tell(connection, settings, home, study_id)
