"""The log tells what was done, and nothing of whom it was about or what opens a door."""

import logging
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import Engine, text

from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE
from serve.web.visitors import PASSWORD, application, browser

SECRET = "ZEBRA^CAMILLA"


class Answer(BaseModel):
    number: int


@pytest.fixture
def app(sqlite: Engine, tmp_path: Path) -> FastAPI:
    made = application(sqlite, tmp_path, person=SECRET)

    @made.get("/api/broken/raised")
    def raised() -> None:
        raise RuntimeError(f"of {SECRET}")

    @made.get("/api/broken/answer")
    def answer() -> Answer:
        return {"number": SECRET}  # type: ignore[return-value]  # FastAPI's error quotes it

    @made.get("/api/broken/row")
    def row() -> None:
        with sqlite.begin() as connection:
            connection.execute(text("INSERT INTO patient (name) VALUES (:name)"), {"name": SECRET})

    return made


def test_no_name_token_password_or_search_is_logged(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = browser(app, "reader")
    with app.state.engine.begin() as connection:
        link = accounts.invite(connection, "ann", "reader")
        token = accounts.add_token(connection, "dashboard", "reader")
    client.get(f"/invitations/{link}")
    client.get("/", params={"search": SECRET})
    client.post("/list", data={"search": SECRET})
    client.get(f"/studies/{SECRET}")
    client.get(f"/nowhere/{SECRET}")
    client.get("/studies/1.2.3.1")
    client.get("/notices/a-token-of-a-link")
    client.get("/api/worklist", headers={"Authorization": f"Bearer {token}"})
    statuses = [client.get(f"/api/broken/{how}").status_code for how in ("raised", "answer", "row")]
    assert statuses == [500, 500, 500]

    logged = "\n".join(
        f"{record.getMessage()} {record.exc_text} {record.exc_info}"
        for record in caplog.records
        if record.name.startswith(("cxrtriage", "uvicorn", "fastapi", "starlette"))
    )
    for hidden in ("ZEBRA", "CAMILLA", link, token, PASSWORD, client.cookies[COOKIE], "a-token-of-a-link"):
        assert hidden not in logged
    assert "GET /studies/{uid} 200" in logged
    assert "GET (no such page) 404" in logged
    assert "a fault of ours: RuntimeError at test_request_log.py:" in logged
    assert "ResponseValidationError" in logged
    assert "IntegrityError" in logged
