"""A DICOM object out to the PACS by C-STORE: it returns when the PACS has it, and raises else; `evidence` calls it."""

import ssl
from collections.abc import Callable

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.results.answers import judge
from cxrtriage.serve.results.outbox import Refused
from cxrtriage.serve.settings import NodeSettings, PacsSettings


def store(made: Dataset, settings: NodeSettings) -> None:
    """Send an object to the PACS of the settings.

    Parameters
    ----------
    made : with file meta information
    settings : whom to call, by what name, how long to wait

    Raises
    ------
    DeliveryError
        If the PACS cannot be reached, rejects the association, goes away, or has no room at present.
    Refused
        If it does not take such objects, or this one.
    """
    pacs = settings.pacs
    if not pacs.host:
        raise Refused("there is no [pacs] host in the settings any more. Set one and restart, or leave it parked.")
    # AE titles, not the host alone: a rejection is about them
    peer = f"the PACS {pacs.ae_title} at {pacs.host} port {pacs.port}"
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(settings.dicom.ae_title)
    limit = settings.delivery.limit_s
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = limit
    # both, since some take implicit VR only; pynetdicom encodes in what is accepted
    entity.add_requested_context(made.SOPClassUID, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    tls = None if pacs.tls_ca is None else (client_tls(pacs), pacs.host)
    association = entity.associate(pacs.host, pacs.port, ae_title=pacs.ae_title, tls_args=tls)
    if not association.is_established:
        raise _not_established(association, peer, str(made.SOPClassUID.name))
    try:
        answer = association.send_c_store(made)
    except (ValueError, RuntimeError) as error:  # no context for it; or the association ended under our hands
        if association.is_established:
            raise Refused(f"{peer} does not take {made.SOPClassUID.name}. Ask its administrator.") from error
        raise DeliveryError(f"{peer} ended the association.") from error
    finally:
        _close(association)
    if "Status" not in answer:
        raise DeliveryError(f"{peer} did not answer within {limit:g} s, or ended the association.")
    judge(int(answer.Status), peer)


def client_tls(pacs: PacsSettings) -> ssl.SSLContext:
    """Return how to speak TLS with the PACS: its certificate is checked, ours shown if there is one.

    Raises
    ------
    Refused
        If a file of the settings cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(pacs.tls_ca))
        if pacs.tls_certificate is not None:
            context.load_cert_chain(pacs.tls_certificate, pacs.tls_key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or type(error).__name__
        raise Refused(f"the certificates of [pacs] cannot be used: {reason}. Correct them, then try again.") from error
    return context


def _not_established(association: Association, peer: str, sop_class: str) -> DeliveryError:
    """Say why there is no association."""
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None and answer.result_str:
        return DeliveryError(f"{peer} rejected the association ({answer.result_str}: {answer.reason_str}).")
    if association.is_rejected:
        return DeliveryError(f"{peer} rejected the association.")
    if association.rejected_contexts and not association.accepted_contexts:
        return Refused(f"{peer} does not take {sop_class}. Ask its administrator, then try again.")
    return DeliveryError(f"{peer} cannot be reached.")


def _close(association: Association) -> None:
    """End an association, also one that is just ending by itself."""
    steps: tuple[Callable[[], None], ...] = (association.release, association.abort)
    for step in steps:
        if association.is_established:
            step()
