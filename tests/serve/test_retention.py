"""Deleting films of studies read long ago, and no others."""

import json
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import Engine, select, update

from cxrtriage.serve.database import now, reading
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.header import read_header
from cxrtriage.serve.retention import Deleted, keep_retaining, retain
from cxrtriage.serve.tables import audit, instance, job, outbox, patient, study
from cxrtriage.serve.web.pictures import Pictures
from serve.peers import film


@pytest.fixture
def home(engine: Engine, tmp_path: Path) -> Path:
    """A node with four studies of two films each, of which 1.1, 1.2 and 1.3 were read 40 days ago."""
    home = tmp_path / "home"
    with FilmStore(home, engine, 0.001) as store:
        for number in range(8):
            path = film(tmp_path / "a.dcm", number, StudyInstanceUID=f"1.{number // 2 + 1}")
            part = Path(shutil.copy(path, store.incoming / f"{number}.dcm"))
            store.keep(part, read_header(part), "SENDER")
            part.unlink()
    with engine.begin() as connection:
        connection.execute(update(job).values(state="done"))
    set_study(engine, ["1.1", "1.2", "1.3"], read_at=now() - timedelta(days=40))
    return home


def set_study(engine: Engine, uids: list[str], **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(study).where(study.c.study_instance_uid.in_(uids)).values(values))


def study_id(engine: Engine, uid: str) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(study.c.id).where(study.c.study_instance_uid == uid)).scalar_one())


def films(home: Path) -> list[str]:
    """Return the studies of the films there, one entry a film."""
    return sorted(str(dcmread(path).StudyInstanceUID) for path in (home / "films").rglob("*.dcm"))


def audited(engine: Engine) -> list[tuple[str, int]]:
    with reading(engine) as connection:
        rows = connection.execute(select(audit).where(audit.c.event == "delete").order_by(audit.c.id)).all()
    assert {row.action for row in rows} <= {"D"}
    return [(row.study_instance_uid, json.loads(row.detail)["films"]) for row in rows]


def test_films_of_studies_read_long_ago_go_and_their_rows_stay(engine: Engine, home: Path) -> None:
    set_study(engine, ["1.3"], read_at=now() - timedelta(days=20))
    size = sum(path.stat().st_size for path in (home / "films").rglob("*.dcm"))
    deleted = retain(engine, home, 30, actor="ann")
    left = sum(path.stat().st_size for path in (home / "films").rglob("*.dcm"))
    assert deleted == Deleted(studies=2, films=4, bytes=size - left)
    assert films(home) == ["1.3", "1.3", "1.4", "1.4"]
    assert audited(engine) == [("1.1", 2), ("1.2", 2)]
    with reading(engine) as connection:
        assert [len(connection.execute(select(table)).all()) for table in (study, instance, patient, job)] == [
            4,
            8,
            8,
            8,
        ]
    assert retain(engine, home, 30, actor="ann") == Deleted()
    assert len(audited(engine)) == 2


def test_a_dry_run_counts_and_leaves_everything(engine: Engine, home: Path) -> None:
    assert retain(engine, home, 30, actor="ann", dry_run=True).films == 6
    assert len(films(home)) == 8
    assert audited(engine) == []


def test_zero_days_mean_for_ever(engine: Engine, home: Path) -> None:
    assert retain(engine, home, 0, actor="ann") == Deleted()
    assert len(films(home)) == 8


def test_an_unread_study_and_one_read_again_stay_however_old(engine: Engine, home: Path) -> None:
    set_study(engine, ["1.4"], received_at=now() - timedelta(days=4000))
    set_study(engine, ["1.1"], read_at=None)
    retain(engine, home, 0.001, actor="ann")
    assert films(home) == ["1.1", "1.1", "1.4", "1.4"]


@pytest.mark.parametrize("state", ["received", "running"])
def test_a_film_that_waits_for_a_model_keeps_its_study(engine: Engine, home: Path, state: str) -> None:
    with engine.begin() as connection:
        first = select(instance.c.id).where(instance.c.study_id == study_id(engine, "1.2")).limit(1).scalar_subquery()
        connection.execute(update(job).where(job.c.instance_id == first).values(state=state))
    retain(engine, home, 30, actor="ann")
    assert films(home) == ["1.2", "1.2", "1.4", "1.4"]


@pytest.mark.parametrize(("state", "stays"), [("waiting", True), ("sending", True), ("sent", False), ("parked", False)])
def test_a_study_that_is_still_to_be_told_of_stays(engine: Engine, home: Path, state: str, stays: bool) -> None:
    with engine.begin() as connection:
        connection.execute(
            outbox.insert().values(
                destination="pacs", kind="overlay", key="k", study_id=study_id(engine, "1.2"), content="{}",
                state=state, reason="", attempt=0, not_before=now(), fence=0, made_at=now(), changed_at=now(),
            )
        )  # fmt: skip
    retain(engine, home, 30, actor="ann")
    assert ("1.2" in films(home)) == stays


def test_a_disk_that_fails_half_way_leaves_a_record_and_the_next_run_goes_on(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, left = Path.unlink, [3]

    def failing(path: Path, missing_ok: bool = False) -> None:
        if not left[0]:
            raise OSError
        left[0] -= 1
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", failing)
        with pytest.raises(OSError):  # noqa: PT011
            retain(engine, home, 30, actor="ann")
    assert films(home) == ["1.2", "1.3", "1.3", "1.4", "1.4"]
    assert audited(engine) == [("1.1", 2), ("1.2", 2)]  # no film is gone without a word
    retain(engine, home, 30, actor="ann")
    assert films(home) == ["1.4", "1.4"]
    assert audited(engine)[2:] == [("1.2", 1), ("1.3", 2)]


def test_a_film_sent_again_after_its_deletion_is_kept_without_new_rows_and_goes_with_the_next_run(
    engine: Engine, home: Path, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.dcm", 1, StudyInstanceUID="1.1", SOPInstanceUID="1.9.9")
    with FilmStore(home, engine, 0.001) as store:
        part = Path(shutil.copy(path, store.incoming / "new.dcm"))
        store.keep(part, read_header(part), "SENDER")
        part.unlink()
    with engine.begin() as connection:
        connection.execute(update(job).values(state="done"))
    retain(engine, home, 30, actor="ann")
    assert films(home).count("1.1") == 3  # nobody has seen the new film: the study is on the list again
    set_study(engine, ["1.1"], read_at=now() - timedelta(days=40))
    retain(engine, home, 30, actor="ann")
    assert "1.1" not in films(home)
    with FilmStore(home, engine, 0.001) as store:
        for _ in range(2):
            part = Path(shutil.copy(path, store.incoming / "again.dcm"))
            store.keep(part, read_header(part), "SENDER")
            part.unlink()
            with engine.begin() as connection:
                connection.execute(update(job).values(state="done"))
            assert "1.1" in films(home)
            retain(engine, home, 30, actor="ann")
            assert "1.1" not in films(home)


def test_a_node_deletes_daily_until_it_stops(engine: Engine, home: Path) -> None:
    stopping = threading.Event()
    keep_retaining(engine, home, 30, stopping)
    deadline = time.monotonic() + 120
    while len(films(home)) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stopping.set()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "retention"]
    thread.join(60)
    assert not thread.is_alive()


def test_the_pictures_of_a_deleted_film_go_with_it(home: Path, engine: Engine) -> None:
    pictures = Pictures(home)
    with reading(engine) as connection:
        rows = connection.execute(select(instance.c.path, instance.c.content_sha256, instance.c.study_id)).all()
    for row in rows:
        pictures.film(home / row.path, row.content_sha256)
    retain(engine, home, 30, actor="tester")
    left = {path.name.partition("-")[0] for path in (home / "pictures").rglob("*.png")}
    assert left == {row.content_sha256 for row in rows if row.study_id == study_id(engine, "1.4")}
