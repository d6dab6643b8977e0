"""A network as OpenVINO has it, kept between starts, so that scoring a film need not load PyTorch.

In comes a model, or a model file; out comes an `openvino.Model`. What a file was converted to lies in the user's cache
folder under the hash of its content. `engines` reads this next.
"""

import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrtriage.digest import sha256_of
from cxrtriage.machine import cache_home

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

KEPT = 4  # conversions; the least recently used ones go, since a large network takes 240 MB
FORM = 2  # of a converted network; raised when `convert` makes another, so that what is kept is made again


def openvino() -> Any:
    """Import OpenVINO without what it says to others.

    It reports imports and conversions to its makers, unasked, where it finds its telemetry package; a hospital's
    program reports nothing to anybody.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def convert(model: "Model") -> Any:
    """Convert a model's network, for batches of any size; takes 1 to 2 s.

    Parameters
    ----------
    model : from `load_model`, on the processor

    Returns
    -------
    openvino.Model
        From (B, 1, S, S) uint8 films to (B, C) float32 logits.
    """
    import torch

    size = model.card.recipe.size
    # two films: where one is the example, a batch of one may be taken for a constant
    example = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        # tracing is deprecated, but torch.export takes several times as long and ties `lung_lite` to one batch size
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(lambda films: model.network(films.float() / 255), example, check_trace=False)  # type: ignore[no-untyped-call]
        network = openvino().convert_model(traced, example_input=example, input=[-1, 1, size, size])
    _pool_without_places(network)
    return _read_back(network)


def _pool_without_places(network: Any) -> None:
    """Let max pooling give the maxima alone, not also where they were, which nobody reads.

    OpenVINO's processor plug-in reorders the values behind a pooling that gives both, and has none of them in int8.
    """
    from openvino import opset1

    for found in network.get_ordered_ops():
        if found.get_type_name() != "MaxPool" or len(found.outputs()) == 1:
            continue
        how = found.get_attributes()
        rounding = "floor" if how["rounding_type"] == "floor" else "ceil"
        pads = how["pads_begin"], how["pads_end"]
        simple = opset1.max_pool(found.input_value(0), how["strides"], *pads, how["kernel"], rounding, how["auto_pad"])
        # PyTorch leaves out a last window that would lie in the padding alone, which the simple form cannot
        height_and_width = [pool.get_output_partial_shape(0)[2:] for pool in (simple, found)]
        same_shape = height_and_width[1].is_static and height_and_width[0] == height_and_width[1]
        if same_shape and set(how["dilations"]) == {1} and not found.output(1).get_target_inputs():
            simple.set_friendly_name(found.get_friendly_name())
            found.output(0).replace(simple.output(0))


def converted_file(path: Path) -> Any:
    """Return the converted network of a model file: the one kept from an earlier start, or a new one, which is kept.

    Parameters
    ----------
    path : a file written by `save_model`

    Raises
    ------
    ModelError
        See `load_model`.
    """
    folder = cache_folder() / f"{sha256_of(path)}-openvino-{openvino().__version__.split('-')[0]}-{FORM}"
    try:
        found = openvino().Core().read_model(folder / "network.xml")
        folder.touch()
        return found
    except (RuntimeError, OSError):
        shutil.rmtree(folder, ignore_errors=True)  # not there, or damaged
    from cxrtriage.model.bundle import load_model

    network = convert(load_model(path))
    _keep(network, folder)
    return network


def cache_folder() -> Path:
    """Return where converted networks are kept."""
    return cache_home() / "cxrtriage"


def _read_back(network: Any) -> Any:
    """Return a network as it comes from a file: only so are results the same to the last bit, first start or later."""
    with tempfile.TemporaryDirectory() as folder:
        openvino().save_model(network, Path(folder) / "network.xml", compress_to_fp16=False)
        return openvino().Core().read_model(Path(folder) / "network.xml")  # its weights stay mapped when the file goes


def _keep(network: Any, folder: Path) -> None:
    """Put a network into the cache, whole or not at all, and the oldest ones away; where nothing can be kept, go on."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        openvino().save_model(network, temporary / "network.xml", compress_to_fp16=False)
        try:
            temporary.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(temporary)
        newest = sorted(folder.parent.iterdir(), key=lambda kept: kept.stat().st_mtime, reverse=True)
        for old in newest[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    except (RuntimeError, OSError):
        return
