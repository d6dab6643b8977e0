"""The JSON API against its own description, and what it tells while scores are hidden."""

import json
from pathlib import Path

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from cxrtriage.serve import node_state
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import audit
from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE
from cxrtriage.serve.web.app import create_app
from serve.worklist.rows import SHADOW, Rows, add_model

SETTINGS = NodeSettings.model_validate({"store": {"min_free_gib": 0.001}, "reading": {"upper_wait_min": 1e9}})


def api_of(engine: Engine, home: Path) -> FastAPI:
    with engine.begin() as connection:
        add_model(connection)
        add_model(connection, SHADOW, "shadow")
    rows = Rows(engine)
    rows.study(30, 0.1)
    rows.study(20, 0.9)
    rows.study(10, state="not_assessed", reason="a lateral")
    with engine.begin() as connection:
        rows.result(connection, 2, 0.99, model=SHADOW)
    return create_app(home, SETTINGS, engine)


def with_token(app: FastAPI, role: str = "reader") -> TestClient:
    with app.state.engine.begin() as connection:
        secret = accounts.add_token(connection, f"test {role}", role)
    return TestClient(app, headers={"Authorization": f"Bearer {secret}"})


def test_the_worklist_is_the_reading_list_in_json(engine: Engine, tmp_path: Path) -> None:
    client = with_token(api_of(engine, tmp_path))
    found = client.get("/api/worklist").json()
    assert (found["scores_shown"], found["total"]) == (True, 3)
    assert [(row["study_instance_uid"], row["priority"], row["probability"]) for row in found["studies"]] == [
        ("1.2.3.2", "abnormal", 0.9),
        ("1.2.3.1", "routine", 0.1),
        ("1.2.3.3", "routine", None),
    ]
    page = client.get("/api/worklist?limit=1&offset=1").json()
    assert [row["study_instance_uid"] for row in page["studies"]] == ["1.2.3.1"]


def test_a_study_tells_its_films_results_and_reviews_but_no_shadow_and_leaves_a_trace(
    engine: Engine, tmp_path: Path
) -> None:
    client = with_token(api_of(engine, tmp_path))
    found = client.get("/api/studies/1.2.3.2").json()
    assert [result["probability"] for result in found["films"][0]["results"]] == [0.9]
    assert client.get("/api/studies/9.9").status_code == 404
    with reading(engine) as connection:
        row = connection.execute(select(audit).where(audit.c.event == "accessed")).one()
    assert (row.actor, row.study_instance_uid) == ("test reader", "1.2.3.2")


def test_a_signed_in_reader_learns_no_score_from_the_api_that_the_page_hides_until_the_first_look(
    sqlite: Engine, tmp_path: Path
) -> None:
    app = api_of(sqlite, tmp_path)
    app.state.settings = SETTINGS.model_copy(update={"web": SETTINGS.web.model_copy(update={"hide_score_first": True})})
    with sqlite.begin() as connection:
        secret = accounts.invite(connection, "reader", "reader")
    accounts.accept_invitation(sqlite, secret, "correct horse battery")
    session = accounts.sign_in(sqlite, "reader", "correct horse battery", "", now())
    listed = TestClient(app, cookies={COOKIE: session}).get("/api/worklist").json()
    assert not listed["scores_shown"]
    assert {(study["probability"], study["decision"], study["priority"]) for study in listed["studies"]} == {
        (None, "", "routine")
    }
    assert with_token(app).get("/api/worklist").json()["scores_shown"]


@pytest.mark.parametrize("how", ["off", "shadow"])
def test_no_score_leaves_while_scores_are_hidden(sqlite: Engine, tmp_path: Path, how: str) -> None:
    app = api_of(sqlite, tmp_path)
    if how == "off":
        with sqlite.begin() as connection:
            node_state.put(connection, node_state.MODEL_OFF, "being mended")
    else:
        app.state.settings = SETTINGS.model_copy(
            update={"reading": SETTINGS.reading.model_copy(update={"shadow": True})}
        )
    client = with_token(app)
    answers = [client.get(path).json() for path in ("/api/worklist", "/api/studies/1.2.3.2")]
    assert [answer["scores_shown"] for answer in answers] == [False, False]
    assert answers[0]["studies"][0]["study_instance_uid"] == "1.2.3.1", "first come, first served"
    for study in [*answers[0]["studies"], answers[1]["study"]]:
        del study["waiting_s"]  # of the present moment, so that it may hold any digits
    text = json.dumps(answers)
    assert "0.9" not in text
    assert '"abnormal"' not in text


def test_the_metrics_count_and_name_nobody(engine: Engine, tmp_path: Path) -> None:
    app = api_of(engine, tmp_path)
    node_state.beat(engine, "worker")
    text = with_token(app).get("/metrics").text
    for line in (
        'cxrtriage_studies_waiting{priority="abnormal"} 1.0',
        'cxrtriage_films{state="done"} 2.0',
        'cxrtriage_films{state="not_assessed"} 1.0',
        "cxrtriage_model_on 1.0",
        'cxrtriage_heartbeat_age_seconds{process="worker"}',
    ):
        assert line in text, text
    assert "DOE" not in text
    assert "1.2.3" not in text
    assert TestClient(app, client=("10.0.0.9", 1)).get("/metrics").status_code == 401
    assert TestClient(app, client=("127.0.0.1", 1)).get("/metrics").status_code == 200


def test_readyz_says_in_sentences_what_is_missing(sqlite: Engine, tmp_path: Path) -> None:
    app = api_of(sqlite, tmp_path)
    client = TestClient(app)
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "The receiver has given no sign of life for 20 s." in answer.json()["problems"]
    for name in ("receiver", "worker", "sender"):
        node_state.beat(sqlite, name)
    assert client.get("/readyz").json() == {"ready": True, "problems": []}
    node_state.beat(sqlite, "sender", "pacs: it does not answer.")
    assert client.get("/readyz").json()["problems"] == ["pacs: it does not answer."]
    app.state.settings = NodeSettings.model_validate({"store": {"min_free_gib": 1e9}})
    assert "The disk is low" in client.get("/readyz").json()["problems"][0]


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_whatever_is_asked_is_answered_as_the_api_describes_itself(
    sqlite: Engine, tmp_path: Path, examples: int
) -> None:
    app = api_of(sqlite, tmp_path)
    with sqlite.begin() as connection:
        secret = accounts.add_token(connection, "schemathesis", "admin")
    for name in ("receiver", "worker", "sender"):
        node_state.beat(sqlite, name)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app).exclude(path_regex="^/dicom-web")

    found = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        found += 1

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def conform(case: schemathesis.Case) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {secret}"})

        conform()
    assert found >= 5
