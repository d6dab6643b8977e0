"""`serve --check`: whether what a node needs answers, in sentences; changes nothing but a folder it may make."""

import errno
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import CxrTriageError
from cxrtriage.machine import free_bytes
from cxrtriage.serve.database import open_database
from cxrtriage.serve.migrate import database_version, first_line
from cxrtriage.serve.process import silence_libraries
from cxrtriage.serve.receiver import VERIFICATION, tls_context
from cxrtriage.serve.settings import NodeSettings

ECHO_S = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    works: bool
    sentence: str


def check_node(home: Path, model: Path | None, settings: NodeSettings) -> Iterator[Finding]:
    """Try the disk, the database, the port and the model, in this order.

    Parameters
    ----------
    home : the node's folder, with its settings in it
    model : model file; None where this machine does not score
    """
    yield _tried(lambda: _disk(home, settings.store.min_free_gib))
    yield _tried(lambda: _database(settings.database.url))
    yield _tried(lambda: _port(settings))
    if model is not None:
        yield _tried(lambda: _model(model))


def _tried(attempt: Callable[[], Finding]) -> Finding:
    try:
        return attempt()
    except CxrTriageError as error:
        return Finding(False, str(error))


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


def _port(settings: NodeSettings) -> Finding:
    dicom = settings.dicom
    tls_context(dicom)  # raises what is wrong with it
    where = f"{dicom.host} port {dicom.port}"
    family = socket.AF_INET6 if ":" in dicom.host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((dicom.host, dicom.port))
            return Finding(True, f"DICOM: {where} is free.")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return Finding(False, f"DICOM: cannot listen on {where}: {error.strerror}.")
    if dicom.tls_certificate is not None:
        return Finding(True, f"DICOM: {where} is in use; whether by this node, TLS does not let this check see.")
    silence_libraries()
    entity = AE(dicom.allow_ae[0] if dicom.allow_ae else dicom.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = ECHO_S
    entity.add_requested_context(VERIFICATION)
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(dicom.host, dicom.host)
    association = entity.associate(local, dicom.port, ae_title=dicom.ae_title)
    try:
        if association.is_established and association.send_c_echo().get("Status") == 0:
            return Finding(True, f"DICOM: a node on {where} answers C-ECHO.")
    finally:
        if association.is_established:
            association.release()
    return Finding(False, f"DICOM: {where} is in use by something that does not answer C-ECHO; choose another port.")


def _model(model: Path) -> Finding:
    from cxrtriage.model.bundle import load_model

    card = load_model(model).card
    point = f"{card.decision}, threshold {card.threshold:.3f}"
    return Finding(
        True, f"The model {model.name} loads: {card.architecture}, {card.recipe.size} px, decides at {point}."
    )
