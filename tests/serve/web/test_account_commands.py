"""The commands about who may come in, on a node's folder."""

import re
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from cxrtriage.cli import app
from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.open_node import open_node
from cxrtriage.serve.settings import load_settings
from cxrtriage.serve.tables import audit
from cxrtriage.serve.web import accounts
from serve.web.visitors import PASSWORD


@pytest.fixture
def home(tmp_path: Path) -> Path:
    load_settings(tmp_path)  # writes the file
    return tmp_path


def node(home: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["node", *arguments, "--home", str(home)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_an_account_is_made_by_its_link_listed_and_closed(home: Path) -> None:
    link = node(home, "account", "add", "dr.smith", "--role", "reader")
    secret = re.fullmatch(r"http://127\.0\.0\.1:8080/invitations/([\w-]{43})", link)
    assert secret
    assert node(home, "account", "list") == "", "there is none before somebody chose a password"
    with open_node(home) as (_, engine):
        assert accounts.accept_invitation(engine, secret[1], PASSWORD) == "dr.smith"
        assert node(home, "account", "list") == "dr.smith  reader"
        node(home, "account", "close", "dr.smith")
        assert node(home, "account", "list") == "dr.smith  reader  closed"
        with pytest.raises(accounts.SignInRefusedError):
            accounts.sign_in(engine, "dr.smith", PASSWORD, "", now())
        with reading(engine) as connection:
            trail = connection.execute(select(audit.c.actor, audit.c.action).where(audit.c.event == "account")).all()
    assert [tuple(row) for row in trail] == [("command line", "C"), ("dr.smith", "U"), ("command line", "D")]


def test_a_token_is_shown_once_listed_and_closed(home: Path) -> None:
    secret = node(home, "token", "add", "dashboard", "--role", "reader")
    with open_node(home) as (_, engine):
        assert accounts.find_token(engine, secret) == accounts.Token("dashboard", "reader")
        listed = node(home, "token", "list")
        assert listed == "dashboard  reader"
        node(home, "token", "close", "dashboard")
        assert accounts.find_token(engine, secret) is None


def test_what_cannot_be_is_said_in_a_sentence(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a referrer needs a key in recipients\.csv"):
        node(home, "account", "add", "dr.who", "--role", "referrer")
    with pytest.raises(ConfigError, match="there is no open account 'nobody'"):
        node(home, "account", "close", "nobody")
    with pytest.raises(ConfigError, match="there is no open token 'nothing'"):
        node(home, "token", "close", "nothing")
    with pytest.raises(ConfigError, match="is no node's folder"):
        node(tmp_path / "elsewhere", "account", "list")
