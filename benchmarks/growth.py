"""How the steps that see a whole set at once grow with it: manifest, split, duplicates, bootstrap, report.

Sets of 1,000 to 400,000 films, each in a process of its own. The rows are made up, and so are the prepared films:
coarse patterns mixed at random, with the spectrum of ChestX-ray14's thumbnails, since what a search for duplicates
costs depends on how alike films are. Of each film the file is there, and empty. `python -m benchmarks.growth ROWS`
takes one size and prints JSON. Time is the process's own, since steps of minutes meet other work on the machine.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Figures, peak_memory_mib
from cxrtriage.data.labels.manifest import read_labelled, save_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.prepared.duplicates import THUMBNAIL, find_duplicates
from cxrtriage.evaluate.evaluation import evaluate_predictions, write_evaluation
from cxrtriage.report import write_report
from cxrtriage.report.page import MOST_BYTES

SIZES = (1_000, 10_000, 100_000, 400_000)
FILMS_A_PATIENT = 4
COPIES = 1000  # one film in so many is in the set twice
NOISE = 0.05  # seconds; steps that are shorter tell nothing of their growth
SLACK = 1.3  # that the time per row may grow beside the logarithm, for caches and other processes
PATTERNS = 100
STEPS = ("manifest", "split", "duplicate search", "evaluation (bootstrap)", "writing and figures", "report")


def measure() -> Figures:
    figures = Figures(
        title=f"Growth from {SIZES[0]:,} to {SIZES[-1]:,} films, a process a size: processor time, peak memory",
        columns=("step", *(f"{rows:,} films" for rows in SIZES), "time per film, from size to size"),
        rows=[],
    )
    sizes = [in_a_process(rows) for rows in SIZES]
    for step in STEPS:
        seconds, memory = ([size[step][kind] for size in sizes] for kind in ("seconds", "peak MiB"))
        each = [max(NOISE, spent) / rows for spent, rows in zip(seconds, SIZES, strict=True)]
        growth = [later / earlier for earlier, later in pairwise(each)]
        cells = [f"{spent:.2f} s, {peak:.0f} MiB" for spent, peak in zip(seconds, memory, strict=True)]
        figures.rows.append((step, *cells, ", ".join(f"{ratio:.2f}" for ratio in growth)))
        figures.notes.append(f"{step}: {verdict(seconds)}")
        figures.raw[f"{step}, wall seconds"] = [size[step]["wall seconds"] for size in sizes]
        figures.raw.update({f"{step}, seconds": seconds, f"{step}, peak MiB": memory})
    pages = [size["report"]["bytes"] for size in sizes]
    figures.raw["report, bytes"] = pages
    figures.notes.append(
        f"the report has {', '.join(f'{page / 1e6:.2f}' for page in pages)} MB (goal: under {MOST_BYTES / 1e6:g}): "
        f"{'reached' if max(pages) < MOST_BYTES else 'MISSED'}"
    )
    return figures


def verdict(seconds: list[float]) -> str:
    """Hold the growth of the time per film, over sizes that take long enough, against that of the logarithm."""
    sizes = [(rows, spent) for rows, spent in zip(SIZES, seconds, strict=True) if spent >= NOISE]
    if len(sizes) < 2:
        return f"under {NOISE:g} s up to the last size"
    (fewest, first), (most, last) = sizes[-2:]
    growth, allowed = last / first / (most / fewest), math.log(most) / math.log(fewest)
    judged = "at most linear up to a logarithm" if growth <= SLACK * allowed else "WORSE than linear"
    return (
        f"{judged}; from {fewest:,} to {most:,} films the "
        f"time per film grows {growth:.2f} times (a logarithm: {allowed:.2f})"
    )


def in_a_process(rows: int) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.growth", str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return measured


def take(rows: int, folder: Path) -> dict[str, dict[str, float]]:
    """Take every step once, over files in a folder."""
    measured: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        forget_peak_memory()
        start, began = time.process_time(), time.perf_counter()
        yield
        spent, passed = time.process_time() - start, time.perf_counter() - began
        measured[name] = {"seconds": spent, "wall seconds": passed, "peak MiB": peak_memory_mib()}

    rng = np.random.default_rng(0)
    label = rng.choice(3, rows, p=(0.6, 0.35, 0.05))
    table = write_table(rng, label, folder)
    with step("manifest"):
        manifest = read_labelled(table, folder)
        save_manifest(manifest, folder / "manifest.csv")
    with step("split"):
        manifest = split_manifest(manifest)
    films = make_films(rng, rows, folder / "images.npy")
    with step("duplicate search"):
        found = find_duplicates(films, manifest)
    assert len(found) >= rows // COPIES, f"only {len(found)} pairs found"
    predictions = manifest.drop(columns="split")  # all films are measured, as in an evaluation on another hospital's
    predictions["probability"] = 1 / (1 + np.exp(1 - 1.5 * (label > 0) - rng.standard_normal(rows)))
    with step("evaluation (bootstrap)"):
        metrics = evaluate_predictions(predictions)
    with step("writing and figures"):
        write_evaluation(predictions, metrics, folder / "evaluated")
    with step("report"):
        page = write_report(folder / "evaluated")
    measured["report"]["bytes"] = page.stat().st_size
    return measured


def write_table(rng: np.random.Generator, label: np.ndarray, folder: Path) -> Path:
    """Write a hospital's table of films and, for each, an empty file."""
    rows = len(label)
    names = [f"{number // 1000:03d}/{number:06d}.dcm" for number in range(rows)]
    for start in range(0, rows, 1000):
        (folder / f"{start // 1000:03d}").mkdir()
    for name in names:
        (folder / name).touch()
    table = pd.DataFrame({"path": names, "label": label, "patient_id": rng.integers(0, rows // FILMS_A_PATIENT, rows)})
    table["sex"], table["age"] = rng.choice(["F", "M"], rows), rng.integers(18, 95, rows)
    table["view_position"] = rng.choice(["PA", "AP"], rows)
    table.to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def make_films(rng: np.random.Generator, rows: int, path: Path) -> np.ndarray:
    """Make thumbnails of a mean film and cosines of falling weight; some are another's copy with its noise changed."""
    across = np.cos(np.pi * np.outer(np.arange(14), (np.arange(THUMBNAIL) + 0.5) / THUMBNAIL))
    order = sorted(((i, j) for i in range(14) for j in range(14) if i + j), key=lambda at: at[0] ** 2 + at[1] ** 2)
    patterns = np.array([np.outer(across[i], across[j]).ravel() for i, j in order[: PATTERNS + 1]])
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    rank = np.arange(1, PATTERNS + 1)
    spread = np.sqrt(0.1 / (rank * (1 + rank / 30)))  # of films of length 1, fitted to the eigenvalues of ChestX-ray14
    films = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, THUMBNAIL, THUMBNAIL))
    for start in range(0, rows, 10_000):
        count = min(10_000, rows - start)
        weight = rng.standard_normal((count, PATTERNS)).astype(np.float32) * spread
        film = 0.76 * patterns[0] + weight @ patterns[1:]
        films[start : start + count] = (128 + 40 * THUMBNAIL * film).clip(0, 255).reshape(-1, THUMBNAIL, THUMBNAIL)
    copies = np.arange(COPIES - 1, rows, COPIES)
    films[copies] = films[copies - COPIES // 2] ^ 1
    films.flush()
    return films


def forget_peak_memory() -> None:
    """Let the process's peak memory count from here on: proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        print(json.dumps(take(int(sys.argv[1]), Path(own))))
