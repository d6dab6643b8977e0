"""JSON posted to a service: content in, its answer or why there is none out; `webhook` and `results.fhir` post."""

import httpx2

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.results.outbox import Refused

AGAIN = {408, 409, 425, 429}  # of 4xx, those that pass by themselves: too slow, in conflict, too early, too many


def post(url: str, content: bytes, headers: dict[str, str], limit_s: float) -> httpx2.Response:
    """Post once and return an answer of 2xx.

    Parameters
    ----------
    content : JSON
    headers : beside these, whatever the receiver asks for
    limit_s : to connect, and for each part of the answer

    Raises
    ------
    Refused
        On an answer that the same content will get again.
    DeliveryError
        If there is no answer, or one that may be better another time. No message quotes what was answered.
    """
    try:
        answer = httpx2.post(url, content=content, headers=headers, timeout=limit_s, follow_redirects=False)
    except httpx2.InvalidURL as error:
        raise Refused("its URL is none. Correct it in the settings.") from error
    except httpx2.TimeoutException as error:
        raise DeliveryError(f"no answer within {limit_s:g} s.") from error
    except httpx2.HTTPError as error:
        raise DeliveryError(f"it cannot be reached ({type(error).__name__}).") from error
    if answer.is_success:
        return answer
    told = f"it answered {answer.status_code} {answer.reason_phrase}"
    if answer.status_code >= 500 or answer.status_code in AGAIN:
        raise DeliveryError(f"{told}.")
    raise Refused(f"{told}, expected 2xx. Correct the settings or the receiver, then try again.")
