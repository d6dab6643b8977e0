"""Write a model's network as ONNX, for programs that are not this one: in comes a model file, out goes a `.onnx` file.

Preparing films and turning logits into probabilities is not in it. What they need, the `ModelCard`, is in the file's
metadata as JSON under the key `METADATA_KEY`.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cxrtriage.atomic import replacing
from cxrtriage.data.phantom import draw_phantom
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.engines import torch_engine
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.bundle import Model, load_model
from cxrtriage.model.converted import openvino
from cxrtriage.records import SourceImage

METADATA_KEY = "cxrtriage"
OPSET = 18  # 2022; runtimes and converters of the years since read it
PHANTOMS = 3  # that the written network is checked with
TOLERANCE = 1e-3  # of the largest logit; sums in another order make about a millionth


class FromBytes(nn.Module):
    """A network from films as they are prepared: (B, 1, S, S) uint8 -> (B, C) float32 logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, films: Tensor) -> Tensor:
        return torch.as_tensor(self.network(films.float() / 255))


def export_onnx(path: Path, out: Path) -> None:
    """Write the network of a model file as ONNX, after holding it against PyTorch on phantoms.

    Its input is `films`, (B, 1, S, S) uint8 prepared by the card's recipe, for any B; its output `logits`, (B, C)
    float32.

    Parameters
    ----------
    path : a file written by `save_model`
    out : file to write; replaced if it is there

    Raises
    ------
    ConfigError
        If the package onnx is not installed.
    ModelError
        If the model file cannot be used, or the written network says something else.
    """
    if find_spec("onnx") is None:
        raise ConfigError(
            "exporting needs the package onnx, which is not installed. Install it with: pip install 'cxrtriage[onnx]'"
        )
    import onnx

    model = load_model(path)
    size = model.card.recipe.size
    with replacing(out) as temporary:
        with warnings.catch_warnings():
            # tracing is deprecated, but torch.export ties `lung_lite` to one batch size; see `converted.convert`
            warnings.simplefilter("ignore")
            torch.onnx.export(
                FromBytes(model.network).eval(),
                (torch.zeros(2, 1, size, size, dtype=torch.uint8),),
                str(temporary),
                input_names=["films"],
                output_names=["logits"],
                dynamic_axes={"films": {0: "batch"}, "logits": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )
        network = onnx.load(temporary)
        onnx.helper.set_model_props(network, {METADATA_KEY: model.card.model_dump_json()})
        onnx.save(network, temporary)
        _require_same_logits(temporary, model, path)


def _require_same_logits(written: Path, model: Model, path: Path) -> None:
    """Refuse a network that does not say of phantoms what PyTorch says of them; OpenVINO runs it."""
    films = np.stack([prepare_film(_phantom(seed), model.card.recipe) for seed in range(PHANTOMS)])
    expected = torch_engine(model)(films)
    core = openvino().Core()
    run = core.compile_model(core.read_model(written.read_bytes()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    off = float(np.abs(run(films[:, np.newaxis])[0] - expected).max() / np.abs(expected).max())
    if not off <= TOLERANCE:
        raise ModelError(
            f"the network of {path} written as ONNX gives logits that are off by {off:.2g} of the largest on phantoms, "
            f"expected at most {TOLERANCE:g}. Nothing was written; use 'cxrtriage score' to run this model."
        )


def _phantom(seed: int) -> SourceImage:
    phantom = draw_phantom(seed=seed)
    return SourceImage(phantom.pixels, phantom.facts.bits)
