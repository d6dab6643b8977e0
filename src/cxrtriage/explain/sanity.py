"""Does a heat map depend on the network at all, and does it hold still? Randomised weights and noise.

In come a model, films, and a function that makes heat maps; out go similarities of maps, a number a film. A method
whose map stays the same when the weights become random draws edges, not reasons. `measuring` reads it.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from cxrtriage.model.bundle import Model

MakeHeat = Callable[[Model, np.ndarray], np.ndarray]  # model, (N, S, S) uint8 films -> (N, S, S) float heat

NOISE = 0.02  # standard deviation as a share of the range, as the study adds to its training films
CELLS = 16  # a side; maps are compared by the mean heat of their cells


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how alike two stacks of heat maps are: Spearman's rank correlation over cells of 1/16 of the side.

    Cells, not pixels: a speckled map correlates with nothing pixel by pixel, and would seem to depend on the weights
    even where its density follows the film's edges whatever the weights are. So maps of every grain are judged alike.

    Parameters
    ----------
    first, second : (N, S, S) float

    Returns
    -------
    (N,) float64 in [-1, 1]; 0 where one of the maps is flat, since it says nothing

    Examples
    --------
    >>> ramp = np.arange(256.0).reshape(1, 16, 16)
    >>> float(similarity(ramp, ramp**3)[0]), float(similarity(ramp, -ramp)[0])
    (1.0, -1.0)
    """
    ranks = [rankdata(cell_means(maps).reshape(len(maps), -1), axis=1) for maps in (first, second)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    sizes = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    product = (centred[0] * centred[1]).sum(axis=1)
    return np.asarray(np.divide(product, sizes, out=np.zeros(len(first)), where=sizes > 0))


def cell_means(maps: np.ndarray) -> np.ndarray:
    """Return the mean of (N, S, S) maps over a grid of at most 16 x 16 cells, whose sizes differ by a pixel at most."""
    size = maps.shape[-1]
    starts = np.linspace(0, size, min(CELLS, size), endpoint=False).astype(int)
    lengths = np.diff([*starts, size])
    sums = np.add.reduceat(np.add.reduceat(maps.astype(np.float64), starts, axis=1), starts, axis=2)
    return np.asarray(sums / np.outer(lengths, lengths))


def noise_stability(make_heat: MakeHeat, model: Model, images: np.ndarray, heat: np.ndarray, seed: int) -> np.ndarray:
    """Return how alike the maps of films and of the same films with a little noise are, (N,) float64.

    Parameters
    ----------
    make_heat, model : the method and the network
    images : (N, S, S) uint8
    heat : (N, S, S) float, the maps of `images`
    seed : of the noise
    """
    noise = np.random.default_rng(seed).normal(0, NOISE * 255, images.shape)
    noisy = (images + noise).round().clip(0, 255).astype(np.uint8)
    return similarity(heat, make_heat(model, noisy))


def randomised_models(model: Model, images: np.ndarray, stages: int, seed: int) -> Iterator[tuple[str, Model]]:
    """Yield the model with more and more of its layers at random weights, from the classifier down to the stem.

    Convolutions and classifiers are drawn as before training (He). Batch normalisation starts anew and then measures
    its statistics on the films: with those of the trained weights, signals of a random network would vanish or
    overflow, and maps would change for that reason alone.

    Parameters
    ----------
    model : stays as it is; the copies are on its device
    images : (N, S, S) uint8, that batch normalisation is measured on
    stages : how many steps; the first takes the classifier alone, the rest is cut into equal numbers of layers
    seed : of the weights

    Yields
    ------
    What is random now, such as "fc to inception4a.branch1.conv", and the model. The last one is all random.

    References
    ----------
    Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim. Sanity checks for saliency maps. NeurIPS 2018: cascading
    randomisation.
    """
    names = [name for name, module in model.network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    names.reverse()  # modules are named in the order of the forward pass
    network = copy.deepcopy(model.network)
    done = 0
    for end in stage_ends(len(names), stages):
        for name in names[done:end]:
            redraw(network.get_submodule(name), seed + names.index(name))
        done = end
        renormalise(network, names[done - 1], images)
        layers = names[0] if done == 1 else "all layers" if done == len(names) else f"{names[0]} to {names[done - 1]}"
        yield layers, Model(network, model.card)


def stage_ends(layers: int, stages: int) -> list[int]:
    """Return how many layers are random at the end of each stage: 1, then evenly on to all.

    Examples
    --------
    >>> stage_ends(58, 4)
    [1, 20, 39, 58]
    """
    return sorted({int(end) for end in np.linspace(1, layers, stages).round()} | {layers})


def redraw(layer: nn.Module, seed: int) -> None:
    """Give a convolution or classifier fresh weights and no bias."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    generator = torch.Generator().manual_seed(seed)
    fresh = torch.empty(layer.weight.shape)
    nn.init.kaiming_normal_(fresh, mode="fan_in", nonlinearity="relu", generator=generator)
    with torch.no_grad():
        layer.weight.copy_(fresh)
        if layer.bias is not None:
            layer.bias.zero_()


def renormalise(network: nn.Module, first_random: str, images: np.ndarray) -> None:
    """Start batch normalisation anew behind the first random layer, and measure its statistics on the films."""
    modules = dict(network.named_modules())
    behind = list(modules)[list(modules).index(first_random) :]
    normalised = [modules[name] for name in behind if isinstance(modules[name], nn.BatchNorm1d | nn.BatchNorm2d)]
    for module in normalised:
        module.reset_parameters()
        module.momentum = 1.0  # the statistics of these films, none from before
        module.train()
    device = next(network.parameters()).device
    with torch.no_grad():
        network(torch.from_numpy(images).to(device).unsqueeze(1).float() / 255)
    for module in normalised:
        module.eval()
