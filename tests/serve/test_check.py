"""What `serve --check` says of this machine and of peers that answer, refuse, or are not there."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pynetdicom import AE, evt

from cxrtriage.serve import check, check_peers
from cxrtriage.serve.check import check_node
from cxrtriage.serve.database import open_database
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.models import add_model
from cxrtriage.serve.receiver import VERIFICATION
from cxrtriage.serve.settings import NodeSettings, load_settings
from serve.peers import free_port

# pynetdicom leaves sockets of refused connections to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_peers, "LIMIT_S", 1.0)
    monkeypatch.setattr(check, "ANSWER_S", 1.0)


def said(home: Path, toml: str = "") -> dict[str, tuple[bool, str]]:
    """Return what was found by the first words of its sentence."""
    home.mkdir(exist_ok=True)
    ports = "" if "[web]" in toml else f"[web]\nport = {free_port()}\n"
    text = f'[dicom]\nhost = "127.0.0.1"\nport = {free_port()}\n[store]\nmin_free_gib = 0.1\n{ports}{toml}'
    (home / "cxrtriage.toml").write_text(text)
    findings = list(check_node(home, None, load_settings(home)))
    return {f.sentence.split(":")[0]: (f.works, f.sentence) for f in findings}


def only(home: Path, name: str, toml: str) -> tuple[bool, str]:
    return said(home, toml)[name]


@contextmanager
def web(answer: Callable[[str, str], tuple[int, Any]]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A web server that answers as told; yield its port and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append((self.command, self.path))
            status, content = answer(self.command, self.path)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_OPTIONS = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def pacs(tls: tuple[ssl.SSLContext, str] | None = None, accepts: str = "") -> Iterator[int]:
    entity = AE("PACS")
    entity.add_supported_context(VERIFICATION)
    entity.require_calling_aet = [accepts] if accepts else []
    handlers: Any = [(evt.EVT_C_ECHO, lambda _: 0)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls and tls[0])
    assert server is not None
    yield server.socket.getsockname()[1]
    server.shutdown()


def test_a_new_node_without_peers_is_well(tmp_path: Path) -> None:
    found = said(tmp_path)
    assert all(works for works, _ in found.values())
    assert [sentence.split(" ")[0] for _, sentence in found.values()] == ["The", "The", "DICOM:", "Web:"]


def test_every_peer_of_the_settings_is_asked_and_no_other(tmp_path: Path) -> None:
    port = free_port()
    toml = (
        f'[pacs]\nhost = "127.0.0.1"\nport = {port}\n[stow]\nurl = "http://127.0.0.1:{port}"\n'
        f'[hl7_out]\nhost = "127.0.0.1"\nport = {port}\n[fhir]\nurl = "http://127.0.0.1:{port}"\n'
        f'[mail]\nhost = "127.0.0.1"\nport = {port}\n[webhook]\nurl = "https://127.0.0.1:{port}"\n'
        '[watch]\nfolder = "none"\n'
    )
    found = said(tmp_path, toml)
    peers = {name: pair for name, pair in found.items() if not pair[0]}
    assert set(peers) == {
        "PACS",
        "STOW",
        "HL7 out",
        "FHIR",
        "Mail",
        "Webhook",
        "cannot read " + str(tmp_path / "recipients.csv"),
        "Watched folder",
    }
    assert sum("cannot be reached" in sentence for _, sentence in peers.values()) == 5
    assert all(sentence.endswith(".") and "\n" not in sentence for _, sentence in peers.values())


def test_the_active_model_is_loaded(tmp_path: Path, model_file: Path) -> None:
    engine = open_database(load_settings(tmp_path).database.url)
    migrate(engine)
    model = add_model(engine, tmp_path, model_file, "active")
    engine.dispose()
    sentences = [sentence for _, sentence in said(tmp_path).values()]
    assert any(f"The model {model.sha256}.safetensors loads" in sentence for sentence in sentences)
    (tmp_path / model.path).write_bytes(b"broken")
    assert not all(works for works, _ in said(tmp_path).values())


def test_a_web_port_in_use_is_a_node_or_not(tmp_path: Path) -> None:
    for status, works, words in ((200, True, "a node on"), (503, False, "says 503 of its health")):
        with web(lambda *_, status=status: (status, {})) as (port, asked):
            found = only(tmp_path, "Web", f"[web]\nport = {port}\n")
        assert found[0] == works
        assert words in found[1]
        assert asked == [("GET", "/healthz")]
    with silent() as port:
        assert "something that is no node" in only(tmp_path, "Web", f"[web]\nport = {port}\n")[1]


def test_the_hl7_port_is_free_or_in_use(tmp_path: Path) -> None:
    assert only(tmp_path, "HL7 in", f"[hl7]\nport = {free_port()}\n")[1].endswith("is free.")
    with silent() as port:
        assert "is in use" in only(tmp_path, "HL7 in", f'[hl7]\nhost = "127.0.0.1"\nport = {port}\n')[1]


def test_a_pacs_answers_rejects_or_says_nothing(tmp_path: Path) -> None:
    toml = '[pacs]\nhost = "127.0.0.1"\nport = {}\n'
    with pacs() as port:
        assert only(tmp_path, "PACS", toml.format(port)) == (
            True,
            f"PACS: PACS on 127.0.0.1 port {port} answers C-ECHO.",
        )
    with pacs(accepts="SOMEBODY") as port:
        assert "rejects CXRTRIAGE: enter this node there" in only(tmp_path, "PACS", toml.format(port))[1]
    with silent() as port:
        assert "cannot be reached" in only(tmp_path, "PACS", toml.format(port))[1]


def test_a_pacs_is_asked_over_tls(tmp_path: Path) -> None:
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", tmp_path / "k.pem", "-out", tmp_path / "c.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    toml = f'[pacs]\nhost = "127.0.0.1"\nport = {{}}\ntls_ca = "{tmp_path}/{{}}"\n'
    with pacs((context, "")) as port:
        assert only(tmp_path, "PACS", toml.format(port, "c.pem"))[1].endswith("answers C-ECHO over TLS.")
        assert "certificates of [pacs] cannot be used" in str(said(tmp_path, toml.format(port, "none.pem")))
    with pacs() as port:
        assert "or not over TLS" in only(tmp_path, "PACS", toml.format(port, "c.pem"))[1]


@pytest.mark.parametrize(
    ("status", "works", "words"),
    [(200, True, "(200)"), (405, True, "(405)"), (401, False, "CXRTRIAGE_STOW_TOKEN"), (404, False, "check the URL")],
)
def test_a_stow_service_is_asked_without_storing(tmp_path: Path, status: int, works: bool, words: str) -> None:
    with web(lambda *_: (status, {})) as (port, asked):
        found = only(tmp_path, "STOW", f'[stow]\nurl = "http://127.0.0.1:{port}/dicom-web/"\n')
    assert found[0] == works
    assert words in found[1]
    assert asked == [("OPTIONS", "/dicom-web/studies")]


@pytest.mark.parametrize(
    ("content", "works", "words"),
    [
        ({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}, True, "FHIR 4.0.1"),
        ({"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"}, False, "speaks FHIR 5.0.0, expected 4."),
        (["nothing"], False, "no capability statement"),
    ],
)
def test_a_fhir_server_is_asked_what_it_speaks(tmp_path: Path, content: Any, works: bool, words: str) -> None:
    with web(lambda *_: (200, content)) as (port, asked):
        found = only(tmp_path, "FHIR", f'[fhir]\nurl = "http://127.0.0.1:{port}/fhir"\n')
    assert found[0] == works
    assert words in found[1]
    assert asked == [("GET", "/fhir/metadata")]


def test_a_mail_server_is_greeted_and_gets_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler:
        async def handle_MAIL(self, *_: object) -> str:
            raise AssertionError

    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    toml = f'[mail]\nhost = "127.0.0.1"\nport = {controller.port}\n'
    try:
        assert only(tmp_path, "Mail", toml) == (True, f"Mail: 127.0.0.1 port {controller.port} answers EHLO.")
        assert "offers no STARTTLS" in only(tmp_path, "Mail", f"{toml}starttls = true\n")[1]
        assert "there is no password" in only(tmp_path, "Mail", f'{toml}user = "node"\n')[1]
        monkeypatch.setenv("CXRTRIAGE_SMTP_PASSWORD", "secret")
        assert only(tmp_path, "Mail", f'{toml}user = "node"\n')[0]
    finally:
        controller.stop()
    with silent() as port:
        assert "does not answer" in only(tmp_path, "Mail", f'[mail]\nhost = "127.0.0.1"\nport = {port}\n')[1]


def test_a_webhook_is_not_posted_to_and_needs_its_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web(lambda *_: (200, {})) as (port, asked):
        toml = f'[webhook]\nurl = "http://127.0.0.1:{port}/page?key=verysecret"\n'
        assert "CXRTRIAGE_WEBHOOK_SECRET is not set" in only(tmp_path, "Webhook", toml)[1]
        monkeypatch.setenv("CXRTRIAGE_WEBHOOK_SECRET", "secret")
        works, sentence = only(tmp_path, "Webhook", toml)
        assert works
        assert "verysecret" not in sentence
        assert asked == []
        assert "no TLS with it" in only(tmp_path, "Webhook", toml.replace("http:", "https:"))[1]
    assert "is no URL" in only(tmp_path, "Webhook", '[webhook]\nurl = "pager"\n')[1]


def test_recipients_and_the_watched_folder_are_looked_at(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "drop").mkdir()
    toml = f'[mail]\nhost = "127.0.0.1"\nport = {free_port()}\n[watch]\nfolder = "{tmp_path}/drop"\n'
    (home / "recipients.csv").write_text("key,match,email,webhook,next\n")
    assert "names nobody" in only(home, "Recipients", toml)[1]
    (home / "recipients.csv").write_text("key,match,email,webhook,next\nicu,ICU,icu@hospital.example,,\n")
    assert only(home, "Recipients", toml) == (True, f"Recipients: {home}/recipients.csv names 1 contact.")
    assert only(home, "Watched folder", toml)[0]
    assert list((tmp_path / "drop").iterdir()) == []
    (tmp_path / "drop").rmdir()
    assert not only(home, "Watched folder", toml)[0]


def test_a_port_that_may_not_be_used_is_named(tmp_path: Path) -> None:
    found = said(tmp_path, '[web]\nhost = "192.0.2.1"\nport = 8080\n')
    assert found["Web"][0] is False
    assert "cannot listen on 192.0.2.1 port 8080" in found["Web"][1]


def test_a_database_that_is_away_is_named_once(tmp_path: Path) -> None:
    settings = NodeSettings.model_validate({"database": {"url": "postgresql://nobody@127.0.0.1:1/node"}})
    findings = [f for f in check_node(tmp_path, None, settings) if f.sentence.startswith("The database")]
    assert [f.works for f in findings] == [False]
