"""Rows of the audit trail in the form of DICOM PS3.15 A.5, for a site's audit repository.

In comes a row of `audit`, out goes one AuditMessage in XML with the standard's codes; `audit export` writes
them. What a row does not hold is left out, and with it what A.5 asks for but the trail must not keep: the
patient of a study is named by its Study Instance UID alone.
"""

import json
import socket
from base64 import b64encode
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

Code = tuple[str, str]  # code value of DCM (PS3.16 Annex D) and its meaning

EVENT_IDS: dict[str, Code] = {  # PS3.16 CID 400
    "start": ("110100", "Application Activity"),
    "stop": ("110100", "Application Activity"),
    "audit_used": ("110101", "Audit Log Used"),
    "accessed": ("110103", "DICOM Instances Accessed"),
    "changed": ("110103", "DICOM Instances Accessed"),
    "transferred": ("110104", "DICOM Instances Transferred"),
    "delete": ("110103", "DICOM Instances Accessed"),  # 110105 would say that nothing of the study is left
    "export": ("110106", "Export"),
    "import": ("110107", "Import"),
    "order": ("110109", "Order Record"),
    "query": ("110112", "Query"),
    "alert": ("110113", "Security Alert"),
    "account": ("110113", "Security Alert"),
    "sign_in": ("110114", "User Authentication"),
    "sign_out": ("110114", "User Authentication"),
}
EVENT_TYPES: dict[str, Code] = {  # PS3.16 CID 401
    "start": ("110120", "Application Start"),
    "stop": ("110121", "Application Stop"),
    "sign_in": ("110122", "Login"),
    "sign_out": ("110123", "Logout"),
    "alert": ("110132", "Use of Restricted Function"),
    "account": ("110137", "User Security Attributes Changed"),
}
SETTING_CHANGED: tuple[Code, Code] = (("110113", "Security Alert"), ("110131", "Software Configuration"))
STUDY_UID: Code = ("110180", "Study Instance UID")
NODE_ID: Code = ("110182", "Node ID")
IP_ADDRESS = "2"
APPLICATION_SERVER = "4"
SYSTEM_OBJECT, REPORT, SECURITY_RESOURCE = "2", "3", "13"


def as_dicom_xml(row: Any) -> str:
    """Return a row of the trail as one AuditMessage.

    Parameters
    ----------
    row : of the table `audit`

    Returns
    -------
    str
        XML on one line, without declaration.

    References
    ----------
    DICOM PS3.15 A.5.1 (schema), A.5.3 (messages); PS3.16 CID 400, 401.
    """
    event_id, event_type = EVENT_IDS[row.event], EVENT_TYPES.get(row.event)
    if row.event == "changed" and not row.study_instance_uid:
        event_id, event_type = SETTING_CHANGED
    message = Element("AuditMessage")
    event = SubElement(
        message,
        "EventIdentification",
        EventActionCode=row.action,
        EventDateTime=row.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(row.outcome),
    )
    _code(event, "EventID", event_id)
    if event_type is not None:
        _code(event, "EventTypeCode", event_type)
    where = {"NetworkAccessPointID": row.address, "NetworkAccessPointTypeCode": IP_ADDRESS} if row.address else {}
    SubElement(message, "ActiveParticipant", UserID=row.actor, UserIsRequestor="true", **where)
    source = SubElement(message, "AuditSourceIdentification", AuditSourceID=f"cxrtriage@{socket.gethostname()}")
    SubElement(source, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
    _object(message, row)
    return tostring(message, encoding="unicode")


def _object(message: Element, row: Any) -> None:
    """Add what it is about: a study, else the node; with the row's own facts as details."""
    study = bool(row.study_instance_uid)
    about = SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=row.study_instance_uid if study else socket.gethostname(),
        ParticipantObjectTypeCode=SYSTEM_OBJECT,
        ParticipantObjectTypeCodeRole=REPORT if study else SECURITY_RESOURCE,
    )
    _code(about, "ParticipantObjectIDTypeCode", STUDY_UID if study else NODE_ID)
    SubElement(about, "ParticipantObjectName").text = "study" if study else "cxrtriage node"
    details = {"row": row.id, "sha256": row.sha256, **json.loads(row.detail)}
    for name, value in details.items():
        plain = value if isinstance(value, str) else json.dumps(value)
        encoded = b64encode(plain.encode("utf-8", "replace")).decode()  # A.5.1: also against XML in a value
        SubElement(about, "ParticipantObjectDetail", type=name, value=encoded)


def _code(parent: Element, name: str, code: Code) -> None:
    value, meaning = code
    SubElement(parent, name, {"csd-code": value, "codeSystemName": "DCM", "originalText": meaning})
