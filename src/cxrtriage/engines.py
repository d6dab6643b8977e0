"""What runs a network: PyTorch, or OpenVINO on processors. The one place where that is chosen.

In comes a loaded model, out comes a function from prepared films to logits. Read next by `predict` and `score`.
In fp32 both agree within rounding. In bf16 a model runs only where its card says that this changes little.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch

from cxrtriage.errors import ModelError
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import FEWEST_FILMS_TO_CHECK

Engine = Callable[[np.ndarray], np.ndarray]  # (B, S, S) uint8 -> (B, C) float32 logits; for one thread at a time
EngineName = Literal["auto", "torch", "openvino", "openvino-bf16"]

FEWEST_FOR_OPENVINO = 100  # films; with fewer, what the conversion takes (1 to 2 s) is more than it saves


def choose_engine(model: Model, name: EngineName, films: int) -> Engine:
    """Return what shall run a model.

    Parameters
    ----------
    model : from `load_model`
    name : "auto" is OpenVINO where the network lies on a processor and the films are worth the conversion, else
        PyTorch; in bf16 where the processor computes in it and the card of the model says that it may
    films : how many films there are at least

    Raises
    ------
    ModelError
        If bf16 is asked for and the model's card does not say that it may be used.
    """
    check = model.card.precision.get("bf16")
    if name == "openvino-bf16" and not (check and check.passed):
        raise ModelError(
            "the model may not be run in bf16: "
            + (
                f"on {check.films} films it changes {check.decisions_changed:.1%} of the decisions and lowers AUROC by "
                f"{check.auroc_fall:.4f}. Use --engine openvino."
                if check
                else "its file does not tell what that changes. Use --engine openvino, or let 'cxrtriage recalibrate' "
                f"check it on {FEWEST_FILMS_TO_CHECK} films or more, on a processor with bf16."
            )
        )
    if name == "auto":
        on_cpu = next(model.network.parameters()).device.type == "cpu"
        name = "openvino" if on_cpu and films >= FEWEST_FOR_OPENVINO else "torch"
        if name == "openvino" and check and check.passed and computes_in_bf16():
            name = "openvino-bf16"
    if name == "torch":
        return torch_engine(model)
    return openvino_engine(model, "bf16" if name == "openvino-bf16" else "f32")


def computes_in_bf16() -> bool:
    """Tell whether this processor has instructions for bf16; others would only imitate it."""
    return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def torch_engine(model: Model) -> Engine:
    """Return PyTorch in fp32 on the device that the model was loaded to."""
    device = next(model.network.parameters()).device

    def run(films: np.ndarray) -> np.ndarray:
        # cuDNN would round convolutions to TF32 by default, which moves probabilities by up to 1e-3
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = model.network(torch.from_numpy(films).to(device).unsqueeze(1).float() / 255)
            return np.asarray(output.float().cpu().numpy())

    return run


def openvino_engine(model: Model, precision: Literal["f32", "bf16"] = "f32") -> Engine:
    """Return OpenVINO on the processor, for batches of any size; the conversion takes 1 to 2 s.

    Parameters
    ----------
    model : from `load_model`, on the processor
    precision : what the network computes in
    """
    openvino = _openvino()
    size = model.card.recipe.size
    # two films: where one is the example, a batch of one may be taken for a constant
    example = torch.zeros(2, 1, size, size)
    with warnings.catch_warnings(), torch.no_grad():
        # tracing is deprecated, but torch.export takes several times as long and ties `lung_lite` to one batch size
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model.network, example, check_trace=False)  # type: ignore[no-untyped-call]
        converted = openvino.convert_model(traced, example_input=example, input=[-1, 1, size, size])
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(converted, "CPU", settings)

    def run(films: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(films[:, np.newaxis].astype(np.float32) / np.float32(255))[0])

    return run


def _openvino() -> Any:
    """Import OpenVINO, which takes a while, without what it says to others."""
    # OpenVINO reports imports and conversions to its makers, unasked, where it finds this package; a hospital's program
    # reports nothing to anybody
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
