"""People and programs that may come in: names, passwords and tokens in, accounts, sessions and refusals out.

Passwords are kept as argon2id hashes. Of every secret that is handed out (links, sessions, API tokens) only the
SHA-256 is kept: they are 32 random bytes, which nobody guesses. Failed sign-ins are counted for an account and for an
address; names that do not exist are refused in the same words and the same time as wrong passwords.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from threading import Lock

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Engine, Table, func, or_, select, update

from cxrtriage.errors import ConfigError
from cxrtriage.serve import audit
from cxrtriage.serve.database import insert_new, now, reading
from cxrtriage.serve.tables import ROLES, account, api_token, invitation, sign_in_failure, web_session

SHORTEST_PASSWORD = 12  # characters; NIST SP 800-63B asks for length, not for kinds of signs
LONGEST_PASSWORD = 200
INVITATION_DAYS = 3
LONGEST_SESSION = timedelta(hours=24)
SEEN_EVERY = timedelta(minutes=1)  # a session's last use is written no more often
FAILURES = {"account_name": 5, "address": 20}  # that are forgiven in `FORGIVEN_AFTER`
FORGIVEN_AFTER = timedelta(minutes=15)
NAME_LENGTH = 64
UNKNOWN = "unknown"  # in the audit trail for a name that is no account's: people type passwords into the wrong field

# one sign-in at a time: guesses sent at once are counted one after the other, and argon2 takes 64 MiB each
_signing_in = Lock()


class SignInRefusedError(Exception):
    """A sign-in was refused; the text says so to a person."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in."""

    name: str
    role: str
    recipient: str
    csrf_token: str


@dataclass(frozen=True, slots=True)
class Token:
    """A program that may come in."""

    name: str
    role: str


def invite(connection: Connection, name: str, role: str, recipient: str = "", actor: str = "command line") -> str:
    """Return the secret of a link with which somebody chooses the password of a new account, or of the one there is.

    Links for the same name that were not used yet are no longer good.

    Parameters
    ----------
    name : of the account
    role : "reader", "referrer" or "admin"
    recipient : a referrer's key in `recipients.csv`

    Raises
    ------
    ConfigError
        If the name or the role cannot be, a token has the name, or a referrer has no key.
    """
    _require_name(connection, name, api_token)
    if role not in ROLES:
        raise ConfigError(f"there is no role {role!r}, expected one of {', '.join(ROLES)}.")
    if role == "referrer" and not recipient:
        raise ConfigError(
            "a referrer needs a key in recipients.csv, or no notice leads him anywhere. Give --recipient."
        )
    secret = secrets.token_urlsafe(32)
    _withdraw_invitations(connection, name)
    connection.execute(
        invitation.insert().values(
            token_sha256=digest(secret),
            account_name=name,
            role=role,
            recipient=recipient,
            expires_at=now() + timedelta(days=INVITATION_DAYS),
        )
    )
    audit.record(connection, "account", actor=actor, action="C", detail={"invitation": name, "role": role})
    return secret


def invited(connection: Connection, secret: str) -> str | None:
    """Return the account's name that a link is for; None if it is unknown, used or too old."""
    open_still = (invitation.c.used_at.is_(None), invitation.c.expires_at > now())
    return connection.execute(
        select(invitation.c.account_name).where(invitation.c.token_sha256 == digest(secret), *open_still)
    ).scalar()


def accept_invitation(engine: Engine, secret: str, password: str, address: str = "") -> str:
    """Make the account of a link, or give the one there is a new password and end its sessions; return its name.

    Raises
    ------
    SignInRefusedError
        If the link is no longer good, or the password is too short.
    """
    require_password(password)
    hashed = _hasher().hash(password)
    with engine.begin() as connection:
        used = update(invitation).where(
            invitation.c.token_sha256 == digest(secret), invitation.c.used_at.is_(None), invitation.c.expires_at > now()
        )
        row = connection.execute(used.values(used_at=now()).returning(invitation)).first()
        if row is None:
            raise SignInRefusedError("This link has been used or is too old. Ask for a new one.")
        values = {"role": row.role, "password_hash": hashed, "recipient": row.recipient}
        if insert_new(connection, account, name=row.account_name, made_at=now(), **values) is None:
            this = account.c.name == row.account_name
            connection.execute(update(account).where(this).values(**values, closed_at=None))
            mine = select(account.c.id).where(this).scalar_subquery()
            connection.execute(web_session.delete().where(web_session.c.account_id == mine))
        # whoever was kept out by somebody's guesses comes in with a new link
        connection.execute(sign_in_failure.delete().where(sign_in_failure.c.account_name == row.account_name))
        audit.record(connection, "account", actor=row.account_name, action="U", address=address)
    return str(row.account_name)


def sign_in(engine: Engine, name: str, password: str, address: str, time: datetime, *, replaces: str = "") -> str:
    """Return the secret of a new session.

    Parameters
    ----------
    name, password : as typed
    address : network address that they came from
    time : it is
    replaces : secret of the session that the browser had, which ends; "" without one

    Raises
    ------
    SignInRefusedError
        If name or password are wrong, or too many were.
    """
    with _signing_in:
        return _sign_in(engine, _plain(name), password, address, time, replaces)


def _sign_in(engine: Engine, name: str, password: str, address: str, time: datetime, replaces: str) -> str:
    with engine.begin() as connection:
        _forget(connection, time)
        wait = _wait(connection, name, address, time)
        row = connection.execute(select(account).where(account.c.name == name, account.c.closed_at.is_(None))).first()
    if wait > timedelta(0):
        minutes = -(-wait // timedelta(minutes=1))
        raise SignInRefusedError(f"Too many attempts failed. Try again in {minutes} minute{'s'[: minutes != 1]}.")
    matches = _matches(row.password_hash if row else _hash_of_nothing(), password) and row is not None
    with engine.begin() as connection:
        if not matches or row is None:
            connection.execute(sign_in_failure.insert().values(account_name=name, address=address, at=time))
            actor = name if row is not None else UNKNOWN
            audit.record(connection, "sign_in", actor=actor, address=address, outcome=4)
        else:
            connection.execute(web_session.delete().where(web_session.c.token_sha256 == digest(replaces)))
            secret = secrets.token_urlsafe(32)
            connection.execute(
                web_session.insert().values(
                    token_sha256=digest(secret),
                    account_id=row.id,
                    csrf_token=secrets.token_urlsafe(32),
                    made_at=time,
                    seen_at=time,
                )
            )
            connection.execute(sign_in_failure.delete().where(sign_in_failure.c.account_name == name))
            audit.record(connection, "sign_in", actor=name, address=address)
            return secret
    raise SignInRefusedError("Name or password is wrong.")


def find_session(
    engine: Engine, secret: str, idle_hours: float, time: datetime, *, used: bool = True
) -> Session | None:
    """Return who is signed in with a session's secret; None if it is unknown or over.

    Parameters
    ----------
    secret : of the session
    idle_hours : after so long without use it is over; in any case after `LONGEST_SESSION`
    time : it is
    used : whether a person did something; False where a page that stands open asks by itself
    """
    with reading(engine) as connection:
        row = connection.execute(
            select(web_session, account.c.name, account.c.role, account.c.recipient, account.c.closed_at)
            .join_from(web_session, account)
            .where(web_session.c.token_sha256 == digest(secret))
        ).first()
    if row is None or row.closed_at is not None:
        return None
    # a clock that was set back must not make a session longer
    if time - row.seen_at > timedelta(hours=idle_hours) or abs(time - row.made_at) > LONGEST_SESSION:
        return None
    if used and time - row.seen_at > SEEN_EVERY:
        with engine.begin() as connection:
            this = web_session.c.token_sha256 == row.token_sha256
            connection.execute(update(web_session).where(this).values(seen_at=time))
    return Session(row.name, row.role, row.recipient, row.csrf_token)


def sign_out(engine: Engine, secret: str, name: str, address: str) -> None:
    """End a session."""
    with engine.begin() as connection:
        connection.execute(web_session.delete().where(web_session.c.token_sha256 == digest(secret)))
        audit.record(connection, "sign_out", actor=name, address=address)


def close(connection: Connection, name: str, actor: str = "command line") -> None:
    """Close an account and end its sessions; links for it that were not used are no longer good.

    Raises
    ------
    ConfigError
        If there is no open account of this name, nor a link for one.
    """
    this = (account.c.name == name) & account.c.closed_at.is_(None)
    key = connection.execute(update(account).where(this).values(closed_at=now()).returning(account.c.id)).scalar()
    if _withdraw_invitations(connection, name) == 0 and key is None:
        raise ConfigError(f"there is no open account {name!r}. `cxrtriage node account list` shows them.")
    connection.execute(web_session.delete().where(web_session.c.account_id == key))
    audit.record(connection, "account", actor=actor, action="D", detail={"account": name})


def add_token(connection: Connection, name: str, role: str, actor: str = "command line") -> str:
    """Return the secret of a new API token, which is shown once.

    Raises
    ------
    ConfigError
        If the name cannot be or is taken, or the role is neither reader nor admin.
    """
    _require_name(connection, name, account)
    if role not in ("reader", "admin"):
        raise ConfigError(f"a token has the role reader or admin, not {role!r}.")
    secret = secrets.token_urlsafe(32)
    if insert_new(connection, api_token, token_sha256=digest(secret), name=name, role=role, made_at=now()) is None:
        raise ConfigError(f"there is a token {name!r} already. Choose another name; closed ones keep theirs.")
    audit.record(connection, "account", actor=actor, action="C", detail={"token": name, "role": role})
    return secret


def close_token(connection: Connection, name: str, actor: str = "command line") -> None:
    """Close an API token.

    Raises
    ------
    ConfigError
        If there is no open one of this name.
    """
    this = (api_token.c.name == name) & api_token.c.closed_at.is_(None)
    if connection.execute(update(api_token).where(this).values(closed_at=now())).rowcount == 0:
        raise ConfigError(f"there is no open token {name!r}. `cxrtriage node token list` shows them.")
    audit.record(connection, "account", actor=actor, action="D", detail={"token": name})


def find_token(engine: Engine, secret: str) -> Token | None:
    """Return the API token of a secret; None if it is unknown or closed."""
    with reading(engine) as connection:
        row = connection.execute(
            select(api_token).where(api_token.c.token_sha256 == digest(secret), api_token.c.closed_at.is_(None))
        ).first()
    return None if row is None else Token(row.name, row.role)


def has_accounts(connection: Connection) -> bool:
    """Tell whether anybody can sign in."""
    return bool(connection.execute(select(func.count()).select_from(account)).scalar_one())


def require_password(password: str) -> None:
    """Refuse a password that is too short or too long."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise SignInRefusedError(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} signs; a sentence is fine.")


def digest(secret: str) -> str:
    """Return the SHA-256 under which a secret is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(given: str, secret: str) -> bool:
    """Compare in a time that tells nothing."""
    return bool(secret) and secrets.compare_digest(given.encode(), secret.encode())


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _hash_of_nothing() -> str:
    """Return a hash that no password fits, so that unknown names take as long as known ones."""
    return _hasher().hash(secrets.token_urlsafe(32))


def _matches(hashed: str, password: str) -> bool:
    try:
        return _hasher().verify(hashed, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return False


def _wait(connection: Connection, name: str, address: str, time: datetime) -> timedelta:
    """Return how long the next attempt of this name, or from this address, has to wait."""
    longest = timedelta(0)
    for column, value in (("account_name", name), ("address", address)):
        times = connection.execute(
            select(sign_in_failure.c.at).where(sign_in_failure.c[column] == value).order_by(sign_in_failure.c.at.desc())
        ).scalars()
        failures = list(times)
        if len(failures) >= FAILURES[column]:
            longest = max(longest, failures[FAILURES[column] - 1] + FORGIVEN_AFTER - time)
    return longest


def _forget(connection: Connection, time: datetime) -> None:
    """Remove failures that are forgiven and sessions that are over; of a time to come too: clocks are set back."""
    at, made_at = sign_in_failure.c.at, web_session.c.made_at
    connection.execute(sign_in_failure.delete().where(or_(at < time - FORGIVEN_AFTER, at > time + FORGIVEN_AFTER)))
    connection.execute(
        web_session.delete().where(or_(made_at < time - LONGEST_SESSION, made_at > time + LONGEST_SESSION))
    )


def _withdraw_invitations(connection: Connection, name: str) -> int:
    """Make links for a name no longer good; return how many were."""
    still_open = (invitation.c.account_name == name, invitation.c.used_at.is_(None), invitation.c.expires_at > now())
    return connection.execute(update(invitation).where(*still_open).values(used_at=now())).rowcount


def _require_name(connection: Connection, name: str, others: Table) -> None:
    """Refuse a name that cannot be, or that one of `others` has: the audit trail knows people and programs by name."""
    if not name.isprintable() or not 0 < len(name.strip()) <= NAME_LENGTH or name != name.strip():
        raise ConfigError(f"a name has 1 to {NAME_LENGTH} printable signs and no blanks around it.")
    if connection.execute(select(others.c.name).where(others.c.name == name)).first() is not None:
        raise ConfigError(f"{name!r} is the name of an {others.name.replace('_', ' ')}. Choose another one.")


def _plain(name: str) -> str:
    """Return a name as typed in a form that every database takes; no account has a question mark for a control sign."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:NAME_LENGTH]
