"""`serve --check`: whether what a node needs answers, in sentences; changes nothing but a folder it may make.

What is on this machine is tried here, those that the node talks to in `check_peers`.
"""

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
from pynetdicom import AE
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import ConfigError, CxrTriageError
from cxrtriage.machine import free_bytes
from cxrtriage.serve.check_peers import check_peers
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.migrate import database_version, first_line
from cxrtriage.serve.process import silence_libraries
from cxrtriage.serve.receiver import VERIFICATION, tls_context
from cxrtriage.serve.settings import Hl7Settings, NodeSettings
from cxrtriage.serve.tables import model_version

ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    works: bool
    sentence: str


def check_node(home: Path, model: Path | None, settings: NodeSettings) -> Iterator[Finding]:
    """Try the disk, the database, the ports, the model and the peers, in this order.

    Parameters
    ----------
    home : the node's folder, with its settings in it
    model : model file; None for the one that is active here, if there is one
    """
    yield _tried(lambda: _disk(home, settings.store.min_free_gib))
    yield _tried(lambda: _database(settings.database.url))
    yield _tried(lambda: _dicom_port(settings))
    yield _tried(lambda: _web_port(settings))
    if settings.hl7.port is not None:
        yield _tried(lambda: _hl7_port(settings.hl7))
    if model is None:
        model = _active_model(home, settings.database.url)
    if model is not None:
        yield _tried(lambda: _model(model))
    for attempt in check_peers(settings):
        yield _tried(partial(_answered, attempt))


def _tried(attempt: Callable[[], Finding]) -> Finding:
    try:
        return attempt()
    except CxrTriageError as error:
        return Finding(False, str(error))


def _answered(attempt: Callable[[], str]) -> Finding:
    return Finding(True, attempt())


def _disk(home: Path, min_free_gib: float) -> Finding:
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".check-") as folder:
            first = Path(folder) / "first"
            first.write_bytes(b"checked")
            with first.open("rb") as file:
                os.fsync(file.fileno())
            (Path(folder) / "second").hardlink_to(first)
    except OSError as error:
        return Finding(
            False, f"The disk under {home} cannot be used: {error.strerror}; it needs write access and hard links."
        )
    free = free_bytes(home) / 2**30
    if free < min_free_gib:
        return Finding(False, f"The disk is low: {free:.2f} GiB free, store.min_free_gib asks for {min_free_gib}.")
    return Finding(True, f"The disk under {home} can be written and linked, {free:.1f} GiB free.")


def _database(url: str) -> Finding:
    engine = open_database(url)
    kind = "SQLite" if engine.dialect.name == "sqlite" else "PostgreSQL"
    try:
        version = database_version(engine)
    except SQLAlchemyError as error:
        return Finding(False, f"The database ({kind}) does not answer: {first_line(error)}.")
    finally:
        engine.dispose()
    state = f"tables of version {version}" if version else "no tables yet; the first start makes them"
    return Finding(True, f"The database ({kind}) answers: {state}.")


def _dicom_port(settings: NodeSettings) -> Finding:
    dicom = settings.dicom
    tls_context(dicom)  # raises what is wrong with it
    where = f"{dicom.host} port {dicom.port}"
    if _is_free("DICOM", dicom.host, dicom.port):
        return Finding(True, f"DICOM: {where} is free.")
    if dicom.tls_certificate is not None:
        return Finding(True, f"DICOM: {where} is in use; whether by this node, TLS does not let this check see.")
    silence_libraries()
    entity = AE(dicom.allow_ae[0] if dicom.allow_ae else dicom.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = ANSWER_S
    entity.add_requested_context(VERIFICATION)
    association = entity.associate(_local(dicom.host), dicom.port, ae_title=dicom.ae_title)
    try:
        if association.is_established and association.send_c_echo().get("Status") == 0:
            return Finding(True, f"DICOM: a node on {where} answers C-ECHO.")
    finally:
        if association.is_established:
            association.release()
    return Finding(False, f"DICOM: {where} is in use by something that does not answer C-ECHO; choose another port.")


def _web_port(settings: NodeSettings) -> Finding:
    web = settings.web
    where = f"{web.host} port {web.port}"
    if _is_free("Web", web.host, web.port):
        return Finding(True, f"Web: {where} is free.")
    host = _local(web.host)
    try:
        answer = httpx2.get(f"http://{f'[{host}]' if ':' in host else host}:{web.port}/healthz", timeout=ANSWER_S)
    except httpx2.HTTPError:
        return Finding(False, f"Web: {where} is in use by something that is no node; choose another port.")
    if not answer.is_success:
        return Finding(False, f"Web: what answers on {where} says {answer.status_code} of its health.")
    return Finding(True, f"Web: a node on {where} answers.")


def _hl7_port(hl7: Hl7Settings) -> Finding:
    where = f"{hl7.host} port {hl7.port}"
    if hl7.port is None or _is_free("HL7 in", hl7.host, hl7.port):
        return Finding(True, f"HL7 in: {where} is free.")
    return Finding(True, f"HL7 in: {where} is in use, by this node if it runs.")


def _is_free(name: str, host: str, port: int) -> bool:
    """Tell whether a port can be listened on; raise if not for another reason than that it is in use."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigError(f"{name}: cannot listen on {host} port {port}: {error.strerror}.") from error
    return True


def _local(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _active_model(home: Path, url: str) -> Path | None:
    """Return the file of the model that is active; None where there is none, or no database to say so."""
    engine = open_database(url)
    try:
        with reading(engine) as connection:
            active = connection.execute(select(model_version.c.path).where(model_version.c.role == "active")).scalar()
    except SQLAlchemyError:
        return None  # has been said
    finally:
        engine.dispose()
    return None if active is None else home / active


def _model(model: Path) -> Finding:
    from cxrtriage.model.bundle import load_model

    card = load_model(model).card
    point = f"{card.decision}, threshold {card.threshold:.3f}"
    return Finding(
        True, f"The model {model.name} loads: {card.architecture}, {card.recipe.size} px, decides at {point}."
    )
