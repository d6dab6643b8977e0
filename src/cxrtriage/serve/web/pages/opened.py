"""A study opened by somebody: who may see it, what of the score, and the row of the audit trail that says so."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from sqlalchemy import Connection, Engine, select

from cxrtriage.serve import audit
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import audit as trail
from cxrtriage.serve.web.access import Visitor, may_see
from cxrtriage.serve.web.pictures import Pictures
from cxrtriage.serve.worklist.reading_list import StudyRow, find_study, scores_hidden

SAME_LOOK = timedelta(minutes=10)  # pictures fetched so soon after their page are part of the same look
LOOKED = "score shown"  # in the trail: when somebody first saw a score that the page hid until then


@dataclass(frozen=True, slots=True)
class Node:
    """What a request works with."""

    home: Path
    settings: NodeSettings
    engine: Engine
    pictures: Pictures


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may see of a study's score.

    Parameters
    ----------
    shown : whether it is on the page
    first_look : whether it is hidden only until the reader has looked
    """

    shown: bool
    first_look: bool


def node_of(request: Request) -> Node:
    """Return what the application was made with."""
    state = request.app.state
    return Node(state.home, state.settings, state.engine, state.pictures)


def open_study(connection: Connection, node: Node, visitor: Visitor, study_instance_uid: str) -> StudyRow:
    """Return a study that the visitor may see.

    Raises
    ------
    HTTPException
        404 if there is none, and also if it is not his, so that nobody learns which studies there are.
    """
    row = find_study(connection, node.settings, now(), study_instance_uid)
    if row is None or not may_see(connection, visitor, row.study_id):
        raise HTTPException(404, "there is no such study, or it is not yours to see.")
    return row


def sight(connection: Connection, node: Node, visitor: Visitor, row: StudyRow) -> Sight:
    """Return what the visitor may see of the score."""
    if scores_hidden(connection, node.settings) or row.probability is None:
        return Sight(shown=False, first_look=False)
    hidden = node.settings.web.hide_score_first and visitor.role != "referrer" and row.read_at is None
    if hidden and not _has_looked(connection, visitor, row.study_instance_uid):
        return Sight(shown=False, first_look=True)
    return Sight(shown=True, first_look=False)


def note_access(connection: Connection, visitor: Visitor, study_instance_uid: str, **detail: Any) -> None:
    """Write to the audit trail that the visitor saw a study."""
    audit.record(
        connection,
        "accessed",
        actor=visitor.name,
        action="R",
        address=visitor.address,
        study_instance_uid=study_instance_uid,
        detail=detail,
    )


def note_picture(engine: Engine, visitor: Visitor, study_instance_uid: str) -> None:
    """Write that the visitor saw a study's films, unless its page, opened a moment ago, says so already."""
    own = (trail.c.study_instance_uid == study_instance_uid, trail.c.actor == visitor.name)
    recent = select(trail.c.id).where(*own, trail.c.event == "accessed", trail.c.at > now() - SAME_LOOK).limit(1)
    with reading(engine) as connection:
        seen = connection.execute(recent).first()
    if seen is None:
        with engine.begin() as connection:
            note_access(connection, visitor, study_instance_uid, films=True)


def note_explanation(engine: Engine, visitor: Visitor, study_instance_uid: str, method: str) -> None:
    """Write that the visitor saw why the model says what it says, which a reader asks for each time."""
    with engine.begin() as connection:
        note_access(connection, visitor, study_instance_uid, explanation=method)


def others_looking(connection: Connection, visitor: Visitor, study_instance_uid: str) -> list[str]:
    """Return who else opened the study in the last minutes, so that two do not read it at once."""
    recent = (
        select(trail.c.actor)
        .distinct()
        .where(
            trail.c.study_instance_uid == study_instance_uid,
            trail.c.event == "accessed",
            trail.c.at > now() - SAME_LOOK,
            trail.c.actor != visitor.name,
        )
    )
    return sorted(connection.execute(recent).scalars())


def _has_looked(connection: Connection, visitor: Visitor, study_instance_uid: str) -> bool:
    own = (trail.c.study_instance_uid == study_instance_uid, trail.c.actor == visitor.name)
    details = connection.execute(select(trail.c.detail).where(*own, trail.c.event == "accessed")).scalars()
    return any(json.loads(detail).get(LOOKED) for detail in details)
