"""What a healthy chest is made of: ellipsoids and tubes, in millimetres.

Comes in: a `Patient`, and what an abnormality does to the organs. Goes out: an `Anatomy`. Read next by
`radiograph`, which projects it.

The numbers below are those of a middle-sized adult (see `geometry` for the axes); `Patient.size` makes them
this patient's.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.bones import plates, ribs, shoulder_bones, spine
from cxrtriage.data.phantom.geometry import Ellipsoid, Placement, Tubes, join, tube, turn
from cxrtriage.data.phantom.patient import LEFT, RIGHT, SIDES, Change, Patient
from cxrtriage.data.phantom.vessels import grow_vessels

APEX = -140.0  # y of the lungs' tips
BASE = 80.0  # y where the lungs are widest
SULCUS = 165.0  # y of the lowest point of the lungs


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


def build_anatomy(patient: Patient, change: Change, breath: float = 0.0, blades: float = 0.0) -> Anatomy:
    """Put the patient's organs in place.

    Parameters
    ----------
    breath : mm that the diaphragm stands lower than usual
    blades : mm that the shoulder blades are rolled outwards, off the lungs
    """
    # each part has a generator of its own, so that a change to one leaves the others as they were
    ribs_rng, right_rng, left_rng, rest_rng = np.random.default_rng(patient.tree).spawn(4)
    right, left = (breath + lowered for lowered in change.domes)
    heart = _heart(patient, change, breath)
    vessels = tuple(body.moved((change.shift, 0, 0)) for body in _great_vessels(patient))
    return Anatomy(
        trunk=_trunk(patient, rest_rng),
        lungs=(_lung(RIGHT, right, right_rng), _lung(LEFT, left, left_rng)),
        heart=heart,
        mediastinum=heart + vessels,
        airways=_airways(change.shift),
        stomach=_stomach(rest_rng, left),
        bones=join([spine(patient), ribs(patient, ribs_rng), shoulder_bones(patient, blades)]),
        plates=plates(patient, blades),
    ).placed(patient.size)


def _trunk(patient: Patient, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Chest wall, belly, neck, shoulders, arms and breasts."""
    fat = patient.soft_tissue / patient.breadth
    half_width, half_depth = 138 + fat, patient.thickness / 2 / patient.depth
    parts = [
        Ellipsoid.of((0, 130, 0), (half_width, 310, half_depth)),
        Ellipsoid.of((0, 300, 5), (half_width + 0.3 * fat, 200, half_depth + 0.3 * fat)),
        Ellipsoid.of((0, -215, -15), (52 + 0.3 * fat, 130, 58 + 0.3 * fat)),
    ]
    for side in SIDES:
        parts += [
            Ellipsoid.of((side * 128, -92, -12), (84, 48 + 0.4 * fat, 64), turn(about_z=side * 22)),
            Ellipsoid.of((side * 112, -25, -8), (44 + 0.8 * fat, 100, 74)),  # armpit
            Ellipsoid.of((side * 62, -140, -30), (84, 34 + 0.4 * fat, 46), turn(about_z=side * 30)),
            Ellipsoid.of((side * 222, 20, -10), (40, 170, 42), turn(about_z=-side * 6)),
        ]
    if patient.sex == "F":
        full = rng.uniform(0.75, 1.3) * (0.8 + 0.012 * fat)
        # tilted, so that the upper half sinks into the chest and only the lower border shows
        parts += [
            Ellipsoid.of(
                (side * 76, 52 + 16 * full, 0.86 * half_depth - 14),
                (60 * full, 74 * full, 32 * full),
                turn(about_x=22, about_z=side * 12),
            )
            for side in SIDES
        ]
    return tuple(parts)


def _lung(side: int, lowered: float, rng: np.random.Generator) -> Lung:
    """One lung with the dome below it, lower than usual by so many mm, and the vessels in it."""
    cavity = Ellipsoid.of((side * 70, BASE, -2), (66, BASE - APEX, 82), turn(about_z=-side * 3.5))
    top = 82 + lowered + (10 if side == LEFT else 0)
    dome = Ellipsoid.of((side * 68, top + 92, 4), (74, 92, 102), turn(about_z=side * 3))
    return Lung(side, cavity, dome, SULCUS + 0.5 * lowered, grow_vessels(side, cavity, dome, rng))


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


def _great_vessels(patient: Patient) -> tuple[Ellipsoid, ...]:
    """Great vessels, arch of the aorta and roots of the lungs."""
    older = max(patient.age - 50, 0)
    return (
        Ellipsoid.of((0, -20, -8), (20, 260, 44)),
        Ellipsoid.of((-14, -50, 8), (22, 80, 20)),  # superior vena cava
        Ellipsoid.of((8, 60, -31), (13, 190, 14)),  # descending aorta
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
