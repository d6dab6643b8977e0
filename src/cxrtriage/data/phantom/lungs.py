"""One lung on the film: air in place of soft tissue, the vessels in it, and what an abnormality puts there.

Comes in: a `Lung`, a `Lesion` or none, and a `View`. Goes out: what the lung adds to the rays' length in
soft tissue (mostly less than nothing), its outline and the lesion's. Read next by `radiograph`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.abnormalities import Lesion
from cxrtriage.data.phantom.anatomy import Lung
from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes
from cxrtriage.data.phantom.projection import Depths, View, Window, above, add_tubes, depths, union

PLEURA = 0.985  # inner scale of the visible pleura of a collapsed lung: about 1 mm thick
GRAIN = 0.06  # unevenness of healthy lung, relative to what it holds
LEAST_CHANGE = 4.0  # mm of changed lung on a ray from which on the ray belongs to the lesion's mask
LEAST_LUNG = 8.0  # mm of lung on a ray from which on the ray belongs to the lung's mask


@dataclass(frozen=True, slots=True)
class Tissue:
    """Lung tissue: its density relative to soft tissue, and (S, S) float32 unevenness of mean 0 and spread 1."""

    density: float
    texture: np.ndarray


@dataclass(frozen=True, slots=True)
class LungImage:
    """A lung in its window: (h, w) float32 mm to add to soft tissue; (h, w) bool masks."""

    soft: np.ndarray
    outline: np.ndarray
    lesion: np.ndarray


def project_lung(
    lung: Lung, lesion: Lesion | None, mediastinum: tuple[Ellipsoid, ...], tissue: Tissue, view: View, window: Window
) -> LungImage:
    """Return what a lung, healthy or with the lesion, adds to the rays of a window."""
    cavity = depths(lung.cavity, view, window) & above(lung.floor, view, window)
    central, dome = union(mediastinum, view, window), depths(lung.dome, view, window)

    def within(part: Depths) -> np.ndarray:
        """Length of that part of the cavity which neither mediastinum nor dome takes up."""
        part = part & cavity
        taken = (part & central).length() + (part & dome).length() - (part & central & dome).length()
        length: np.ndarray = part.length() - taken
        return length

    space = within(cavity)
    outline = cavity.hit & ~central.hit & ~dome.hit & (space > LEAST_LUNG)
    grain = tissue.texture[window]
    density = np.float32(tissue.density)
    soft = (density - 1) * space + (density * np.float32(GRAIN)) * grain * space
    tree, aerated, changed = lung.vessels, np.float32(1), np.zeros_like(outline)
    if lesion is not None and lesion.remnant is not None:
        remnant = lung.cavity.part(*lesion.remnant)
        rest = depths(remnant, view, window)
        kept = within(rest)
        lost = space - kept
        soft += np.float32(lesion.density - tissue.density) * lost
        if lesion.density < tissue.density:
            soft += _collapsed(remnant, kept, lesion, tissue, within, view, window)
            tree = tree.carried(lung.cavity, remnant)
            changed = outline & ~rest.hit
        else:
            aerated = kept / np.maximum(space, 1)
            changed = outline & (lost > LEAST_CHANGE)
    elif lesion is not None and lesion.solids:
        filled = np.zeros_like(space)
        for solid in lesion.solids:
            body = depths(Ellipsoid(lung.cavity.at(solid.centre), np.diag(solid.radii)), view, window)
            chord = body.length()
            # along a chord L of an ellipsoid with middle chord D, 1 - r² adds up to 2/3 L (L / D)²
            filled += within(body) * (2 / 3 * (chord / chord.max()) ** 2 if solid.soft else np.float32(1))
        np.minimum(filled, space, out=filled)
        held = np.float32(lesion.density) * np.clip(1 + np.float32(lesion.patchiness) * grain, 0, None)
        soft += np.maximum(np.minimum(held, 1) - density, 0) * filled
        aerated = 1 - filled / np.maximum(space, 1)
        changed = filled > LEAST_CHANGE
    soft += (1 - density) * aerated * _tubes_in(window, tree, view)
    return LungImage(soft, outline, changed)


def _collapsed(
    remnant: Ellipsoid,
    kept: np.ndarray,
    lesion: Lesion,
    tissue: Tissue,
    within: Callable[[Depths], np.ndarray],
    view: View,
    window: Window,
) -> np.ndarray:
    """Return what a lung that has shrunk to `remnant` gains: it gets denser, and its pleura shows as a line."""
    inner = depths(remnant.part(np.zeros(3), np.full(3, PLEURA)), view, window)
    pleura = kept - within(inner)
    denser = min(tissue.density * lesion.compaction, 0.9) - tissue.density
    gained: np.ndarray = np.float32(denser) * kept + np.float32(1 - tissue.density) * pleura
    return gained


def _tubes_in(window: Window, tubes: Tubes, view: View) -> np.ndarray:
    """Return the tubes' lengths in depth on the rays of a window, (h, w) float32 mm."""
    canvas = np.zeros((view.size, view.size), dtype=np.float32)
    add_tubes(canvas, tubes, view)
    return canvas[window]
