"""A patient: what a healthy chest is made of, in millimetres, drawn from a seed.

Comes in: a random generator of the patient, and what an abnormality does to the organs. Goes out: an
`Anatomy` of ellipsoids and tubes. Read next by `radiograph`, which projects it.

The numbers are those of a middle-sized adult (see `geometry` for the axes); each patient differs in size,
proportions, thickness of the soft tissue, heart, and course of ribs and vessels.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.geometry import Ellipsoid, Placement, Tubes, join, rods, tube, turn
from cxrtriage.data.phantom.vessels import grow_vessels

LEFT, RIGHT = 1, -1  # sign of x
SIDES = (RIGHT, LEFT)
APEX = -140.0  # y of the lungs' tips
BASE = 80.0  # y where the lungs are widest
SULCUS = 165.0  # y of the lowest point of the lungs


@dataclass(frozen=True, slots=True)
class Patient:
    """What stays the same from film to film of one patient.

    Parameters
    ----------
    age, sex : years; "M" or "F"
    stature, breadth, depth : scale of the chest along y, x and z
    soft_tissue : mm of fat and muscle around the ribs
    heart_width : the heart's part of the chest's inner width (cardiothoracic ratio), healthy below 0.5
    lung_density : of inflated lung, relative to soft tissue
    bone_density : relative to a young adult
    tree : seed of ribs' and vessels' course
    """

    age: float
    sex: str
    stature: float
    breadth: float
    depth: float
    soft_tissue: float
    heart_width: float
    lung_density: float
    bone_density: float
    tree: int

    @property
    def thickness(self) -> float:
        """The chest's depth in mm from skin to skin."""
        return 2 * (92 * self.depth + 0.75 * self.soft_tissue)


@dataclass(frozen=True, slots=True)
class Change:
    """What an abnormality does to the organs; the defaults leave them alone.

    Parameters
    ----------
    heart : scale of the heart
    shift : mm that heart and mediastinum are pushed to the patient's left
    domes : mm that the (right, left) half of the diaphragm lies lower than usual
    """

    heart: float = 1.0
    shift: float = 0.0
    domes: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Lung:
    """One lung: the part of `cavity` above y = `floor` that neither dome nor mediastinum fills."""

    side: int
    cavity: Ellipsoid
    dome: Ellipsoid
    floor: float
    vessels: Tubes

    def placed(self, placement: Placement) -> "Lung":
        """Return the lung under a placement; its floor stays level."""
        lowest = placement.points(np.array([self.cavity.centre[0], self.floor, self.cavity.centre[2]]))
        return Lung(
            self.side,
            self.cavity.placed(placement),
            self.dome.placed(placement),
            float(lowest[1]),
            self.vessels.placed(placement),
        )


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A patient as shapes. Bodies in one tuple overlap and count once; tubes in one `Tubes` add up."""

    trunk: tuple[Ellipsoid, ...]  # soft tissue: everything inside the skin
    lungs: tuple[Lung, Lung]  # right, left
    heart: tuple[Ellipsoid, ...]
    mediastinum: tuple[Ellipsoid, ...]  # soft tissue between the lungs, heart included
    airways: Tubes  # air in place of soft tissue: filled with -1
    stomach: Ellipsoid  # air under the left dome
    bones: Tubes
    plates: tuple[tuple[Ellipsoid, float], ...]  # flat or thick bones, and how much of them is bone mineral

    def placed(self, placement: Placement) -> "Anatomy":
        """Return the patient under a placement."""

        def moved(bodies: tuple[Ellipsoid, ...]) -> tuple[Ellipsoid, ...]:
            return tuple(body.placed(placement) for body in bodies)

        return Anatomy(
            trunk=moved(self.trunk),
            lungs=(self.lungs[0].placed(placement), self.lungs[1].placed(placement)),
            heart=moved(self.heart),
            mediastinum=moved(self.mediastinum),
            airways=self.airways.placed(placement),
            stomach=self.stomach.placed(placement),
            bones=self.bones.placed(placement),
            plates=tuple((body.placed(placement), fill) for body, fill in self.plates),
        )


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw an adult."""
    sex = "F" if rng.random() < 0.5 else "M"
    age = float(np.clip(rng.normal(55, 18), 18, 95).round())
    size = rng.normal(0.96 if sex == "F" else 1.03, 0.035)
    return Patient(
        age=age,
        sex=sex,
        stature=float(np.clip(size * rng.normal(1, 0.035), 0.85, 1.12)),
        breadth=float(np.clip(size * rng.normal(1, 0.035), 0.87, 1.12)),
        depth=float(np.clip(size * rng.normal(1, 0.05), 0.85, 1.18)),
        soft_tissue=float(np.clip(rng.gamma(6, 4), 10, 55)),
        heart_width=float(np.clip(rng.normal(0.435, 0.022), 0.38, 0.475)),
        lung_density=float(rng.uniform(0.22, 0.32)),
        bone_density=float(np.clip(rng.normal(1.05 - 0.003 * max(age - 40, 0), 0.1), 0.65, 1.3)),
        tree=int(rng.integers(2**32)),
    )


def build_anatomy(patient: Patient, change: Change, breath: float = 0.0, blades: float = 0.0) -> Anatomy:
    """Put the patient's organs in place.

    Parameters
    ----------
    breath : mm that the diaphragm stands lower than usual
    blades : mm that the shoulder blades are rolled outwards, off the lungs
    """
    rng = np.random.default_rng(patient.tree)
    # each part has a generator of its own, so that a change to one leaves the others as they were
    ribs_rng, right_rng, left_rng, rest_rng = rng.spawn(4)
    size = Placement(np.diag([patient.breadth, patient.stature, patient.depth]), np.zeros(3))
    heart = _heart(patient, change, breath)
    push = (change.shift, 0.0, 0.0)
    lungs = tuple(
        _lung(side, patient, breath + change.domes[index], (right_rng, left_rng)[index])
        for index, side in enumerate(SIDES)
    )
    return Anatomy(
        trunk=_trunk(patient, rest_rng),
        lungs=(lungs[0], lungs[1]),
        heart=tuple(body.placed(size) for body in heart),
        mediastinum=tuple(
            body.placed(size) for body in (*heart, *(part.moved(push) for part in _mediastinum(patient)))
        ),
        airways=_airways(change.shift).placed(size),
        stomach=_stomach(rest_rng, breath + change.domes[1]).placed(size),
        bones=join([_spine(patient), _ribs(patient, ribs_rng), _shoulder_bones(patient, blades)]).placed(size),
        plates=tuple((body.placed(size), fill * patient.bone_density) for body, fill in _plates(blades)),
    )


def _trunk(patient: Patient, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Chest wall, belly, shoulders, neck and breasts, in final millimetres."""
    broad, tall, fat = patient.breadth, patient.stature, patient.soft_tissue
    half_width, half_depth = 138 * broad + fat, patient.thickness / 2
    parts = [
        Ellipsoid.of((0, 130 * tall, 0), (half_width, 310 * tall, half_depth)),
        Ellipsoid.of((0, 300 * tall, 5), (half_width + 0.3 * fat, 200, half_depth + 0.3 * fat)),
        Ellipsoid.of((0, -215 * tall, -15), (52 + 0.3 * fat, 130, 58 + 0.3 * fat)),
    ]
    for side in SIDES:
        parts += [
            Ellipsoid.of((side * 128 * broad, -92 * tall, -12), (84, 48 + 0.4 * fat, 64), turn(about_z=side * 22)),
            Ellipsoid.of((side * 112 * broad, -25 * tall, -8), (44 + 0.8 * fat, 100, 74)),  # armpit
            Ellipsoid.of((side * 62, -140 * tall, -30), (84, 34 + 0.4 * fat, 46), turn(about_z=side * 30)),
            Ellipsoid.of((side * 222, 20, -10), (40, 170, 42), turn(about_z=-side * 6)),
        ]
    if patient.sex == "F":
        full = rng.uniform(0.75, 1.3) * (0.8 + 0.012 * fat)
        # tilted, so that the upper half sinks into the chest and only the lower border shows
        parts += [
            Ellipsoid.of(
                (side * 76 * broad, 52 * tall + 16 * full, 0.86 * half_depth - 14),
                (60 * full, 74 * full, 32 * full),
                turn(about_x=22, about_z=side * 12),
            )
            for side in SIDES
        ]
    return tuple(parts)


def _lung(side: int, patient: Patient, lowered: float, rng: np.random.Generator) -> Lung:
    """One lung with the dome below it and the vessels in it, in final millimetres."""
    size = Placement(np.diag([patient.breadth, patient.stature, patient.depth]), np.zeros(3))
    cavity = Ellipsoid.of((side * 70, BASE, -2), (66, BASE - APEX, 82), turn(about_z=-side * 3.5)).placed(size)
    top = 82 + (10 if side == LEFT else 0) + lowered / patient.stature
    dome = Ellipsoid.of((side * 68, top + 92, 4), (74, 92, 102), turn(about_z=side * 3.0)).placed(size)
    floor = (SULCUS + 0.5 * lowered) * patient.stature
    return Lung(side, cavity, dome, floor, grow_vessels(side, cavity, dome, rng))


def _heart(patient: Patient, change: Change, breath: float) -> tuple[Ellipsoid, ...]:
    """Ventricles and right atrium; their width together is `heart_width` of the chest's inner width."""
    # at a scale of 1 the heart reaches from x = -36 to x = 84: 0.44 of the inner width of 272
    scale = patient.heart_width / 0.44 * change.heart
    middle = 15 + change.shift + 8 * (change.heart - 1)
    base = 54.0 + 0.7 * breath + 0.3 * sum(change.domes)

    def placed(x: float, y: float, z: float, radii: tuple[float, float, float], tilt: float) -> Ellipsoid:
        grown = (radii[0] * scale, radii[1] * scale, radii[2] * scale)
        return Ellipsoid.of((middle + x * scale, base + y * scale, z), grown, turn(about_z=tilt))

    return (
        placed(17, 0, 22, (66, 44, 46), 40),
        placed(-9, 2, 16, (43, 50, 42), -8),
    )


def _mediastinum(patient: Patient) -> tuple[Ellipsoid, ...]:
    """Great vessels, arch of the aorta and roots of the lungs."""
    older = max(patient.age - 50, 0)
    return (
        Ellipsoid.of((0, -20, -8), (20, 260, 44)),
        Ellipsoid.of((-14, -50, 8), (22, 80, 20)),  # superior vena cava
        Ellipsoid.of((9, 60, -38), (13, 190, 14)),  # descending aorta
        Ellipsoid.of((18, 92, 12), (46, 26, 44)),  # fat between heart and diaphragm
        Ellipsoid.of((19, -62, -8), (17 + 0.15 * older, 18 + 0.1 * older, 26)),  # aortic knob
        Ellipsoid.of((25, -14, 12), (20, 34, 20), turn(about_z=-20)),  # pulmonary trunk
    )


def _airways(shift: float) -> Tubes:
    """Windpipe and main bronchi; a push of the mediastinum bends the windpipe."""
    carina = np.array([2 + 0.8 * shift, -42, -12])
    trachea = np.array([[0, -230, -2], [0.1 * shift, -150, -4], [0.5 * shift, -95, -8], carina])
    right = carina + np.array([[0, 0, 0], [-18, 20, -2], [-36, 36, -4]])
    left = carina + np.array([[0, 0, 0], [22, 17, -2], [46, 30, -6]])
    return join([tube(trachea, 8.5, fill=-1), tube(right, 6.5, fill=-1), tube(left, 5.5, fill=-1)])


def _stomach(rng: np.random.Generator, lowered: float) -> Ellipsoid:
    """Gas under the left dome; much, little or none."""
    size = rng.uniform(0.05, 1.0)
    return Ellipsoid.of((62, 112 + 18 * size + lowered, 15), (12 + 24 * size, 4 + 13 * size, 12 + 22 * size))


def spine_y(level: np.ndarray) -> np.ndarray:
    """Return the y in mm of the middles of vertebrae: 1 is the first thoracic, 13 the first lumbar."""
    return -172.0 + 22.0 * (level - 1) + 0.25 * (level - 1) ** 2


def _spine(patient: Patient) -> Tubes:
    """Bodies with denser end plates, pedicles, transverse and spinous processes, from the neck to the belly."""
    dense = patient.bone_density
    level = np.arange(-2.0, 17.0)
    y = spine_y(level)
    half = 0.5 * (spine_y(level + 1) - y) - 2.2
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


def _ribs(patient: Patient, rng: np.random.Generator) -> Tubes:
    """Twelve pairs: round the cage from the spine, falling all the way to the front, where cartilage begins."""
    parts = []
    dense = patient.bone_density
    fall = rng.normal(1, 0.08)
    for number in range(1, 13):
        start_y = spine_y(np.array(number)) - 6
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
    narrowing = np.sqrt(np.clip(1 - ((np.minimum(y, BASE) - BASE) / (BASE - APEX + 8)) ** 2, 0.2, 1))
    return 70 - 0.06 * (BASE - np.minimum(y, BASE)) + 69 * narrowing, 86 * narrowing


def _shoulder_bones(patient: Patient, blades: float) -> Tubes:
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


def _plates(blades: float) -> list[tuple[Ellipsoid, float]]:
    """Shoulder blades, heads of the upper arms, handle of the breastbone; each with its share of bone mineral."""
    plates = [(Ellipsoid.of((0, -70, 82), (24, 30, 6), turn(about_x=20)), 0.12)]
    for side in SIDES:
        turned = turn(about_y=side * 28, about_z=-side * 8)
        plates.append((Ellipsoid.of((side * (118 + 0.7 * blades), -35, -86), (34, 72, 3.2), turned), 0.35))
        plates.append((Ellipsoid.of((side * 184, -112, -22), (23, 24, 23)), 0.16))
    return plates
