"""Signing in against people who guess, plant and keep what they should not."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from cxrtriage.errors import ConfigError
from cxrtriage.serve import database
from cxrtriage.serve.database import reading
from cxrtriage.serve.tables import audit, sign_in_failure, web_session
from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE
from cxrtriage.serve.web.accounts import FAILURES, FORGIVEN_AFTER, SignInRefusedError
from serve.web.visitors import PASSWORD, application, browser, make_account


@pytest.fixture
def app(sqlite: Engine, tmp_path: Path) -> FastAPI:
    return application(sqlite, tmp_path)


def sign_in(engine: Engine, name: str = "ann", password: str = PASSWORD, address: str = "10.0.0.1") -> str:
    return accounts.sign_in(engine, name, password, address, database.now())


def rows(engine: Engine, table: object) -> list:
    with reading(engine) as connection:
        return list(connection.execute(select(table)).all())  # type: ignore[call-overload]


def test_a_planted_session_is_not_taken_over_and_an_old_one_ends_with_the_new(app: FastAPI) -> None:
    engine = app.state.engine
    make_account(engine, "ann")
    client = TestClient(app, follow_redirects=False, cookies={COOKIE: "planted"})
    first = client.post("/sign-in", data={"name": "ann", "password": PASSWORD}).cookies[COOKIE]
    assert first != "planted"
    again = TestClient(app, follow_redirects=False, cookies={COOKIE: first})
    second = again.post("/sign-in", data={"name": "ann", "password": PASSWORD}).cookies[COOKIE]
    assert accounts.find_session(engine, first, 8, database.now()) is None
    assert accounts.find_session(engine, second, 8, database.now()) is not None
    assert [row.token_sha256 for row in rows(engine, web_session)] == [accounts.digest(second)]


@pytest.mark.parametrize("path", ["/sign-in", "/invitations/any"])
@pytest.mark.parametrize(("site", "refused"), [("cross-site", True), ("same-site", True), ("same-origin", False)])
def test_a_form_of_another_site_signs_nobody_in(app: FastAPI, path: str, site: str, refused: bool) -> None:
    answer = browser(app).post(path, data={"name": "ann"}, headers={"Sec-Fetch-Site": site})
    assert (answer.status_code == 403) is refused


def test_guesses_sent_at_once_are_counted_one_by_one(engine: Engine) -> None:
    make_account(engine, "ann")
    told: list[str] = []

    def guess(number: int) -> None:
        with pytest.raises(SignInRefusedError) as refusal:
            sign_in(engine, password=f"guess {number}", address=f"10.0.0.{number}")
        told.append(str(refusal.value))

    threads = [threading.Thread(target=guess, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("wrong" in text for text in told) == FAILURES["account_name"]
    with pytest.raises(SignInRefusedError, match=r"Try again in 1[45] minutes"):
        sign_in(engine)


def test_an_address_that_tries_many_names_has_to_wait_and_others_have_not(sqlite: Engine) -> None:
    make_account(sqlite, "ann")
    for number in range(FAILURES["address"]):
        with pytest.raises(SignInRefusedError, match="wrong"):
            sign_in(sqlite, name=f"name {number}", password="x", address="10.0.0.9")
    with pytest.raises(SignInRefusedError, match="Too many"):
        sign_in(sqlite, address="10.0.0.9")
    assert sign_in(sqlite, address="10.0.0.8")


def test_waiting_is_over_after_the_time_that_was_told_and_a_clock_set_back_does_not_prolong_it(sqlite: Engine) -> None:
    make_account(sqlite, "ann")
    time = database.now()
    for _ in range(FAILURES["account_name"]):
        with pytest.raises(SignInRefusedError):
            accounts.sign_in(sqlite, "ann", "x", "10.0.0.1", time)
    with pytest.raises(SignInRefusedError, match="Try again in 1 minute\\."):
        accounts.sign_in(sqlite, "ann", PASSWORD, "10.0.0.1", time + FORGIVEN_AFTER - timedelta(seconds=1))
    assert accounts.sign_in(sqlite, "ann", PASSWORD, "10.0.0.1", time - timedelta(days=1))


def test_names_that_no_database_takes_are_wrong_names(engine: Engine) -> None:
    for name in ("\x00", "a\nb", "x" * 5000, "'; drop table account; --", "\ufffe"):
        with pytest.raises(SignInRefusedError, match="wrong"):
            sign_in(engine, name=name, address=f"10.0.0.{len(name) % 200}")
    assert len(rows(engine, sign_in_failure)) == 5


def test_a_password_typed_into_the_field_for_the_name_stands_nowhere(sqlite: Engine) -> None:
    make_account(sqlite, "ann")
    with pytest.raises(SignInRefusedError):
        sign_in(sqlite, name=PASSWORD, password="")
    with pytest.raises(SignInRefusedError):
        sign_in(sqlite, password="wrong")
    failed = [row.actor for row in rows(sqlite, audit) if row.event == "sign_in"]
    assert failed == ["unknown", "ann"]


def test_a_page_that_stands_open_keeps_no_sign_in_alive_but_a_person_does(sqlite: Engine) -> None:
    make_account(sqlite, "ann")
    secret, time = sign_in(sqlite), database.now()
    find: Callable = accounts.find_session
    for minutes in range(0, 8 * 60, 30):
        assert find(sqlite, secret, 8, time + timedelta(minutes=minutes), used=False) is not None
    assert find(sqlite, secret, 8, time + timedelta(hours=8, minutes=1), used=False) is None
    assert find(sqlite, secret, 8, time + timedelta(hours=7)) is not None
    assert find(sqlite, secret, 8, time + timedelta(hours=8, minutes=1), used=False) is not None
    assert find(sqlite, secret, 8, time - timedelta(days=2)) is None, "the clock was set back"


def test_the_list_that_reloads_itself_does_not_count_as_use(app: FastAPI) -> None:
    client, engine = browser(app, "reader"), app.state.engine
    long_ago = database.now() - timedelta(hours=1)
    with engine.begin() as connection:
        connection.execute(web_session.update().values(seen_at=long_ago))
    assert client.get("/list").status_code == 200
    assert [row.seen_at for row in rows(engine, web_session)] == [long_ago]
    assert client.get("/figures").status_code == 200
    assert [row.seen_at > long_ago for row in rows(engine, web_session)] == [True]


def test_the_last_link_alone_is_good_and_none_outlives_the_account(engine: Engine) -> None:
    with engine.begin() as connection:
        first = accounts.invite(connection, "ann", "reader")
        second = accounts.invite(connection, "ann", "admin")
    with pytest.raises(SignInRefusedError, match="has been used or is too old"):
        accounts.accept_invitation(engine, first, PASSWORD)
    accounts.accept_invitation(engine, second, PASSWORD)
    with engine.begin() as connection:
        pending = accounts.invite(connection, "ann", "reader")
        accounts.close(connection, "ann")
    with pytest.raises(SignInRefusedError):
        accounts.accept_invitation(engine, pending, PASSWORD)
    with pytest.raises(SignInRefusedError):
        sign_in(engine)


def test_a_new_password_ends_what_was_signed_in_with_the_old_one(sqlite: Engine) -> None:
    make_account(sqlite, "ann")
    secret = sign_in(sqlite)
    make_account(sqlite, "ann")
    assert accounts.find_session(sqlite, secret, 8, database.now()) is None


def test_people_and_programs_have_different_names(sqlite: Engine) -> None:
    make_account(sqlite, "ann")
    with sqlite.begin() as connection:
        accounts.add_token(connection, "dashboard", "reader")
        with pytest.raises(ConfigError, match="'dashboard' is the name of an api token"):
            accounts.invite(connection, "dashboard", "reader")
        with pytest.raises(ConfigError, match="'ann' is the name of an account"):
            accounts.add_token(connection, "ann", "reader")
        for name in ("", " x", "a\nb", "x" * 65):
            with pytest.raises(ConfigError, match="1 to 64 printable signs"):
                accounts.add_token(connection, name, "reader")


def test_what_htmx_asks_for_without_a_session_leads_the_whole_page_to_the_sign_in(app: FastAPI) -> None:
    answer = browser(app).get("/list", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/sign-in?next=/list"


def test_the_cookie_is_for_https_alone_where_people_come_by_https(app: FastAPI) -> None:
    make_account(app.state.engine, "ann")
    web = app.state.settings.web.model_copy(update={"url": "https://triage.example"})
    app.state.settings = app.state.settings.model_copy(update={"web": web})
    cookie = browser(app).post("/sign-in", data={"name": "ann", "password": PASSWORD}).headers["set-cookie"]
    assert re.search(r"; *secure", cookie, re.IGNORECASE)
