"""Run the benchmarks named on the command line, or all; print a table each and keep all as one JSON of this run."""

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
    headlines = []
    kept: dict[str, object] = about_this_run()
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    for name in names or known:
        start = time.perf_counter()
        figures: Figures = import_module(f"benchmarks.{name}").measure()
        show(figures, time.perf_counter() - start)
        kept[name] = asdict(figures) | {"seconds": time.perf_counter() - start}
        keep(path, kept)  # after each, so that a run that is broken off leaves what it has
        headlines += figures.headlines
    if headlines:
        show(Figures("In short", ("", "", "in the same run"), headlines))
    print(path)
    return 0


def show(figures: Figures, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"; took {seconds:.0f} s"
    table = Table(title=figures.title, caption=f"{cpu_count()} processors{took}", title_justify="left")
    for number, column in enumerate(figures.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in figures.rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for note in figures.notes:
        console.print(note)


def about_this_run() -> dict[str, object]:
    return {
        "taken": time.strftime("%Y-%m-%d %H:%M:%S"),
        "machine": {"processors": cpu_count(), "machine": platform.machine(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}},
    }


def keep(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
