"""Run the benchmarks named on the command line, or all; print a table each and keep it as JSON."""

import json
import pkgutil
import platform
import sys
import time
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks import Figures
from cxrtriage.machine import cpu_count

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("cxrtriage", "numpy", "opencv-python-headless", "scikit-image", "tifffile", "torch", "openvino")


def main(names: list[str]) -> int:
    known = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__")
    unknown = set(names) - set(known)
    if unknown:
        print(f"no such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    for name in names or known:
        start = time.perf_counter()
        figures: Figures = import_module(f"benchmarks.{name}").measure()
        show(figures, time.perf_counter() - start)
        print(keep(name, figures))
    return 0


def show(figures: Figures, seconds: float) -> None:
    table = Table(title=figures.title, caption=f"{cpu_count()} processors; took {seconds:.0f} s", title_justify="left")
    for number, column in enumerate(figures.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in figures.rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for note in figures.notes:
        console.print(note)


def keep(name: str, figures: Figures) -> Path:
    """Write the figures with what they were taken on."""
    machine = {"processors": cpu_count(), "machine": platform.machine(), "system": platform.platform()}
    versions = {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}}
    content = {"taken": time.strftime("%Y-%m-%d %H:%M:%S"), "machine": machine, "versions": versions, **asdict(figures)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
