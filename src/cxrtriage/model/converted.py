"""A network as OpenVINO has it, kept between starts, so that scoring a film need not load PyTorch.

In comes a model, or a model file; out comes an `openvino.Model`. What a file was converted to lies in the user's cache
folder under the hash of its content. `engines` reads this next.
"""

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrtriage.digest import sha256_of

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

KEPT = 4  # conversions; the least recently used ones go, since a large network takes 240 MB


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
    """
    import torch

    size = model.card.recipe.size
    # two films: where one is the example, a batch of one may be taken for a constant
    example = torch.zeros(2, 1, size, size)
    with warnings.catch_warnings(), torch.no_grad():
        # tracing is deprecated, but torch.export takes several times as long and ties `lung_lite` to one batch size
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model.network, example, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino().convert_model(traced, example_input=example, input=[-1, 1, size, size])


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
    folder = cache_folder() / f"{sha256_of(path)}-openvino-{openvino().__version__.split('-')[0]}"
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
    """Return where converted networks are kept: `cxrtriage` in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cxrtriage"


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
