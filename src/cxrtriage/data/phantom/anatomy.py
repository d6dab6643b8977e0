"""What a healthy chest is made of: ellipsoids and tubes, in millimetres.

Comes in: a `Patient`, and what an abnormality does to the organs. Goes out: an `Anatomy`. Read next by
`radiograph`, which projects it.

The numbers below are those of a middle-sized adult (see `geometry` for the axes); `Patient.size` makes them
this patient's.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.bones import collar_bones, plates, ribs, shoulder_blades, spine, upper_arms
from cxrtriage.data.phantom.cage import Cage, draw_cage
from cxrtriage.data.phantom.geometry import Ellipsoid, Placement, Tubes, join, tube, turn
from cxrtriage.data.phantom.patient import LEFT, RIGHT, Change, Patient
from cxrtriage.data.phantom.skin import skin
from cxrtriage.data.phantom.vessels import grow_vessels

APEX = -154.0  # y of the lungs' tips
FAT = 0.05  # share by which a plane of fat, with the organs that fold into it, lets more through than soft tissue
SULCUS = 152.0  # y of the lowest point of the lungs


@dataclass(frozen=True, slots=True)
class Lung:
    """One lung: what of `cavity` and `apex` lies above y = `floor` and neither dome nor mediastinum fills."""

    side: int
    cavity: Ellipsoid
    apex: Ellipsoid
    dome: Ellipsoid
    floor: float
    vessels: Tubes

    def placed(self, placement: Placement) -> "Lung":
        """Return the lung under a placement; its floor stays level."""
        lowest = placement.points(np.array([self.cavity.centre[0], self.floor, self.cavity.centre[2]]))
        return Lung(
            self.side,
            self.cavity.placed(placement),
            self.apex.placed(placement),
            self.dome.placed(placement),
            float(lowest[1]),
            self.vessels.placed(placement),
        )


@dataclass(frozen=True, slots=True)
class Gas:
    """Gas in stomach or bowel, or fat: takes `share` (0 to 1) of the part of `body` above y = `level`."""

    body: Ellipsoid
    level: float
    share: float

    def placed(self, placement: Placement) -> "Gas":
        """Return the gas under a placement; its level stays level."""
        lowest = placement.points(np.array([self.body.centre[0], self.level, self.body.centre[2]]))
        return Gas(self.body.placed(placement), float(lowest[1]), self.share)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A patient as shapes. Bodies in one tuple overlap and count once; tubes in one `Tubes` add up."""

    trunk: tuple[Ellipsoid, ...]  # soft tissue: everything inside the skin
    lungs: tuple[Lung, Lung]  # right, left
    heart: tuple[Ellipsoid, ...]
    mediastinum: tuple[Ellipsoid, ...]  # soft tissue between the lungs, heart included
    airways: Tubes  # air in place of soft tissue: filled with -1
    gas: tuple[Gas, ...]  # and fat, under the domes
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
            gas=tuple(part.placed(placement) for part in self.gas),
            bones=self.bones.placed(placement),
            plates=tuple((body.placed(placement), fill) for body, fill in self.plates),
        )


def build_anatomy(
    patient: Patient, change: Change, breath: float = 0.0, blades: float = 0.0, arms: float = 15.0
) -> Anatomy:
    """Put the patient's organs in place.

    Parameters
    ----------
    breath : mm that the diaphragm stands lower than usual
    blades : mm that the shoulder blades are rolled outwards, off the lungs
    arms : degrees that the upper arms are held away from the body
    """
    # each part has a generator of its own, so that a change to one leaves the others as they were
    rngs = np.random.default_rng(patient.tree).spawn(9)
    ribs_rng, right_rng, left_rng, skin_rng, organ_rng, gas_rng, cage_rng, air_rng, spine_rng = rngs
    cage = draw_cage(cage_rng)
    breath -= cage.short * (1 - patient.youth)
    raised = 12 * patient.youth - breath
    right, left = (lowered - raised for lowered in change.domes)
    heart = _heart(patient, change, breath, organ_rng)
    vessels = tuple(body.moved((change.shift, 0, 0)) for body in _great_vessels(patient, organ_rng) + _thymus(patient))
    bones = [
        spine(patient, spine_rng),
        ribs(patient, cage, ribs_rng),
        collar_bones(patient),
        shoulder_blades(patient, blades),
    ]
    return Anatomy(
        trunk=skin(patient, arms, skin_rng),
        lungs=(_lung(RIGHT, cage, right, right_rng), _lung(LEFT, cage, left, left_rng)),
        heart=heart,
        mediastinum=heart + vessels,
        airways=_airways(change.shift, air_rng),
        gas=(_stomach(gas_rng, left), *_bowel(gas_rng, right, left), *_fat(gas_rng, right, left)),
        bones=join([*bones, upper_arms(patient, arms)]),
        plates=plates(patient, blades),
    ).placed(patient.size)


def _lung(side: int, cage: Cage, lowered: float, rng: np.random.Generator) -> Lung:
    """One lung with the dome below it, lower than usual by so many mm, and the vessels in it."""
    cavity = cage.cavity(side)
    round_ = rng.uniform(40, 50)
    apex = Ellipsoid.of((side * (6 + round_), -72, -16), (round_, -72 - APEX, 56), turn(about_z=-side * 4))
    lowered += rng.normal(0, 4)
    top = 84 + lowered + (11 if side == LEFT else 0)
    steep, x = rng.uniform(0.75, 1.0), side * rng.uniform(66, 76)
    dome = Ellipsoid.of((x, top + 92 * steep, 5), (88, 92 * steep, 104), turn(about_z=side * rng.uniform(2, 9)))
    vessels = grow_vessels(side, cavity, apex, dome, rng)
    return Lung(side, cavity, apex, dome, SULCUS + 0.5 * lowered, vessels)


def _heart(patient: Patient, change: Change, breath: float, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Ventricles and right atrium; their width together is `heart_width` of the chest's inner width."""
    # at a scale of 1 the heart reaches from x = -36 to x = 84: 0.44 of the inner width of 272
    scale = patient.heart_width / 0.44 * change.heart
    middle = 15 + change.shift + 8 * (change.heart - 1)
    base = 54.0 + 0.7 * breath + 0.3 * sum(change.domes) - 8 * patient.youth
    lying, long = rng.normal(0, 5), rng.uniform(0.94, 1.06)

    def placed(x: float, y: float, z: float, radii: tuple[float, float, float], tilt: float) -> Ellipsoid:
        grown = (radii[0] * scale, radii[1] * scale, radii[2] * scale)
        return Ellipsoid.of((middle + x * scale, base + y * scale, z), grown, turn(about_z=tilt))

    return (
        placed(17, 0, 22, (66, 44 * long, 46), 40 + lying),
        placed(-9, 2, 16, (43, 50 * long, 42), -8),
        placed(-22, 17, 12, (29, rng.uniform(24, 34), 30), rng.normal(0, 12)),  # right atrium
        placed(44, rng.uniform(14, 24), 22, (38, rng.uniform(22, 32), 34), 35 + lying),  # tip of the left ventricle
    )


def _great_vessels(patient: Patient, rng: np.random.Generator) -> tuple[Ellipsoid, ...]:
    """Great vessels, arch of the aorta, roots of the lungs and the fat below the heart."""
    older = max(patient.age - 40, 0)
    wide = rng.uniform(0.85, 1.2)
    unfolded = 0.12 * older * rng.uniform(0.3, 1.5)
    return (
        Ellipsoid.of((0, -20, -24), (13 + 3 * wide, 260, 30), turn(about_z=rng.normal(0, 1))),
        Ellipsoid.of((rng.normal(2, 2), -150, 6), (24 * wide, 90, 26)),  # between the lungs' tips
        Ellipsoid.of((9, 24, -16), (33, 30, 27)),  # left atrium
        Ellipsoid.of(
            (-11 - 3 * wide, -50, 8), (rng.uniform(14, 21), 80, 17), turn(about_z=rng.normal(2, 2))
        ),  # superior vena cava
        Ellipsoid.of((9, -135, -2), (20, 60, 18), turn(about_z=10)),  # left subclavian artery
        Ellipsoid.of((12 + unfolded, 60, -31), (rng.uniform(13, 17), 190, 14)),  # descending aorta
        Ellipsoid.of((14, 104, 2), (58, 36, 60)),  # fat between heart and diaphragm
        Ellipsoid.of((-28, 94, 26), (24, 22, 24)),  # and on the right
        Ellipsoid.of((18 + unfolded, -62, -8), (17 + 0.1 * older, 19 + 0.1 * older, 26)),  # aortic knob
        Ellipsoid.of((23, -6, 12), (17 * wide, 52, 20), turn(about_z=-24)),  # pulmonary trunk and left atrium's ear
        Ellipsoid.of((-28, -48, -12), (9, 10, 10)),  # azygos vein
    )


def _thymus(patient: Patient) -> tuple[Ellipsoid, ...]:
    """The thymus widens the upper mediastinum of a small child; later it is gone."""
    size = (patient.youth - 0.6) / 0.4
    if size <= 0:
        return ()
    return (
        Ellipsoid.of((16, -58, 28), (20 + 18 * size, 48, 22)),
        Ellipsoid.of((-14, -62, 28), (18 + 16 * size, 44, 20), turn(about_z=12)),
    )


def _airways(shift: float, rng: np.random.Generator) -> Tubes:
    """Windpipe and main bronchi; a push of the mediastinum bends the windpipe."""
    aside, wide = rng.normal(0, 2.5, 3), rng.uniform(0.85, 1.2)
    carina = np.array([2 + 0.8 * shift, -42, -12])
    trachea = np.array(
        [[aside[0], -230, -2], [aside[1] + 0.1 * shift, -150, -4], [aside[2] + 0.5 * shift, -95, -8], carina]
    )
    right = carina + np.array([[0, 0, 0], [-18, 20, -2], [-36, 36, -4]])
    left = carina + np.array([[0, 0, 0], [22, 17, -2], [46, 30, -6]])
    return join(
        [tube(trachea, (8.8 * wide, 8), fill=-1), tube(right, 6.5 * wide, fill=-1), tube(left, 5.5 * wide, fill=-1)]
    )


def _stomach(rng: np.random.Generator, lowered: float) -> Gas:
    """Gas under the left dome, above the level of what was eaten; much, little or none."""
    size = rng.uniform(0, 1) ** 1.5
    x, y = rng.uniform(48, 88), 112 + 18 * size + lowered
    body = Ellipsoid.of((x, y, 15), (10 + 26 * size, 4 + 15 * size, 12 + 22 * size), turn(about_z=rng.uniform(-25, 10)))
    return Gas(body, y + rng.uniform(-0.2, 1.2) * (4 + 15 * size), rng.uniform(0.5, 1.0))


def _bowel(rng: np.random.Generator, right: float, left: float) -> tuple[Gas, ...]:
    """A few loops of the colon under either dome, more under the left."""
    loops = []
    for side, lowered, most in ((RIGHT, right, 7), (LEFT, left, 12)):
        x, y = side * rng.uniform(70, 112), 158 + lowered + rng.uniform(-10, 25)
        for _ in range(int(rng.integers(0, most + 1))):
            x, y = x + rng.normal(0, 13), y + rng.uniform(-6, 12)
            round_, wide = rng.uniform(5, 11), rng.uniform(0.8, 1.8)
            body = Ellipsoid.of(
                (x, y, rng.normal(10, 20)), (round_ * wide, round_, 12), turn(about_z=rng.normal(0, 35))
            )
            loops.append(Gas(body, y + 99, rng.uniform(0.1, 0.7)))
    return tuple(loops)


def _fat(rng: np.random.Generator, right: float, left: float) -> tuple[Gas, ...]:
    """Planes of fat round the organs of the belly; they part liver, spleen, kidneys and muscles."""
    parts = []
    for side, lowered in ((RIGHT, right), (LEFT, left)):
        for x, y, round_, high, tilt in (
            (108, 185, 7, 70, 12),  # along the flank
            (42, 200, 9, 62, 14),  # along the muscle beside the spine
            (68, 172, 48, 9, 28),  # below liver or spleen
            (60, 150, 40, 7, -12),  # above the kidney
        ):
            centre = (side * (x + rng.normal(0, 7)), y + lowered + rng.normal(0, 9), rng.normal(-15, 12))
            radii = (round_ * rng.uniform(0.8, 1.4), high * rng.uniform(0.8, 1.2), rng.uniform(40, 65))
            body = Ellipsoid.of(centre, radii, turn(about_z=side * (tilt + rng.normal(0, 8))))
            parts.append(Gas(body, centre[1] + 99, FAT))
    return tuple(parts)
