import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.notify import mail
from cxrtriage.serve.results.outbox import Refused
from serve.notify.node import Node
from serve.worklist.rows import Rows


@dataclass
class Box:
    """What a mail server got, and what it answers: the last for ever."""

    answers: list[str] = field(default_factory=lambda: ["250 OK"])
    mails: list[Any] = field(default_factory=list)

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.startswith("250"):
            self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return answer

    async def handle_RCPT(self, server: object, session: object, envelope: Any, address: str, _: object) -> str:
        if address.startswith("gone"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def certified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make a certificate for this address, and let this process trust it as a site's own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=mail", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def smtp(node: Node, box: Box, **options: Any) -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    node.set("mail", host="127.0.0.1", port=port)
    try:
        yield
    finally:
        controller.stop()


@pytest.fixture
def told(node: Node, rows: Rows) -> Node:
    node.order("A1")
    node.tell(rows.study(accession_number="A1", person="DOE^JANE", patient_id="P1"))
    return node


def test_a_mail_holds_a_link_and_no_word_on_the_patient(told: Node) -> None:
    delivery = told.take()
    with smtp(told, box := Box()):
        mail.deliver(delivery, told.context)
        mail.deliver(delivery, told.context)
    (recipients, message), (_, again) = box.mails
    assert recipients == ["j.smith@hospital.example"]
    text = message.get_payload(decode=True).decode()
    assert f"https://triage.hospital.example/notices/{delivery.content['token']}\n" in text.replace("\r", "")
    assert message.get_content_type() == "text/plain"
    assert not any(word in message.as_string() for word in ("DOE", "JANE", "P1", "A1", "1.2.3"))
    assert message["Message-ID"] == again["Message-ID"]  # the same when it is sent again


def test_a_server_that_is_busy_gets_it_again(told: Node) -> None:
    delivery = told.take()
    with smtp(told, box := Box(["451 try later", "250 OK"])):
        with pytest.raises(DeliveryError, match="451 try later") as caught:
            mail.deliver(delivery, told.context)
        assert not isinstance(caught.value, Refused)
        mail.deliver(delivery, told.context)
    assert len(box.mails) == 1


def test_a_server_that_refuses_is_not_asked_again(told: Node) -> None:
    delivery = told.take()
    with smtp(told, Box(["550 no"])), pytest.raises(Refused, match="550 no"):
        mail.deliver(delivery, told.context)
    told.write_table("key,match,email,webhook,next\nsmith,4711,gone@hospital.example,,\n")
    with smtp(told, Box()), pytest.raises(Refused, match="550 no such user"):
        mail.deliver(delivery, told.context)


def test_a_corrected_address_is_used_at_the_next_attempt(told: Node) -> None:
    delivery = told.take()
    told.write_table("key,match,email,webhook,next\nsmith,4711,new@hospital.example,,\n")
    with smtp(told, box := Box()):
        mail.deliver(delivery, told.context)
    assert box.mails[0][0] == ["new@hospital.example"]


def test_a_server_that_is_not_there_is_tried_again(told: Node) -> None:
    told.set("mail", port=9)
    with pytest.raises(DeliveryError, match="cannot be reached") as caught:
        mail.deliver(told.take(), told.context)
    assert not isinstance(caught.value, Refused)


def test_without_the_tls_that_is_required_nothing_is_sent(told: Node) -> None:
    told.set("mail", starttls=True)
    with smtp(told, box := Box()), pytest.raises(Refused, match="does not offer"):
        mail.deliver(told.take(), told.context)
    assert box.mails == []


@pytest.mark.parametrize("from_file", [False, True])
def test_the_password_comes_from_environment_or_file_and_goes_over_tls(
    told: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, from_file: bool
) -> None:

    def authenticate(*arguments: Any) -> AuthResult:
        return AuthResult(success=arguments[4] == LoginPassword(b"node", b"secret"), handled=False)

    (tmp_path / "password").write_text("secret\n")
    told.set("mail", user="node", starttls=True)
    context = certified(tmp_path, monkeypatch)
    if from_file:
        monkeypatch.setenv(mail.PASSWORD_FILE_VARIABLE, str(tmp_path / "password"))
    else:
        monkeypatch.setenv(mail.PASSWORD_VARIABLE, "secret")
    options = {"authenticator": authenticate, "auth_required": True, "tls_context": context, "require_starttls": True}
    delivery = told.take()
    with smtp(told, box := Box(), **options):
        mail.deliver(delivery, told.context)
        monkeypatch.setenv(mail.PASSWORD_VARIABLE, "wrong")
        monkeypatch.delenv(mail.PASSWORD_FILE_VARIABLE, raising=False)
        with pytest.raises(Refused, match="535"):
            mail.deliver(delivery, told.context)
    assert len(box.mails) == 1
