"""Every route of the application and who may use it, against what the application answers."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from serve.web.visitors import application, browser

EVERYBODY = frozenset({"", "reader", "referrer", "admin"})
SIGNED_IN = EVERYBODY - {""}
READERS = frozenset({"reader", "admin"})
ADMINS = frozenset({"admin"})
BY_TOKEN = frozenset[str]()  # no browser at all

# a route that is not here fails the test: whoever adds one says who may use it
RIGHTS = {
    "GET /openapi.json": EVERYBODY,
    "HEAD /openapi.json": EVERYBODY,
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": READERS,
    "GET /static/{name}": EVERYBODY,
    "GET /sign-in": EVERYBODY,
    "POST /sign-in": EVERYBODY,
    "GET /invitations/{secret}": EVERYBODY,
    "POST /invitations/{secret}": EVERYBODY,
    "POST /sign-out": SIGNED_IN,
    "GET /": SIGNED_IN,
    "GET /list": READERS,
    "POST /list": READERS,
    "GET /studies/{uid}": SIGNED_IN,
    "GET /studies/{uid}/next": READERS,
    "POST /studies/{uid}/look": READERS,
    "POST /studies/{uid}/verdict": READERS,
    "POST /studies/{uid}/read": READERS,
    "POST /studies/{uid}/reopen": READERS,
    "POST /studies/{uid}/priority": READERS,
    "GET /studies/{uid}/films/{instance_id}.png": SIGNED_IN,
    "GET /studies/{uid}/films/{instance_id}/why/{method}": SIGNED_IN,
    "GET /studies/{uid}/films/{instance_id}/why/{method}.png": SIGNED_IN,
    "GET /failures": READERS,
    "POST /failures/films/{job_id}": READERS,
    "POST /failures/deliveries/{outbox_id}": READERS,
    "GET /figures": READERS,
    "GET /settings": READERS,
    "GET /model": ADMINS,
    "POST /model/switch": ADMINS,
    "POST /model/back": ADMINS,
    "GET /audit": ADMINS,
    "GET /notices/{token}": SIGNED_IN,
    "POST /notices/{token}": SIGNED_IN,
    "GET /api/worklist": READERS,
    "GET /api/studies/{study_instance_uid}": READERS,
    "POST /dicom-web/studies": BY_TOKEN,
    "POST /dicom-web/studies/{study_instance_uid}": BY_TOKEN,
}
KNOWN = {"uid": "1.2.3.1", "study_instance_uid": "1.2.3.1", "instance_id": "1", "name": "style.css"}


def routes_of(app: FastAPI) -> set[str]:
    def walk(routes: Iterable[Any]) -> Iterator[str]:
        for route in routes:
            if hasattr(route, "original_router"):
                yield from walk(route.original_router.routes)
            else:  # a mount has no methods, and is one route too many
                yield from (f"{method} {route.path}" for method in getattr(route, "methods", None) or ["?"])

    return set(walk(app.routes))


@pytest.fixture
def app(sqlite: Engine, tmp_path: Path) -> FastAPI:
    return application(sqlite, tmp_path)


def test_the_table_names_every_route_and_no_other(app: FastAPI) -> None:
    assert routes_of(app) == set(RIGHTS)


@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_each_role_may_do_what_the_table_says_and_no_more(app: FastAPI, role: str) -> None:
    client = browser(app, role)
    refused = {403} if role else {401, 303}
    for route in sorted(RIGHTS, key="POST /sign-out".__eq__):  # signing out comes last
        method, path = route.split()
        path = re.sub(r"{(\w+)}", lambda match: KNOWN.get(match[1], "1"), path)
        answer = client.request(method, path)
        to_sign_in = answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
        if role not in RIGHTS[route]:
            assert answer.status_code in refused, f"{role or 'nobody'}: {route} answers {answer.status_code}"
            assert answer.status_code != 303 or to_sign_in, route
            assert "DOE" not in answer.text, route
        else:
            assert answer.status_code not in (401, 403), f"{role or 'nobody'}: {route} answers {answer.status_code}"
            assert answer.status_code < 500 or path == "/readyz", f"{role}: {route} answers {answer.status_code}"
            assert not to_sign_in or path == "/sign-out", route


def test_a_referrer_finds_no_study_that_no_notice_named_to_him(app: FastAPI) -> None:
    """404 and not 403: he does not learn which studies there are."""
    client = browser(app, "referrer")
    here, nowhere = client.get("/studies/1.2.3.1"), client.get("/studies/9.9.9")
    assert (here.status_code, nowhere.status_code) == (404, 404)
    assert here.text == nowhere.text
    assert "DOE" not in client.get("/").text
