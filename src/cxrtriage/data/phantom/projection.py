"""Where each ray from the tube to the detector enters and leaves a shape, in closed form.

Comes in: a `View` (where source and detector are) and shapes from `geometry`. Goes out: depths of entry
and exit, and chord lengths, per pixel. Read next by `radiograph`, which weighs them with the tissues.

A ray through pixel (row, column) is source + s * d with d = (u, v, 1), so s is depth along z: depths of
all shapes on one ray compare directly, and lengths in depth become lengths in mm by one common factor
sqrt(u² + v² + 1) (`View.stretch`). A quadric |.|² = 1 about `centre` with matrix M meets the ray where

    a s² + 2 b s + c = 0,    a = dᵀMd,   b = dᵀMw,   c = wᵀMw - 1,   w = source - centre

and both a and the discriminant b² - a c are quadratic forms in (u, v, 1): a few multiplications a pixel.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes

FAR = np.float32(1e6)  # mm; beyond everything, stands for "not hit"
CHUNK = 1 << 16  # pixels worked on at a time, so that the intermediate arrays stay in the cache
SIDES = np.unique(np.round(8 * 1.35 ** np.arange(28)).astype(int))  # of the windows that pieces of tubes are drawn in
CORNERS = np.array(list(itertools.product((-1, 1), repeat=3)))  # of a box
Window = tuple[slice, slice]  # rows, columns


@dataclass(frozen=True, slots=True)
class View:
    """An X-ray source, and a square detector perpendicular to z whose middle lies on the z axis.

    Parameters
    ----------
    source : (3,) mm
    detector_z : mm; in front of the patient for PA, behind for AP
    spacing : mm from pixel to pixel on the detector
    size : pixels along a side
    """

    source: np.ndarray
    detector_z: float
    spacing: float
    size: int

    @property
    def whole(self) -> Window:
        """The window that is the whole film."""
        return slice(0, self.size), slice(0, self.size)

    def halved(self) -> "View":
        """Return the view on a detector of the same side with half as many pixels (rounded up)."""
        size = (self.size + 1) // 2
        return View(self.source, self.detector_z, self.spacing * self.size / size, size)

    def slopes(self, indices: np.ndarray, axis: int) -> np.ndarray:
        """Return dx/dz (axis 0, of columns) or dy/dz (axis 1, of rows) of the rays through pixel indices."""
        position = (indices - (self.size - 1) / 2) * self.spacing
        slopes: np.ndarray = (position - self.source[axis]) / (self.detector_z - self.source[2])
        return slopes

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return the (..., 2) row and column, not rounded, where (..., 3) points in mm are projected."""
        magnified = (self.detector_z - self.source[2]) / (points[..., 2:] - self.source[2])
        position = self.source[:2] + (points[..., :2] - self.source[:2]) * magnified
        pixels: np.ndarray = (position / self.spacing + (self.size - 1) / 2)[..., ::-1]
        return pixels

    def stretch(self) -> np.ndarray:
        """Return (size, size) float32: the length in mm of a ray per mm of depth."""
        u = self.slopes(np.arange(self.size), 0)
        v = self.slopes(np.arange(self.size), 1)
        stretch: np.ndarray = np.sqrt(1 + u[None, :] ** 2 + v[:, None] ** 2).astype(np.float32)
        return stretch

    def window(self, corners: np.ndarray) -> Window:
        """Return the part of the film that holds the projections of (N, 3) points in mm."""
        pixels = self.pixels(corners)
        low = np.clip(np.floor(pixels.min(axis=0)).astype(int) - 1, 0, self.size)
        high = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 2, 0, self.size)
        return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


@dataclass(frozen=True, slots=True)
class Depths:
    """Entry and exit of each ray of a window, (h, w) float32 mm of depth from the source; not hit: `near` > `far`."""

    near: np.ndarray
    far: np.ndarray

    def __and__(self, other: "Depths") -> "Depths":
        """Return what lies in both."""
        return Depths(np.maximum(self.near, other.near), np.minimum(self.far, other.far))

    def length(self) -> np.ndarray:
        """Return the length in depth, (h, w) float32 mm, 0 where not hit."""
        length: np.ndarray = np.maximum(self.far - self.near, 0)
        return length

    @property
    def hit(self) -> np.ndarray:
        """Where the rays pass through, (h, w) bool."""
        hit: np.ndarray = self.far > self.near
        return hit


def bounds(bodies: Sequence[Ellipsoid], view: View) -> Window:
    """Return the part of the film that the bodies' projections fit in."""
    # half sides of the box around each
    boxes = [body.centre + CORNERS * np.linalg.norm(body.axes, axis=1) for body in bodies]
    return view.window(np.concatenate(boxes))


def depths(body: Ellipsoid, view: View, window: Window) -> Depths:
    """Return where the rays of a window enter and leave an ellipsoid."""
    inverse = np.linalg.inv(body.axes)
    rays = Rays.of(view, *(np.arange(part.start, part.stop)[None] for part in window))
    forms = Forms.of(view.source - body.centre[None], (inverse.T @ inverse)[None])
    middle, half, _ = forms.meet(rays)
    hit = half[0] > 0
    return Depths(np.where(hit, middle[0] - half[0], FAR), np.where(hit, middle[0] + half[0], -FAR))


def union(bodies: Iterable[Ellipsoid], view: View, window: Window) -> Depths:
    """Return where the rays of a window enter the first and leave the last of several overlapping bodies."""
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    near, far = np.full(shape, FAR), np.full(shape, -FAR)
    for body in bodies:
        needed = overlap(window, bounds([body], view))
        if needed is None:
            continue
        part = depths(body, view, needed)
        here = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(needed, window, strict=True))
        np.minimum(near[here], part.near, out=near[here])
        np.maximum(far[here], part.far, out=far[here])
    return Depths(near, far)


def overlap(first: Window, second: Window) -> Window | None:
    """Return what two windows share, None if nothing."""
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def above(y: float, view: View, window: Window) -> Depths:
    """Return where the rays of a window lie above the horizontal plane at `y` mm."""
    v = view.slopes(np.arange(window[0].start, window[0].stop), 1)[:, None]
    v = np.where(v == 0, 1e-12, v)
    crossing = ((y - view.source[1]) / v).astype(np.float32)
    return Depths(np.where(v < 0, crossing, -FAR), np.where(v < 0, FAR, crossing))


def add_tubes(canvas: np.ndarray, tubes: Tubes, view: View) -> None:
    """Add to (size, size) float32 `canvas` the length in depth of each ray in the tubes' material, in mm."""
    pieces = _Pieces.of(tubes, view)
    for (height, width), which, starts in _windows(tubes, view):
        step = max(1, CHUNK // (height * width))
        for first in range(0, len(which), step):
            corner = starts[first : first + step]
            rays = Rays.of(view, corner[:, :1] + np.arange(height), corner[:, 1:] + np.arange(width))
            lengths = pieces.lengths(which[first : first + step], rays)
            for (row, column), length in zip(corner, lengths, strict=True):
                canvas[row : row + height, column : column + width] += length


def _windows(tubes: Tubes, view: View) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
    """Group the pieces that can be seen by the size of their windows: size, pieces, (K, 2) first row and column."""
    pixels = view.pixels(tubes.ends)  # (K, 2 ends, row and column)
    magnification = (view.detector_z - view.source[2]) / (tubes.ends[..., 2] - view.source[2])
    # half sides of the box around the cross-section; a tenth more for slanting cuts, and what its depth takes aside
    box = 1.1 * np.sqrt(np.einsum("kr,kri->ki", tubes.radii**2, tubes.frame()[:, :2] ** 2))
    aside = box[:, 1::-1] + 0.15 * box[:, 2:]
    reach = aside * magnification.max(axis=1, keepdims=True) / view.spacing + 1
    low = np.floor(pixels.min(axis=1) - reach).astype(int)
    high = np.ceil(pixels.max(axis=1) + reach).astype(int) + 1
    seen = np.flatnonzero(((high > 0) & (low < view.size)).all(axis=1))
    # sides are rounded up to a few lengths, so that there are few groups
    sides = np.minimum(SIDES[np.searchsorted(SIDES, high[seen] - low[seen])], view.size)
    starts = np.clip(low[seen], 0, view.size - sides)
    for side in np.unique(sides, axis=0):
        group = (sides == side).all(axis=1)
        yield (int(side[0]), int(side[1])), seen[group], starts[group]


@dataclass(frozen=True, slots=True)
class Rays:
    """The rays of K windows: slopes u (K, w) and v (K, h), float64."""

    u: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, view: View, rows: np.ndarray, columns: np.ndarray) -> "Rays":
        """Return the rays through (K, h) rows and (K, w) columns."""
        return cls(view.slopes(columns, 0), view.slopes(rows, 1))

    def linear(self, form: np.ndarray) -> np.ndarray:
        """Return form · (u, v, 1) for (K, 3) forms, (K, h, w) float32."""
        along = (form[:, :1] * self.u + form[:, 2:]).astype(np.float32)
        down = (form[:, 1:2] * self.v).astype(np.float32)
        result: np.ndarray = along[:, None, :] + down[:, :, None]
        return result

    def quadratic(self, form: np.ndarray) -> np.ndarray:
        """Return (u, v, 1) form (u, v, 1)ᵀ for (K, 3, 3) symmetric forms, (K, h, w) float32.

        The slopes are measured from the first corner of each window, because far from it the terms are
        large and cancel, which single precision does not forgive.
        """
        corner = np.stack([self.u[:, 0], self.v[:, 0], np.ones(len(form))], axis=1)
        slope = 2 * np.einsum("kij,kj->ki", form, corner)
        constant = 0.5 * np.einsum("ki,ki->k", slope, corner)
        u, v = self.u - corner[:, :1], self.v - corner[:, 1:2]
        along = ((form[:, :1, 0] * u + slope[:, :1]) * u + constant[:, None]).astype(np.float32)
        down = ((form[:, 1:2, 1] * v + slope[:, 1:2]) * v).astype(np.float32)
        mixed = (2 * form[:, :1, 1] * v).astype(np.float32)
        result: np.ndarray = mixed[:, :, None] * u.astype(np.float32)[:, None, :]
        result += along[:, None, :]
        result += down[:, :, None]
        return result


@dataclass(frozen=True, slots=True)
class Forms:
    """K quadrics as forms in (u, v, 1): a and the discriminant (K, 3, 3), -b (K, 3)."""

    a: np.ndarray
    discriminant: np.ndarray
    minus_b: np.ndarray

    @classmethod
    def of(cls, w: np.ndarray, matrix: np.ndarray) -> "Forms":
        """Build from (K, 3) source minus centre and (K, 3, 3) matrices."""
        mw = np.einsum("kij,kj->ki", matrix, w)
        c = np.einsum("ki,ki->k", w, mw) - 1
        return cls(matrix, mw[:, :, None] * mw[:, None, :] - c[:, None, None] * matrix, -mw)

    def select(self, which: np.ndarray) -> "Forms":
        """Return the quadrics that an index array names."""
        return Forms(self.a[which], self.discriminant[which], self.minus_b[which])

    def meet(self, rays: Rays, hollow: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return where each quadric's rays meet it.

        Parameters
        ----------
        hollow : (K,) scale of a smaller quadric within, or None

        Returns
        -------
        middle, half, inner half : (K, h, w) float32; depth from the source midway between entry and exit,
            and half the depth between them, 0 where the ray misses; the same of the smaller quadric
        """
        a = rays.quadratic(self.a)
        discriminant = rays.quadratic(self.discriminant)
        inverse = 1 / a
        middle = rays.linear(self.minus_b)
        middle *= inverse
        inner = None
        if hollow is not None and hollow.any():
            # scaling the radii by h scales M by 1/h²; the discriminant changes by -a (1 - h²), up to a factor
            a *= _single(hollow**2 - 1)
            a += discriminant
            inner = _half(a, inverse)
        return middle, _half(discriminant, inverse), inner


def _half(discriminant: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return sqrt(discriminant) / a, 0 where the ray misses; overwrites the discriminant."""
    half: np.ndarray = np.maximum(discriminant, 0, out=discriminant)
    np.sqrt(half, out=half)
    half *= inverse
    return half


def _single(values: np.ndarray) -> np.ndarray:
    """Return (K,) numbers as (K, 1, 1) float32, one for each window."""
    return values.astype(np.float32)[:, None, None]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Pieces of tubes, ready to be met by rays: quadrics, planes (normal, distance from the source), fillings."""

    forms: Forms
    normals: np.ndarray  # (K, 2, 3)
    distances: np.ndarray  # (K, 2) mm
    hollow: np.ndarray
    fill: np.ndarray
    core: np.ndarray

    @classmethod
    def of(cls, tubes: Tubes, view: View) -> "_Pieces":
        # the infinite cylinder is an ellipsoid 60 m long, so that a ray along its axis has two ends like any other
        radii = np.concatenate([tubes.radii, np.full((len(tubes.radii), 1), 30_000.0)], axis=1)
        frame = tubes.frame() / radii[:, :, None]
        distances = np.einsum("kij,kij->ki", tubes.cuts, tubes.ends - view.source)
        distances[distances == 0] = 1e-9  # a ray within the plane is in one neighbour or the other, never in neither
        return cls(
            Forms.of(view.source - tubes.ends[:, 0], np.einsum("kiu,kiv->kuv", frame, frame)),
            tubes.cuts,
            distances,
            tubes.hollow,
            tubes.fill,
            tubes.core,
        )

    def lengths(self, which: np.ndarray, rays: Rays) -> np.ndarray:
        """Return the (K, h, w) lengths in depth in the pieces `which`, each in its window; wall and core weighted."""
        middle, half, core = self.forms.select(which).meet(rays, self.hollow[which])
        low, high = np.float32(-FAR), np.float32(FAR)
        for end in (0, 1):
            slope = rays.linear(self.normals[which, end])
            # rays leave through a plane with a positive slope, and enter through one with a negative; a plane along
            # the ray is passed at +-inf, by the sign of its zero. Without branches, which would cost the most of all
            other_way = np.copysign(FAR, -slope)
            with np.errstate(divide="ignore"):
                crossing = np.divide(_single(self.distances[which, end]), slope, out=slope)
            high = np.minimum(high, np.maximum(crossing, other_way))
            low = np.maximum(low, np.minimum(crossing, other_way))

        def between(half: np.ndarray) -> np.ndarray:
            length: np.ndarray = np.minimum(high, middle + half)
            length -= np.maximum(low, middle - half)
            np.maximum(length, 0, out=length)
            return length

        lengths = between(half)
        lengths *= _single(self.fill[which])
        if core is not None:
            lengths += between(core) * _single(self.core[which] - self.fill[which])
        return lengths
