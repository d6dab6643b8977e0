"""The parent of the node's processes: starts them, starts them again when they die, stops them all.

    cxrtriage serve (this)
    ├── receiver, and folder, listener if the settings ask for them      role receiver
    ├── worker, ..., sender                                              role worker
    └── web                                                              role web

A process that dies is replaced after a back-off, which a minute of health forgets; what it had leased goes
back to the queue at once. A process whose first start fails for a reason that a restart cannot mend ends
the node with status 1; the process has said why. If the parent itself is killed, the children see their
standard input end, and stop.
"""

import logging
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cxrtriage.errors import ConfigError
from cxrtriage.serve import models, process, retention
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.migrate import migrate
from cxrtriage.serve.notify.recipients import write_template
from cxrtriage.serve.queue import Queue
from cxrtriage.serve.results.outbox import Outbox
from cxrtriage.serve.settings import NodeSettings, load_settings

LOGGER = logging.getLogger(__name__)
Role = Literal["all", "receiver", "worker", "web"]

LOOK_S = 0.1
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.2, 30.0
HEALTHY_S = 60.0  # a process that lived so long starts its back-off anew
STOP_S = 20.0  # to finish the film in hand; then it is killed


@dataclass(slots=True)
class Child:
    """One process of the node, and its successors."""

    name: str
    arguments: Sequence[str]
    release: Callable[[str], int] | None = None  # gives back what it leased under a name that is its last argument
    owner: str = ""
    running: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    starts: int = field(default=0)

    def start(self) -> None:
        """Start the process."""
        self.owner = f"{socket.gethostname()[:40]}-{secrets.token_hex(8)}"
        arguments = [*self.arguments, self.owner] if self.release else self.arguments
        self.running = subprocess.Popen([sys.executable, "-m", "cxrtriage.serve", *arguments], stdin=subprocess.PIPE)
        self.started_at = time.monotonic()
        self.starts += 1

    def plan_restart(self) -> None:
        """Note when to start again after a death."""
        lived = time.monotonic() - self.started_at
        if lived > HEALTHY_S:
            self.backoff_s = FIRST_BACKOFF_S
        self.start_at = time.monotonic() + self.backoff_s
        self.backoff_s = min(2 * self.backoff_s, LONGEST_BACKOFF_S)
        self.running = None


def serve(home: Path, model: Path | None, role: Role = "all") -> None:
    """Run the node at `home` until SIGTERM or SIGINT.

    Parameters
    ----------
    home : its folder; made at the first start, with the settings in it
    model : model file to make active, unless this node knows it already; None keeps the one it has
    role : which processes to run here

    Raises
    ------
    ConfigError
        If the settings, the database, the port or the model cannot be used.
    """
    process.log_to_stderr("node")
    settings = prepare_home(home)
    engine = open_database(settings.database.url)
    backup = migrate(engine)
    if backup is not None:
        LOGGER.info("upgraded the database; what it was before is in %s", backup)
    _take_model(engine, home, model, role)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    children = _children(home, role, settings, engine)
    try:
        for child in children:
            child.start()
        if role in ("all", "receiver"):
            retention.keep_retaining(engine, home, settings.retention.films_days, stopping)
        while not stopping.wait(LOOK_S):
            for child in children:
                _look_after(child)
    finally:
        _stop(children)
        _release(children)
        engine.dispose()
    LOGGER.info("stopped")


def prepare_home(home: Path) -> NodeSettings:
    """Make the node's folder, readable by its owner alone, and what people fill in; return its settings."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {home}: {error.strerror}. Choose another --home.") from error
    settings = load_settings(home)
    write_template(settings.notice.recipients)
    return settings


def _take_model(engine: Engine, home: Path, model: Path | None, role: Role) -> None:
    """Make a model file that the node has not seen yet its active one.

    One that it knows stays what it is: a restart does not undo what `cxrtriage node model` changed.
    """
    with reading(engine) as connection:
        active = models.active_model(connection)
        known = {version.sha256 for version in models.all_models(connection)}
    if model is None and (active is not None or role not in ("all", "worker")):
        return
    given = None if model is None else models.file_sha256(model)
    if given not in known:
        # in a process of its own, since it loads torch and this one lives as long as the node
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            given = pool.submit(_add_model, home, model).result()
        LOGGER.info("the active model is %s", given[:12])
    elif active is None or active.sha256 != given:
        LOGGER.warning("model %s was given, but another was made active here; left as it is", str(given)[:12])


def _add_model(home: Path, model: Path | None) -> str:
    from cxrtriage.score import packaged_model

    engine = open_database(load_settings(home).database.url)
    try:
        return models.add_model(engine, home, model or packaged_model(), "active", actor="serve").sha256
    finally:
        engine.dispose()


def _children(home: Path, role: Role, settings: NodeSettings, engine: Engine) -> list[Child]:
    where = str(home)
    children = []
    if role in ("all", "receiver"):
        children.append(Child("receiver", ["receiver", where]))
        if settings.watch.folder is not None:
            children.append(Child("folder", ["folder", where]))
        if settings.hl7.port is not None:
            children.append(Child("listener", ["listener", where]))
    if role in ("all", "worker"):
        films, deliveries = Queue(engine, settings.worker), Outbox(engine, settings.delivery)
        children += [Child("worker", ["worker", where], films.release) for _ in range(settings.worker.processes)]
        children.append(Child("sender", ["sender", where], deliveries.release))
    if role in ("all", "web"):
        children.append(Child("web", ["web", where]))
    return children


def _look_after(child: Child) -> None:
    """Start a child again if it is time, and see to what a dead one left."""
    if child.running is None:
        if time.monotonic() >= child.start_at:
            child.start()
        return
    status = child.running.poll()
    if status is None:
        return
    if status == process.CANNOT_START and child.starts == 1:
        raise ConfigError(f"the {child.name} cannot start; what it said stands above.")
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    LOGGER.error("the %s died (%s), starting another", child.name, how)
    _release([child])
    child.plan_restart()


def _release(children: Sequence[Child]) -> None:
    """Put back what dead processes held; if the database is away, their leases end by themselves."""
    for child in children:
        if child.release and child.owner:
            try:
                child.release(child.owner)
            except SQLAlchemyError as error:
                LOGGER.error("the database does not answer (%s)", type(error).__name__)


def _stop(children: Sequence[Child]) -> None:
    """Ask all to stop, wait, and kill who does not."""
    running = [child.running for child in children if child.running is not None]
    for popen in running:
        popen.terminate()
    deadline = time.monotonic() + STOP_S
    for popen in running:
        try:
            popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        if popen.stdin is not None:
            popen.stdin.close()
