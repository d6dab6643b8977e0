"""Who may do what: over every route that the application has."""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from cxrtriage.serve import database
from cxrtriage.serve.database import reading
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import account, audit, notice, outbox, web_session
from cxrtriage.serve.web import access, accounts
from cxrtriage.serve.web.access import COOKIE
from cxrtriage.serve.web.app import create_app, invite_first
from cxrtriage.serve.worklist.priority import RANKS
from serve.worklist.rows import Rows, add_model

PASSWORD = "correct horse battery"
SETTINGS = NodeSettings.model_validate({"store": {"min_free_gib": 0.001}, "reading": {"upper_wait_min": 1e9}})
# Everything that may be asked for without signing in; whatever is not named here must refuse.
OPEN = {"/sign-in", "/invitations/{secret}", "/healthz", "/readyz", "/metrics", "/openapi.json", "/static/{name}"}


def app_of(engine: Engine, home: Path) -> FastAPI:
    return create_app(home, SETTINGS, engine)


@pytest.fixture
def app(sqlite: Engine, tmp_path: Path) -> FastAPI:
    with sqlite.begin() as connection:
        add_model(connection)
    Rows(sqlite).study(10, 0.9)
    return app_of(sqlite, tmp_path)


def browser(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False)


def signed_in(app: FastAPI, name: str, role: str, recipient: str = "") -> TestClient:
    engine = app.state.engine
    with engine.begin() as connection:
        secret = accounts.invite(connection, name, role, recipient)
    accounts.accept_invitation(engine, secret, PASSWORD)
    client = browser(app)
    answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
    assert answer.status_code == 303
    return client


def csrf(client: TestClient, app: FastAPI) -> dict[str, str]:
    session = accounts.find_session(app.state.engine, client.cookies[COOKIE], 8, database.now())
    assert session is not None
    return {"X-CSRF-Token": session.csrf_token}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Return method and path of every route, also of those in included routers."""

    def walk(of: Iterable[Any]) -> Iterator[tuple[str, str]]:
        for route in of:
            if hasattr(route, "original_router"):
                yield from walk(route.original_router.routes)
            elif isinstance(route, APIRoute):
                yield from ((method, route.path) for method in route.methods)

    found = list(walk(app.routes))
    assert len(found) > 20
    return found


def concrete(path: str) -> str:
    """Fill a path in with what exists where it can."""
    known = {"study_instance_uid": "1.2.3.1", "uid": "1.2.3.1", "instance_id": "1"}
    return re.sub(r"{(\w+)(:\w+)?}", lambda match: known.get(match[1], "1"), path)


def test_every_route_but_those_named_refuses_who_is_not_signed_in(app: FastAPI) -> None:
    client = browser(app)
    for method, path in routes(app):
        if path in OPEN:
            continue
        answer = client.request(method, concrete(path))
        assert answer.status_code in (401, 303), f"{method} {path} answers {answer.status_code}"
        if answer.status_code == 303:
            assert answer.headers["location"].startswith("/sign-in"), path
        assert "DOE" not in answer.text


def test_every_route_that_changes_something_needs_the_token_of_the_session(app: FastAPI) -> None:
    client = signed_in(app, "reader", "admin")
    for method, path in routes(app):
        if method in ("GET", "HEAD") or path in OPEN:
            continue
        assert client.request(method, concrete(path)).status_code == 403, f"{method} {path}"
        wrong = client.request(method, concrete(path), headers={"X-CSRF-Token": "guessed"})
        assert wrong.status_code == 403, f"{method} {path}"


def test_what_only_an_admin_may_is_refused_to_a_reader_and_everything_else_to_a_referrer(app: FastAPI) -> None:
    reader, referrer = signed_in(app, "reader", "reader"), signed_in(app, "referrer", "referrer", "dr.who")
    for path in ("/audit", "/model"):
        assert reader.get(path).status_code == 403, path
    for path in (
        "/failures",
        "/figures",
        "/settings",
        "/audit",
        "/model",
        "/api/worklist",
        "/api/studies/1.2.3.1",
    ):
        assert referrer.get(path).status_code == 403, path
    assert referrer.get("/studies/1.2.3.1").status_code in (403, 404)
    assert "DOE" in reader.get("/").text
    assert "DOE" not in referrer.get("/").text, "his own page lists what he was told of"


def test_a_referrer_sees_a_study_that_a_notice_to_him_names(app: FastAPI) -> None:
    engine = app.state.engine
    visitor = access.Visitor("r", "referrer", "", "", False, "dr.who")
    with engine.begin() as connection:
        time = database.now()
        key = connection.execute(
            outbox.insert()
            .values(
                destination="mail", kind="mail", key="k", study_id=1, content="{}", state="sent", reason="", attempt=1,
                not_before=time, fence=0, made_at=time, changed_at=time,
            )
            .returning(outbox.c.id)
        ).scalar()  # fmt: skip
        assert not access.may_see(connection, visitor, 1)
        connection.execute(
            notice.insert().values(
                study_id=1, outbox_id=key, recipient="dr.who", step=1, token_sha256="t", made_at=time
            )
        )
        assert access.may_see(connection, visitor, 1)
        assert not access.may_see(connection, access.Visitor("r", "referrer", "", "", False), 1)


def test_a_session_ends_by_idleness_age_sign_out_and_with_the_account(app: FastAPI) -> None:
    engine = app.state.engine
    secret = signed_in(app, "one", "reader").cookies[COOKIE]
    time = database.now()
    assert accounts.find_session(engine, secret, 8, time) is not None
    assert accounts.find_session(engine, secret, 8, time + timedelta(hours=8, minutes=1)) is None
    for hours in range(1, 24):  # used all the time
        assert accounts.find_session(engine, secret, 8, time + timedelta(hours=hours)) is not None
    assert accounts.find_session(engine, secret, 8, time + timedelta(hours=24, minutes=1)) is None

    client = signed_in(app, "two", "reader")
    assert client.get("/api/worklist").status_code == 200
    assert client.post("/sign-out", headers=csrf(client, app)).status_code == 303
    assert client.get("/api/worklist").status_code == 401

    client = signed_in(app, "three", "reader")
    with engine.begin() as connection:
        accounts.close(connection, "three")
    assert client.get("/api/worklist").status_code == 401
    assert browser(app).post("/sign-in", data={"name": "three", "password": PASSWORD}).status_code == 400


def test_a_sign_in_gives_a_new_secret_that_stands_nowhere(app: FastAPI) -> None:
    """A secret that somebody planted before is never taken over, and the database holds none."""
    client = signed_in(app, "reader", "reader")
    first = client.cookies[COOKIE]
    client.post("/sign-in", data={"name": "reader", "password": PASSWORD})
    assert client.cookies[COOKIE] != first
    cookie = client.post("/sign-in", data={"name": "reader", "password": PASSWORD}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie  # a notice's link in a mail program on the web must find who is signed in
    with reading(app.state.engine) as connection:
        kept = [row.token_sha256 for row in connection.execute(select(web_session)).all()]
        assert connection.execute(select(account.c.password_hash)).scalar_one().startswith("$argon2id$")
    assert first not in kept
    assert client.cookies[COOKIE] not in kept


def test_attempts_are_limited_for_an_account_and_unknown_names_look_the_same(app: FastAPI) -> None:
    signed_in(app, "reader", "reader")
    client = browser(app)
    texts = {name: client.post("/sign-in", data={"name": name, "password": "x"}).text for name in ("reader", "nobody")}
    assert "Name or password is wrong." in texts["reader"]
    assert texts["reader"] == texts["nobody"]
    for _ in range(4):
        client.post("/sign-in", data={"name": "reader", "password": "x"})
    refused = client.post("/sign-in", data={"name": "reader", "password": PASSWORD})
    assert refused.status_code == 400
    assert re.search(r"Too many attempts failed\. Try again in 1[45] minutes\.", refused.text)
    later = database.now() + accounts.FORGIVEN_AFTER
    assert accounts.sign_in(app.state.engine, "reader", PASSWORD, "10.0.0.1", later)
    with reading(app.state.engine) as connection:
        outcomes = [row.outcome for row in connection.execute(select(audit).where(audit.c.event == "sign_in")).all()]
    assert outcomes.count(4) == 6


def test_a_link_makes_one_account_once_and_needs_a_long_password(sqlite: Engine, tmp_path: Path) -> None:
    link = invite_first(sqlite, SETTINGS)
    assert link is not None
    path = link.removeprefix("http://127.0.0.1:8080")
    client = browser(app_of(sqlite, tmp_path))
    assert client.get(path).status_code == 200
    assert "12 to 200" in client.post(path, data={"password": "short", "again": "short"}).text
    assert "differ" in client.post(path, data={"password": PASSWORD, "again": "other"}).text
    assert client.post(path, data={"password": PASSWORD, "again": PASSWORD}).status_code == 303
    assert client.get(path).status_code == 410
    assert client.post(path, data={"password": PASSWORD, "again": PASSWORD}).status_code == 400
    assert client.post("/sign-in", data={"name": "admin", "password": PASSWORD}).status_code == 303
    assert invite_first(sqlite, SETTINGS) is None


@pytest.mark.parametrize(
    ("asked", "gone_to"),
    [("/figures", "/figures"), ("//evil.example", "/"), ("https://evil.example", "/"), ("/\\evil.example", "/")],
)
def test_a_sign_in_never_leads_to_another_site(app: FastAPI, asked: str, gone_to: str) -> None:
    client = signed_in(app, "reader", "reader")
    answer = client.post("/sign-in", data={"name": "reader", "password": PASSWORD, "next": asked})
    assert answer.headers["location"] == gone_to


def test_every_answer_forbids_foreign_scripts_frames_and_keeping(app: FastAPI) -> None:
    client = signed_in(app, "reader", "reader")
    for path in ("/", "/sign-in", "/api/worklist", "/nowhere", "/healthz"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["cache-control"] == "no-store", path
        assert headers["x-content-type-options"] == "nosniff"


def test_tokens_open_the_api_and_nothing_else(app: FastAPI, engine: Engine) -> None:
    with app.state.engine.begin() as connection:
        secret = accounts.add_token(connection, "dashboard", "reader")
    client = browser(app)
    with_token = {"Authorization": f"Bearer {secret}"}
    listed = client.get("/api/worklist", headers=with_token).json()
    assert listed["studies"][0]["priority"] == RANKS[1]
    assert client.get("/", headers=with_token).status_code == 303
    assert client.get("/api/worklist", headers={"Authorization": "Bearer x"}).status_code == 401
    with app.state.engine.begin() as connection:
        accounts.close_token(connection, "dashboard")
    assert client.get("/api/worklist", headers=with_token).status_code == 401
