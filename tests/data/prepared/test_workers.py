"""Worker processes: order, errors, deaths."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import worker_functions
from cxrtriage.data.prepared.workers import Died, Workers
from films import film_pixels, write_tiff


def test_results_come_in_the_order_of_the_items_whoever_is_slow() -> None:
    with Workers(3) as workers:
        assert list(workers.map(worker_functions.slow_if_first, range(200))) == list(range(200))
        assert list(workers.map(worker_functions.double, range(50))) == list(range(0, 100, 2))


def test_large_results_pass() -> None:
    with Workers(2) as workers:
        assert [len(result) for result in workers.map(worker_functions.large_result, range(8))] == [5_000_000] * 8


def test_all_workers_work() -> None:
    with Workers(3) as workers:
        assert len(set(workers.map(worker_functions.process_id, range(60)))) == 3


def test_few_items_are_shared_evenly() -> None:
    with Workers(2) as workers:
        set(workers.map(worker_functions.process_id, range(20)))  # both have started
        by_process = Counter(workers.map(worker_functions.process_id, range(4)))
    assert sorted(by_process.values()) == [2, 2]


def test_a_death_costs_the_item_that_caused_it_and_no_other() -> None:
    with Workers(2) as workers:
        results = list(workers.map(worker_functions.die_on_13, range(40)))
    assert results[13] == Died("killed by SIGSEGV")
    assert [result for result in results if result != results[13]] == [number for number in range(40) if number != 13]


def test_an_item_whose_worker_died_by_chance_is_tried_again(tmp_path: Path) -> None:
    items = [(number, str(tmp_path / "died")) for number in range(5)]
    with Workers(2) as workers:
        assert list(workers.map(worker_functions.die_once, items)) == [0, 1, 2, 3, 4]
    assert (tmp_path / "died").exists()


def test_a_mapped_film_that_is_cut_while_it_is_looked_at_is_told_when_it_is_tried_again(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", film_pixels(300, 300))
    with Workers(1) as workers:
        (told,) = workers.map(worker_functions.cut_while_mapped, [str(path)])
    assert "it is cut short: 4096 bytes are there" in told


def test_what_a_function_raises_is_raised_to_the_caller() -> None:
    with Workers(2) as workers, pytest.raises(LookupError, match="three") as caught:
        list(workers.map(worker_functions.raise_on_3, range(9)))
    assert "raise_on_3" in caught.value.__notes__[0]


def test_after_a_caller_stopped_early_the_next_results_are_the_next_ones() -> None:
    with Workers(2) as workers:
        for number in workers.map(worker_functions.double, range(100)):
            if number == 6:
                break
        assert list(workers.map(worker_functions.slow_if_first, [5, 6])) == [5, 6]


def test_a_worker_that_cannot_start_is_an_error_not_a_bad_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"could not start \(exit status 1\)"), Workers(1) as workers:
        list(workers.map(worker_functions.double, [1]))


def runs(pid: int) -> bool:
    """Say whether a process has not ended; one that nobody has waited for (a container's first process may not) has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_workers_end_when_their_caller_is_killed() -> None:
    code = (
        "from cxrtriage.data.prepared.workers import Workers; import worker_functions as f\n"
        "for pid in Workers(2).map(f.process_id, range(10**6)): print(pid, flush=True)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert caller.stdout is not None
    with caller:
        pids = {int(caller.stdout.readline()) for _ in range(50)}
        caller.kill()
    assert len(pids) == 2
    end = time.monotonic() + 60
    while any(runs(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(runs(pid) for pid in pids)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from math import sqrt\n"
        "from cxrtriage.data.prepared.workers import Workers\n"
        "print(list(Workers(1).map(sqrt, [4])))"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[2.0]\n"
