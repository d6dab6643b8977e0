"""A notice as a signed POST: a delivery in, JSON out to `webhook.url`; the receiver pages somebody.

    X-Cxrtriage-Timestamp: 1795057200
    X-Cxrtriage-Signature: sha256=<HMAC-SHA256 of "1795057200." and the body, with the secret, in hex>

The receiver computes the same, compares, and refuses a timestamp some minutes old, so that nobody can make up
or repeat a notice. `id` in the body is the same when a notice is sent again after an answer got lost.
"""

import hashlib
import hmac
import json
import os
import time

from cxrtriage.serve.notify import notices
from cxrtriage.serve.notify.posting import post
from cxrtriage.serve.results.outbox import Context, Delivery, Refused

SECRET_VARIABLE = "CXRTRIAGE_WEBHOOK_SECRET"


def deliver(delivery: Delivery, context: Context) -> None:
    """Post one notice.

    Raises
    ------
    Refused
        If the contact is unknown, there is no secret, or the receiver refuses for good.
    DeliveryError
        If the receiver does not answer, or may take it another time.
    """
    message = notices.message_of(delivery, context)
    if message is None:
        return
    secret = os.environ.get(SECRET_VARIABLE, "")
    if not secret:
        raise Refused(f"{SECRET_VARIABLE} is not set. Give the secret in the environment, then try again.")
    content = json.dumps(
        {
            "id": hashlib.sha256(delivery.key.encode()).hexdigest(),
            "recipient": message.contact.key,
            "contact": message.contact.webhook,
            "step": message.step,
            "text": notices.SUBJECT,
            "link": message.link,
        }
    ).encode()
    post(
        context.settings.webhook.url,
        content,
        signed(content, secret, int(time.time())),
        context.settings.delivery.limit_s,
    )


def signed(content: bytes, secret: str, timestamp: int) -> dict[str, str]:
    """Return the headers that show where and when a body came from.

    Parameters
    ----------
    timestamp : seconds since 1970, UTC
    """
    signature = hmac.new(secret.encode(), f"{timestamp}.".encode() + content, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-Cxrtriage-Timestamp": str(timestamp),
        "X-Cxrtriage-Signature": f"sha256={signature}",
    }
