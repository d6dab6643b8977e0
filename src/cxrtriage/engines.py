"""What runs a network: PyTorch, or OpenVINO on processors. The one place where that is chosen.

In comes a loaded model, out comes a function from prepared films to logits. Read next by `predict` and `score`.
In fp32 both agree within rounding. In bf16 or int8 a model runs only where its card says that this changes little.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cxrtriage.errors import ModelError
from cxrtriage.model.card import FEWEST_FILMS_TO_CHECK, ModelCard, load_card
from cxrtriage.model.converted import convert, converted_file, openvino
from cxrtriage.model.quantised import Quantised, quantised_of_file, read_quantised

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

Engine = Callable[[np.ndarray], np.ndarray]  # (B, S, S) uint8 -> (B, C) float32 logits; for one thread at a time
EngineName = Literal["auto", "torch", "openvino", "openvino-bf16", "openvino-int8"]
Precision = Literal["f32", "bf16", "int8"]

FEWEST_FOR_OPENVINO = 100  # films; with fewer, what the conversion takes (1 to 2 s) is more than it saves


def choose_engine(model: "Model", name: EngineName, films: int) -> Engine:
    """Return what shall run a model.

    Parameters
    ----------
    model : from `load_model`
    name : "auto" is OpenVINO where the network lies on a processor and the films are worth the conversion, else
        PyTorch; in int8 where the card of the model says that it may, else in bf16 where it may and the processor
        computes in it
    films : how many films there are at least

    Raises
    ------
    ModelError
        If bf16 or int8 is asked for and the model's card does not say that it may be used.
    """
    if name == "auto" and (films < FEWEST_FOR_OPENVINO or next(model.network.parameters()).device.type != "cpu"):
        name = "torch"
    return torch_engine(model) if name == "torch" else openvino_engine(model, _precision(model.card, name))


def engine_of_file(path: Path, name: EngineName, threads: int | None = None) -> tuple[ModelCard, Engine]:
    """Return the card of a model file and what shall run it on the processor.

    PyTorch, which takes 3 s to load, is needed only where it is asked for, and the first time that a file is converted.

    Parameters
    ----------
    path : a file written by `save_model`
    name : "auto" is OpenVINO, in int8 or bf16 as in `choose_engine`
    threads : that OpenVINO takes; all processors unless given. Results are the same whatever their number

    Raises
    ------
    ModelError
        If the file cannot be used, or may not be run in what is asked for.
    """
    card = load_card(path)
    if name == "torch":
        from cxrtriage.model.bundle import load_model

        return card, torch_engine(load_model(path))
    precision = _precision(card, name)
    if precision == "int8":
        return card, _int8(card, quantised_of_file(path), threads)
    return card, _compiled(converted_file(path), precision, threads)


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
    precision : what the network computes in; int8 only where the model has it
    """
    return _int8(model.card, model.int8) if precision == "int8" else _compiled(convert(model), precision)


def _int8(card: ModelCard, network: Quantised | None, threads: int | None = None) -> Engine:
    """Run a network in int8; what stays between its layers in bf16 where the model may, as it was when checked."""
    if network is None:
        raise ModelError("the model file has no network in int8. Use --engine openvino, or copy the file again.")
    return _compiled(read_quantised(network), _without_int8(card), threads)


def _compiled(network: Any, precision: Literal["f32", "bf16"], threads: int | None = None) -> Engine:
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    request = openvino().Core().compile_model(network, "CPU", settings).create_infer_request()

    def run(films: np.ndarray) -> np.ndarray:
        return np.array(request.infer(films[:, np.newaxis], share_inputs=True, share_outputs=True)[0])

    return run


def _without_int8(card: ModelCard) -> Literal["f32", "bf16"]:
    return "bf16" if _allowed(card, "bf16") and computes_in_bf16() else "f32"


def _allowed(card: ModelCard, precision: str) -> bool:
    return precision in card.precision and card.precision[precision].passed


def _precision(card: ModelCard, name: EngineName) -> Precision:
    """Return what OpenVINO shall compute in; ModelError where that is asked for and not allowed."""
    if name == "auto":
        return "int8" if _allowed(card, "int8") else _without_int8(card)
    if name == "openvino-bf16":
        return _require(card, "bf16", "on a processor with bf16")
    if name == "openvino-int8":
        return _require(card, "int8", "with the extra 'quantise' installed")
    return "f32"


def _require(card: ModelCard, precision: Precision, condition: str) -> Precision:
    if _allowed(card, precision):
        return precision
    check = card.precision.get(precision)
    raise ModelError(
        f"the model may not be run in {precision}: "
        + (
            f"on {check.films} films it changes {check.decisions_changed:.1%} of the decisions and lowers AUROC by "
            f"{check.auroc_fall:.4f}. Use --engine openvino."
            if check
            else "its file does not tell what that changes. Use --engine openvino, or let 'cxrtriage recalibrate' "
            f"check it on {FEWEST_FILMS_TO_CHECK} films or more, {condition}."
        )
    )
