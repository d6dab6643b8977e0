"""The study's three networks, for one grey channel and any input size from 128, and the packaged model's.

In comes the name of a network; out goes torchvision's own, changed in three places: its first layer
takes one grey channel, dropout stands before each classifier, and auxiliary classifiers are there only
where the size allows. `train` fits it, `bundle` stores it, `predict` and `explain` run it.

A published network expects a colour picture, normalised per channel. A film replicated three times and
normalised is an affine map of one grey level g: channel c holds (g - m_c) / s_c. A convolution is linear,
so its three input planes fold into two: one that multiplies g and one that multiplies a plane of ones,

    w_grey = sum_c w_c / s_c          w_one = - sum_c w_c * m_c / s_c

The plane of ones, rather than a bias, keeps the fold exact at the borders: zero padding there pads the
*normalised* picture, so the constant must vanish outside the film just as the grey level does.
"""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.lung_lite import LungLite

logger = logging.getLogger(__name__)

NETWORKS = ("googlenet", "inception_v3", "resnet152")  # that `train` trains
PACKAGED_NETWORK = "lung_lite"  # that `training.packaged` trains
SMALLEST_SIZE = 128
# torchvision's auxiliary head of Inception V3 fails below this size: 5 x 5 kernels on a smaller map
INCEPTION_AUXILIARY_SIZE = 299

# What the published weights were trained to see: (mean, standard deviation) of red, green and blue.
# torchvision turns ImageNet's statistics back into 0.5 and 0.5 (`transform_input`) for the two
# networks whose weights came from TensorFlow.
TENSORFLOW = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISATION = {"googlenet": TENSORFLOW, "inception_v3": TENSORFLOW, "resnet152": IMAGENET}

STEM = {"googlenet": "conv1.conv", "inception_v3": "Conv2d_1a_3x3.conv", "resnet152": "conv1"}
AUXILIARY_PREFIXES = ("aux1.", "aux2.", "AuxLogits.")


class GreyConv2d(nn.Conv2d):
    """The first layer: (B, 1, S, S) grey levels in [0, 1], joined by the plane of ones."""

    def forward(self, films: Tensor) -> Tensor:
        return super().forward(torch.cat([films, torch.ones_like(films)], dim=1))


def build_network(net: str, classes: int, size: int, dropout: float = 0.5, *, auxiliary: bool = True) -> nn.Module:
    """Return one of the study's networks, or the packaged model's, with fresh weights from torch's random generator.

    Parameters
    ----------
    net : "googlenet" (22 layers), "inception_v3" (48), "resnet152" (152), or "lung_lite", see `lung_lite.LungLite`
    classes : number of outputs, 2 or 3; "lung_lite" has 2
    size : side S of the films, in pixels, at least 128
    dropout : share of features dropped before each classifier while training, in [0, 1)
    auxiliary : with the auxiliary classifiers, where the network has them and the size allows; they
        help training only

    Returns
    -------
    nn.Module, (B, 1, S, S) float32 in [0, 1] -> (B, classes) float32 logits. In training mode, with
    auxiliary classifiers, torchvision's named tuple: those logits first, the auxiliary ones after.
    The parameters are called as in torchvision, except that a classifier behind dropout is "fc.1".

    Raises
    ------
    ConfigError
        If the name is unknown or the size below 128.

    References
    ----------
    Szegedy 2014 (arXiv 1409.4842), Szegedy 2015 (1512.00567), He 2015 (1512.03385).
    """
    if net not in (*NETWORKS, PACKAGED_NETWORK):
        raise ConfigError(f"there is no network {net!r}, expected one of {', '.join((*NETWORKS, PACKAGED_NETWORK))}.")
    if size < SMALLEST_SIZE:
        raise ConfigError(
            f"{net} needs films of at least {SMALLEST_SIZE} pixels, the set has {size}: prepare it larger."
        )
    if net == PACKAGED_NETWORK:
        return LungLite(dropout)
    network: Any  # torchvision states no types
    if net == "googlenet":
        # init_weights: torchvision's truncated normal is left out in favour of `_initialise` below
        network = models.GoogLeNet(
            classes, aux_logits=auxiliary, init_weights=False, dropout=dropout, dropout_aux=dropout
        )
    elif net == "inception_v3":
        auxiliary = auxiliary and size >= INCEPTION_AUXILIARY_SIZE
        network = models.Inception3(classes, aux_logits=auxiliary, init_weights=False, dropout=dropout)
        if auxiliary:
            network.AuxLogits.fc = nn.Sequential(nn.Dropout(dropout), network.AuxLogits.fc)
    else:
        network = models.resnet152(weights=None, num_classes=classes)
        network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    _initialise(network)
    _fold_stem(network, net)
    return cast(nn.Module, network)


def load_initial_weights(network: nn.Module, path: Path) -> None:
    """Start `network` from published weights, or from a model trained here (`--init`).

    The first layer is folded to one grey channel exactly (see above). A classifier with another number
    of outputs keeps its fresh weights, and the log says so.

    Parameters
    ----------
    network : from `build_network`; changed in place
    path : a torchvision state dict of the same network, as `.pth` (read with `weights_only=True`) or
        `.safetensors`, or one of this project's own model files

    Raises
    ------
    ModelError
        If the file cannot be read, holds something else than tensors, or fits another network.
    """
    weights = _read_weights(path)
    net = name_of(network)
    stem = f"{STEM[net]}.weight"
    if stem in weights and weights[stem].ndim == 4 and weights[stem].shape[1] == 3:
        weights[stem] = fold_grey(weights[stem].float(), *NORMALISATION[net])
    own = network.state_dict()
    taken: dict[str, Tensor] = {}
    fresh: list[str] = []
    for name, ours in own.items():
        theirs = weights.get(name, weights.get(name.replace("fc.1.", "fc.")))
        if theirs is not None and theirs.shape == ours.shape:
            taken[name] = theirs
        elif name.startswith(("fc.", *AUXILIARY_PREFIXES)):
            fresh.append(name)
        elif not name.endswith("num_batches_tracked"):  # older files lack this counter
            found = "nothing" if theirs is None else f"shape {tuple(theirs.shape)}"
            raise ModelError(
                f"{path} does not hold weights of {net}: {name} should have shape {tuple(ours.shape)}, "
                f"found {found}. Give --init a state dict of torchvision's {net}."
            )
    network.load_state_dict(taken, strict=False)
    heads = sorted({name.rsplit(".", 1)[0] for name in fresh})
    logger.info("started from %s%s", path, f"; fresh weights in {', '.join(heads)}" if heads else "")


def name_of(network: nn.Module) -> str:
    """Return which of `NETWORKS` a network from `build_network` is."""
    kinds = {models.GoogLeNet: "googlenet", models.Inception3: "inception_v3", models.ResNet: "resnet152"}
    return kinds[type(network)]


def without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that scoring needs: all but those of the auxiliary classifiers."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY_PREFIXES)}


def fold_grey(weight: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """Fold a first layer for three normalised channels into one for grey and ones.

    Parameters
    ----------
    weight : (O, 3, K, K) float32
    mean, deviation : what each channel was normalised with

    Returns
    -------
    (O, 2, K, K) float32: what multiplies the grey level, and what multiplies the plane of ones
    """
    scaled = weight.double() / torch.tensor(deviation, dtype=torch.float64).view(1, 3, 1, 1)
    grey = scaled.sum(dim=1)
    ones = -(scaled * torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)).sum(dim=1)
    return torch.stack([grey, ones], dim=1).float()


def _initialise(network: nn.Module) -> None:
    """Draw fresh convolutions as He et al. do for ResNet, for all three networks alike."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _fold_stem(network: nn.Module, net: str) -> None:
    """Replace the first layer by its grey counterpart: a fresh network, too, starts from the fold."""
    parent_name, _, child = STEM[net].rpartition(".")
    parent = network.get_submodule(parent_name)
    colour = network.get_submodule(STEM[net])
    assert isinstance(colour, nn.Conv2d)
    grey = GreyConv2d(2, colour.out_channels, colour.kernel_size, colour.stride, padding=colour.padding, bias=False)  # type: ignore[arg-type]
    with torch.no_grad():
        grey.weight.copy_(fold_grey(colour.weight, *NORMALISATION[net]))
    setattr(parent, child, grey)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # about files that plain `pickle` wrote, which are refused below
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no file {path} to start from. Check --init.") from None
    except Exception as error:  # what unpickling a page of HTML or a pointer to a large file raises is of any kind
        raise ModelError(
            f"cannot read {path} as weights: expected a torchvision state dict, tensors only, saved as .pth or "
            f".safetensors ({type(error).__name__})."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ModelError(
            f"{path} holds no plain state dict: expected names with tensors. Save it again with "
            "torch.save(model.state_dict(), FILE)."
        )
    return dict(content)
