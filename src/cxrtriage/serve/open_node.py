"""A node's settings and database for a command beside it: HOME in, both out; `cxrtriage node ...` uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from cxrtriage.errors import ConfigError
from cxrtriage.serve.database import open_database
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.settings import SETTINGS_FILE, NodeSettings, load_settings


@contextmanager
def open_node(home: Path) -> Iterator[tuple[NodeSettings, Engine]]:
    """Yield the settings and the database of the node at `home`, which may be running.

    Raises
    ------
    ConfigError
        If there is no node at `home`, or its settings or its database cannot be used.
    """
    if not (home / SETTINGS_FILE).is_file():
        raise ConfigError(
            f"{home} is no node's folder: it has no {SETTINGS_FILE}. Give the --home of `cxrtriage serve`."
        )
    settings = load_settings(home)
    engine = open_database(settings.database.url)
    try:
        migrate(engine)
        yield settings, engine
    finally:
        engine.dispose()
