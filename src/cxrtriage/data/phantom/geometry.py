"""The two shapes that a phantom is made of: ellipsoids, and tubes with an elliptic cross-section.

Comes in: sizes and positions in millimetres. Goes out: shapes whose X-ray chords `projection` knows in
closed form. Read next by `anatomy`, `abnormalities` and `confounders`, which build a patient from them.

Patient axes, also the film's: x to the patient's left (right on the film), y downwards, z to the front.
The origin lies in the middle of the chest.

       film as shown          from the patient's left
      R ---------- L                  |  y
      |     0--> x |         back     0--> z     front
      |     | y    |                  |
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np


def turn(about_x: float = 0.0, about_y: float = 0.0, about_z: float = 0.0) -> np.ndarray:
    """Return the (3, 3) matrix that turns about x, then y, then z, by these angles in degrees."""
    matrix = np.eye(3)
    for axis, degrees in ((0, about_x), (1, about_y), (2, about_z)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
        step = np.eye(3)
        step[first, first] = step[second, second] = cosine
        step[second, first], step[first, second] = sine, -sine
        matrix = step @ matrix
    return matrix


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how large a patient stands: p -> matrix @ p + shift."""

    matrix: np.ndarray  # (3, 3)
    shift: np.ndarray  # (3,) mm

    def points(self, points: np.ndarray) -> np.ndarray:
        """Return (..., 3) points in mm, placed."""
        placed: np.ndarray = points @ self.matrix.T + self.shift
        return placed

    @property
    def scale(self) -> float:
        """The mean enlargement, for lengths without a direction such as the radius of a vessel."""
        return float(abs(np.linalg.det(self.matrix)) ** (1 / 3))


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """All points centre + axes @ q with |q| <= 1.

    Parameters
    ----------
    centre : (3,) mm
    axes : (3, 3) mm, the semi-axes as columns; they need not be perpendicular
    """

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(
        cls, centre: tuple[float, float, float], radii: tuple[float, float, float], tilt: np.ndarray | None = None
    ) -> Self:
        """Build from a centre and three radii in mm, turned by the (3, 3) matrix `tilt`."""
        axes = np.diag(np.array(radii, dtype=float))
        return cls(np.array(centre, dtype=float), axes if tilt is None else tilt @ axes)

    def at(self, q: np.ndarray) -> np.ndarray:
        """Return the points in mm at (..., 3) coordinates `q` inside the unit ball."""
        points: np.ndarray = self.centre + q @ self.axes.T
        return points

    def coordinates(self, points: np.ndarray) -> np.ndarray:
        """Return the coordinates `q` of (..., 3) points in mm: the inverse of `at`."""
        q: np.ndarray = (points - self.centre) @ np.linalg.inv(self.axes).T
        return q

    def part(self, centre: np.ndarray, radii: np.ndarray) -> "Ellipsoid":
        """Return the ellipsoid that has this (3,) centre and these (3,) radii in the coordinates `q`."""
        return Ellipsoid(self.at(centre), self.axes * radii)

    def moved(self, by: tuple[float, float, float]) -> "Ellipsoid":
        """Return the ellipsoid shifted by so many mm."""
        return Ellipsoid(self.centre + np.array(by), self.axes)

    def placed(self, placement: Placement) -> "Ellipsoid":
        """Return the ellipsoid under a placement."""
        return Ellipsoid(placement.points(self.centre), placement.matrix @ self.axes)


@dataclass(frozen=True, slots=True)
class Tubes:
    """K straight pieces of tubes, cut where they meet, so that their chords add up without gap or overlap.

    Parameters
    ----------
    ends : (K, 2, 3) mm, first and last point of each piece's axis
    cuts : (K, 2, 3), outward normals of the planes through these points that end the piece
    flat : (K, 3) unit vector of the cross-section's first radius; the second is perpendicular to it
    radii : (K, 2) mm, first and second radius
    hollow : (K,) fraction of the radii, from the axis, that is filled with `core` instead
    fill, core : (K,) how much of the material the wall and the core hold
    """

    ends: np.ndarray
    cuts: np.ndarray
    flat: np.ndarray
    radii: np.ndarray
    hollow: np.ndarray
    fill: np.ndarray
    core: np.ndarray

    def placed(self, placement: Placement) -> "Tubes":
        """Return the tubes under a placement (nearly a rotation with one scale: cross-sections keep their shape)."""
        return replace(
            self,
            ends=placement.points(self.ends),
            cuts=_unit(self.cuts @ np.linalg.inv(placement.matrix)),
            flat=_unit(self.flat @ placement.matrix.T),
            radii=self.radii * placement.scale,
        )

    def carried(self, here: Ellipsoid, there: Ellipsoid) -> "Tubes":
        """Return the tubes moved as an ellipsoid shrinks from `here` to `there`; they stay as thick."""
        ends = there.at(here.coordinates(self.ends))
        axis = _unit(ends[:, 1] - ends[:, 0])
        return replace(self, ends=ends, cuts=np.stack([-axis, axis], axis=1), flat=across(axis, self.flat))

    def select(self, keep: np.ndarray) -> "Tubes":
        """Return the pieces that an index array names."""
        return Tubes(*(getattr(self, name)[keep] for name in self.__slots__))

    def frame(self) -> np.ndarray:
        """Return (K, 3, 3) unit vectors, as rows: along the first radius, the second radius, and the axis."""
        axis = _unit(self.ends[:, 1] - self.ends[:, 0])
        flat = across(axis, self.flat)
        return np.stack([flat, np.cross(axis, flat), axis], axis=1)


def join(parts: list[Tubes]) -> Tubes:
    """Return all pieces of several tubes as one."""
    return Tubes(*(np.concatenate([getattr(part, name) for part in parts]) for name in Tubes.__slots__))


def rods(
    starts: np.ndarray,
    ends: np.ndarray,
    radii: np.ndarray | float | tuple[float, float],
    *,
    flat: tuple[float, float, float] = (0.0, 0.0, 1.0),
    hollow: float = 0.0,
    fill: float = 1.0,
    core: float = 0.0,
) -> Tubes:
    """Build K straight tubes with square ends.

    Parameters
    ----------
    starts, ends : (K, 3) mm
    radii : mm; one radius, a (first, second) pair, or (K, 1) or (K, 2) of each tube's own
    flat : direction that the first radius is measured along (as nearly as the axis lets it)
    hollow : inner fraction of the radii that holds `core` instead of `fill`
    """
    count = len(starts)
    axis = _unit(ends - starts)
    return Tubes(
        ends=np.stack([starts, ends], axis=1).astype(float),
        cuts=np.stack([-axis, axis], axis=1),
        flat=across(axis, np.array(flat)),
        radii=np.broadcast_to(np.asarray(radii, dtype=float), (count, 2)),
        hollow=np.full(count, hollow),
        fill=np.full(count, fill),
        core=np.full(count, core),
    )


def tube(
    points: np.ndarray,
    radii: np.ndarray | float | tuple[float, float],
    *,
    flat: tuple[float, float, float] = (0.0, 0.0, 1.0),
    hollow: float = 0.0,
    fill: float = 1.0,
    core: float = 0.0,
) -> Tubes:
    """Build one tube along a line of (N, 3) points in mm; the rest as in `rods`.

    Returns
    -------
    Tubes with N - 1 pieces; neighbours share the plane that halves the angle between them.
    """
    pieces = rods(points[:-1], points[1:], radii, flat=flat, hollow=hollow, fill=fill, core=core)
    axis = pieces.cuts[:, 1]
    joints = _unit(np.concatenate([axis[:1], axis[:-1] + axis[1:], axis[-1:]]))
    return replace(pieces, cuts=np.stack([-joints[:-1], joints[1:]], axis=1))


def across(axis: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return (K, 3) unit vectors perpendicular to the (K, 3) unit `axis`, as near to `wanted` as can be."""
    # the small helper direction decides where the axis runs along `wanted` itself
    helper = wanted + np.array([1e-6, 2e-6, 3e-6])
    return _unit(helper - np.sum(axis * helper, axis=-1, keepdims=True) * axis)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
