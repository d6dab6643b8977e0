"""What the API says of itself, and what monitors read."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from cxrtriage.serve import database, node_state
from cxrtriage.serve.database import reading
from cxrtriage.serve.tables import audit, heartbeat, study
from cxrtriage.serve.web import accounts, api
from serve.web.visitors import application, browser


@pytest.fixture
def app(sqlite: Engine, tmp_path: Path) -> FastAPI:
    return application(sqlite, tmp_path)


def program(app: FastAPI) -> TestClient:
    with app.state.engine.begin() as connection:
        secret = accounts.add_token(connection, "dashboard", "reader")
    return TestClient(app, headers={"Authorization": f"Bearer {secret}"})


def test_the_description_says_of_every_operation_how_to_come_in_and_what_else_it_may_answer(app: FastAPI) -> None:
    described: dict[str, Any] = browser(app).get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/worklist", "/api/studies/{study_instance_uid}", "/healthz", "/readyz", "/metrics"
    }  # fmt: skip
    assert set(described["components"]["securitySchemes"]) == {"token", "session"}
    for path, operations in described["paths"].items():
        operation = operations["get"]
        is_open = operation.get("security", described["security"]) == []
        assert is_open == (path in ("/healthz", "/readyz")), path
        if path.startswith("/api"):
            assert {"200", "401", "403", "422", "503"} <= set(operation["responses"]), path
            assert ("404" in operation["responses"]) == ("{" in path)
            assert operation["summary"], path


def test_a_program_that_lists_again_and_again_leaves_one_row_in_ten_minutes(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, start = program(app), database.now()
    for minutes, rows in ((0, 1), (5, 1), (9.9, 1), (10.1, 2), (12, 2)):
        monkeypatch.setattr(api, "now", lambda minutes=minutes: start + timedelta(minutes=minutes))
        assert client.get("/api/worklist").status_code == 200
        with reading(app.state.engine) as connection:
            found = connection.execute(select(audit.c.actor).where(audit.c.event == "query")).scalars().all()
        assert found == ["dashboard"] * rows


def test_metrics_are_what_prometheus_reads_and_hold_the_times_of_the_last_hour(app: FastAPI) -> None:
    time = database.now()
    with app.state.engine.begin() as connection:
        for number, seconds in enumerate(range(1, 22)):  # 1, 2, ..., 21 s
            connection.execute(
                study.insert().values(
                    study_instance_uid=f"1.9.{number}",
                    accession_number="",
                    received_at=time - timedelta(minutes=30),
                    first_result_at=time - timedelta(minutes=30) + timedelta(seconds=seconds),
                )
            )
    text = program(app).get("/metrics").text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    took = {key[1]: value for key, value in samples.items() if key[0] == "cxrtriage_time_to_result_seconds"}
    assert took == pytest.approx({"0.5": 11, "0.95": 20, "1.0": 21})
    assert samples["cxrtriage_results_last_hour",] == 21
    assert not re.search(r"DOE|1\.9\.|1\.2\.3", text)


def test_a_folder_or_listener_that_is_set_up_must_live_and_an_old_host_that_is_gone_need_not(app: FastAPI) -> None:
    engine, client = app.state.engine, browser(app)
    for name in ("receiver", "worker", "sender"):
        node_state.beat(engine, name)
    with engine.begin() as connection:
        long_ago = database.now() - timedelta(days=3)
        gone = {"process": "worker on another", "name": "worker", "seen_at": long_ago, "note": "broken"}
        connection.execute(heartbeat.insert().values(**gone))
    assert client.get("/readyz").json() == {"ready": True, "problems": []}
    settings = app.state.settings
    app.state.settings = settings.model_copy(update={"hl7": settings.hl7.model_copy(update={"port": 2575})})
    assert client.get("/readyz").json()["problems"] == ["The listener has given no sign of life for 20 s."]
