"""A node whose pages can be looked at: real films in its store, a model file, results of every kind."""

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from cxrtriage.serve import database, models
from cxrtriage.serve.database import open_database
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.header import read_header
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import imaging_order, instance, job, result, study
from cxrtriage.serve.web import accounts
from cxrtriage.serve.web.access import COOKIE
from cxrtriage.serve.web.app import create_app
from cxrtriage.serve.worklist import priority
from serve.peers import film, free_port

PASSWORD = "correct horse battery"
# waiting in minutes, probability, decision, state, reason, order
KINDS: Sequence[tuple[float, float | None, str, str, str, str]] = (
    (4, 0.97, "emergent", "done", "", ""),
    (31, 0.12, "normal", "done", "", "stat"),
    (262, 0.08, "normal", "done", "", ""),
    (12, 0.91, "abnormal", "done", "", ""),
    (55, 0.66, "abnormal", "done", "", ""),
    (20, 0.05, "normal", "done", "", ""),
    (9, None, "", "not_assessed", "view LL, the model was trained on AP and PA", ""),
    (1, None, "", "received", "", ""),
    (80, None, "", "failed", "the scoring process died or hung over this film (3 attempts)", ""),
)
NAMES = ("Okafor^Ada", "Müller^Jürgen", "Rossi^Maria Grazia", "Nguyen^Van An", "Smith^John", "Haddad^Layla")


class PagesNode:
    """A node under `home` with studies of every kind, and its application.

    Parameters
    ----------
    films : DICOM files to show, taken in turn; their UIDs are replaced by others
    """

    def __init__(self, home: Path, model_file: Path, films: Sequence[Path], **settings: dict[str, Any]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        url = f"sqlite:///{home}/node.sqlite"
        self.settings = NodeSettings.model_validate(
            {"store": {"min_free_gib": 0.001}, "database": {"url": url}, **settings}
        )
        self.engine: Engine = open_database(url)
        migrate(self.engine)
        self.model = models.add_model(self.engine, home, model_file, "active")
        with FilmStore(home, self.engine, 0.001) as store:
            for number, kind in enumerate(KINDS):
                self._study(store, films[number % len(films)], number, kind)
        self.app = create_app(home, self.settings, self.engine)

    def uid(self, number: int) -> str:
        return f"1.2.826.0.1.9.{number}"

    def account(self, name: str, role: str, recipient: str = "") -> None:
        with self.engine.begin() as connection:
            secret = accounts.invite(connection, name, role, recipient)
        accounts.accept_invitation(self.engine, secret, PASSWORD)

    def client(self, name: str, role: str, recipient: str = "") -> TestClient:
        """Return a client that is signed in and sends the CSRF token."""
        self.account(name, role, recipient)
        client = TestClient(self.app, follow_redirects=False)
        assert client.post("/sign-in", data={"name": name, "password": PASSWORD}).status_code == 303
        session = accounts.find_session(self.engine, client.cookies[COOKIE], 8, database.now())
        assert session is not None
        client.headers["X-CSRF-Token"] = session.csrf_token
        return client

    @contextmanager
    def served(self) -> Iterator[str]:
        """Answer on a port of this machine; yield the URL."""
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(self.app, host="127.0.0.1", port=port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()

    def _study(self, store: FilmStore, path: Path, number: int, kind: tuple[Any, ...]) -> None:
        waiting, probability, decision, state, reason, order = kind
        part = Path(shutil.copy(path, store.incoming / "part.dcm"))
        _give_identity(part, self.uid(number), f"A26{number:04}", NAMES[number % len(NAMES)], f"P{100 + number % 6}")
        store.keep(part, read_header(part), "XR_ROOM1")
        part.unlink()
        at = database.now() - timedelta(minutes=waiting)
        with self.engine.begin() as connection:
            key = connection.execute(
                select(study.c.id).where(study.c.study_instance_uid == self.uid(number))
            ).scalar_one()
            connection.execute(update(study).where(study.c.id == key).values(received_at=at))
            connection.execute(update(instance).where(instance.c.study_id == key).values(received_at=at))
            film_key = connection.execute(select(instance.c.id).where(instance.c.study_id == key)).scalar_one()
            connection.execute(update(job).where(job.c.instance_id == film_key).values(state=state, reason=reason))
            if order:
                texts = ("provider_id", "service", "procedure_code", "procedure_scheme", "procedure_text")
                texts += ("placer_order_number", "filler_order_number")
                connection.execute(
                    imaging_order.insert().values(
                        accession_number=f"A26{number:04}",
                        study_instance_uid=self.uid(number),
                        priority=order,
                        received_at=at,
                        **dict.fromkeys(texts, ""),
                    )
                )
            if probability is not None:
                connection.execute(
                    result.insert().values(
                        instance_id=film_key,
                        model_sha256=self.model.sha256,
                        probability=probability,
                        threshold=0.42,
                        decision=decision,
                        seconds=0.4,
                        fence=1,
                        made_at=at + timedelta(seconds=1),
                    )
                )
            priority.refresh(connection, key)


def _give_identity(path: Path, uid: str, accession: str, name: str, patient_id: str) -> None:
    import pydicom

    found = pydicom.dcmread(path)
    found.StudyInstanceUID, found.SOPInstanceUID, found.AccessionNumber = uid, f"{uid}.1", accession
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.SpecificCharacterSet = "ISO_IR 192"
    found.PatientName, found.PatientID = name, patient_id
    found.save_as(path)


def small_films(folder: Path) -> list[Path]:
    """Return three small films."""
    folder.mkdir(exist_ok=True)
    return [film(folder / f"{seed}.dcm", seed=seed, side=160) for seed in range(3)]


def rows_of(engine: Engine, table: Any) -> list[Any]:
    with database.reading(engine) as connection:
        return list(connection.execute(select(table)).all())


def details(engine: Engine, event: str) -> list[dict[str, Any]]:
    """Return the facts of all rows of the audit trail of a kind."""
    from cxrtriage.serve.tables import audit

    return [json.loads(row.detail) for row in rows_of(engine, audit) if row.event == event]


def without_times(page: str) -> str:
    """Return a page without the moments that its times stand for, whose fractions of a second may hold any digits."""
    return re.sub(r' (datetime|data-since)="[^"]*"', "", page)
