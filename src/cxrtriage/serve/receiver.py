"""The DICOM door: C-ECHO and C-STORE in, kept films out (`files`); a process of its own, without torch.

    0x0000  kept: on the disk and in the database, or there already
    0xA700  out of resources: the disk is low or fails, the database does not answer. Send again later
    0xA900  the data set is of another SOP class than was announced
    0xC000  cannot understand: no valid header, or another UID than was announced

Films go to the disk as they arrive, not into memory, and as they were encoded. Nothing that a peer sends is
logged but checked UIDs and AE titles. A film above `dicom.max_instance_mib`, and one that would fill the disk
while it arrives, ends its association, since DICOM has no answer before the last byte.
"""

import errno
import logging
import os
import socket
import ssl
import tempfile
import threading
import time
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Self

from pynetdicom import AE, _config, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import ThreadedAssociationServer

from cxrtriage.errors import ConfigError, CxrTriageError
from cxrtriage.machine import free_bytes
from cxrtriage.serve import node_state, process
from cxrtriage.serve.database import open_database
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.intake.taking import SOP_CLASSES, SUCCESS, TRANSFER_SYNTAXES, Announced, take
from cxrtriage.serve.settings import DicomSettings, load_settings

LOGGER = logging.getLogger(__name__)

VERIFICATION = "1.2.840.10008.1.1"  # the SOP class of C-ECHO

PDU_BYTES = 2**20  # the longest that is announced and taken; a film in one PDU would be held in memory
PDU_SLACK_BYTES = 1024
NEGOTIATION_S = 30.0  # a connection that has not asked for an association by then is closed
STOP_S = 2.0  # for peers to take their A-ABORT
BIND_S = 5.0  # an earlier receiver may still be closing the port


class _Entity(AE):
    """Counts only living connections as associations.

    pynetdicom counts a closed one that never asked for an association, such as a monitor's look at the
    port, against `max_associations` until the time to ask is over.
    """

    @property
    def active_associations(self) -> list[Any]:
        return [association for association in super().active_associations if _is_connected(association)]


class Receiver:
    """A running DICOM door; used as a context.

    Parameters
    ----------
    settings : where to listen, whom to let in
    store : where films are kept; entered already

    Attributes
    ----------
    port : int
        That it listens on.

    Raises
    ------
    ConfigError
        On entering, if the port cannot be used or the TLS files do not fit.
    """

    def __init__(self, settings: DicomSettings, store: FilmStore) -> None:
        self.settings = settings
        self.store = store
        self.port = settings.port
        self._entity = _Entity(settings.ae_title)
        self._entity.maximum_associations = settings.max_associations
        self._entity.maximum_pdu_size = PDU_BYTES
        self._entity.network_timeout = settings.idle_s
        self._entity.acse_timeout = min(settings.idle_s, NEGOTIATION_S)
        self._entity.require_calling_aet = list(settings.allow_ae)
        self._entity.add_supported_context(VERIFICATION)
        for sop_class in SOP_CLASSES:
            self._entity.add_supported_context(sop_class, TRANSFER_SYNTAXES)
        self._networks = [ip_network(address) for address in settings.allow_address]
        self._tls = tls_context(settings)

    def __enter__(self) -> Self:
        # pynetdicom writes what arrives to a temporary file when told to; here, so that it can be linked
        self._before = _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL, tempfile.tempdir
        _config.STORE_RECV_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        tempfile.tempdir = str(self.store.incoming)
        deadline = time.monotonic() + BIND_S
        while True:
            try:
                self._server = self._start()
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    self._restore()
                    raise ConfigError(
                        f"cannot listen on {self.settings.host} port {self.settings.port}: {error.strerror}. "
                        "Choose another [dicom] host or port, or stop what uses it."
                    ) from error
                time.sleep(0.2)
        self.port = self._server.socket.getsockname()[1]
        LOGGER.info("listening on %s port %d as %s", self.settings.host, self.port, self.settings.ae_title)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        # not AE.shutdown, which can wait for ever for an association that is just ending by itself
        for association in self._entity.active_associations:
            association.abort(block=False)
        deadline = time.monotonic() + STOP_S
        while self._entity.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        self._restore()

    def _start(self) -> Any:
        handlers: Any = [
            (evt.EVT_CONN_OPEN, _limit_connection),
            (evt.EVT_PDU_RECV, _limit_transfer, [self]),
            (evt.EVT_CONN_CLOSE, _drop_unfinished),
            (evt.EVT_C_ECHO, _answer_echo),
            (evt.EVT_C_STORE, _answer_store, [self.store]),
        ]
        receiver = self

        class Server(ThreadedAssociationServer):
            """Lets in whom the settings allow, and lets no peer hold up the others."""

            def get_request(self) -> Any:
                listening: Any = self.socket
                peer, address = listening.accept()
                peer.settimeout(receiver.settings.idle_s)  # else a peer cut off in mid-transfer stays for ever
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if receiver._tls is not None:
                    # the handshake comes with the first bytes, in the association's own thread
                    peer = receiver._tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
                return peer, address

            def verify_request(self, request: Any, client_address: Any) -> bool:
                if receiver._allowed(client_address[0]):
                    return True
                LOGGER.warning(
                    "refused a connection from %s, which dicom.allow_address does not name", client_address[0]
                )
                return False

        entity: Any = self._entity
        server = entity.make_server(
            (self.settings.host, self.settings.port), evt_handlers=handlers, server_class=Server
        )
        entity._servers.append(server)
        threading.Thread(target=server.serve_forever, name="dicom", daemon=True).start()
        return server

    def _allowed(self, address: str) -> bool:
        peer = ip_address(address.split("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return not self._networks or any(peer in network for network in self._networks)

    def _restore(self) -> None:
        _config.STORE_RECV_CHUNKED_DATASET, _config.LOG_HANDLER_LEVEL, tempfile.tempdir = self._before


def tls_context(settings: DicomSettings) -> ssl.SSLContext | None:
    """Return how to speak TLS (1.2 or later, PS3.15 B.12), None if the settings ask for none."""
    if settings.tls_certificate is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.tls_ca)
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the TLS files of [dicom] cannot be used: {error}. Check tls_certificate, tls_key and tls_ca."
        ) from error
    context.verify_mode = ssl.CERT_REQUIRED if settings.tls_ca else ssl.CERT_NONE
    return context


def _answer_echo(event: evt.Event) -> int:
    return SUCCESS


def _answer_store(event: evt.Event, store: FilmStore) -> int:
    """Keep one film; return the DICOM status that says whether it is kept."""
    request: Any = event.request
    announced = Announced(str(request.AffectedSOPInstanceUID), str(event.context.abstract_syntax))
    return take(store, event.dataset_path, event.assoc.requestor.ae_title.strip(), announced).status


def _limit_connection(event: evt.Event) -> None:
    """Take no PDU longer than the one announced, whatever the peer says; pynetdicom would take 4 GiB."""
    connection: Any = event.assoc.dul.socket
    receive = connection.recv

    def limited(nr_bytes: int) -> bytearray:
        if nr_bytes > PDU_BYTES + PDU_SLACK_BYTES:
            raise OSError(errno.EMSGSIZE, "the peer sends a longer PDU than was agreed")
        return bytearray(receive(nr_bytes))

    connection.recv = limited


def _limit_transfer(event: evt.Event, receiver: Receiver) -> None:
    """End an association whose film is too large, or would fill the disk before there is a status to say so."""
    path = _arriving(event)
    if path is None or not isinstance(event.pdu, P_DATA_TF):
        return
    store = receiver.store
    if path.stat().st_size > receiver.settings.max_instance_mib * 2**20:
        why = f"a film is larger than dicom.max_instance_mib = {receiver.settings.max_instance_mib}"
    elif free_bytes(store.home) < store.min_free_bytes // 2:
        why = "the disk is nearly full"
    else:
        return
    LOGGER.warning("aborted an association with %r: %s", event.assoc.requestor.ae_title.strip(), why)
    event.assoc.unbind(evt.EVT_PDU_RECV, _limit_transfer)  # said once; what is still under way is not news
    event.assoc.abort()


def _drop_unfinished(event: evt.Event) -> None:
    """Remove what an aborted transfer left."""
    path = _arriving(event)
    if path is not None:
        message: Any = event.assoc.dimse.message
        message._data_set_file.close()
        path.unlink(missing_ok=True)


def _is_connected(association: Any) -> bool:
    """Tell whether an association's connection is open: the thread that reads from it ends with it."""
    return bool(not association._started_dul or association.dul.is_alive())


def _arriving(event: evt.Event) -> Path | None:
    """Return the file that the association's present film is being written to."""
    message = event.assoc.dimse.message
    path = message._data_set_path if message is not None else None
    return path if isinstance(path, Path) else None


def main(home: str) -> None:
    """Receive films for the node at `home` until told to stop."""
    stopping = process.begin("receiver")
    try:
        settings = load_settings(Path(home))
        engine = open_database(settings.database.url)
        with FilmStore(Path(home), engine, settings.store.min_free_gib) as store, Receiver(settings.dicom, store):
            node_state.keep_beating(engine, "receiver", stopping, store.trouble)
            stopping.wait()
    except CxrTriageError as error:
        LOGGER.error("%s", error)
        os._exit(process.CANNOT_START)
    # a connection that never asked for an association has a thread that Python would wait for, half a minute
    os._exit(0)
