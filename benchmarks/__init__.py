"""Figures that anyone can take again: `make bench`, or `python -m benchmarks NAME...` for some of them.

Each file here but `__main__` measures one thing and has one function `measure() -> Figures`. To add one, add a
file. What a run prints is also written to `benchmarks/results/`, one JSON a run, with the machine and the versions.
What several of them need stands here.
"""

import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figures:
    """One table of measurements.

    Parameters
    ----------
    title : what was measured, on what
    columns : headings; the first column names the row
    rows : one tuple of cells a row, as long as `columns`
    notes : lines below the table: ratios, verdicts
    headlines : the few rows that a reader wants first: what, how fast, beside what
    raw : every single measurement by row name, with the unit in the name
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)
    headlines: list[tuple[str, str, str]] = field(default_factory=list)
    raw: dict[str, list[float]] = field(default_factory=dict)


def race(ways: dict[str, Callable[[], int]], repeats: int) -> dict[str, list[float]]:
    """Let all take turns, after one that does not count; return seconds a film of each turn.

    Each way returns how many films it worked through.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            films = way()
            seconds[name].append((time.perf_counter() - start) / films)
    return seconds


def ratio(dividend: Iterable[float], divisor: Iterable[float]) -> str:
    """Format median and range of the ratios taken turn by turn, which a change of the machine's load disturbs least."""
    ratios = sorted(a / b for a, b in zip(dividend, divisor, strict=True))
    return f"{statistics.median(ratios):.3g} ({ratios[0]:.3g} to {ratios[-1]:.3g})"


def peak_memory_mib(*_: object) -> float:
    """Return this process's peak memory; takes anything, so that it can be mapped over workers."""
    # not getrusage: its figure is inherited from the process that forked
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
