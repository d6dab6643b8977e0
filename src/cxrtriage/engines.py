"""What runs a network: PyTorch, or OpenVINO on processors. The one place where that is chosen.

In comes a loaded model, out comes a function from prepared films to logits. Read next by `predict` and `score`.
In fp32 both agree within rounding. In bf16 a model runs only where its card says that this changes little.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cxrtriage.errors import ModelError
from cxrtriage.model.card import FEWEST_FILMS_TO_CHECK, ModelCard, load_card
from cxrtriage.model.converted import convert, converted_file, openvino

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

Engine = Callable[[np.ndarray], np.ndarray]  # (B, S, S) uint8 -> (B, C) float32 logits; for one thread at a time
EngineName = Literal["auto", "torch", "openvino", "openvino-bf16"]
Precision = Literal["f32", "bf16"]

FEWEST_FOR_OPENVINO = 100  # films; with fewer, what the conversion takes (1 to 2 s) is more than it saves


def choose_engine(model: "Model", name: EngineName, films: int) -> Engine:
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
    if name == "auto" and (films < FEWEST_FOR_OPENVINO or next(model.network.parameters()).device.type != "cpu"):
        name = "torch"
    return torch_engine(model) if name == "torch" else openvino_engine(model, _precision(model.card, name))


def engine_of_file(path: Path, name: EngineName) -> tuple[ModelCard, Engine]:
    """Return the card of a model file and what shall run it on the processor.

    PyTorch, which takes 3 s to load, is needed only where it is asked for, and the first time that a file is converted.

    Parameters
    ----------
    path : a file written by `save_model`
    name : "auto" is OpenVINO, in bf16 as in `choose_engine`

    Raises
    ------
    ModelError
        If the file cannot be used, or may not be run in bf16 and that is asked for.
    """
    card = load_card(path)
    if name == "torch":
        from cxrtriage.model.bundle import load_model

        return card, torch_engine(load_model(path))
    precision = _precision(card, name)
    return card, _compiled(converted_file(path), precision)


def computes_in_bf16() -> bool:
    """Tell whether this processor has instructions for bf16; others would only imitate it."""
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def torch_engine(model: "Model") -> Engine:
    """Return PyTorch in fp32 on the device that the model was loaded to."""
    import torch

    device = next(model.network.parameters()).device

    def run(films: np.ndarray) -> np.ndarray:
        # cuDNN would round convolutions to TF32 by default, which moves probabilities by up to 1e-3
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = model.network(torch.from_numpy(films).to(device).unsqueeze(1).float() / 255)
            return np.asarray(output.float().cpu().numpy())

    return run


def openvino_engine(model: "Model", precision: Precision = "f32") -> Engine:
    """Return OpenVINO on the processor, for batches of any size; the conversion takes 1 to 2 s.

    Parameters
    ----------
    model : from `load_model`, on the processor
    precision : what the network computes in
    """
    return _compiled(convert(model), precision)


def _compiled(network: Any, precision: Precision) -> Engine:
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino().Core().compile_model(network, "CPU", settings)

    def run(films: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(films[:, np.newaxis].astype(np.float32) / np.float32(255))[0])

    return run


def _precision(card: ModelCard, name: EngineName) -> Precision:
    """Return what OpenVINO shall compute in; ModelError where that is asked for and not allowed."""
    check = card.precision.get("bf16")
    allowed = check is not None and check.passed
    if name != "openvino-bf16":
        return "bf16" if name == "auto" and allowed and computes_in_bf16() else "f32"
    if allowed:
        return "bf16"
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
