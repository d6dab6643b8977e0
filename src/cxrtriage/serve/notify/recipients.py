"""Whom to tell: `recipients.csv` and a study's order or header in, one `Contact` out; `notices` asks.

The table is read anew each time, so that a correction counts from the next notice, and from the next attempt
at one that is parked. Physicians are compared by letters and digits alone: "SMITH^JOHN" is "Smith, John".
"""

import csv
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from sqlalchemy import Connection, select

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError
from cxrtriage.serve.header import DEFLATED
from cxrtriage.serve.hl7.orders import order_of
from cxrtriage.serve.tables import instance, study

COLUMNS = ("key", "match", "email", "webhook", "next")
SEPARATOR = ";"  # between what one contact matches
EMAIL = re.compile(r"[^\s@,;<>\"]+@[^\s@,;<>\"]+")  # no list, no header line
LONGEST_KEY = 128
TEMPLATE = """\
# Whom this cxrtriage node tells of abnormal studies; read anew for each notice. One contact a line:
# key      a short name of your own; accounts of referrers and the column next name it
# match    whose studies these are: physician's number or name, or requesting service, as in the order
#          or the film; several with ; between
# email    where to write to, by [mail]
# webhook  what the receiver of [webhook] knows this contact by, such as a pager number
# next     key of the contact who is told when this one does not acknowledge in time; empty: nobody
#
# smith,4711; SMITH^JOHN,j.smith@hospital.example,,oncall
# icu,ICU; Intensive care,icu@hospital.example,,oncall
# oncall,,oncall@hospital.example,pager-17,
key,match,email,webhook,next
"""


@dataclass(frozen=True, slots=True)
class Contact:
    """One line of the table."""

    key: str
    match: tuple[str, ...]
    email: str
    webhook: str
    next: str


def write_template(path: Path) -> None:
    """Write an empty table with its explanation, unless there is a table."""
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(TEMPLATE, encoding="utf-8")


def read_recipients(path: Path) -> dict[str, Contact]:
    """Return the contacts by their keys.

    Raises
    ------
    ConfigError
        If the table cannot be read, or a line of it cannot mean anything.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}. Write the table of contacts there.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is not in UTF-8. Save it as UTF-8.") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = csv.DictReader([line for _, line in numbered], skipinitialspace=True)
    if tuple(name.strip() for name in rows.fieldnames or ()) != COLUMNS:
        raise ConfigError(f"{path}: its first line without # must be {','.join(COLUMNS)}. Correct it.")
    contacts: dict[str, Contact] = {}
    owners: dict[str, str] = {}
    for (number, _), row in zip(numbered[1:], rows, strict=False):
        contact = _contact(row, f"{path} line {number}")
        if contact.key in contacts:
            raise ConfigError(f"{path} line {number}: key {contact.key} stands there twice. Rename one.")
        contacts[contact.key] = contact
        for text in contact.match:
            if owners.setdefault(plain(text), contact.key) != contact.key:
                raise ConfigError(
                    f"{path} line {number}: {text} is matched by {owners[plain(text)]} already. Leave it to one."
                )
    for contact in contacts.values():
        if contact.next and contact.next not in contacts:
            raise ConfigError(f"{path}: the next of {contact.key} is {contact.next}, which is no key. Correct it.")
    return contacts


def find(contacts: Mapping[str, Contact], names: Iterable[str]) -> Contact | None:
    """Return the contact that matches the first of these names that any does."""
    by_name = {plain(text): contact for contact in contacts.values() for text in contact.match}
    return next((by_name[plain(name)] for name in names if plain(name) in by_name), None)


def names_of(connection: Connection, home: Path, study_id: int) -> list[str]:
    """Return by what names a study's contact may be found: who ordered, who referred, then which service.

    Parameters
    ----------
    home : the node's folder; without the films under it, what their headers tell is missing
    """
    row = connection.execute(select(study).where(study.c.id == study_id)).one()
    order = order_of(connection, row.study_instance_uid, row.accession_number)
    film = connection.execute(
        select(instance.c.path, instance.c.transfer_syntax_uid)
        .where(instance.c.study_id == study_id)
        .order_by(instance.c.id)
    ).first()
    physicians, services = [], []
    if order is not None:
        physicians.append(order.provider_id)
        services.append(order.service)
    if film is not None and film.transfer_syntax_uid != DEFLATED:  # which pydicom would unpack whole
        told = _header_names(home / film.path)
        physicians += told[0]
        services += told[1]
    return [name for name in dict.fromkeys(physicians + services) if plain(name)]


def plain(name: str) -> str:
    """Return a name's letters and digits, in lower case."""
    return " ".join(re.findall(r"\w+", name.casefold()))


def _contact(row: dict[str, str], where: str) -> Contact:
    if None in row or None in row.values():
        raise ConfigError(f"{where}: expected {len(COLUMNS)} cells. Put cells that hold a comma in quotes.")
    cells = {name.strip(): value.strip() for name, value in row.items()}
    if not cells["key"] or len(cells["key"]) > LONGEST_KEY:
        raise ConfigError(f"{where}: the key must have 1 to {LONGEST_KEY} characters. Give it a short one.")
    if cells["email"] and not EMAIL.fullmatch(cells["email"]):
        raise ConfigError(f"{where}: {cells['email']!r} is no single e-mail address. Correct it.")
    match = tuple(text.strip() for text in cells["match"].split(SEPARATOR) if plain(text))
    return Contact(cells["key"], match, cells["email"], cells["webhook"], cells["next"])


def _header_names(film: Path) -> tuple[list[str], list[str]]:
    """Return the physicians and the services that a film's header names (PS3.3 C.7.2.1, C.4.12)."""
    tags = [
        "ReferringPhysicianIdentificationSequence",
        "ReferringPhysicianName",
        "RequestingPhysician",
        "RequestingService",
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            header: Dataset = dcmread(film, stop_before_pixels=True, specific_tags=tags)
            codes = [
                str(code.get("CodeValue", ""))
                for person in header.get("ReferringPhysicianIdentificationSequence") or []
                for code in person.get("PersonIdentificationCodeSequence") or []
            ]
            names = [str(header.get(tag) or "").split("=")[0] for tag in tags[1:]]
    except Exception:  # gone, or damaged: the order may tell, and a contact not found is shown
        return [], []
    return [*codes, *names[:2]], names[2:]
