"""A notice as an e-mail: a delivery in, a short text with a link out over SMTP; the physician reads it.

It says nothing of patient or study, since mail is read on screens and stored on servers that are not the node's.
"""

import hashlib
import os
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from pathlib import Path

from cxrtriage.errors import DeliveryError
from cxrtriage.serve.notify import notices
from cxrtriage.serve.results.outbox import Context, Delivery, Refused
from cxrtriage.serve.settings import MailSettings

PASSWORD_VARIABLE = "CXRTRIAGE_SMTP_PASSWORD"
PASSWORD_FILE_VARIABLE = "CXRTRIAGE_SMTP_PASSWORD_FILE"
TEXT = """\
A chest radiograph of a patient of yours or of your service needs your attention.

Open this link and sign in; it shows the study, and lets you acknowledge that you have seen this:

{link}

If nobody does within {minutes:g} minutes, the next contact in line is told, where there is one.
This message was written by a computer; answers to it are not read.
"""


def deliver(delivery: Delivery, context: Context) -> None:
    """Send one notice.

    Raises
    ------
    Refused
        If the contact is unknown, or the server refuses for good (5xx), or does not offer the TLS that is required.
    DeliveryError
        If the server does not answer, or may take it another time (4xx).
    """
    message = notices.message_of(delivery, context)
    if message is None:
        return
    settings = context.settings.mail
    mail = EmailMessage()
    mail["Subject"] = notices.SUBJECT
    mail["From"] = settings.sender
    mail["To"] = message.contact.email
    mail["Date"] = formatdate()
    # the same when it is sent again, so that a mail program shows it once
    domain = parseaddr(settings.sender)[1].rpartition("@")[2] or "localhost"
    mail["Message-ID"] = f"<{hashlib.sha256(delivery.key.encode()).hexdigest()[:32]}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer by machines
    mail.set_content(TEXT.format(link=message.link, minutes=context.settings.notice.escalate_min))
    _send(mail, settings, context.settings.delivery.limit_s)


def _send(mail: EmailMessage, settings: MailSettings, limit_s: float) -> None:
    try:
        with smtplib.SMTP(settings.host, settings.port, timeout=limit_s) as server:
            if settings.starttls:
                server.starttls(context=ssl.create_default_context())
            if settings.user:
                server.login(settings.user, _password())
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise _answered(*next(iter(error.recipients.values()))) from error
    except smtplib.SMTPResponseException as error:
        raise _answered(error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPNotSupportedError as error:
        raise Refused(
            f"the mail server does not offer what the settings ask for ({error}). Correct [mail], then try again."
        ) from error
    except (OSError, smtplib.SMTPException) as error:
        raise DeliveryError(f"the mail server cannot be reached ({type(error).__name__}).") from error


def _answered(code: int, text: bytes | str) -> DeliveryError:
    """Return the error for an answer of the server: 4xx may pass, 5xx will not (RFC 5321 4.2.1)."""
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    told = f"the mail server answered {code} {' '.join(words.split())[:200]}"
    if 500 <= code < 600:
        return Refused(f"{told}. Correct the address or [mail], then try again.")
    return DeliveryError(f"{told}.")


def _password() -> str:
    """Return the password from the environment, or from the file that it names."""
    file = os.environ.get(PASSWORD_FILE_VARIABLE)
    if not file:
        return os.environ.get(PASSWORD_VARIABLE, "")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Refused(
            f"cannot read {file}, which {PASSWORD_FILE_VARIABLE} names: {error.strerror}. Correct it, then try again."
        ) from error
