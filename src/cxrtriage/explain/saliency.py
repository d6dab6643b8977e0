"""Which parts of a film speak for abnormal and which for normal: three methods of Captum on the abnormal logit.

In come a model and prepared films; out goes signed evidence a pixel. `attribution` puts them beside opposite-label
images under one name.
"""

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import nn

from cxrtriage.explain.deletion import blur
from cxrtriage.explain.logit import AbnormalLogit, check_films, exact, film_tensor
from cxrtriage.model.architectures import AUXILIARY_PREFIXES
from cxrtriage.model.bundle import Model
from cxrtriage.model.lung_lite import LungLite

FILMS_AT_ONCE = 16
PASSES_AT_ONCE = 32  # films times steps, or films times windows, in one pass through the network
PATH_STEPS = 16  # Gauss-Legendre nodes between baseline and film
WINDOW = 1 / 7  # of the side: 5 cm on a film of 35 cm, the size of a lobar opacity
STRIDE = 1 / 9


def grad_cam(model: Model, images: np.ndarray) -> np.ndarray:
    """Weight the maps of the last convolutional block by their mean gradient, keep the sign, enlarge bilinearly.

    The paper keeps only what is positive; here the negative part stays, as evidence for normal.

    Parameters
    ----------
    model : its network is GoogLeNet (maps after inception5b), Inception V3 (Mixed_7c) or ResNet-152 (layer4); of any
        other network the last direct child that holds a convolution, in the packaged one the trunks, whose maps are put
        back to where the lungs lie, with 0 around them
    images : (N, S, S) uint8, prepared by the model's recipe

    Returns
    -------
    (N, S, S) float32

    References
    ----------
    Selvaraju et al. Grad-CAM: visual explanations from deep networks via gradient-based localization. ICCV 2017.
    """
    check_films(model, images)
    method = LayerGradCam(AbnormalLogit(model.network), last_block(model.network))
    evidence = np.empty(images.shape, np.float32)
    with exact():
        for start in range(0, len(images), FILMS_AT_ONCE):
            films = film_tensor(model, images[start : start + FILMS_AT_ONCE]).requires_grad_()
            maps = method.attribute(films)  # (B, 1, h, w)
            if isinstance(model.network, LungLite):  # its maps lie over the lungs alone
                enlarged = model.network.place(maps, films)
            else:
                enlarged = LayerAttribution.interpolate(maps, images.shape[1:], interpolate_mode="bilinear")
            evidence[start : start + len(films)] = enlarged[:, 0].detach().cpu().numpy()
    return evidence


def integrated_gradients(model: Model, images: np.ndarray) -> np.ndarray:
    """Integrate the gradient on the way from the film's blur to the film; the evidence sums to the difference in logit.

    The baseline is the film without its detail (`deletion.blur`). Black or mid-grey would give no evidence to pixels
    that happen to be black or grey, and are films that no network was shown.

    Parameters
    ----------
    model, images : as for `grad_cam`

    Returns
    -------
    (N, S, S) float32, in units of the logit a pixel

    References
    ----------
    Sundararajan, Taly, Yan. Axiomatic attribution for deep networks. ICML 2017.
    """
    check_films(model, images)
    method = IntegratedGradients(AbnormalLogit(model.network))
    evidence = np.empty(images.shape, np.float32)
    with exact():
        for start in range(0, len(images), FILMS_AT_ONCE):
            chosen = slice(start, start + FILMS_AT_ONCE)
            found = method.attribute(
                film_tensor(model, images[chosen]).requires_grad_(),
                baselines=film_tensor(model, blur(images[chosen])),
                n_steps=PATH_STEPS,
                internal_batch_size=PASSES_AT_ONCE,
            )
            evidence[chosen] = found[:, 0].detach().cpu().numpy()
    return evidence


def occlusion(model: Model, images: np.ndarray) -> np.ndarray:
    """Blur one window after another and see how far the logit falls; a pixel gets the mean over its windows.

    A window is filled with the film's blur (`deletion.blur`) rather than grey: a grey square on a dark lung looks like
    an opacity. Windows are `WINDOW` of the side wide and lie `STRIDE` of the side apart.

    Parameters
    ----------
    model, images : as for `grad_cam`

    Returns
    -------
    (N, S, S) float32, in units of the logit

    References
    ----------
    Zeiler, Fergus. Visualizing and understanding convolutional networks. ECCV 2014.
    """
    check_films(model, images)
    window, stride = window_and_stride(images.shape[-1])
    method = Occlusion(AbnormalLogit(model.network))
    evidence = np.empty(images.shape, np.float32)
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for row in range(len(images)):  # one film, many windows: a pass is full whatever the number of films
            found = method.attribute(
                film_tensor(model, images[row : row + 1]),
                sliding_window_shapes=(1, window, window),
                strides=(1, stride, stride),
                baselines=film_tensor(model, blur(images[row : row + 1])),
                perturbations_per_eval=PASSES_AT_ONCE,
            )
            evidence[row] = found[0, 0].cpu().numpy()
    return evidence


def window_and_stride(size: int) -> tuple[int, int]:
    """Return the side of the occluding window and how far apart windows lie, in pixels of a film of side `size`."""
    return max(1, round(WINDOW * size)), max(1, round(STRIDE * size))


def last_block(network: nn.Module) -> nn.Module:
    """Return the network's last direct child that holds a convolution, auxiliary classifiers left out."""
    blocks = [
        child
        for name, child in network.named_children()
        if not f"{name}.".startswith(AUXILIARY_PREFIXES)
        and any(isinstance(module, nn.Conv2d) for module in child.modules())
    ]
    if not blocks:
        raise ValueError(f"Grad-CAM needs a network with a convolution, {type(network).__name__} has none")
    return blocks[-1]
