"""The vessels of a lung: a tree that starts at the hilum, forks and tapers.

Comes in: the lung's shape and a random generator. Goes out: tubes of soft tissue. Read next by `anatomy`.
"""

import numpy as np

from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes, across, join, rods, tube
from cxrtriage.data.phantom.patient import LEFT

GENERATIONS = 6
STEPS = 2  # pieces between two forks
THINNEST = 1.2  # mm of radius; thinner vessels are left to the texture of the lung
HILUM = np.array([0.42, -0.44, -0.05])  # in the coordinates of the lung's ellipsoid; first towards the middle


def hilum(side: int) -> np.ndarray:
    """Return the (3,) place where vessels enter, in the coordinates of the cavity of the lung on `side`."""
    return HILUM * [-side, 1, 1]


def grow_vessels(side: int, cavity: Ellipsoid, apex: Ellipsoid, dome: Ellipsoid, rng: np.random.Generator) -> Tubes:
    """Grow arteries and veins of one lung; all branches of a generation at once.

    Each fork gives a thicker child that turns little and a thinner one that turns more; radii follow
    Murray's law (r³ = r1³ + r2³). A branch that would leave the lung ends.
    """
    main = np.radians([-78, -52, -25, 5, 28, 48, 66, 84, -64, 18, 56])
    # directions on the film from the hilum outwards, with some depth
    direction = np.stack([side * np.cos(main), np.sin(main), rng.uniform(-0.5, 0.5, len(main))], axis=1)
    direction += rng.normal(0, 0.12, direction.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    tip = cavity.at(hilum(side)) + rng.normal(0, 1, direction.shape) * [4, 12, 8]
    radius = rng.uniform(2.2, 4.4, len(main))
    parts = []
    for generation in range(GENERATIONS):
        length = (27.0 if generation == 0 else 24.0 - 1.8 * generation) * rng.uniform(0.6, 1.3, len(tip))
        for _ in range(STEPS):
            bent = direction + rng.normal(0, 0.13, direction.shape)
            bent /= np.linalg.norm(bent, axis=1, keepdims=True)
            after = tip + bent * (length / STEPS)[:, None]
            inside = np.linalg.norm(cavity.coordinates(after), axis=1) < 0.95
            inside |= np.linalg.norm(apex.coordinates(after), axis=1) < 0.9
            inside &= np.linalg.norm(dome.coordinates(after), axis=1) > 1.02
            grows = (inside | (generation == 0)) & (radius > THINNEST)  # the first pieces lead into the lung
            # square ends: at these radii the wedge at a bend does not show
            parts.append(rods(tip[grows], after[grows], radius[grows, None]))
            tip, direction, radius, length = after[grows], bent[grows], radius[grows], length[grows]
        tip, direction, radius = _fork(tip, direction, radius, rng)
    return join([*parts, _hilar_artery(side, rng)])


def _hilar_artery(side: int, rng: np.random.Generator) -> Tubes:
    """The artery that runs down beside the heart, tapering; the left one starts higher, over its bronchus."""
    down = np.array([[-16.0, -34, 2], [-36, -26, 0], [-43, -6, -8], [-45, 16, -14], [-43, 40, -18]])
    if side == LEFT:
        down = np.array([[18.0, -36, 4], [40, -42, -4], [52, -28, -12], [52, 0, -16], [50, 26, -18]])
    down[1:] += rng.normal(0, 2.5, (len(down) - 1, 3))
    radius = rng.uniform(0.8, 1.1) * np.array([9.5, 9.0, 7.5, 5.5])[:, None]
    return tube(down, np.repeat(radius, 2, axis=1))


def _fork(
    tip: np.ndarray, direction: np.ndarray, radius: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replace each branch by two children."""
    share = rng.uniform(0.5, 0.8, len(tip))  # of r³, to the thicker child
    aside = across(direction, rng.normal(0, 1, direction.shape) * [1, 1, 0.6])
    little = np.radians(rng.uniform(8, 24, len(tip)))[:, None]
    much = np.radians(rng.uniform(25, 50, len(tip)))[:, None]
    children = np.concatenate(
        [
            np.cos(little) * direction + np.sin(little) * aside,
            np.cos(much) * direction - np.sin(much) * aside,
        ]
    )
    radii = np.concatenate([radius * np.cbrt(share), radius * np.cbrt(1 - share)])
    return np.concatenate([tip, tip]), children, radii
