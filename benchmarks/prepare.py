"""How fast 3000 x 3000 16-bit raw TIFFs become prepared films, beside scikit-image and beside merely reading them.

All three run over the same files in as many processes of one thread each, in turns, from the page cache. The
processes are started and warmed up before the clock; the last row takes `prepare_set` whole, as a user runs it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from skimage.exposure import equalize_hist

from benchmarks import Figures, peak_memory_mib, ratio
from cxrtriage.config import Recipe
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.data.prepared.job import FilmJob, PreparedFilm, prepare_job
from cxrtriage.data.prepared.workers import Workers
from cxrtriage.machine import cpu_count

FILMS = 40
SIDE = 3000  # pixels
REPEATS = 5
BITS_USED = (12, 16)  # what detectors deliver, and the worst case: counting slows down with the levels there are
PASSES = 5  # over the files per repeat, for what is fast

RECIPE = Recipe()
SCIKIT_IMAGE, OURS, READING = "scikit-image pipeline", "cxrtriage", "reading only (tifffile)"


def merely_read(path: str) -> tuple[int, ...]:
    return tuple(tifffile.imread(path).shape)


def with_scikit_image(path: str) -> np.ndarray:
    """Do the same as `prepare_film` in the obvious way: equalise the film, then pick a pixel from each cell."""
    equalised = equalize_hist(tifffile.imread(path))
    edges = np.linspace(0, SIDE, RECIPE.size + 1).astype(int)
    rng = np.random.default_rng()
    rows = rng.integers(edges[:-1, None], edges[1:, None], (RECIPE.size, RECIPE.size))
    columns = rng.integers(edges[:-1], edges[1:], (RECIPE.size, RECIPE.size))
    return np.rint(255 * equalised[rows, columns]).astype(np.uint8)


def with_cxrtriage(path: str) -> np.ndarray:
    film = prepare_job(RECIPE, FilmJob(path, draws=1, masks={}))
    assert isinstance(film, PreparedFilm), film
    return film.images


def measure() -> Figures:
    peers: dict[str, tuple[Callable[[str], object], int]] = {
        SCIKIT_IMAGE: (with_scikit_image, 1),
        OURS: (with_cxrtriage, PASSES),
        READING: (merely_read, PASSES),
    }
    processes = cpu_count()
    figures = Figures(
        title=f"Preparing {SIDE} x {SIDE} 16-bit raw TIFFs at {RECIPE.size}, {processes} processes",
        columns=("", "films/s", "ms a film and process", "slowest to fastest", "peak MiB a process"),
        rows=[],
    )
    for bits in BITS_USED:
        with tempfile.TemporaryDirectory() as folder:
            paths = make_films(Path(folder), bits)
            seconds, memory = race(peers, paths, processes)
            whole = [seconds_of_prepare_set(Path(folder) / f"set{repeat}", paths * 10) for repeat in range(3)]
        figures.rows.append((f"grey levels of {bits} bits:", "", "", "", ""))
        figures.rows.extend(row(name, values, f"{memory[name]:.0f}") for name, values in seconds.items())
        figures.rows.append(row("prepare_set, start and writing included", whole, ""))
        figures.notes.append(
            f"{bits} bits: {ratio(seconds[SCIKIT_IMAGE], seconds[OURS])} times as fast as scikit-image (goal: at least "
            f"60), {ratio(seconds[OURS], seconds[READING])} times the time of merely reading (goal: at most 3)"
        )
        figures.headlines.append(
            (
                f"preparing a raw TIFF of {SIDE} x {SIDE}, {bits} bits",
                f"{1 / statistics.median(seconds[OURS]):.0f} films/s",
                f"{ratio(seconds[SCIKIT_IMAGE], seconds[OURS])} times scikit-image",
            )
        )
        for name, values in {**seconds, "prepare_set": whole}.items():
            figures.raw[f"{bits} bits, {name}, seconds a film"] = values
    return figures


def make_films(folder: Path, bits: int) -> list[str]:
    """Write distinct films with smooth structure and detector noise of half a per cent of the range."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 330, (SIDE, SIDE)).astype(np.float32)
    along = np.arange(SIDE, dtype=np.float32)
    paths = []
    for number in range(FILMS):
        across = 12_000 * np.sin(along / (400 + 10 * number))
        down = 14_000 * np.cos(along / (300 + 7 * number))
        film = 32_000 + across + down[:, None] + np.roll(noise, 977 * number)
        paths.append(str(folder / f"{number}.tif"))
        tifffile.imwrite(paths[-1], film.clip(0, 65_535).astype(np.uint16) >> (16 - bits))
    return paths


def race(
    peers: dict[str, tuple[Callable[[str], object], int]], paths: Sequence[str], processes: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Let the peers take turns; return wall seconds a film of each turn, and each peer's peak memory in MiB."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(Workers(processes)) for name in peers}
        for name, (function, _) in peers.items():
            exhaust(pools[name], function, paths[: 4 * processes])
        for _ in range(REPEATS):
            for name, (function, passes) in peers.items():
                start = time.perf_counter()
                exhaust(pools[name], function, list(paths) * passes)
                seconds[name].append((time.perf_counter() - start) / (passes * len(paths)))
        memory = {
            name: max(map(float, pool.map(peak_memory_mib, range(8 * processes)))) for name, pool in pools.items()
        }
    return seconds, memory


def exhaust(pool: Workers, function: Callable[[str], object], paths: Sequence[str]) -> None:
    for _ in pool.map(function, paths):
        pass


def seconds_of_prepare_set(out: Path, paths: list[str]) -> float:
    manifest = pd.DataFrame({"path": paths, "label": 0})
    start = time.perf_counter()
    prepare_set(manifest, out, RECIPE)
    return (time.perf_counter() - start) / len(paths)


def row(name: str, seconds: list[float], memory: str) -> tuple[str, ...]:
    """Format seconds a film; a process spends that times the number of processes on one film."""
    each = [1000 * cpu_count() * value for value in sorted(seconds)]
    median = statistics.median(each)
    return name, f"{1 / statistics.median(seconds):.1f}", f"{median:.2f}", f"{each[-1]:.2f} to {each[0]:.2f}", memory
