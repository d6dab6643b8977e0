"""The models of a node: a model file in, films queued for it; workers run what `models_to_run` names.

    add ---> shadow --activate--> active --retire / another is activated--> retired
                ^------------------------------go_back------------------------'

The active model's results are shown. A shadow model scores the same films beside it and is shown to nobody,
so that both can be compared before a change. One that was active before may run in shadow too: what it says then is
shown to nobody, what it said before stays. A result belongs to the version that made it for good: a
change of model neither rewrites nor hides what was reported before. Files are copied under
HOME/models by their hash, so that `go_back` needs nothing but the database.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue
from sqlalchemy import Connection, Engine, and_, exists, func, not_, select, update

from cxrtriage.atomic import replacing
from cxrtriage.digest import sha256_of
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.card import ModelCard
from cxrtriage.serve import audit, queue, turns
from cxrtriage.serve.database import insert_new, now
from cxrtriage.serve.tables import instance, job, model_version, result, study
from cxrtriage.serve.worklist import priority

FOLDER = "models"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model that this node runs or ran.

    Parameters
    ----------
    sha256 : of the model file
    path : relative to HOME
    name : of the file that was added
    role : "active", "shadow" or "retired"
    card : what the file says about itself
    activated_at : when its results were last begun to be shown; None if never
    acceptance : figures on this site's own films, see `cxrtriage serve --acceptance`; None before
    """

    sha256: str
    path: Path
    name: str
    role: str
    card: ModelCard
    activated_at: datetime | None
    acceptance: dict[str, JsonValue] | None


def add_model(
    engine: Engine,
    home: Path,
    file: Path,
    role: Literal["active", "shadow"],
    *,
    acceptance: dict[str, Any] | None = None,
    actor: str = "command line",
) -> ModelVersion:
    """Take a model file in and queue all unread studies for it; the same file again changes its role only.

    Raises
    ------
    ModelError
        If it is no model file.
    """
    from cxrtriage.model.bundle import load_model  # torch, which those who only ask for models need not load

    load_model(file)  # refuses what is none, before anything is copied
    content = file.read_bytes()
    sha256 = file_sha256(file)
    path = Path(FOLDER) / f"{sha256}.safetensors"
    (home / FOLDER).mkdir(exist_ok=True)
    if not (home / path).exists():
        with replacing(home / path) as temporary:
            temporary.write_bytes(content)
    card = load_model(home / path).card
    with engine.begin() as connection:
        insert_new(
            connection,
            model_version,
            sha256=sha256,
            path=path.as_posix(),
            name=file.name[:128],
            role="retired",
            card=card.model_dump_json(),
            added_at=now(),
        )
        if acceptance is not None:
            this = model_version.c.sha256 == sha256
            connection.execute(update(model_version).where(this).values(acceptance=json.dumps(acceptance)))
        _give_role(connection, sha256, role, actor)
        return _version(connection, sha256)


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a model file.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        return sha256_of(file)
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}. Give a model file with --model.") from error


def activate(engine: Engine, sha256: str, actor: str = "command line") -> ModelVersion:
    """Show this model's results from now on; the one before becomes retired, and keeps its results.

    Raises
    ------
    ConfigError
        If the node has no such model, or the beginning fits more than one.
    """
    with engine.begin() as connection:
        found = find(connection, sha256)
        _give_role(connection, found.sha256, "active", actor)
        return _version(connection, found.sha256)


def go_back(engine: Engine, actor: str = "command line") -> ModelVersion:
    """Activate the model that was active before this one.

    Raises
    ------
    ConfigError
        If there was none.
    """
    with engine.begin() as connection:
        before = connection.execute(
            select(model_version.c.sha256)
            .where(model_version.c.role != "active", model_version.c.activated_at.is_not(None))
            .order_by(model_version.c.activated_at.desc())
        ).scalar()
        if before is None:
            raise ConfigError("no model was active before this one. Add one with `cxrtriage node model add`.")
        _give_role(connection, before, "active", actor)
        return _version(connection, before)


def retire(engine: Engine, sha256: str, actor: str = "command line") -> ModelVersion:
    """Stop a shadow model; what waits for it is taken off the queue.

    Raises
    ------
    ConfigError
        If the node has no such model, or it is the active one.
    """
    with engine.begin() as connection:
        found = find(connection, sha256)
        if found.role == "active":
            raise ConfigError(f"model {found.sha256[:12]} is active. Activate another one first, or switch it off.")
        _give_role(connection, found.sha256, "retired", actor)
        return _version(connection, found.sha256)


def all_models(connection: Connection) -> list[ModelVersion]:
    """Return every model that this node knows, the latest first."""
    rows = connection.execute(select(model_version).order_by(model_version.c.added_at.desc())).all()
    return [_from_row(row) for row in rows]


def models_to_run(connection: Connection) -> list[ModelVersion]:
    """Return the models that workers run: the active one first, then those in shadow."""
    found = [version for version in all_models(connection) if version.role != "retired"]
    return sorted(found, key=lambda version: version.role)


def active_model(connection: Connection) -> ModelVersion | None:
    """Return the model whose results are shown; None if there is none."""
    row = connection.execute(select(model_version).where(model_version.c.role == "active")).first()
    return None if row is None else _from_row(row)


def find(connection: Connection, beginning: str) -> ModelVersion:
    """Return the model whose hash begins so.

    Raises
    ------
    ConfigError
        If there is none, or more than one.
    """
    found = [version for version in all_models(connection) if version.sha256.startswith(beginning)]
    if len(found) != 1 or not beginning:
        known = ", ".join(version.sha256[:12] for version in all_models(connection)) or "none"
        raise ConfigError(f"{len(found)} models of this node begin with {beginning!r}, expected one. It has: {known}.")
    return found[0]


def _give_role(connection: Connection, sha256: str, role: str, actor: str) -> None:
    turns.alone(connection)
    table = model_version.c
    if role == "shadow" and connection.execute(select(table.role).where(table.sha256 == sha256)).scalar() == "active":
        raise ConfigError(
            f"model {sha256[:12]} is the active one, and would leave the node without. Activate another model first."
        )
    if role == "active":
        connection.execute(update(model_version).where(table.role == "active").values(role="retired"))
    values: dict[str, Any] = {"role": role}
    if role == "active":
        values |= {"activated_at": now(), "shadow_since": None}
    elif role == "shadow":
        values["shadow_since"] = func.coalesce(table.shadow_since, now())
    connection.execute(update(model_version).where(table.sha256 == sha256).values(values))
    retired = select(table.sha256).where(table.role == "retired")
    connection.execute(job.delete().where(job.c.state == "received", job.c.model_sha256.in_(retired)))
    if role == "active":
        waiting = job.c.model_sha256 == queue.NO_MODEL_YET
        connection.execute(update(job).where(waiting).values(model_sha256=sha256))
        for study_id in connection.execute(_unread_studies_scored_by(sha256)).scalars().all():
            priority.refresh(connection, study_id)  # what it said in shadow counts from now on
    if role != "retired":
        for instance_id in connection.execute(_unread_films_without_job(sha256)).scalars().all():
            queue.add(connection, instance_id, sha256)
    audit.record(connection, "changed", actor=actor, action="U", detail={"model": sha256, "role": role})


def _unread_films_without_job(sha256: str) -> Any:
    queued = exists().where(and_(job.c.instance_id == instance.c.id, job.c.model_sha256 == sha256))
    return (
        select(instance.c.id)
        .join_from(instance, study)
        .where(study.c.read_at.is_(None), not_(queued))
        .order_by(instance.c.id)
    )


def _unread_studies_scored_by(sha256: str) -> Any:
    return (
        select(study.c.id)
        .distinct()
        .join_from(study, instance)
        .join(result)
        .where(study.c.read_at.is_(None), result.c.model_sha256 == sha256)
    )


def _version(connection: Connection, sha256: str) -> ModelVersion:
    return _from_row(connection.execute(select(model_version).where(model_version.c.sha256 == sha256)).one())


def _from_row(row: Any) -> ModelVersion:
    acceptance = json.loads(row.acceptance) if row.acceptance else None
    card = ModelCard.model_validate_json(row.card)
    return ModelVersion(row.sha256, Path(row.path), row.name, row.role, card, row.activated_at, acceptance)
