"""A Ray cluster on this machine, of as many nodes as a test wants, each with one processor."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# of objects that Ray itself leaves to the garbage collector
RAY_LEAVES_BEHIND = "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"


class Nodes:
    """The nodes; `address` is that of the first."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=self._node())
        self._others: list[Any] = []
        self.address: str = self._cluster.address

    def set_count(self, nodes: int) -> None:
        """Add or remove nodes until there are so many."""
        while len(self._others) > nodes - 1:
            self._cluster.remove_node(self._others.pop())
        while len(self._others) < nodes - 1:
            self._others.append(self._cluster.add_node(**self._node()))

    @contextmanager
    def killing_last_once_busy(self, killed: Path) -> Iterator[None]:
        """Meanwhile kill -9 the node that was added last, in the middle of a task, with all its processes.

        Tasks are to wait for the file `killed`, which is made then: nothing else keeps one node from doing everything
        while the other one starts.
        """
        raylet = self._others.pop().all_processes["raylet"][0].process.pid
        with ThreadPoolExecutor(1) as background:
            kill = background.submit(_kill_once_busy, raylet, killed)
            yield
            kill.result()

    def shut_down(self) -> None:
        self._cluster.shutdown()

    def _node(self) -> dict[str, Any]:
        return {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


def _kill_once_busy(raylet: int, killed: Path) -> None:
    deadline = time.monotonic() + 90
    while "ray::answer_group" not in (listed := _children_of(raylet)):
        assert time.monotonic() < deadline, f"the node was given nothing to do:\n{listed}"
        time.sleep(0.05)
    for process in (raylet, *(int(line.split()[0]) for line in listed.splitlines())):
        os.kill(process, signal.SIGKILL)
    killed.touch()


def _children_of(process: int) -> str:
    return subprocess.run(["pgrep", "-a", "-P", str(process)], capture_output=True, text=True, check=True).stdout


@contextmanager
def ray_nodes() -> Iterator[Nodes]:
    """Start one node; end all of them afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # for functions of the tests
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.shut_down()
