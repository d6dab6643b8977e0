"""A home with a model, and a PACS."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from serve.results.orthanc import Orthanc
from serve.results.results import Home


@pytest.fixture
def home(tmp_path: Path, sqlite: Engine) -> Home:
    """On SQLite, for what does not depend on the database."""
    made = Home(tmp_path / "home", sqlite)
    made.path.mkdir()
    made.add_model()
    return made


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One PACS for all; tests look for their own studies in it."""
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as started:
        yield started
