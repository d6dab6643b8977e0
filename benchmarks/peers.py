"""The product beside what else its users would take: torchxrayvision, MONAI, ONNX Runtime; and beside the machine.

Preparing: one raw 3000 x 3000 16-bit TIFF to the network's input, as each library's documentation does it; they do not
do the same (only the product and MONAI equalise), so a row says what it does. Scoring: 16 films in memory, all
processors. The floor: the bytes of a film at the speed of the page cache, and the multiply-adds of a network at the
speed of a large matrix product. The peers are in the dependency group `peers`; a row without its library says so.
"""

import contextlib
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import openvino
import tifffile
import torch

from benchmarks import Figures, race, ratio
from benchmarks.scoring import untrained
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.engines import computes_in_bf16, openvino_engine, torch_engine

FILMS = 2
SIDE = 3000  # pixels
BATCH = 16
REPEATS = 5
RECIPE = Recipe(size=224)
MATRIX = 2048  # side of the matrices whose product shows the peak
PRODUCT = "cxrtriage"
Ways = dict[str, Callable[[], int]]


def measure() -> Figures:
    figures = Figures(
        title="Beside its peers, and the floor that the machine sets",
        columns=("", "ms a film", "fastest to slowest turn", f"times {PRODUCT}'s time"),
        rows=[],
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        labels = make_phantoms(Path(folder), FILMS, SIDE)
        paths = sorted((labels.parent / "images").iterdir())
        ways = preparing(paths, figures)
        floor = {"floor: the bytes of the film, from the page cache": lambda: bytes_of(paths)}
        threads = cv2.getNumThreads(), torch.get_num_threads()
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        prepared = race(ways | floor, REPEATS)
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    add(figures, f"preparing a raw {SIDE} x {SIDE} TIFF for {RECIPE.size}, one thread:", prepared)
    reached = share(prepared[next(iter(floor))], prepared[PRODUCT])
    figures.notes.append(f"preparing reaches {reached:.0%} of the speed at which its bytes can be read")
    scored = race(scoring(figures), REPEATS)
    add(figures, f"networks alone, batches of {BATCH} prepared films:", scored)
    add_arithmetic(figures, scored)
    return figures


def preparing(paths: list[Path], figures: Figures) -> Ways:
    """Return the ways to prepare all films."""

    def each(prepare: Callable[[Path], object]) -> Callable[[], int]:
        return lambda: len([prepare(path) for path in paths])

    ways: Ways = {PRODUCT: each(lambda path: prepare_film(read_film(path, mapped=True), RECIPE))}
    if xrayvision := peer("torchxrayvision", figures):
        crop, resize = xrayvision.datasets.XRayCenterCrop(), xrayvision.datasets.XRayResizer(RECIPE.size, engine="cv2")
        ways["torchxrayvision: normalize, XRayCenterCrop, XRayResizer (no equalisation)"] = each(
            lambda path: resize(crop(xrayvision.datasets.normalize(tifffile.imread(path), 2**16 - 1)[None]))
        )
    if monai := peer("monai.transforms", figures):
        size = (RECIPE.size, RECIPE.size)
        load = monai.LoadImage(image_only=True, ensure_channel_first=True, reader="PILReader")
        plain = monai.Compose([load, monai.ScaleIntensity(), monai.Resize(size)])
        equalising = monai.Compose(
            [load, monai.ScaleIntensity(), monai.HistogramNormalize(num_bins=256, min=0.0, max=1.0), monai.Resize(size)]
        )
        ways["MONAI: LoadImage, ScaleIntensity, Resize (no equalisation)"] = each(plain)
        ways["MONAI: the same with HistogramNormalize (256 levels)"] = each(equalising)
    return ways


def bytes_of(paths: list[Path]) -> int:
    for path in paths:
        with path.open("rb", buffering=0) as file:
            file.readinto(ROOM)
    return len(paths)


ROOM = bytearray(2 * SIDE**2 + 4096)


def scoring(figures: Figures) -> Ways:
    """Return the networks, each over one batch."""
    model = untrained()
    films = np.random.default_rng(0).integers(0, 256, (BATCH, RECIPE.size, RECIPE.size), dtype=np.uint8)
    engines = {f"{PRODUCT}, OpenVINO fp32": openvino_engine(model)}
    if computes_in_bf16():
        engines[f"{PRODUCT}, OpenVINO bf16"] = openvino_engine(model, "bf16")
    engines["the same GoogLeNet, plain PyTorch"] = torch_engine(model)
    ways: Ways = {name: lambda engine=engine: len(engine(films)) for name, engine in engines.items()}
    inputs = torch.from_numpy(films[:, None].astype(np.float32) / 255)
    if (runtime := peer("onnxruntime", figures)) and peer("onnx", figures):
        buffer = io.BytesIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # that this exporter is the older of two
            names = {"input_names": ["films"], "output_names": ["logits"], "dynamic_axes": {"films": {0: "batch"}}}
            torch.onnx.export(model.network, (inputs,), buffer, dynamo=False, opset_version=17, **names)
        session = runtime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
        ways["the same GoogLeNet, ONNX Runtime fp32"] = lambda: len(session.run(None, {"films": inputs.numpy()})[0])
    if xrayvision := peer("torchxrayvision", figures):
        # its user loads weights; untrained ones take as long, and nothing has to be fetched
        densenet = xrayvision.models.DenseNet(weights=None, num_classes=18, in_channels=1, **DENSENET_121).eval()
        scaled = 2048 * inputs - 1024

        def with_densenet() -> int:
            with torch.inference_mode():
                return len(densenet(scaled))

        ways["torchxrayvision, DenseNet-121, PyTorch"] = with_densenet
    return ways


DENSENET_121 = {"growth_rate": 32, "block_config": (6, 12, 24, 16), "num_init_features": 64}


def add_arithmetic(figures: Figures, scored: dict[str, list[float]]) -> None:
    """Say which share of the measured peak of matrix products the product's network reaches."""
    multiply_adds = multiply_adds_of_googlenet()
    for precision in ("fp32", "bf16"):
        name = f"{PRODUCT}, OpenVINO {precision}"
        if name not in scored:
            continue
        peak = peak_multiply_adds(precision)
        floor = multiply_adds / peak
        cells = (f"  floor of {precision}: its multiply-adds at the peak", f"{1000 * floor:.2f}", "", "")
        figures.rows.append(cells)
        figures.raw[f"peak of {precision}, multiply-adds a second"] = [peak]
        reached = floor / statistics.median(scored[name])
        figures.notes.append(
            f"{name}: {multiply_adds / 1e9:.2f} billion multiply-adds a film; a matrix product of {MATRIX} reaches "
            f"{peak / 1e9:.0f} billion a second, the network {reached:.0%} of that"
        )


def multiply_adds_of_googlenet() -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        untrained().network(torch.zeros(1, 1, RECIPE.size, RECIPE.size))
    return counter.get_total_flops() / 2


def peak_multiply_adds(precision: str) -> float:
    """Multiply large matrices with the library that runs the network; return the best of several turns."""
    ops = openvino.opset13
    left = ops.parameter([MATRIX, MATRIX], np.float32)
    right = ops.constant(np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32))
    product = openvino.Model([ops.matmul(left, right, False, False)], [left])
    hints = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(product, "CPU", hints).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.ones((MATRIX, MATRIX), np.float32)))
    seconds = []
    for _ in range(2 * REPEATS):
        start = time.perf_counter()
        request.infer()
        seconds.append(time.perf_counter() - start)
    return MATRIX**3 / min(seconds)


def peer(name: str, figures: Figures) -> ModuleType | None:
    """Import a library of the group `peers`; where that fails, say so below the table."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except ImportError as error:
        figures.notes.append(f"{name} is left out: {error} (install it with: pip install --group peers)")
        return None


def share(floor: list[float], taken: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(floor, taken, strict=True))


def add(figures: Figures, heading: str, seconds: dict[str, list[float]]) -> None:
    figures.rows.append((heading, "", "", ""))
    first = next(iter(seconds.values()))
    best = min(
        (name for name in seconds if name.startswith(PRODUCT)), key=lambda name: statistics.median(seconds[name])
    )
    for name, values in seconds.items():
        median, fastest, slowest = (f"{1000 * of(values):.2f}" for of in (statistics.median, min, max))
        figures.rows.append((f"  {name}", median, f"{fastest} to {slowest}", ratio(values, first)))
        figures.raw[f"{heading} {name}, seconds a film"] = values
        if not name.startswith((PRODUCT, "floor")):
            own = f"{1 / statistics.median(seconds[best]):.1f} films/s"
            figures.headlines.append(
                (f"{heading.rstrip(':')}, {best}", own, f"{ratio(values, seconds[best])} times {name}")
            )
