"""A node's database with an active model, and a way to add studies."""

import pytest
from sqlalchemy import Engine

from serve.worklist.rows import Rows, add_model


@pytest.fixture
def rows(engine: Engine) -> Rows:
    with engine.begin() as connection:
        add_model(connection)
    return Rows(engine)
