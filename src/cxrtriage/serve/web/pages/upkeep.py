"""For those who run the node: its settings, its models and the audit trail."""

import json
import os
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from pydantic import BaseModel
from sqlalchemy import Row, make_url, select
from starlette.responses import RedirectResponse, Response

from cxrtriage.errors import ConfigError
from cxrtriage.serve import audit, models, node_state
from cxrtriage.serve.database import reading
from cxrtriage.serve.settings import DATABASE_VARIABLE, NodeSettings
from cxrtriage.serve.tables import audit as trail
from cxrtriage.serve.web.access import Visitor, require
from cxrtriage.serve.web.pages.opened import node_of
from cxrtriage.serve.web.rendering import render

router = APIRouter()
Admin = Annotated[Visitor, Depends(require("admin"))]
SECRETS = (
    DATABASE_VARIABLE,
    "CXRTRIAGE_SMTP_PASSWORD",
    "CXRTRIAGE_SMTP_PASSWORD_FILE",
    "CXRTRIAGE_WEBHOOK_SECRET",
    "CXRTRIAGE_FHIR_TOKEN",
    "CXRTRIAGE_STOW_TOKEN",
)
LAST_ROWS = 200


@router.get("/settings")
def settings_page(request: Request, visitor: Annotated[Visitor, Depends(require("reader"))]) -> Response:
    """Return all settings; of a URL neither password nor what follows the path, of a secret whether it is set."""
    secrets = {name: name in os.environ for name in SECRETS}
    sections = shown_settings(node_of(request).settings)
    return render(request, visitor, "settings.html.j2", sections=sections, secrets=secrets)


@router.get("/model")
def model_page(request: Request, visitor: Admin, trouble: str = "") -> Response:
    """Return the models of the node and the switch."""
    node = node_of(request)
    with reading(node.engine) as connection:
        versions = models.all_models(connection)
        off = node_state.get(connection, node_state.MODEL_OFF)
    trouble = "No model was active before this one." if trouble else ""
    before = any(version.role != "active" and version.activated_at for version in versions)
    return render(request, visitor, "model.html.j2", versions=versions, off=off, before=before, trouble=trouble)


@router.post("/model/switch")
def switch_model(request: Request, visitor: Admin, why: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Switch the model off, with the reason that every page shows; on, without one."""
    node = node_of(request)
    with node.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, why.strip())
        detail = {"model": "off" if why.strip() else "on", "why": why.strip()}
        audit.record(connection, "changed", actor=visitor.name, action="U", address=visitor.address, detail=detail)
    return RedirectResponse("/model", 303)


@router.post("/model/back")
def go_back(request: Request, visitor: Admin) -> Response:
    """Show the results of the model that was active before."""
    try:
        models.go_back(node_of(request).engine, visitor.name)
    except ConfigError:
        return RedirectResponse("/model?trouble=1", 303)
    return RedirectResponse("/model", 303)


@router.get("/audit")
def audit_page(request: Request, visitor: Admin, study: str = "", verify: bool = False) -> Response:
    """Return the end of the audit trail, of all or of one study, and on request whether its chain holds."""
    node = node_of(request)
    of_study = [trail.c.study_instance_uid == study.strip()] if study.strip() else []
    with reading(node.engine) as connection:
        rows = connection.execute(select(trail).where(*of_study).order_by(trail.c.id.desc()).limit(LAST_ROWS)).all()
        broken = audit.verify(connection, audit.kept_head(node.home)) if verify else None
        head = audit.head_of(connection)
    with node.engine.begin() as connection:
        detail = {"verified": verify}
        audit.record(
            connection,
            "audit_used",
            actor=visitor.name,
            action="R",
            address=visitor.address,
            study_instance_uid=study.strip()[:64],
            detail=detail,
        )
    return render(
        request,
        visitor,
        "audit.html.j2",
        rows=[(row, _facts(row)) for row in rows],
        study=study.strip(),
        broken=broken,
        head=head,
        events=audit.EVENTS,
    )


def shown_settings(settings: NodeSettings) -> dict[str, list[tuple[str, str, str]]]:
    """Return name, value and meaning of every setting by section, without what must not be seen."""
    return {section: _section(section, part) for section, part in settings}


def _section(section: str, part: BaseModel) -> list[tuple[str, str, str]]:
    return [
        (name, _shown(section, name, getattr(part, name)), str(field.description))
        for name, field in type(part).model_fields.items()
    ]


def _shown(section: str, name: str, value: Any) -> str:
    if value is None or value == "" or value == ():
        return "–"
    if section == "database":
        shown = make_url(value).set(query={})
        return shown.render_as_string(hide_password=True)
    if name == "url":  # a webhook's path or query may be its key
        parts = urlsplit(value)
        hidden = "/…" if parts.path.strip("/") or parts.query else ""
        place = parts.netloc.rpartition("@")[2]
        return value if section == "web" else f"{parts.scheme}://{place}{hidden}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _facts(row: Row[Any]) -> str:
    """Return the detail of a row as people read it."""
    return ", ".join(f"{name}: {value}" for name, value in json.loads(row.detail).items())
