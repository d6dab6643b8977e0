"""Films kept: a received file in, a durable file and its rows out; `receiver` calls it, `worker` reads the files.

    HOME/incoming/<receiver>/<random>.dcm     while it arrives
    HOME/films/<aa>/<sha256 of UID>-<content>.dcm     for good; no name from the network becomes a path

`FilmStore.keep` returns only when the film would survive a power cut: its bytes are on the disk, then its
second name (a hard link, which never replaces a file), then the folder, then the rows. The first name goes
last, so whatever a crash leaves in `incoming/` says how far it came: one name, the sender has had no answer
and sends again; two names, the film is complete and gets its rows at the next start. A film that the database
did not take gets a second name there again.

The same film again (same UID, pixels and facts) changes nothing. The same UID with other pixels or facts
is kept, listed and scored beside the first one: the standard forbids it, senders do it, and to drop either
could lose an abnormal film.
"""

import hashlib
import logging
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import CxrTriageError
from cxrtriage.machine import free_bytes
from cxrtriage.serve import audit, queue, turns
from cxrtriage.serve.database import insert_new, now, reading
from cxrtriage.serve.header import Header, NotUnderstoodError, read_header
from cxrtriage.serve.tables import instance, patient, study
from cxrtriage.serve.worklist import priority, reviews

LOGGER = logging.getLogger(__name__)
LOCK = "lock"  # in each receiver's folder
SWEEPING = ".sweeping"  # under HOME


class DiskLowError(CxrTriageError):
    """Less is free than `store.min_free_gib`."""


@dataclass(frozen=True, slots=True)
class Door:
    """How a film came, for the audit trail: who brought it, from where, and by which event of `audit.EVENTS`."""

    actor: str
    address: str = ""
    event: str = "transferred"


class FilmStore:
    """The films under HOME, and the folder that this process receives into; used as a context.

    Parameters
    ----------
    home : the node's folder
    engine : from `open_database`
    min_free_gib : refuse films while less than this is free

    Attributes
    ----------
    incoming : Path
        Where to put what arrives, on the file system of the films. Files left there are swept away.
    """

    def __init__(self, home: Path, engine: Engine, min_free_gib: float) -> None:
        self.home = home
        self.engine = engine
        self.min_free_bytes = int(min_free_gib * 2**30)
        self.incoming = home / "incoming" / secrets.token_hex(8)

    def __enter__(self) -> Self:
        _make_folders(self.home)
        with (self.home / SWEEPING).open("w") as sweeping:
            flock(sweeping, LOCK_EX)
            self.incoming.mkdir(exist_ok=True)  # what the database did not take lies there, if it is opened again
            self._lock = (self.incoming / LOCK).open("w")
            flock(self._lock, LOCK_EX)  # while it is held, this receiver lives and nobody else sweeps its folder
            for folder in self.incoming.parent.iterdir():
                if folder != self.incoming:
                    self._sweep(folder)
        return self

    def __exit__(self, *_: object) -> None:
        with (self.home / SWEEPING).open("w") as sweeping:
            flock(sweeping, LOCK_EX)
            self._lock.close()
            self._sweep(self.incoming)

    def require_room(self) -> None:
        """Raise DiskLowError if the disk is low."""
        free = free_bytes(self.home)
        if free < self.min_free_bytes:
            raise DiskLowError(
                f"{free / 2**30:.2f} GiB free, expected at least {self.min_free_bytes / 2**30:.2f} GiB "
                "(store.min_free_gib). Free space, then ask the sender to resend."
            )

    def trouble(self) -> str:
        """Say why films are refused at present; "" if they are not."""
        try:
            self.require_room()
        except DiskLowError as error:
            return f"Films are refused: {error}"
        return ""

    def keep(self, part: Path, header: Header, calling_ae: str, door: Door | None = None) -> bool:
        """Keep a film for good.

        Parameters
        ----------
        part : a whole DICOM file in `incoming`; stays there, the caller removes it
        header : what `read_header` says of it
        calling_ae : who sent it, or the door's name
        door : how it came, for the audit trail; by C-STORE unless given

        Returns
        -------
        bool
            False if the same film is there already.

        Raises
        ------
        DiskLowError
            If the disk is low.
        OSError, SQLAlchemyError
            If the disk or the database fails. Nothing is half there then; the film may be sent again. If it was on
            the disk already, it gets its rows at the next start even if it is not.
        """
        self.require_room()
        target = self.home / _place(header)
        with reading(self.engine) as connection:
            known = connection.execute(
                select(instance.c.id).where(
                    instance.c.sop_instance_uid == header.sop_instance_uid,
                    instance.c.content_sha256 == header.content_sha256,
                )
            ).first()
        if known and target.exists():
            return False
        _sync(part)
        try:
            target.hardlink_to(part)
        except FileExistsError:  # another association is just keeping it, or a crash came before its rows
            header = read_header(target)
        without_rows = self.incoming / target.name
        try:
            _sync(target.parent)
            with self.engine.begin() as connection:
                new = _insert(connection, header, calling_ae, door or Door(calling_ae))
        except Exception:
            with suppress(FileExistsError):  # nor did the database take it before
                without_rows.hardlink_to(target)  # `target` itself may be another association's by now
            raise
        without_rows.unlink(missing_ok=True)
        return new

    def _sweep(self, folder: Path) -> None:
        """Finish what a receiver that is gone was about to keep, and remove the rest of its folder."""
        with (folder / LOCK).open("a") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                return  # that receiver is alive
            try:
                for part in folder.glob("*.dcm"):
                    if part.stat().st_nlink > 1:
                        self._recover(part)
            except SQLAlchemyError as error:
                LOGGER.error("films in %s get their rows at the next start: %s", folder, type(error).__name__)
                return
            shutil.rmtree(folder)

    def _recover(self, part: Path) -> None:
        try:
            header = read_header(part)
        except NotUnderstoodError:  # the disk lost what it had said was written; the sender had no answer
            LOGGER.error("removed an unfinished film that can no longer be read")
            return
        _sync((self.home / _place(header)).parent)
        with self.engine.begin() as connection:
            if _insert(connection, header, "", Door("node")):
                LOGGER.warning(
                    "recovered instance %s, received just before a crash, or while the database was away",
                    header.sop_instance_uid,
                )


def _make_folders(home: Path) -> None:
    """Make the folders under HOME, once, durably."""
    (home / "incoming").mkdir(parents=True, exist_ok=True)
    films = home / "films"
    films.mkdir(exist_ok=True)
    for number in range(256):
        (films / f"{number:02x}").mkdir(exist_ok=True)
    for folder in (films, home):
        _sync(folder)


def _place(header: Header) -> Path:
    """Return the film's path relative to HOME: made of hashes alone, so that no UID from the network is a path."""
    name = hashlib.sha256(header.sop_instance_uid.encode()).hexdigest()
    return Path("films") / name[:2] / f"{name}-{header.content_sha256[:16]}.dcm"


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _insert(connection: Connection, header: Header, calling_ae: str, door: Door) -> bool:
    """Write the rows of a film that is on the disk, its job among them; False if they are there."""
    turns.beside_others(connection)
    received_at = now()
    insert_new(
        connection,
        study,
        study_instance_uid=header.study_instance_uid,
        accession_number=header.accession_number,
        received_at=received_at,
    )
    study_id = connection.execute(
        select(study.c.id).where(study.c.study_instance_uid == header.study_instance_uid)
    ).scalar_one()
    instance_id = insert_new(
        connection,
        instance,
        study_id=study_id,
        sop_instance_uid=header.sop_instance_uid,
        content_sha256=header.content_sha256,
        series_instance_uid=header.series_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality=header.modality,
        body_part=header.body_part,
        view_position=header.view_position,
        age_years=header.age_years,
        path=_place(header).as_posix(),
        file_sha256=header.file_sha256,
        file_bytes=header.file_bytes,
        calling_ae=calling_ae,
        received_at=received_at,
    )
    if instance_id is None:
        return False
    _put_back(connection, study_id, door)
    person = header.patient
    connection.execute(
        patient.insert().values(
            instance_id=instance_id,
            name=person.name,
            patient_id=person.patient_id,
            birth_date=person.birth_date,
            sex=person.sex,
        )
    )
    queue.add_for_all_models(connection, instance_id)
    priority.refresh(connection, study_id)  # an order may have come before its film
    audit.record(
        connection,
        door.event,
        actor=door.actor,
        action="C",
        address=door.address,
        study_instance_uid=header.study_instance_uid,
        detail={"sop_instance_uid": header.sop_instance_uid},
    )
    return True


def _put_back(connection: Connection, study_id: int, door: Door) -> None:
    """Put a study that was read back on the list, since a film of it comes that nobody has seen."""
    this = study.c.id == study_id
    if connection.execute(select(study.c.read_at).where(this).with_for_update()).scalar_one() is not None:
        reviews.reopen(connection, study_id, door.actor)
