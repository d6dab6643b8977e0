"""Who comes to the web application in tests: browsers signed in under a role, programs with a token."""

from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from cxrtriage.serve import database
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE
from cxrtriage.serve.web.app import create_app
from serve.worklist.rows import Rows, add_model

PASSWORD = "correct horse battery"
RECIPIENTS = {"referrer": "dr.who"}


def application(engine: Engine, home: Path, person: str = "DOE^JANE") -> FastAPI:
    """Return an application with a model and one study, 1.2.3.1."""
    with engine.begin() as connection:
        add_model(connection)
    Rows(engine).study(10, 0.9, person=person)
    settings = NodeSettings.model_validate({"store": {"min_free_gib": 0.001}, "reading": {"upper_wait_min": 1e9}})
    return create_app(home, settings, engine)


def make_account(engine: Engine, name: str, role: str = "reader") -> None:
    with engine.begin() as connection:
        secret = accounts.invite(connection, name, role, RECIPIENTS.get(role, ""))
    accounts.accept_invitation(engine, secret, PASSWORD)


def browser(app: FastAPI, role: str = "") -> TestClient:
    """Return a browser, signed in under a role if one is given, that sends the session's CSRF token with everything."""
    client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)
    if role:
        make_account(app.state.engine, f"a {role}", role)
        assert client.post("/sign-in", data={"name": f"a {role}", "password": PASSWORD}).status_code == 303
        session = accounts.find_session(app.state.engine, client.cookies[COOKIE], 8, database.now())
        assert session is not None
        client.headers["X-CSRF-Token"] = session.csrf_token
    return client
