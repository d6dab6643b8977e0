"""Databases, a model and a small film for the node's tests."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, create_engine, text

from cxrtriage.config import Recipe
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import save_model
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.serve.database import open_database
from cxrtriage.serve.migrate import migrate
from serve.postgres import PORT, postgres_server
from serve.worklist.rows import Rows, add_model


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Sockets that pynetdicom leaves to the garbage collector go with the test that left them, which ignores that."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """A PostgreSQL of our own, and a way to a fresh database in it."""
    with postgres_server() as folder:
        yield fresh_databases(folder)


def fresh_databases(folder: Path) -> Callable[[], str]:
    """Return a way to a fresh database of the server whose socket lies in `folder`."""

    def url(name: str) -> str:
        return f"postgresql://postgres@/{name}?host={folder}&port={PORT}"

    made = 0

    def fresh() -> str:
        nonlocal made
        made += 1
        admin = create_engine(url("postgres").replace("://", "+psycopg://", 1), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE node{made}"))
        admin.dispose()
        return url(f"node{made}")

    return fresh


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/node.sqlite"
    fresh: Callable[[], str] = request.getfixturevalue("postgres")
    return fresh()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database of each kind with its tables."""
    engine = open_database(database_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """Tables in SQLite, for what does not depend on the database."""
    engine = open_database(f"sqlite:///{tmp_path}/node.sqlite")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained GoogLeNet for adults, frontal: its scores mean nothing, but they are scores."""
    torch.manual_seed(0)
    card = ModelCard(
        architecture="googlenet", recipe=Recipe(size=128), scope=Scope(views=("PA", "AP"), age_years=(18, 95))
    )
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, build_network("googlenet", 2, 128), card)
    return path


@pytest.fixture
def rows(sqlite: Engine) -> Rows:
    """An active model in SQLite, and a way to add studies."""
    with sqlite.begin() as connection:
        add_model(connection)
    return Rows(sqlite)


@pytest.fixture
def rows_of_each(engine: Engine) -> Rows:
    """The same in a database of each kind."""
    with engine.begin() as connection:
        add_model(connection)
    return Rows(engine)
