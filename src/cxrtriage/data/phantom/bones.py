"""The bones of a chest, in the millimetres of a middle-sized adult.

Comes in: a `Patient`. Goes out: tubes and ellipsoids that hold so much bone mineral. Read next by `anatomy`.
"""

import numpy as np

from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes, join, rods, tube, turn
from cxrtriage.data.phantom.patient import SIDES, Patient

WIDEST = 80.0  # y of the widest ribs
TOP = -148.0  # y where the cage would close


def spine(patient: Patient) -> Tubes:
    """Bodies with denser end plates, pedicles, transverse and spinous processes, from the neck to the belly."""
    dense = patient.bone_density
    level = np.arange(-2.0, 17.0)
    y = _spine_y(level)
    half = 0.5 * (_spine_y(level + 1) - y) - 2.2
    width = 12.5 + 0.55 * np.maximum(level, 0)
    z = -66 + 0.35 * (level - 7) ** 2

    def at(x: np.ndarray | float, down: np.ndarray | float, forward: float) -> np.ndarray:
        """Points at so many mm from the middles of the bodies."""
        return np.stack([np.broadcast_to(x, y.shape), y + down, z + forward], axis=1)

    body = np.stack([width, np.full_like(width, 13)], axis=1)
    across_body = (1.0, 0.0, 0.0)
    parts = [
        rods(at(0, -half, 0), at(0, half, 0), body, flat=across_body, hollow=0.92, fill=0.26 * dense, core=0.08 * dense)
    ]
    parts += [
        rods(at(0, edge - 0.8, 0), at(0, edge + 0.8, 0), body + 1, flat=across_body, fill=0.2 * dense)
        for edge in (-half, half)
    ]
    for side in SIDES:
        root = side * (width - 4)
        parts += [
            rods(
                at(root, -2, -10),
                at(root, -2, -24),
                (3.6, 5.2),
                flat=across_body,
                hollow=0.65,
                fill=0.6 * dense,
                core=0.15 * dense,
            ),
            rods(
                at(root, -2, -22),
                at(side * (width + 16), -5, -30),
                (4.5, 4),
                hollow=0.75,
                fill=0.45 * dense,
                core=0.1 * dense,
            ),
        ]
    parts.append(
        rods(at(0, 2, -26), at(0, 16, -44), (2.6, 7), flat=across_body, hollow=0.5, fill=0.5 * dense, core=0.2 * dense)
    )
    return join(parts)


def ribs(patient: Patient, rng: np.random.Generator) -> Tubes:
    """Twelve pairs: round the cage from the spine, falling all the way to the front, where cartilage begins."""
    parts = []
    dense = patient.bone_density
    fall = rng.normal(1, 0.08)
    for number in range(1, 13):
        start_y = _spine_y(np.array(number)) - 6
        drop = fall * float(np.interp(number, [1, 2, 4, 7, 10, 12], [58, 70, 92, 108, 104, 80]))
        end = float(np.interp(number, [1, 6, 7, 10, 11, 12], [150, 146, 142, 122, 92, 62]))
        thick, high = (4.6, 7.5) if number == 1 else (3.4, 6.6)
        for side in SIDES:
            wobble = rng.normal(0, 1.2, 2)
            theta = np.radians(np.linspace(9, end, 17 if number > 1 else 12))
            y = start_y + wobble[0] + (drop + 3 * wobble[1]) * (0.42 * (1 - np.cos(theta)) + 0.16 * theta / np.pi)
            half_width, half_depth = _cage(y)
            half_width = np.minimum(half_width, float(np.interp(number, [1, 2, 3, 4, 5], [54, 80, 103, 122, 999])))
            points = np.stack([side * half_width * np.sin(theta), y, -2 - half_depth * np.cos(theta)], axis=1)
            front = (theta[:-1] / np.pi)[:, None]  # ribs get broader and thinner towards the front
            radii = np.array([high, thick]) * (1 + front * [0.15, -0.3])
            parts.append(tube(points, radii, flat=(0, 1, 0), hollow=0.74, fill=dense, core=0.16 * dense))
    return join(parts)


def _cage(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return half width and half depth in mm of the rib cage at heights y: a little outside the lungs."""
    above = np.maximum(WIDEST - y, 0)
    narrowing = np.sqrt(np.clip(1 - (above / (WIDEST - TOP)) ** 2, 0.2, 1))
    return 70 - 0.06 * above + 69 * narrowing, 86 * narrowing


def shoulder_bones(patient: Patient, blades: float) -> Tubes:
    """Collar bones, edges of the shoulder blades, upper arms."""
    parts = []
    dense = patient.bone_density
    for side in SIDES:
        along = np.linspace(0, 1, 13)
        collar = np.stack(
            [
                side * (16 + 142 * along),
                -104 - 24 * along - 5 * np.sin(2 * np.pi * along),
                58 - 62 * along + 8 * np.sin(2 * np.pi * along),
            ],
            axis=1,
        )
        parts.append(tube(collar, (6.0, 5.2), hollow=0.75, fill=0.9 * dense, core=0.15 * dense))
        outer = np.array([[168.0, -112, -40], [150, -80, -62], [140, -30, -80], [126, 22, -84], [120, 44, -82]])
        outer[:, 0] += blades * np.linspace(0.2, 1, len(outer))
        parts.append(tube(outer * [side, 1, 1], (5.5, 4), hollow=0.6, fill=0.42 * dense, core=0.1 * dense))
        ridge = np.array([[100, -96, -88], [135, -112, -75], [172, -130, -45]])
        parts.append(tube(ridge * [side, 1, 1], (5.5, 3.5), hollow=0.6, fill=0.4 * dense, core=0.1 * dense))
        shaft = np.array([[190, -95, -18], [206, -40, -15], [216, 60, -12], [222, 180, -10]])
        parts.append(tube(shaft * [side, 1, 1], (11, 11), hollow=0.7, fill=0.7 * dense, core=0.08 * dense))
    return join(parts)


def plates(patient: Patient, blades: float) -> tuple[tuple[Ellipsoid, float], ...]:
    """Shoulder blades, heads of the upper arms, handle of the breastbone; each with its share of bone mineral."""
    dense = patient.bone_density
    found = [(Ellipsoid.of((0, -70, 82), (24, 30, 6), turn(about_x=20)), 0.12 * dense)]
    for side in SIDES:
        turned = turn(about_y=side * 28, about_z=-side * 8)
        found.append((Ellipsoid.of((side * (118 + 0.7 * blades), -35, -86), (34, 72, 3.2), turned), 0.35 * dense))
        found.append((Ellipsoid.of((side * 184, -112, -22), (23, 24, 23)), 0.16 * dense))
    return tuple(found)


def _spine_y(level: np.ndarray) -> np.ndarray:
    """Return the y in mm of the middles of vertebrae: 1 is the first thoracic, 13 the first lumbar."""
    return -172.0 + 22.0 * (level - 1) + 0.25 * (level - 1) ** 2
