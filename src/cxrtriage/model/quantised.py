"""A network in int8: made once, with films and NNCF, and kept in the model file, so that scoring needs neither.

In come a model and films; out goes the network as OpenVINO writes it, a graph and weights of 8 bits. `evaluate` makes
and checks it, `bundle` writes it into the model file, `engines` runs it.
"""

import io
import logging
import tempfile
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from cxrtriage.errors import ModelError
from cxrtriage.model.converted import convert, openvino

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

FILMS = 300  # that suffice to take ranges from; NNCF's own choice
GRAPH, WEIGHTS = "openvino-int8.graph", "openvino-int8.weights"  # their names in a model file


class Quantised(NamedTuple):
    """A network in int8 in OpenVINO's form: what it writes as `.xml` and as `.bin`."""

    graph: bytes
    weights: bytes


def can_quantise() -> bool:
    """Tell whether NNCF, of the extra `quantise`, is installed."""
    return find_spec("nncf") is not None


def quantise(model: "Model", films: np.ndarray) -> Quantised:
    """Round a network's weights and the values between its layers to 8 bits; takes a minute.

    Weights keep a scale for each channel, values between layers one for each place. NNCF takes them from what the films
    cause, and moves the biases, layer by layer, so that the mean of what each gives stays. The classifier stays as it
    is: it takes no time, and what it rounds goes straight into the logits.

    Parameters
    ----------
    model : from `load_model`, on the processor
    films : (N, S, S) uint8, prepared by its recipe; `FILMS` of them suffice

    References
    ----------
    Nagel et al., Data-free quantization through weight equalization and bias correction, ICCV 2019 (the biases).
    """
    network = convert(model)  # first, since NNCF alone would load OpenVINO with its telemetry
    import nncf

    for name in ("nncf", "torch.utils.cpp_extension"):  # which remark on what they chose and on the machine
        logging.getLogger(name).setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:  # it draws bars of its own
        examples = nncf.Dataset([film[np.newaxis, np.newaxis] for film in films])
        quantised = nncf.quantize(
            network,
            examples,
            subset_size=len(films),
            # correcting each layer after those before it: half the error of the fast way, on films
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(types=["MatMul"], validate=False),
        )
        path = Path(folder) / "network.xml"
        openvino().save_model(quantised, path, compress_to_fp16=False)
        return Quantised(path.read_bytes(), path.with_suffix(".bin").read_bytes())


def read_quantised(found: Quantised) -> Any:
    """Return the `openvino.Model` of a network in int8; films (B, 1, S, S) uint8 to logits (B, C) float32.

    Raises
    ------
    ModelError
        If OpenVINO cannot read it.
    """
    try:
        weights = openvino().Tensor(np.frombuffer(found.weights, np.uint8))
        return openvino().Core().read_model(found.graph, weights)
    except RuntimeError as error:
        raise ModelError(
            "this OpenVINO cannot read the model's network in int8. Use --engine openvino, or let "
            f"'cxrtriage recalibrate' make it again ({str(error).strip().splitlines()[-1]})."
        ) from error


def quantised_of_file(path: Path) -> Quantised | None:
    """Return the network in int8 of a model file; None where it has none. Raises `ModelError` if it is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            if GRAPH not in file.keys():  # noqa: SIM118 (no mapping)
                return None
            return Quantised(file.get_tensor(GRAPH).tobytes(), file.get_tensor(WEIGHTS).tobytes())
    except SafetensorError as error:
        raise ModelError(f"cannot read {path}: its network in int8 is damaged ({error}). Copy it again.") from error
