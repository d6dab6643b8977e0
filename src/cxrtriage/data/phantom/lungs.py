"""One lung on the film: air in place of soft tissue, the vessels in it, and what an abnormality puts there.

Comes in: a `Lung`, a `Lesion` or none, and a `View`. Goes out: what the lung adds to the rays' length in
soft tissue (mostly less than nothing), its outline and the lesion's. Read next by `radiograph`.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.abnormalities import Lesion
from cxrtriage.data.phantom.anatomy import Lung
from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes
from cxrtriage.data.phantom.projection import Depths, View, Window, above, bounds, depths, overlap, union

PLEURA = 0.985  # inner scale of the visible pleura of a collapsed lung: about 1 mm thick
GRAIN = 0.045  # unevenness of healthy lung, relative to what it holds
DENSEST = 0.9  # density of a lung without air, relative to soft tissue
LEAST_CHANGE = 4.0  # mm of changed lung on a ray from which on the ray belongs to the lesion's mask
LEAST_THREAD = 7.0  # mm in the threads of an interstitial disease, likewise
LEAST_LUNG = 8.0  # mm of lung on a ray from which on the ray belongs to the lung's mask


@dataclass(frozen=True, slots=True)
class Tissue:
    """Lung tissue: its density relative to soft tissue, and (S, S) float32 unevenness of mean 0 and spread 1."""

    density: float
    texture: np.ndarray


@dataclass(frozen=True, slots=True)
class LungImage:
    """A lung in its window.

    Parameters
    ----------
    soft : (h, w) float32 mm to add to soft tissue, vessels not included
    outline, lesion : (h, w) bool masks
    aerated : (h, w) float32 or 1, share of the lung that is air, in which vessels are seen
    vessels : of the lung, where they are now
    """

    window: Window
    soft: np.ndarray
    outline: np.ndarray
    lesion: np.ndarray
    aerated: np.ndarray | np.float32
    vessels: Tubes


def project_lung(
    lung: Lung, lesion: Lesion | None, mediastinum: tuple[Ellipsoid, ...], tissue: Tissue, view: View
) -> LungImage:
    """Return what a lung, healthy or with the lesion, adds to the rays."""
    window = bounds([lung.cavity, lung.apex], view)
    room = _Room.of(lung, mediastinum, view, window)
    if lesion is None:
        effect = _Effect(np.zeros_like(room.space), np.zeros_like(room.outline), np.float32(1), lung.vessels)
    elif lesion.net > 0:
        effect = _thread(lung, lesion, room, tissue)
    elif lesion.remnant is None:
        effect = _fill(lung, lesion, room, tissue)
    else:
        remnant = lung.cavity.part(*lesion.remnant)
        replace = _flood if lesion.density > tissue.density else _collapse
        effect = replace(lung, remnant, lesion, room, tissue)
    uneven = np.float32(tissue.density * GRAIN) * tissue.texture[window]
    soft = (np.float32(tissue.density - 1) + uneven) * room.space
    soft += effect.soft
    return LungImage(window, soft, room.outline, effect.changed, effect.aerated, effect.vessels)


@dataclass(frozen=True, slots=True)
class _Room:
    """The space that a lung has: its cavity without mediastinum and dome; lengths in depth, (h, w) float32 mm."""

    cavity: Depths
    central: Depths
    dome: Depths
    space: np.ndarray
    outline: np.ndarray
    view: View
    window: Window

    @classmethod
    def of(cls, lung: Lung, mediastinum: tuple[Ellipsoid, ...], view: View, window: Window) -> "_Room":
        cavity = union([lung.cavity, lung.apex], view, window) & above(lung.floor, view, window)
        central, dome = union(mediastinum, view, window), depths(lung.dome, view, window)
        space = _length_without(cavity, central, dome)
        outline = ~central.hit & ~dome.hit & (space > LEAST_LUNG)
        return cls(cavity, central, dome, space, outline, view, window)

    def within(self, body: Depths) -> np.ndarray:
        """Return the length of a body's part in this space."""
        return _length_without(body & self.cavity, self.central, self.dome)

    def depths(self, body: Ellipsoid) -> Depths:
        """Return where this space's rays enter and leave a body."""
        return depths(body, self.view, self.window)

    def around(self, body: Ellipsoid) -> tuple[Window, "_Room"] | None:
        """Return the part of this space that a body is seen in, its place in this one first; None if it is not."""
        window = overlap(self.window, bounds([body], self.view))
        if window is None:
            return None
        rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(window, self.window, strict=True))
        here = (rows, columns)
        cavity, central, dome = (
            Depths(part.near[here], part.far[here]) for part in (self.cavity, self.central, self.dome)
        )
        return here, _Room(cavity, central, dome, self.space[here], self.outline[here], self.view, window)


def _length_without(part: Depths, first: Depths, second: Depths) -> np.ndarray:
    """Return the length of what lies in `part` and in neither of the others (by inclusion and exclusion)."""
    shared = part & first
    length: np.ndarray = part.length() - shared.length() - (part & second).length() + (shared & second).length()
    return length


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a lesion does to a lung's image.

    Parameters
    ----------
    soft : (h, w) float32 mm that it adds
    changed : (h, w) bool, its mask
    aerated : (h, w) float32, share of the lung that is still air, in which vessels are seen
    vessels : where they are now
    """

    soft: np.ndarray
    changed: np.ndarray
    aerated: np.ndarray | np.float32
    vessels: Tubes


def _fill(lung: Lung, lesion: Lesion, room: _Room, tissue: Tissue) -> _Effect:
    """Put nodules, or the patches of a consolidation, in place of lung."""
    filled = np.zeros_like(room.space)
    for solid in lesion.solids:
        body = Ellipsoid(lung.cavity.at(solid.centre), np.diag(solid.radii))
        if (seen := room.around(body)) is None:
            continue
        here, near = seen
        chords = near.depths(body)
        part = near.within(chords)
        if solid.hollow:
            part -= near.within(near.depths(body.part(np.zeros(3), np.full(3, solid.hollow))))
        if solid.soft:
            # along a chord L of an ellipsoid with middle chord D, 1 - r² adds up to 2/3 L (L / D)²
            part *= np.float32(2 / 3) * (chords.length() / np.float32(2 * solid.radii[2])) ** 2
        filled[here] += part
    np.minimum(filled, room.space, out=filled)
    density = np.float32(lesion.density) * (1 + np.float32(lesion.patchiness) * tissue.texture[room.window])
    soft = (np.clip(density, tissue.density, 1) - np.float32(tissue.density)) * filled
    return _Effect(soft, filled > LEAST_CHANGE, 1 - filled / np.maximum(room.space, 1), lung.vessels)


def _thread(lung: Lung, lesion: Lesion, room: _Room, tissue: Tissue) -> _Effect:
    """Cover the lung with a net, thicker towards the base: where the unevenness of its tissue changes sign."""
    share = room.space / np.float32(max(room.space.max(), 1))
    share *= np.linspace(0.25, 1, len(share), dtype=np.float32)[:, None]
    threads = np.maximum(1 - np.float32(2.2) * np.abs(tissue.texture[room.window]), 0)
    soft = np.float32(lesion.net) * share * (np.float32(0.25) + threads)
    changed = room.outline & (np.float32(lesion.net) * share > LEAST_THREAD)
    return _Effect(soft, changed, np.float32(1), lung.vessels)


def _flood(lung: Lung, remnant: Ellipsoid, lesion: Lesion, room: _Room, tissue: Tissue) -> _Effect:
    """Let fluid take the lung's place outside its remnant."""
    kept = room.within(room.depths(remnant))
    fluid = room.space - kept
    changed = room.outline & (fluid > LEAST_CHANGE)
    soft = np.float32(lesion.density - tissue.density) * fluid
    return _Effect(soft, changed, kept / np.maximum(room.space, 1), lung.vessels)


def _collapse(lung: Lung, remnant: Ellipsoid, lesion: Lesion, room: _Room, tissue: Tissue) -> _Effect:
    """Shrink the lung to its remnant: air takes its place, it gets denser, and its pleura shows as a line."""
    rest = room.depths(remnant)
    kept = room.within(rest)
    pleura = kept - room.within(room.depths(remnant.part(np.zeros(3), np.full(3, PLEURA))))
    denser = min(tissue.density * lesion.compaction, DENSEST) - tissue.density
    soft = np.float32(lesion.density - tissue.density) * (room.space - kept)
    soft += np.float32(denser) * kept
    soft += np.float32(1 - tissue.density) * pleura
    return _Effect(soft, room.outline & ~rest.hit, np.float32(1), lung.vessels.carried(lung.cavity, remnant))
