import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import open_database
from cxrtriage.serve.migrate import MIGRATIONS, database_version, migrate
from cxrtriage.serve.results import outbox
from cxrtriage.serve.tables import metadata

LATER = """
import sqlalchemy as sa
from alembic import op
revision = "9999"
down_revision = "0003"
def upgrade():
    op.add_column("study", sa.Column("later", sa.Integer()))
    {then}
"""


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a version to come."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "v9999_later.py").write_text(LATER.format(then=""))
    return folder


def test_the_migrations_make_the_tables_that_the_code_uses(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    def start(_: int) -> str | None:
        engine = open_database(database_url)
        migrate(engine)
        version = database_version(engine)
        engine.dispose()
        return version

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(start, range(4))) == ["0003"] * 4


def test_an_upgrade_of_sqlite_keeps_a_copy_of_what_was_before(sqlite: Engine, later: Path) -> None:
    with sqlite.begin() as connection:
        values = "(id, study_instance_uid, accession_number, received_at) VALUES (1, '1.2', 'A1', '2026-01-01')"
        connection.execute(text(f"INSERT INTO study {values}"))
    backup = migrate(sqlite, later)
    assert backup is not None
    with closing(sqlite3.connect(backup)) as connection:
        found = connection.execute("SELECT id, study_instance_uid, accession_number, received_at FROM study")
        assert found.fetchall() == [(1, "1.2", "A1", "2026-01-01")]
    with sqlite.connect() as connection:
        assert connection.execute(text("SELECT accession_number, later FROM study")).all() == [("A1", None)]
    assert migrate(sqlite, later) is None


def test_films_of_the_first_version_keep_their_results_and_those_that_wait_wait_for_any_model(
    database_url: str, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    shutil.copytree(MIGRATIONS, first, ignore=shutil.ignore_patterns("__pycache__", "v0002*", "v0003*"))
    engine = open_database(database_url)
    migrate(engine, first)
    blank = [
        "series_instance_uid",
        "sop_class_uid",
        "transfer_syntax_uid",
        "modality",
        "body_part",
        "view_position",
        "calling_ae",
    ]
    texts = {**dict.fromkeys(blank, "''"), "content_sha256": "'c'", "file_sha256": "'f'", "file_bytes": "1"}
    at = "'2026-01-01'"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO study VALUES (1, '1.2', 'A1', {at})"))
        for number in (1, 2):
            columns = {**texts, "id": number, "study_id": 1, "received_at": at, "path": f"'{number}'"}
            columns["sop_instance_uid"] = f"'1.2.{number}'"
            values = f"({', '.join(columns)}) VALUES ({', '.join(map(str, columns.values()))})"
            connection.execute(text(f"INSERT INTO instance {values}"))
            job = f"VALUES ({number}, {number}, '{['done', 'received'][number - 1]}', '', 0, {at}, NULL, NULL, 0, {at})"
            connection.execute(text(f"INSERT INTO job {job}"))
        connection.execute(text(f"INSERT INTO result VALUES (1, 1, 'm', 0.7, 0.5, 'abnormal', 0.1, 1, {at})"))
    migrate(engine)
    with engine.connect() as connection:
        jobs = connection.execute(text("SELECT instance_id, model_sha256, state FROM job ORDER BY id")).all()
        assert jobs == [(1, "m", "done"), (2, "", "received")]
        assert connection.execute(text("SELECT probability FROM result")).all() == [(0.7,)]
    engine.dispose()


def test_links_of_notices_that_were_sent_are_forgotten_and_those_that_wait_stay(
    database_url: str, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(MIGRATIONS, before, ignore=shutil.ignore_patterns("__pycache__", "v0003*"))
    engine = open_database(database_url)
    migrate(engine, before)
    columns = "(id, study_instance_uid, accession_number, received_at, rank, read_by)"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO study {columns} VALUES (1, '1.2', 'A1', '2026-01-01', 0, '')"))
        for state in ("sent", "waiting"):
            outbox.put(
                connection, destination="mail", kind="mail", key=state, study_id=1, content={"token": f"link {state}"}
            )
        connection.execute(text("UPDATE outbox SET state = key"))
    migrate(engine)
    with engine.connect() as connection:
        contents = connection.execute(text("SELECT content FROM outbox ORDER BY id")).scalars().all()
    assert contents == ["{}", '{"token": "link waiting"}']
    engine.dispose()


def test_a_step_that_fails_is_undone_as_a_whole(engine: Engine, later: Path) -> None:
    (later / "versions" / "v9999_later.py").write_text(LATER.format(then="op.execute('SELECT * FROM nowhere')"))
    with pytest.raises(ConfigError, match="brought up to date"):
        migrate(engine, later)
    assert database_version(engine) == "0003"
    assert "later" not in {column["name"] for column in inspect(engine).get_columns("study")}


def test_a_database_of_a_newer_version_is_refused(engine: Engine, later: Path) -> None:
    migrate(engine, later)
    with pytest.raises(ConfigError, match=r"does not know .*9999.*Start the newer cxrtriage"):
        migrate(engine)


def test_a_database_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://someone:hunter2@/node?host={tmp_path}"
    with pytest.raises(ConfigError, match="could not be opened") as caught:
        migrate(open_database(url))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="expected postgresql://") as caught:
        open_database("mysql://someone:hunter2@host/node")
    assert "hunter2" not in str(caught.value)
