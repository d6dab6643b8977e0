"""The outline of a patient: torso, neck, shoulders, arms and breasts, as overlapping ellipsoids.

Comes in: a `Patient`, and how far the arms are raised. Goes out: ellipsoids in the millimetres of a middle-sized adult.
Read next by `anatomy`. What lies inside any of them is soft tissue until something else takes its place.
"""

import numpy as np

from cxrtriage.data.phantom.geometry import Ellipsoid, turn
from cxrtriage.data.phantom.patient import SIDES, Patient

SHOULDER = (177.0, -106.0, -18.0)  # joint of the upper arm; x outwards


def skin(patient: Patient, arms: float, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Return everything that lies inside the skin."""
    fat = patient.soft_tissue / patient.breadth
    half_depth = patient.thickness / 2 / patient.depth
    breasts = _breasts(fat, half_depth, rng) if patient.has_breasts else ()
    return _torso(fat, half_depth) + _neck(fat, patient.youth) + _shoulders(fat) + _arms(fat, arms) + breasts


def upper_arm(side: int, arms: float) -> np.ndarray:
    """Return the (3,) unit vector from shoulder to elbow, `arms` degrees away from the body."""
    return np.array([side * np.sin(np.radians(arms)), np.cos(np.radians(arms)), 0.0])


def _torso(fat: float, half_depth: float) -> tuple[Ellipsoid, ...]:
    """Chest wall and belly, and the muscles that reach from the chest to the arm."""
    half_width = 138 + fat
    folds = (
        Ellipsoid.of((side * 110, -14, -22), (42 + 0.75 * fat, 112, 76), turn(about_z=-side * 4)) for side in SIDES
    )
    return (
        Ellipsoid.of((0, 130, 0), (half_width, 310, half_depth)),
        Ellipsoid.of((0, 300, 5), (half_width + 0.3 * fat, 200, half_depth + 0.3 * fat)),
        Ellipsoid.of((0, -60, -16), (126, 118, 0.92 * half_depth)),  # muscles of the upper back and chest
        *folds,
    )


def _neck(fat: float, youth: float) -> tuple[Ellipsoid, ...]:
    """Neck, and in a child, whose neck is short, the chin."""
    neck = Ellipsoid.of((0, -215, -15), (50 + 0.25 * fat, 130, 56 + 0.3 * fat))
    if youth < 0.4:
        return (neck,)
    return neck, Ellipsoid.of((0, -255, 10), (86, 78, 96))


def _shoulders(fat: float) -> tuple[Ellipsoid, ...]:
    """The slope from the neck to the shoulder, and the muscle over its joint."""
    parts = []
    for side in SIDES:
        parts += [
            Ellipsoid.of((side * 96, -118, -28), (112, 38 + 0.4 * fat, 46), turn(about_z=side * 19)),
            Ellipsoid.of((side * 158, -88, -14), (74, 50 + 0.4 * fat, 56), turn(about_z=side * 32)),
        ]
    return tuple(parts)


def _arms(fat: float, arms: float) -> tuple[Ellipsoid, ...]:
    """Upper arms; they leave the film sooner or later."""
    parts = []
    for side in SIDES:
        middle = np.array([side, 1, 1]) * SHOULDER + 110 * upper_arm(side, arms)
        radii = (36 + 0.5 * fat, 165, 40 + 0.5 * fat)
        parts.append(Ellipsoid.of((middle[0], middle[1], middle[2]), radii, turn(about_z=-side * arms)))
    return tuple(parts)


def _breasts(fat: float, half_depth: float, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Tilted and mostly sunk into the chest, so that only the lower border shows; no two alike."""
    if rng.random() < 0.3:
        return ()  # too small to show
    full = rng.uniform(0.75, 1.15) * (0.85 + 0.007 * fat)
    sag, thick = rng.uniform(0, 40), rng.uniform(4, 13)
    parts = []
    for side in SIDES:
        own = full * rng.uniform(0.94, 1.06)
        centre = (side * (72 + rng.normal(0, 4)), 46 + 14 * own + sag + rng.normal(0, 4), 0.88 * half_depth - 4)
        tilt = turn(about_x=9, about_y=side * 19, about_z=-side * rng.uniform(0, 25))
        parts.append(Ellipsoid.of(centre, (70 * own, 62 * own, thick * own), tilt))
    return tuple(parts)
