"""Every method of explanation behind one call: where a film speaks for abnormal, and where for normal.

In come a model, prepared films and the name of a method; out goes signed evidence a pixel, and from it the heat that
says where to look. `explaining`, `cases` and `measuring` read it.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from cxrtriage.explain.opposite import OppositeImages, opposite_images
from cxrtriage.explain.saliency import grad_cam, integrated_gradients, occlusion
from cxrtriage.model.bundle import Model
from cxrtriage.predict import probabilities

METHODS = ("opposite", "grad-cam", "integrated-gradients", "occlusion")
FINE_METHODS = ("opposite", "integrated-gradients")  # evidence of single pixels, which no eye can read
STEPS = 30  # most, for a map of the change; films take ten, and the place of the change is known long before the end
SMOOTHING = 1 / 32  # standard deviation as a share of the side: 1 cm on a film of 35 cm, the size of a nodule


def attribute(model: Model, images: np.ndarray, method: str, *, seed: int = 0) -> np.ndarray:
    """Return signed evidence: positive speaks for abnormal, negative for normal.

    Parameters
    ----------
    model : from `load_model`, with 2 or 3 classes, on any device
    images : (N, S, S) uint8, prepared by the model's recipe
    method : one of `METHODS`
    seed : of "opposite"; the others draw nothing

    Returns
    -------
    (N, S, S) float32. For "grad-cam", "integrated-gradients" and "occlusion" the evidence for the abnormal logit
    (z1 - z0, or logaddexp(z1, z2) - z0), in units that differ by method. For "opposite" see `evidence_of_change`.

    Raises
    ------
    ValueError
        If there is no such method, or the films are not as the model's recipe makes them.
    """
    match method:
        case "grad-cam":
            return grad_cam(model, images)
        case "integrated-gradients":
            return integrated_gradients(model, images)
        case "occlusion":
            return occlusion(model, images)
        case "opposite":
            called_abnormal = probabilities(model, images) >= model.card.threshold
            changed = opposite_images(model, images, (~called_abnormal).astype(int), steps=STEPS, seed=seed)
            return evidence_of_change(changed)
        case _:
            raise ValueError(f"there is no method {method!r}, expected one of {', '.join(METHODS)}")


def evidence_of_change(changed: OppositeImages) -> np.ndarray:
    """Return the size of the change in grey levels, (N, S, S) float32, signed by where the film was driven.

    An opposite-label image is unsigned by nature, since a pixel may turn darker or brighter to look less abnormal. So
    the sign is the same all over a film: positive where it was driven to normal (what spoke for abnormal had to go),
    negative where it was driven to abnormal.
    """
    sign = np.where(changed.target == 0, 1, -1).astype(np.float32)
    evidence: np.ndarray = np.abs(changed.difference).astype(np.float32) * sign[:, None, None]
    return evidence


def heat_of(attribution: np.ndarray, method: str) -> np.ndarray:
    """Return how much each place matters, whether or not it did to its neighbours what it did to the pixel.

    Parameters
    ----------
    attribution : (N, S, S) float32, from `attribute`
    method : the method it came from

    Returns
    -------
    (N, S, S) float32 >= 0. Methods whose evidence is that of single pixels ("opposite", "integrated-gradients") are
    smoothed by a Gaussian first. Then "opposite" is the size of the change; of the others what speaks for abnormal is
    kept, and what speaks for normal is 0.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}, expected one of {', '.join(METHODS)}")
    if method in FINE_METHODS:
        attribution = smooth_evidence(attribution)
    heat: np.ndarray = np.abs(attribution) if method == "opposite" else np.maximum(attribution, 0)
    return heat


def smooth_evidence(attribution: np.ndarray) -> np.ndarray:
    """Return (N, S, S) float32 evidence summed over neighbourhoods of `SMOOTHING` of the side; the total stays."""
    spread = SMOOTHING * attribution.shape[-1]
    smoothed: np.ndarray = gaussian_filter(attribution.astype(np.float32), sigma=(0, spread, spread), mode="reflect")
    return smoothed
