"""How urgent a study is: results, orders and persons' words in, `study.rank` out; the reading list sorts by it.

    emergent   a three-class model, a STAT order or a person says so
    abnormal   a film is at or above the operating point of a model that is or was shown
    routine    the rest, also what is not assessed yet

It is the highest of all films and models; only a person lowers it, and what comes after a person's word
counts again. A shadow model's results do not count.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from cxrtriage.serve import audit
from cxrtriage.serve.database import now
from cxrtriage.serve.tables import imaging_order, instance, model_version, result, study

RANKS = ("routine", "abnormal", "emergent")  # by `study.rank`
ROUTINE, ABNORMAL, EMERGENT = range(3)
RANK_OF_DECISION = {"normal": ROUTINE, "abnormal": ABNORMAL, "emergent": EMERGENT}


def refresh(connection: Connection, study_id: int) -> None:
    """Work out a study's rank anew, in the transaction that changed what it rests on.

    Parameters
    ----------
    connection : of that transaction
    study_id : key of the study
    """
    row = connection.execute(select(study).where(study.c.id == study_id).with_for_update()).one()
    shown = connection.execute(_shown_results(study_id)).all()
    ordered = connection.execute(
        select(imaging_order).where(order_matches(row.study_instance_uid, row.accession_number))
    ).all()
    said = [(RANK_OF_DECISION[found.decision], found.made_at) for found in shown]
    said += [(EMERGENT, found.received_at) for found in ordered if found.priority == "stat"]
    since = row.person_ranked_at
    ranks = [rank for rank, at in said if since is None or at > since]
    connection.execute(
        update(study)
        .where(study.c.id == study_id)
        .values(
            rank=max(ranks + ([] if row.person_rank is None else [row.person_rank]), default=ROUTINE),
            probability=max((found.probability for found in shown), default=None),
            first_result_at=min((found.made_at for found in shown), default=None),
        )
    )


def set_by_person(connection: Connection, study_id: int, rank: int, account_name: str) -> None:
    """Give a study the rank that a person says, also a lower one.

    Parameters
    ----------
    rank : index of `RANKS`

    Raises
    ------
    ValueError
        If there is no such rank.
    """
    if rank not in range(len(RANKS)):
        raise ValueError(f"rank must be 0 to {len(RANKS) - 1}, got {rank}")
    before = connection.execute(select(study.c.rank).where(study.c.id == study_id)).scalar_one()
    this = study.c.id == study_id
    connection.execute(update(study).where(this).values(person_rank=rank, person_ranked_at=now()))
    refresh(connection, study_id)
    uid = connection.execute(select(study.c.study_instance_uid).where(this)).scalar_one()
    detail = {"priority": RANKS[rank], "before": RANKS[before]}
    audit.record(connection, "changed", actor=account_name, action="U", study_instance_uid=uid, detail=detail)


def order_matches(study_instance_uid: Any, accession_number: Any) -> ColumnElement[bool]:
    """Return the condition on `imaging_order` that an order is for a study.

    Parameters
    ----------
    study_instance_uid, accession_number : of the study, as text or as columns. Many devices make a UID of their
        own instead of the ordered one, so either may match.
    """
    by_number = and_(imaging_order.c.accession_number == accession_number, imaging_order.c.accession_number != "")
    return or_(imaging_order.c.study_instance_uid == study_instance_uid, by_number)


def was_shown() -> ColumnElement[bool]:
    """Return the condition on `result`, joined with its `model_version`, that it is or was shown.

    A model that was active and then runs in shadow goes on to count with what it said before.
    """
    since = model_version.c.shadow_since
    said_aloud = or_(since.is_(None), result.c.made_at < since)
    return and_(model_version.c.activated_at.is_not(None), said_aloud)


def _shown_results(study_id: int) -> Any:
    return (
        select(result.c.probability, result.c.decision, result.c.made_at)
        .join_from(result, instance)
        .join(model_version, model_version.c.sha256 == result.c.model_sha256)
        .where(instance.c.study_id == study_id, was_shown())
    )
