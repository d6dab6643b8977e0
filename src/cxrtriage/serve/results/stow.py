"""A DICOM object out to the PACS by STOW-RS: it returns when the PACS has it, and raises else; `evidence` calls it."""

import json
import os
from io import BytesIO
from typing import Any

import httpx2
from pydicom import Dataset

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.results.answers import judge
from cxrtriage.serve.results.outbox import Refused
from cxrtriage.serve.settings import NodeSettings

TOKEN_VARIABLE = "CXRTRIAGE_STOW_TOKEN"  # sent as a bearer token
FAILED_SOP_SEQUENCE, FAILURE_REASON = "00081198", "00081197"
PROCESSING_FAILURE = 0x0110  # where a failure has no reason
TRY_AGAIN = (408, 425, 429)  # and all of 500 and above
STORED = (200, 202, 409)  # these have a body that says of each object whether it is stored


def store(made: Dataset, settings: NodeSettings) -> None:
    """Post an object to the DICOMweb service of the settings.

    Parameters
    ----------
    made : with file meta information
    settings : where to, how long to wait; a token comes from the environment, `CXRTRIAGE_STOW_TOKEN`

    Raises
    ------
    DeliveryError
        If the service cannot be reached, fails, or has no room at present.
    Refused
        If it does not take such objects, or this one.

    References
    ----------
    DICOM PS3.18 10.5 (Store Transaction).
    """
    url = settings.stow.url.rstrip("/")
    if not url:
        raise Refused("there is no [stow] url in the settings any more. Set one and restart, or leave it parked.")
    peer = "the DICOMweb service of [stow]"
    boundary = f"cxrtriage-{made.SOPInstanceUID}"
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Accept": "application/dicom+json",
    }
    if os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {os.environ[TOKEN_VARIABLE]}"
    part = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n"
    body = part % (boundary.encode(), encoded(made), boundary.encode())
    try:
        answer = httpx2.post(f"{url}/studies", content=body, headers=headers, timeout=settings.delivery.limit_s)
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise Refused("[stow] url is no URL, expected such as https://pacs/dicom-web. Correct it.") from error
    except httpx2.HTTPError as error:  # its text may quote the URL, and that a password
        raise DeliveryError(f"{peer} cannot be reached ({type(error).__name__}).") from error
    _judge(answer, peer)


def encoded(made: Dataset) -> bytes:
    """Return an object as the bytes of a DICOM file."""
    file = BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _judge(answer: httpx2.Response, peer: str) -> None:
    """Return if the answer says that the object is stored."""
    status = answer.status_code
    if status in TRY_AGAIN or status >= 500:
        raise DeliveryError(f"{peer} answered {status}; trying again.")
    if status not in STORED:
        raise Refused(f"{peer} answered {status} and will not take it. Ask its administrator, then try again.")
    failed = _failures(answer)
    for reason in failed:
        judge(reason, peer)  # a duplicate is none
    if status == 409 and not failed:
        raise Refused(f"{peer} answered 409 without a reason. Ask its administrator, then try again.")


def _failures(answer: httpx2.Response) -> list[int]:
    """Return the Failure Reasons in an answer; empty where it has none, or is not in JSON."""
    try:
        content: Any = json.loads(answer.content)
        content = content[0] if isinstance(content, list) else content
        items = content.get(FAILED_SOP_SEQUENCE, {}).get("Value", [])
        return [int(item.get(FAILURE_REASON, {}).get("Value", [PROCESSING_FAILURE])[0]) for item in items]
    except (ValueError, AttributeError, TypeError, LookupError):
        return []
