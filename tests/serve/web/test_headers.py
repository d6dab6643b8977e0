"""What every answer carries, whatever goes wrong, and how much a form may bring."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from cxrtriage.serve.web.headers import HEADERS, LARGEST_FORM
from serve.web.visitors import application, browser


@pytest.fixture
def app(sqlite: Engine, tmp_path: Path) -> FastAPI:
    made = application(sqlite, tmp_path)

    @made.get("/broken")
    def broken() -> None:
        raise RuntimeError("of DOE^JANE")

    return made


def test_answers_of_every_kind_carry_every_header(app: FastAPI) -> None:
    client = browser(app, "reader")
    asked = [
        ("GET", "/", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/sign-in", 405),
        ("GET", "/model", 403),
        ("GET", "/broken", 500),
        ("GET", "/static/style.css", 200),
        ("GET", "/api/worklist?limit=x", 422),
        ("POST", "/dicom-web/studies", 403),
    ]
    for method, path, status in asked:
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
        assert (answer.headers["cache-control"] == "no-store") is not path.startswith("/static"), path
        assert "DOE" not in answer.text or path == "/", path


def test_the_policy_allows_nothing_inline_and_no_other_site() -> None:
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"  # for scripts, styles, pictures, connections alike
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert set(" ".join(policy.values()).split()) == {"'self'", "'none'"}


@pytest.mark.parametrize("announced", [True, False])
def test_a_form_longer_than_any_of_ours_is_refused_also_if_it_does_not_say_how_long(
    app: FastAPI, announced: bool
) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(11):
            yield b"x" * (LARGEST_FORM // 10)

    content = b"".join(body()) if announced else body()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser(app).post("/sign-in", content=content, headers=form).status_code == 413


def test_a_form_as_long_as_allowed_is_read(app: FastAPI) -> None:
    name = b"name=" + b"x" * (LARGEST_FORM - 5)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert "wrong" in browser(app).post("/sign-in", content=name, headers=form).text
    assert browser(app).post("/sign-in", content=name + b"x", headers=form).status_code == 413


def test_what_a_page_does_not_understand_is_said_on_a_page_and_to_programs_in_json(app: FastAPI) -> None:
    client: TestClient = browser(app, "reader")
    page = client.get("/", params={"page": "x"})
    assert (page.status_code, page.headers["content-type"]) == (422, "text/html; charset=utf-8")
    assert client.get("/api/worklist?offset=-1").json()["detail"][0]["loc"] == ["query", "offset"]


def test_a_database_that_is_away_is_said_with_503(app: FastAPI, tmp_path: Path) -> None:
    client = browser(app, "reader")
    app.state.engine.dispose()
    for file in tmp_path.glob("node.sqlite*"):
        file.unlink()
    answers = [client.get(path) for path in ("/figures", "/api/worklist")]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert "The database does not answer" in answers[1].json()["detail"]
