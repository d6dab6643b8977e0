"""The model file: weights, and everything that must travel with them.

`model.safetensors` holds the network's weights in fp32, without the auxiliary classifiers that only help
training, the network in int8 where that passed its check, and in its metadata one JSON, the `ModelCard`.
`train` writes it, `evaluate` rewrites the card, `predict`, `explain` and `serve` load it. The format cannot
carry code, so a file from anywhere is safe to open; a damaged or foreign one is refused with one sentence.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.architectures import build_network, without_auxiliary
from cxrtriage.model.card import FORMAT, METADATA_KEY, ModelCard, load_card
from cxrtriage.model.known_films import KNOWN_FILMS, known_films
from cxrtriage.model.quantised import GRAPH, WEIGHTS, Quantised, quantised_of_file


@dataclass(frozen=True, slots=True)
class Model:
    """A network ready to score (eval mode, no gradients kept for its weights), its card, and itself in int8, if any."""

    network: nn.Module
    card: ModelCard
    int8: Quantised | None = None


def save_model(
    path: Path,
    network: nn.Module | Mapping[str, Tensor],
    card: ModelCard,
    int8: Quantised | None = None,
    films: frozenset[str] = frozenset(),
) -> None:
    """Write a model file: whole, or not at all.

    Parameters
    ----------
    path : where to, usually `model.safetensors`
    network : the network, or its state dict; auxiliary classifiers are left out
    card : what travels with the weights
    int8 : the same network in int8, which `card.precision` says may be used
    films : `known_films.fingerprints` of the films that it was trained or calibrated on
    """
    state = network.state_dict() if isinstance(network, nn.Module) else network
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in without_auxiliary(state).items()}
    if int8 is not None:
        tensors |= {
            name: torch.from_numpy(np.frombuffer(content, np.uint8).copy())
            for name, content in zip((GRAPH, WEIGHTS), int8, strict=True)
        }
    facts = {
        "format": FORMAT if int8 else 1,  # an older cxrtriage reads what has no network in int8
        "card": card.model_dump(mode="json"),
        KNOWN_FILMS: "".join(sorted(films)),
    }
    content = save(tensors, {METADATA_KEY: json.dumps(facts)})  # one entry: several would come in any order
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_model(path: Path, device: str | torch.device = "cpu") -> Model:
    """Read a model file.

    Parameters
    ----------
    path : a file written by `save_model`
    device : where the network shall run

    Raises
    ------
    ModelError
        If the file is missing, damaged, not a model of this project, newer than this version, or its
        weights do not fit its architecture.

    Examples
    --------
    >>> load_model(Path("nowhere.safetensors"))
    Traceback (most recent call last):
    cxrtriage.errors.ModelError: there is no model file nowhere.safetensors.
    """
    tensors, card = _read(path)
    try:
        with torch.device("meta"):  # shapes only: no time for weights that are replaced, no random numbers drawn
            network = build_network(card.architecture, len(card.classes), card.recipe.size, auxiliary=False)
    except ConfigError as error:
        raise ModelError(f"{path} cannot be used: {error}") from error
    expected = network.state_dict()
    _check_fit(path, card, expected, tensors)
    network.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()}, assign=True)
    network.requires_grad_(False).eval()
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(network, card, quantised_of_file(path))


def weights_sha256(model: Model) -> str:
    """Return the SHA-256 of a model's weights: copies that differ in calibration alone have the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def replace_card(
    path: Path, card: ModelCard, int8: Quantised | None = None, films: frozenset[str] = frozenset()
) -> None:
    """Write a new card into a model file, and the network in int8 that goes with it; the weights stay as they are.

    Parameters
    ----------
    path : model file
    card, int8 : as for `save_model`
    films : fingerprints of films that the new card was made with; those that the file knows already stay

    Raises
    ------
    ModelError
        If the file cannot be read.
    ValueError
        If the new card changes what the weights are tied to: architecture, classes or recipe.
    """
    tensors, old = _read(path)
    for name in ("architecture", "classes", "recipe"):
        if getattr(card, name) != getattr(old, name):
            raise ValueError(f"a new card cannot change {name}: {getattr(old, name)} to {getattr(card, name)}")
    save_model(path, tensors, card, int8, known_films(path) | films)


def _read(path: Path) -> tuple[dict[str, Tensor], ModelCard]:
    card = load_card(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys()) - {GRAPH, WEIGHTS}
            return {name: file.get_tensor(name) for name in sorted(names)}, card
    except SafetensorError as error:
        raise ModelError(f"cannot read {path}: its weights are damaged ({error}). Copy or train it again.") from error


def _check_fit(path: Path, card: ModelCard, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the card's architecture; name the first that differs."""
    for name in [*expected, *found]:
        wanted = f"shape {tuple(expected[name].shape)}" if name in expected else "none of that name"
        got = f"shape {tuple(found[name].shape)}" if name in found else "none of that name"
        if wanted != got:
            raise ModelError(
                f"the weights in {path} do not fit its architecture {card.architecture} with {len(card.classes)} "
                f"classes: {name} expected {wanted}, found {got}. Copy or train the model again."
            )
