"""Do the same to many items on many machines: what `workers` does on one, on a Ray cluster.

In come a function and items; out come the results in the items' order, the same ones whatever the number of machines
and whichever of them die meanwhile. `build.prepare_set` and `score_cluster` read the results next.

Items travel in groups; a group is one Ray task on one processor. Tasks have no state and write nothing, so one that was
lost with its machine is simply done again, somewhere else. Ray is loaded by `Cluster` alone.
"""

import importlib.metadata
import logging
import os
import platform
import re
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import cv2

from cxrtriage import __version__
from cxrtriage.data.prepared.workers import TRIALS, Died
from cxrtriage.errors import ConfigError
from cxrtriage.machine import cpu_count

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

ITEMS_A_GROUP = 8  # a task costs 1 to 2 ms, a film at least 5
GROUPS_AHEAD = 4  # per processor: how far results may run ahead of a slow group
SECONDS_TO_ANSWER = 5.0  # Ray itself would try for three minutes
DECIDE_THE_RESULT = ("numpy", "imagecodecs", "openvino")  # besides OpenCV, which comes under several names


class Cluster(Generic[Item]):
    """A Ray cluster that this process is connected to; used as a context, which ends the connection.

    Parameters
    ----------
    address : "auto" (the cluster that this machine is part of), "HOST:PORT" (the same, named), "ray://HOST:PORT" (one
        that it is not part of), or "local" (started here, for as long as this process runs)
    files_of : the files that an item is about, not URLs. All machines, this one included, must see them under the same
        path

    Raises
    ------
    ConfigError
        If Ray is not installed, nothing answers at the address, or what answers does not fit.
    """

    def __init__(self, address: str, files_of: Callable[[Item], Iterable[str]]) -> None:
        self._files_of = files_of
        self._ray = connected(address)
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(answer_group)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | Died]:
        """Yield `function(item)` for each item, in order; see `map_groups`."""
        return self.map_groups(partial(_each, function), items, ITEMS_A_GROUP)

    def map_groups(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], size: int
    ) -> Iterator[Result | Died]:
        """Call `function` with `size` items at a time and yield its results, one an item, in order.

        A group whose process dies is done again item by item, and the second time that a process dies over an item,
        its result is `Died`. A group whose machine dies is done again as often as that happens.

        Parameters
        ----------
        function : importable on every machine; the same items must give the same results on each
        items : small ones (paths, settings), since they travel by pickle, as the results do

        Raises
        ------
        ConfigError
            If a machine has other versions, or does not see files that this one does.
        Exception
            What `function` raises.
        """
        groups = (items[start : start + size] for start in range(0, len(items), size))
        pending: deque[tuple[Sequence[Item], Any]] = deque()
        while True:
            for group in islice(groups, max(0, self._groups_ahead() - len(pending))):
                pending.append((group, self._submit(function, group)))
            if not pending:
                return
            yield from self._results(function, *pending.popleft())

    def _groups_ahead(self) -> int:
        """Return how many groups may be given out; machines come and go."""
        return GROUPS_AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 0)))

    def _submit(self, function: Callable[[Sequence[Item]], Sequence[Result]], group: Sequence[Item]) -> Any:
        files = [file for item in group for file in self._files_of(item)]
        return self._task.remote(function, group, files, Path.cwd(), versions())

    def _results(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], group: Sequence[Item], task: Any
    ) -> Sequence[Result | Died]:
        """Wait for a group's results, whatever it takes."""
        errors = self._ray.exceptions
        deaths = 0
        while True:
            try:
                answer: GroupAnswer[Result] = self._ray.get(task)
            except (errors.WorkerCrashedError, errors.OutOfMemoryError):
                if len(group) > 1:
                    singly = [([item], self._submit(function, [item])) for item in group]
                    return [result for item, again in singly for result in self._results(function, item, again)]
                deaths += 1
                if deaths == TRIALS:
                    return [Died("killed")]
            except (errors.NodeDiedError, errors.ObjectLostError):
                logger.info("a machine of the cluster is gone; what it had in hand is done again")
            except errors.RayTaskError as error:
                raise _own_error(error) from error
            except errors.RayError as error:
                raise ConfigError(
                    f"the Ray cluster failed ({_one_line(error)}). Run the same command again: what is done is kept."
                ) from error
            else:
                _require_shared(answer)
                return answer.results
            task = self._submit(function, group)


@dataclass(frozen=True, slots=True)
class GroupAnswer(Generic[Result]):
    """What a task returns: the results, on which machine, and which files of the group that does not see."""

    machine: str
    unseen: list[str]
    results: Sequence[Result]


def answer_group(
    function: Callable[[Sequence[Item]], Sequence[Result]],
    group: Sequence[Item],
    files: list[str],
    folder: Path,
    expected: dict[str, str],
) -> GroupAnswer[Result]:
    """Be a Ray task: do a group, on any machine of the cluster.

    Parameters
    ----------
    function, group : see `Cluster.map_groups`
    files : that the group is about
    folder : the caller's working folder, to which relative paths refer
    expected : the caller's `versions`
    """
    machine = socket.gethostname()
    found = versions()
    for name, version in expected.items():
        if found[name] != version:
            raise ConfigError(
                f"{machine} of the Ray cluster has {name} {found[name]}, this machine {version}. "
                "Install the same versions on all machines: others may give other results."
            )
    with suppress(OSError):  # not shared: then its files are not seen either, which is told
        os.chdir(folder)
    cv2.setNumThreads(1)  # one process per processor
    unseen = [file for file in files if not os.path.exists(file)]  # noqa: PTH110 (also of paths with a NUL in them)
    return GroupAnswer(machine, unseen, function(group))


def versions() -> dict[str, str]:
    """Return the versions that decide whether two machines give the same results."""
    return {
        "cxrtriage": __version__,
        "Python": platform.python_version(),
        "OpenCV": cv2.__version__,
        **{name: importlib.metadata.version(name) for name in DECIDE_THE_RESULT},
    }


def connected(address: str) -> Any:
    """Connect this process to a Ray cluster and return the module `ray`; see `Cluster`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a hospital's program reports nothing to anybody
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--cluster needs Ray, which is not installed. Install it with: pip install 'cxrtriage[cluster]'"
        ) from None
    if address not in ("auto", "local"):
        _require_answer(address)
    # when a machine dies, Ray prints fifty lines of its own state to standard output; `Cluster` says it in one
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        settings |= {"num_cpus": cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address, **settings)
    except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
        ray.shutdown()  # of another version, it is connected all the same
        if address == "auto" and isinstance(error, ConnectionError):
            raise ConfigError(
                "this machine is part of no Ray cluster that runs. Start one with 'ray start --head', or name another "
                "with --cluster ray://HOST:10001."
            ) from error
        hint = "" if "RAY_AUTH_MODE" in os.environ else ". If it asks for a token, set RAY_AUTH_MODE=token here too."
        raise ConfigError(f"cannot use the Ray cluster {address!r}: {_one_line(error)}{hint}") from error
    return ray


def _require_answer(address: str) -> None:
    """Refuse an address at which nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--cluster is {address!r}, expected auto, local, HOST:PORT or ray://HOST:PORT.")
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error.strerror or error}). Start it with 'ray start --head', and "
            "check the address and the firewall."
        ) from error


def _require_shared(answer: GroupAnswer[Result]) -> None:
    """Refuse to go on where a machine does not see a film that is there: it would look like a missing one."""
    for file in answer.unseen:
        if os.path.exists(file):  # noqa: PTH110
            raise ConfigError(
                f"{answer.machine} of the Ray cluster does not see {file}, which is there on this machine. Put the "
                "films into a folder that all machines share under the same path."
            )


def _own_error(error: Any) -> BaseException:
    """Return what a task raised, as it was raised there."""
    cause: BaseException = error.cause
    missing = re.search(r"No module named '([\w.]+)'", str(cause))
    if missing:
        return ConfigError(
            f"a machine of the Ray cluster has no Python module {missing[1]}. Install cxrtriage {__version__} with the "
            "same versions on all machines."
        )
    return cause


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]


def _each(function: Callable[[Item], Result], group: Sequence[Item]) -> list[Result]:
    return [function(item) for item in group]
