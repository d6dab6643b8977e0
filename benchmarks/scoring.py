"""How fast GoogLeNet at 224 scores films: the network alone, and from distinct 3000 x 3000 DICOM to rows of a CSV.

Beside it stand PyTorch as anyone would write it (fp32, films one after another), and the parts that scoring is made of.
The engines take turns in one process, over the same films in the page cache, converted and warmed up before the clock.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import Figures, race, ratio
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.engines import Engine, computes_in_bf16, openvino_engine, torch_engine
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard, PrecisionCheck
from cxrtriage.model.quantised import can_quantise, quantise
from cxrtriage.predict import probabilities
from cxrtriage.score import score_films
from cxrtriage.scores import write_scores

FILMS = 128
SIDE = 3000  # pixels
REPEATS = 5
BATCHES = (16, 1)
RECIPE = Recipe(size=224)
PLAIN, CHANNELS_LAST, FP32, BF16, INT8 = (
    "PyTorch fp32, plain",
    "PyTorch fp32, channels_last",
    "OpenVINO fp32",
    "OpenVINO bf16",
    "OpenVINO int8",
)
PASSED = PrecisionCheck(films=500, auroc_fall=0, decisions_changed=0)


def measure() -> Figures:
    figures = Figures(
        title=f"Scoring with GoogLeNet at {RECIPE.size}",
        columns=("", "films/s", "slowest to fastest", f"times {PLAIN}"),
        rows=[],
    )
    plain, model = untrained(), untrained()
    model.network.to(memory_format=torch.channels_last)
    engines = {PLAIN: torch_engine(plain), CHANNELS_LAST: torch_engine(model), FP32: openvino_engine(model)}
    if computes_in_bf16():
        engines[BF16] = openvino_engine(model, "bf16")
    if can_quantise():
        noise = np.random.default_rng(0).integers(0, 256, (20, RECIPE.size, RECIPE.size), dtype=np.uint8)
        engines[INT8] = openvino_engine(replace(model, int8=quantise(model, noise)), "int8")
    else:
        figures.notes.append("without OpenVINO int8: NNCF is not installed (extra 'quantise')")
    alone = {}
    for batch in BATCHES:
        alone[batch] = race({name: alone_with(engine, batch) for name, engine in engines.items()}, 4 * REPEATS)
        add(figures, f"network alone, batch of {batch}:", alone[batch])
    with tempfile.TemporaryDirectory() as folder:
        labels = make_phantoms(Path(folder), FILMS, SIDE, format="dicom")
        paths = sorted((labels.parent / "images").iterdir())
        ways = {PLAIN: lambda: one_after_another(plain, paths)} | {
            name: scoring_with(engine, model, paths, Path(folder)) for name, engine in engines.items() if name != PLAIN
        }
        whole = race(ways, REPEATS)
        without_network = scoring_with(lambda films: np.zeros((len(films), 2), np.float32), model, paths, Path(folder))
        preparing = race({"all but the network": without_network}, REPEATS)
    add(figures, f"from {FILMS} distinct {SIDE} x {SIDE} DICOM to rows (goal: 64 films/s):", whole)
    add(figures, "the parts:", preparing)
    best = list(engines)[-1]
    measured = {f"network alone, batches of {batch}": alone[batch] for batch in BATCHES} | {
        "DICOM to rows of a CSV": whole
    }
    for what, seconds in measured.items():
        for name in [engine for engine in (BF16, INT8) if engine in seconds]:
            figures.headlines.append(
                (
                    f"scoring, GoogLeNet at {RECIPE.size}: {what}, {name}",
                    f"{speed(statistics.median(seconds[name]))} films/s",
                    f"{ratio(seconds[PLAIN], seconds[name])} times {PLAIN}",
                )
            )
    parts = statistics.median(*preparing.values()) + statistics.median(alone[16][best])
    figures.notes.append(
        f"{best}: {parts / statistics.median(whole[best]):.2f} of the sum of parts (all but the network, and the "
        "network in batches of 16; goal: at least 0.6)"
    )
    figures.notes.append("network alone, goal: at least 9 times plain PyTorch in batches of 16 and of 1")
    return figures


def untrained() -> Model:
    torch.manual_seed(0)
    network = build_network("googlenet", 2, RECIPE.size, auxiliary=False).eval().requires_grad_(False)
    return Model(network, ModelCard(architecture="googlenet", recipe=RECIPE, precision={"bf16": PASSED}))


def alone_with(engine: Engine, batch: int) -> Callable[[], int]:
    films = np.random.default_rng(0).integers(0, 256, (batch, RECIPE.size, RECIPE.size), dtype=np.uint8)
    return lambda: len(engine(films))


def one_after_another(model: Model, paths: list[Path]) -> int:
    """Read and prepare a batch of films, run the network, go on: what a script would do."""
    for start in range(0, len(paths), 16):
        films = [prepare_film(read_film(path), model.card.recipe) for path in paths[start : start + 16]]
        probabilities(model, np.stack(films))
    return len(paths)


def scoring_with(engine: Engine, model: Model, paths: list[Path], folder: Path) -> Callable[[], int]:
    def run() -> int:
        write_scores(paths, folder / "scores.csv", lambda rest: score_films(model, rest, engine=engine), made_from="")
        return len(paths)

    return run


def add(figures: Figures, heading: str, seconds: dict[str, list[float]]) -> None:
    figures.rows.append((heading, "", "", ""))
    for name, values in seconds.items():
        peer = seconds.get(PLAIN)
        times = "" if peer is None else ratio(peer, values)
        figures.rows.append(
            (name, speed(statistics.median(values)), f"{speed(max(values))} to {speed(min(values))}", times)
        )
        figures.raw[f"{heading} {name}, seconds a film"] = values


def speed(seconds: float) -> str:
    return f"{1 / seconds:.1f}"
