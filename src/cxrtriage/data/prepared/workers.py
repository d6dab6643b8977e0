"""Do the same to many items in several processes, and survive the death of one.

In come a function and items; out come the results in the items' order. A decoder in C that crashes, or
the system short of memory, kills a process: that costs one item, which is tried twice and then answered
with `Died`, and the others go on. `build.prepare_set` reads the results next.

Each worker is a fresh Python at the other end of a pipe: it needs no `if __name__ == "__main__"` in the
caller's script, inherits no thread or lock, and stops by itself when the caller is gone, however that went.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_IN_HAND = 3  # given to a worker at a time, so that it never waits for the next
ITEMS_AHEAD = 16  # per worker: how far results may run ahead of a slow item
TRIALS = 2  # the second time that a worker dies over an item, the item is to blame

# One process per processor: libraries must not start threads of their own on top.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


@dataclass(frozen=True, slots=True)
class Died:
    """Stands where the result of an item would be whose worker died over it."""

    how: str  # e.g. "killed by SIGSEGV"


class Workers:
    """Processes that wait for work; used as a context, which ends them.

    Parameters
    ----------
    count : number of processes, at least 1

    Examples
    --------
    >>> from math import sqrt
    >>> with Workers(2) as workers:
    ...     list(workers.map(sqrt, [1, 4, 9]))
    [1.0, 2.0, 3.0]
    """

    def __init__(self, count: int) -> None:
        # of the workers alone: a worker that is ended in the middle leaves its copies of films there
        self._temporary = TemporaryDirectory(prefix="cxrtriage-")
        self._workers = [_Worker(self._temporary.name) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().stop()
        self._temporary.cleanup()

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | Died]:
        """Yield `function(item)` for each item, in order.

        Function, items and results travel by pickle; items must be small (paths, settings), since a worker
        is given the next while it may still be sending a result. What `function` raises is raised here.
        """
        waiting = deque(range(len(items)))
        deaths: Counter[int] = Counter()
        results: dict[int, Result | Died] = {}
        try:
            for number in range(len(items)):
                while number not in results:
                    self._hand_out(waiting, number + ITEMS_AHEAD * len(self._workers), function, items)
                    for worker in self._answering():
                        try:
                            worker.take(results)
                        except (EOFError, ConnectionResetError):
                            self._bury(worker, waiting, deaths, results)
                yield results.pop(number)
        finally:
            for worker in self._workers:
                if worker.in_hand:  # the caller stopped early; what this one is doing is of no more use
                    self._replace(worker)

    def _hand_out(
        self, waiting: deque[int], end: int, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> None:
        for in_hand in range(1, ITEMS_IN_HAND + 1):  # by turns, so that the last items are shared by all
            for worker in self._workers:
                if waiting and waiting[0] < end and len(worker.in_hand) < in_hand:
                    worker.give(waiting.popleft(), function, items)

    def _answering(self) -> list["_Worker"]:
        """Wait until at least one worker has answered or died, and return those that have."""
        connections = wait([worker.connection for worker in self._workers])
        return [worker for worker in self._workers if worker.connection in connections]

    def _bury(self, worker: "_Worker", waiting: deque[int], deaths: Counter[int], results: dict[int, Any]) -> None:
        """Put a new worker in the place of a dead one, and its items back in line, or to blame."""
        self._replace(worker)
        if not worker.started:
            raise RuntimeError(f"a worker process could not start ({worker.how_it_died()}); what it said stands above")
        lost = worker.in_hand
        if lost:
            deaths[lost[0]] += 1
            if deaths[lost[0]] == TRIALS:
                results[lost.popleft()] = Died(worker.how_it_died())
        waiting.extendleft(reversed(lost))

    def _replace(self, worker: "_Worker") -> None:
        worker.stop()
        self._workers[self._workers.index(worker)] = _Worker(self._temporary.name)


class _Worker:
    """One process, the pipe to it, and the items it was given and has not answered yet, oldest first."""

    def __init__(self, temporary: str) -> None:
        self.connection, theirs = Pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import answer; answer({theirs.fileno()})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ONE_THREAD, "TMPDIR": temporary},
        )
        theirs.close()
        self.started = False
        self.in_hand: deque[int] = deque()

    def give(self, index: int, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.in_hand.append(index)
        with suppress(BrokenPipeError):  # it died: `take` will find out
            self.connection.send((function, items[index]))

    def take(self, results: dict[int, Any]) -> None:
        """Receive one answer; raise EOFError when the process is gone."""
        returned, value = self.connection.recv()
        if not self.started:  # the first message says only that it stands ready
            self.started = True
        elif returned:
            results[self.in_hand.popleft()] = value
        else:
            raise value

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait()

    def how_it_died(self) -> str:
        status = self.process.returncode
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def answer(descriptor: int) -> None:
    """Be a worker: receive (function, item) and send (True, result) or (False, exception) until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller decides
    connection = Connection(descriptor)
    connection.send((True, None))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message = connection.recv_bytes()
            try:
                # safe to unpickle: the pipe is private, and its other end is the process that started this one
                function, item = pickle.loads(message)
                reply = (True, function(item))
            except Exception as error:  # whatever it is, the caller is to see it
                error.add_note("in a worker process:\n" + traceback.format_exc())
                reply = (False, error)
            connection.send(reply)
