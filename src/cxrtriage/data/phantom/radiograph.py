"""From shapes to line integrals: how much soft tissue, bone and metal each ray passes.

Comes in: an `Anatomy` as it stands before the detector, a lesion or none, and a `View`. Goes out:
`LineIntegrals` and two masks. Read next by `detector`, which turns them into grey levels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cxrtriage.data.phantom.abnormalities import Lesion
from cxrtriage.data.phantom.anatomy import Anatomy, Gas
from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes, join
from cxrtriage.data.phantom.lungs import Tissue, project_lung
from cxrtriage.data.phantom.projection import View, above, add_tubes, bounds, depths, union


@dataclass(frozen=True, slots=True)
class LineIntegrals:
    """Length of each ray in each material at its full density, (S, S) float32 mm."""

    soft: np.ndarray
    bone: np.ndarray
    metal: np.ndarray


@dataclass(frozen=True, slots=True)
class Masks:
    """(S, S) bool: the lungs beside heart and mediastinum and above the domes; and what is abnormal."""

    lung: np.ndarray
    lesion: np.ndarray


def project(
    anatomy: Anatomy, lesion: Lesion | None, devices: Tubes, tissue: Tissue, view: View
) -> tuple[LineIntegrals, Masks]:
    """Add up what each ray passes; `anatomy` and `devices` are in the film's coordinates."""
    soft = _trunk(anatomy, view)
    masks = Masks(np.zeros(soft.shape, dtype=bool), np.zeros(soft.shape, dtype=bool))
    images = []
    for lung in anatomy.lungs:
        here = lesion if lesion is not None and lesion.lies_in(lung.side) else None
        images.append(project_lung(lung, here, anatomy.mediastinum, tissue, view))
    seen = np.full_like(soft, 1 - tissue.density)  # vessels show by what they have more than the lung around them
    for image in images:
        soft[image.window] += image.soft
        seen[image.window] *= image.aerated
        masks.lung[image.window] |= image.outline
        masks.lesion[image.window] |= image.lesion
    vessels = np.zeros_like(soft)
    add_tubes(vessels, join([image.vessels for image in images]), view)
    soft += vessels * seen
    if lesion is not None and lesion.finding == "cardiomegaly":
        for body in anatomy.heart:
            window = bounds([body], view)
            masks.lesion[window] |= depths(body, view, window).hit
    for gas in anatomy.gas:
        _add_gas(soft, gas, view)
    add_tubes(soft, anatomy.airways, view)
    bone = np.zeros_like(soft)
    add_tubes(bone, anatomy.bones, view)
    for plate, fill in anatomy.plates:
        _add_body(bone, plate, fill, view)
    soft -= bone  # bone stands where soft tissue would
    np.maximum(soft, 0, out=soft)
    metal = np.zeros_like(soft)
    add_tubes(metal, devices, view)
    stretch = view.stretch()
    for canvas in (soft, bone, metal):
        canvas *= stretch
    return LineIntegrals(soft, bone, metal), masks


def _trunk(anatomy: Anatomy, view: View) -> np.ndarray:
    """Return the length in depth inside the skin; many large smooth bodies, so half the pixels do."""
    coarse = view.halved()
    length = union(anatomy.trunk, coarse, coarse.whole).length()
    whole: np.ndarray = cv2.resize(length, (view.size, view.size), interpolation=cv2.INTER_LINEAR)
    return whole


def _add_body(canvas: np.ndarray, body: Ellipsoid, fill: float, view: View) -> None:
    """Add a body's chords, in depth, to the canvas."""
    window = bounds([body], view)
    if canvas[window].size:
        canvas[window] += np.float32(fill) * depths(body, view, window).length()


def _add_gas(canvas: np.ndarray, gas: Gas, view: View) -> None:
    """Take soft tissue away where there is gas or fat."""
    window = bounds([gas.body], view)
    if canvas[window].size:
        there = depths(gas.body, view, window) & above(gas.level, view, window)
        canvas[window] -= np.float32(gas.share) * there.length()
