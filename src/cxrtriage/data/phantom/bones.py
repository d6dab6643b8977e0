"""The bones of a chest, in the millimetres of a middle-sized adult.

Comes in: a `Patient` and the `Cage`'s shape. Goes out: tubes and ellipsoids that hold so much bone mineral.
Read next by `anatomy`.
"""

import numpy as np

from cxrtriage.data.phantom.cage import Cage
from cxrtriage.data.phantom.geometry import Ellipsoid, Tubes, join, rods, tube, turn
from cxrtriage.data.phantom.patient import SIDES, Patient
from cxrtriage.data.phantom.skin import SHOULDER, upper_arm


def spine(patient: Patient, rng: np.random.Generator) -> Tubes:
    """Bodies, uneven and a little off the midline, and their end plates, pedicles and processes, from neck to belly."""
    dense = patient.bone_density
    level = np.arange(-2.0, 17.0)
    y = _spine_y(level)
    half = 0.5 * (_spine_y(level + 1) - y) - 2.8
    width = (12.5 + 0.55 * np.maximum(level, 0)) * rng.normal(1, 0.06, len(level))
    aside = rng.normal(0, 3.5) * np.sin(level / rng.uniform(3, 5) + rng.uniform(0, 2 * np.pi))
    z = -66 + 0.35 * (level - 7) ** 2

    def at(x: np.ndarray | float, down: np.ndarray | float, forward: float) -> np.ndarray:
        """Points at so many mm from the middles of the bodies."""
        return np.stack([x + aside, y + down, z + forward], axis=1)

    body = np.stack([width, np.full_like(width, 13)], axis=1)
    across_body = (1.0, 0.0, 0.0)
    parts = [
        rods(at(0, -half, 0), at(0, half, 0), body, flat=across_body, hollow=0.9, fill=0.38 * dense, core=0.14 * dense)
    ]
    parts += [
        rods(at(0, edge - 0.8, 0), at(0, edge + 0.8, 0), body + 1.5, flat=across_body, fill=0.45 * dense)
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
                fill=0.42 * dense,
                core=0.18 * dense,
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
        rods(at(0, 2, -26), at(0, 16, -44), (2.8, 7), flat=across_body, hollow=0.6, fill=0.75 * dense, core=0.2 * dense)
    )
    return join(parts)


def ribs(patient: Patient, cage: Cage, rng: np.random.Generator) -> Tubes:
    """Twelve pairs: round the cage from the spine, falling all the way to the front, where cartilage begins."""
    parts = []
    dense = patient.bone_density
    steepness = rng.uniform(1.1, 1.7)
    fall = rng.normal(1.12, 0.12) * (1 - 0.4 * patient.youth)  # a child's ribs lie nearly level
    for number in range(1, 13):
        start_y = _spine_y(np.array(number)) - 6 + float(np.interp(number, [1, 2, 4], [14, 7, 0]))
        drop = fall * float(np.interp(number, [1, 2, 4, 7, 10, 12], [52, 72, 100, 124, 128, 100]))
        end = float(np.interp(number, [1, 6, 7, 10, 11, 12], [150, 146, 142, 122, 92, 62]))
        thick, high = (4.0, 7.0) if number == 1 else (4.2, 6.2)
        for side in SIDES:
            wobble = rng.normal(0, 1.8, 2)
            theta = np.radians(np.linspace(9, end, 17 if number > 1 else 12))
            # less steep behind than in front
            share = 0.66 * (0.5 - 0.5 * np.cos(theta)) ** steepness + 0.34 * theta / np.pi - 0.03 * np.sin(theta) ** 2
            y = start_y + wobble[0] + (drop + 3 * wobble[1]) * share
            half_width, half_depth = cage.extent(y)
            half_width = np.minimum(half_width, float(np.interp(number, [1, 2, 3, 4, 5], [60, 88, 110, 126, 999])))
            points = np.stack([side * half_width * np.sin(theta), y, -2 - half_depth * np.cos(theta)], axis=1)
            front = (theta[:-1] / np.pi)[:, None]  # ribs get broader and thinner towards the front
            radii = np.array([high, thick]) * (1 + front * [0.15, -0.5])
            radii[-3:] *= [[0.9], [0.7], [0.45]]  # where cartilage begins
            parts.append(tube(points, radii, flat=(0, 1, 0), hollow=0.8, fill=1.15 * dense, core=0.27 * dense))
    return join(parts)


def collar_bones(patient: Patient) -> Tubes:
    """From the breastbone outwards, up and back; S-shaped."""
    along = np.linspace(0, 1, 13)
    dense = patient.bone_density
    parts = []
    for side in SIDES:
        line = np.stack(
            [
                side * (15 + 147 * along),
                -95 - 45 * (1 - (1 - along) ** 1.5) - 3 * np.sin(2 * np.pi * along),
                58 - 66 * along + 8 * np.sin(2 * np.pi * along),
            ],
            axis=1,
        )
        radii = np.array([6.4, 5.4]) * np.linspace(1.1, 0.75, 12)[:, None]
        parts.append(tube(line, radii, hollow=0.74, fill=dense, core=0.3 * dense))
    return join(parts)


def shoulder_blades(patient: Patient, blades: float) -> Tubes:
    """The thick edges of the shoulder blades, their ridge, and the hook in front of the shoulder."""
    parts = []
    dense = patient.bone_density
    for side in SIDES:
        mirror = np.array([side, 1, 1])
        outer = np.array([[160.0, -100, -40], [150, -78, -60], [142, -35, -78], [128, 18, -84], [118, 42, -82]])
        inner = np.array([[110.0, -108, -76], [92, -82, -88], [92, -30, -94], [104, 20, -92], [118, 42, -82]])
        for edge in (outer, inner):
            edge[:, 0] += blades * np.linspace(0.2, 1, len(edge))
        ridge = np.array([[96.0 + 0.4 * blades, -82, -92], [132, -108, -78], [170, -139, -42]])
        hook = np.array([[152.0, -108, -40], [143, -119, -20], [143, -116, -4], [150, -108, 6]])
        parts += [
            tube(outer * mirror, (4.2, 3.2), hollow=0.5, fill=0.7 * dense, core=0.35 * dense),
            tube(inner * mirror, (2.8, 2.4), fill=0.6 * dense),
            tube(ridge * mirror, (4.5, 3), hollow=0.6, fill=0.6 * dense, core=0.25 * dense),
            tube(hook * mirror, (5.5, 4.5), hollow=0.75, fill=0.5 * dense, core=0.2 * dense),
        ]
    return join(parts)


def upper_arms(patient: Patient, arms: float) -> Tubes:
    """Shafts of the upper arms, `arms` degrees away from the body."""
    dense = patient.bone_density
    parts = []
    for side in SIDES:
        joint = np.array([side, 1, 1]) * SHOULDER
        course = joint + np.array([6, 45, 75, 290])[:, None] * upper_arm(side, arms)
        parts += [
            tube(course[:2], 13.5, hollow=0.82, fill=0.4 * dense, core=0.14 * dense),
            tube(course[1:], np.array([[12.5, 12.5], [11, 11]]), hollow=0.72, fill=0.65 * dense, core=0.12 * dense),
        ]
    return join(parts)


def plates(patient: Patient, blades: float) -> tuple[tuple[Ellipsoid, float], ...]:
    """Shoulder blades, heads of the upper arms, handle of the breastbone; each with its share of bone mineral."""
    dense = patient.bone_density
    found = [(Ellipsoid.of((0, -70, 82), (24, 30, 6), turn(about_x=20)), 0.12 * dense)]
    for side in SIDES:
        turned = turn(about_y=side * 28, about_z=-side * 6)
        found.append((Ellipsoid.of((side * (118 + 0.7 * blades), -35, -86), (34, 74, 3.2), turned), 0.5 * dense))
        x, y, z = SHOULDER
        found.append((Ellipsoid.of((side * x, y, z), (22, 25, 22)), 0.17 * dense))
        found.append((Ellipsoid.of((side * (x - 20), y + 2, z - 14), (6, 19, 14)), 0.3 * dense))
    return tuple(found)


def _spine_y(level: np.ndarray) -> np.ndarray:
    """Return the y in mm of the middles of vertebrae: 1 is the first thoracic, 13 the first lumbar."""
    return -172.0 + 22.0 * (level - 1) + 0.25 * (level - 1) ** 2
