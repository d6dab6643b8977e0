"""A node's database with an active model, and a way to add studies: in SQLite, or in a database of each kind."""

import pytest
from sqlalchemy import Engine

from serve.worklist.rows import Rows, add_model


@pytest.fixture
def rows(sqlite: Engine) -> Rows:
    with sqlite.begin() as connection:
        add_model(connection)
    return Rows(sqlite)


@pytest.fixture
def rows_of_each(engine: Engine) -> Rows:
    with engine.begin() as connection:
        add_model(connection)
    return Rows(engine)


@pytest.fixture(autouse=True)
def collected() -> None:
    """Nothing here uses pynetdicom, so that nothing needs to be collected after each test."""
