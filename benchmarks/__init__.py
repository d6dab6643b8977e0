"""Figures that anyone can take again: `make bench`, or `python -m benchmarks NAME...` for some of them.

Each file here but `__main__` measures one thing and has one function `measure() -> Figures`. To add one, add a
file. What it prints is also written to `benchmarks/results/NAME.json`, with the machine and the versions.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figures:
    """One table of measurements.

    Parameters
    ----------
    title : what was measured, on what
    columns : headings; the first column names the row
    rows : one tuple of cells a row, as long as `columns`
    notes : lines below the table: ratios, verdicts
    raw : every single measurement by row name, with the unit in the name
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)
    raw: dict[str, list[float]] = field(default_factory=dict)
