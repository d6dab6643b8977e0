"""A node that tells, in SQLite or in a database of each kind."""

from pathlib import Path

import pytest

from serve.notify.node import Node
from serve.worklist.rows import Rows


@pytest.fixture(autouse=True)
def collected() -> None:
    """Nothing here uses pynetdicom, so that nothing needs to be collected after each test."""


@pytest.fixture
def node(tmp_path: Path, rows: Rows) -> Node:
    made = Node(tmp_path, rows.engine)
    made.write_table()
    return made


@pytest.fixture
def node_of_each(tmp_path: Path, rows_of_each: Rows) -> Node:
    made = Node(tmp_path, rows_of_each.engine)
    made.write_table()
    return made
