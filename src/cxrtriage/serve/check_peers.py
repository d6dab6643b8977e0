"""Whether those that a node talks to answer, in sentences; `check` asks. Nothing is sent that has an effect."""

import os
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import httpx2
from pynetdicom import AE, _config

from cxrtriage.errors import CxrTriageError
from cxrtriage.serve.notify import mail, webhook
from cxrtriage.serve.notify.recipients import read_recipients
from cxrtriage.serve.process import silence_libraries
from cxrtriage.serve.receiver import VERIFICATION
from cxrtriage.serve.results import fhir, stow
from cxrtriage.serve.results.c_store import client_tls
from cxrtriage.serve.settings import NodeSettings

LIMIT_S = 5.0  # for each peer to answer
REFUSED = (401, 403)
NOT_FOUND = 404


class NoAnswerError(CxrTriageError):
    """A peer does not answer as it should."""


def check_peers(settings: NodeSettings) -> Iterator[Callable[[], str]]:
    """Yield what tries one peer of the settings each: it returns a sentence, or raises a CxrTriageError with one."""
    asked: list[tuple[object, Callable[[NodeSettings], str]]] = [
        (settings.pacs.host, _pacs),
        (settings.stow.url, _stow),
        (settings.hl7_out.host, _hl7_out),
        (settings.fhir.url, _fhir),
        (settings.mail.host, _mail),
        (settings.webhook.url, _webhook),
        (settings.mail.host or settings.webhook.url, _recipients),
        (settings.watch.folder, _watched_folder),
    ]
    for configured, attempt in asked:
        if configured:
            yield partial(attempt, settings)


def _pacs(settings: NodeSettings) -> str:
    pacs = settings.pacs
    where = f"PACS: {pacs.ae_title} on {pacs.host} port {pacs.port}"
    silence_libraries()
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(settings.dicom.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = LIMIT_S
    entity.add_requested_context(VERIFICATION)
    tls = None if pacs.tls_ca is None else (client_tls(pacs), pacs.host)
    association = entity.associate(pacs.host, pacs.port, ae_title=pacs.ae_title, tls_args=tls)
    try:
        if association.is_established:
            if association.send_c_echo().get("Status") == 0:
                return f"{where} answers C-ECHO{' over TLS' if tls else ''}."
            raise NoAnswerError(f"{where} takes an association, but does not answer C-ECHO.")
    finally:
        if association.is_established:
            association.release()
    if association.is_rejected:
        raise NoAnswerError(
            f"{where} rejects {settings.dicom.ae_title}: enter this node there, or check [pacs] ae_title."
        )
    raise NoAnswerError(f"{where} cannot be reached{', or not over TLS' if tls else ''}.")


def _stow(settings: NodeSettings) -> str:
    url = f"{settings.stow.url.rstrip('/')}/studies"
    answer = _asked("STOW: the service of [stow] url", "OPTIONS", url, stow.TOKEN_VARIABLE)
    return f"STOW: the service of [stow] url answers ({answer.status_code})."


def _fhir(settings: NodeSettings) -> str:
    where = "FHIR: the server of [fhir] url"
    answer = _asked(where, "GET", f"{settings.fhir.url.rstrip('/')}/metadata", fhir.TOKEN_VARIABLE)
    try:
        version = str(answer.json()["fhirVersion"])
    except (ValueError, LookupError, TypeError) as error:
        raise NoAnswerError(f"{where} has no capability statement in JSON under /metadata.") from error
    if not version.startswith("4."):
        raise NoAnswerError(f"{where} speaks FHIR {version[:16]}, expected 4.")
    return f"{where} answers, FHIR {version[:16]}."


def _asked(where: str, method: str, url: str, token_variable: str) -> httpx2.Response:
    token = os.environ.get(token_variable)
    headers = {
        "Accept": "application/fhir+json, application/json",
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    try:
        answer = httpx2.request(method, url, headers=headers, timeout=LIMIT_S)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise NoAnswerError(f"{where} is no URL; expected http:// or https://.") from error
    except httpx2.HTTPError as error:  # its text may quote the URL, and that a password
        raise NoAnswerError(f"{where} cannot be reached ({type(error).__name__}).") from error
    if answer.status_code in REFUSED:
        raise NoAnswerError(f"{where} answers {answer.status_code}: check the token in {token_variable}.")
    if answer.status_code == NOT_FOUND or answer.is_server_error:
        raise NoAnswerError(f"{where} answers {answer.status_code}: check the URL.")
    return answer


def _hl7_out(settings: NodeSettings) -> str:
    peer = settings.hl7_out
    where = f"HL7 out: {peer.host} port {peer.port}"
    _connected(where, peer.host, peer.port).close()
    return f"{where} takes connections."


def _mail(settings: NodeSettings) -> str:
    peer = settings.mail
    where = f"Mail: {peer.host} port {peer.port}"
    try:
        with smtplib.SMTP(peer.host, peer.port, timeout=LIMIT_S) as server:
            server.ehlo_or_helo_if_needed()
            if peer.starttls:
                server.starttls(context=ssl.create_default_context())
    except smtplib.SMTPNotSupportedError as error:
        raise NoAnswerError(f"{where} offers no STARTTLS, which [mail] starttls asks for.") from error
    except ssl.SSLError as error:
        raise NoAnswerError(f"{where}: its certificate cannot be trusted ({error.reason}).") from error
    except (OSError, smtplib.SMTPException) as error:
        raise NoAnswerError(f"{where} does not answer ({type(error).__name__}).") from error
    if peer.user and not any(map(os.environ.get, (mail.PASSWORD_VARIABLE, mail.PASSWORD_FILE_VARIABLE))):
        raise NoAnswerError(f"{where} answers, but there is no password for [mail] user: set {mail.PASSWORD_VARIABLE}.")
    return f"{where} answers EHLO{' over TLS' if peer.starttls else ''}."


def _webhook(settings: NodeSettings) -> str:
    url = urlsplit(settings.webhook.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise NoAnswerError("Webhook: [webhook] url is no URL; expected http:// or https://.")
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    where = f"Webhook: {url.hostname} port {port}"
    with _connected(where, url.hostname, port) as connection:
        if url.scheme == "https":
            try:
                ssl.create_default_context().wrap_socket(connection, server_hostname=url.hostname).close()
            except OSError as error:
                raise NoAnswerError(f"{where}: no TLS with it ({type(error).__name__}).") from error
    if not os.environ.get(webhook.SECRET_VARIABLE):
        raise NoAnswerError(f"{where} takes connections, but {webhook.SECRET_VARIABLE} is not set, so nothing is sent.")
    return f"{where} takes connections; nothing was posted."


def _recipients(settings: NodeSettings) -> str:
    path = settings.notice.recipients
    contacts = read_recipients(path)
    if not contacts:
        raise NoAnswerError(f"Recipients: {path} names nobody, so every notice will be parked.")
    return f"Recipients: {path} names {len(contacts)} contact{'s' if len(contacts) > 1 else ''}."


def _watched_folder(settings: NodeSettings) -> str:
    folder = settings.watch.folder
    # not tried by writing: what is put there is taken for a film
    if folder is None or not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise NoAnswerError(f"Watched folder: {folder} is no folder that this node may read and write.")
    return f"Watched folder: {folder} can be read and written."


def _connected(where: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=LIMIT_S)
    except OSError as error:
        raise NoAnswerError(f"{where} cannot be reached ({error.strerror or type(error).__name__}).") from error
