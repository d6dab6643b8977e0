"""What can be wrong with a chest: seven findings, from subtle (severity 0) to gross (severity 1).

Comes in: a finding, a severity and a random generator. Goes out: a `Lesion`. Read next by `anatomy`
(what it does to the organs) and `lungs` (what it does to the air in them).

Shapes are given in the coordinates of the lung's ellipsoid (see `geometry.Ellipsoid.at`): -1 at the apex,
about 0 at the dome, x outwards to +-1. So a lesion fits any patient.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.patient import LEFT, RIGHT, Change, Patient
from cxrtriage.data.phantom.vessels import hilum

NORMAL = "normal"
EMERGENT_FROM = 0.7  # severity from which effusion and pneumothorax are emergent: the mediastinum is pushed away


@dataclass(frozen=True, slots=True)
class Solid:
    """A lump denser than the lung around it.

    Parameters
    ----------
    centre : (3,) in lung coordinates
    radii : (3,) mm
    soft : whether its density falls off from the middle as 1 - r², rather than ending at the border
    hollow : inner fraction of the radii that is not filled
    """

    centre: np.ndarray
    radii: np.ndarray
    soft: bool = False
    hollow: float = 0.0


@dataclass(frozen=True, slots=True)
class Lesion:
    """One finding in one lung, in both, or of the heart.

    Parameters
    ----------
    finding, severity : see `FINDINGS`; 0 is subtle, 1 gross
    side : -1 right, +1 left lung; 0 for both lungs and for the heart
    change : what happens to heart, mediastinum and diaphragm
    solids : nodules, or the patches of a consolidation
    patchiness : strength of the uneven texture within the solids, 0 to 1
    remnant : ellipsoid (centre and radii in lung coordinates) that what is left of the lung lies in, or None
    density : of the solids, or of what takes the lung's place outside `remnant`, relative to soft tissue
    compaction : how much denser the remnant is than an inflated lung
    net : mm of soft tissue in the threads of a net that both lungs are covered with, where it is thickest
    """

    finding: str
    severity: float
    side: int
    change: Change = Change()  # noqa: RUF009  (frozen)
    solids: tuple[Solid, ...] = ()
    patchiness: float = 0.0
    remnant: tuple[np.ndarray, np.ndarray] | None = None
    density: float = 1.0
    compaction: float = 1.0
    net: float = 0.0

    @property
    def label(self) -> int:
        """1 abnormal, 2 emergent."""
        return 2 if self.finding in EMERGENT_FINDINGS and self.severity >= EMERGENT_FROM else 1

    def lies_in(self, side: int) -> bool:
        """Whether the lung on this side is ill."""
        return self.net > 0 or self.side == side


def draw_lesion(finding: str, severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """Draw where and how a finding of this severity shows in this patient.

    Raises
    ------
    ValueError
        If the finding is not in `FINDINGS`, or the severity not in [0, 1].
    """
    if finding not in FINDINGS:
        raise ValueError(f"finding must be one of {', '.join(FINDINGS)}, got {finding!r}")
    if not 0 <= severity <= 1:
        raise ValueError(f"severity must lie in [0, 1], got {severity}")
    return FINDINGS[finding](severity, patient, rng)


def nodule(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """One to five round lumps, 12 to 60 mm across."""
    side = _either(rng)
    solids = []
    for _ in range(1 + int(rng.random() * 5 * severity)):
        radius = 0.5 * (12 + 48 * severity) * rng.uniform(0.9, 1.1) * patient.size.scale
        height = rng.uniform(-0.75, -0.18)
        inmost = 0.1 if side == LEFT and height > -0.45 else -0.25  # clear of the heart
        outmost = 0.85 * np.sqrt(1 - height**2)
        centre = np.array([side * rng.uniform(inmost, outmost), height, rng.uniform(-0.4, 0.4)])
        solids.append(Solid(centre, radius * rng.uniform(0.85, 1.15, 3)))
    return Lesion("nodule", severity, side, solids=tuple(solids))


def consolidation(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """A cluster of patches that grow together, from a few centimetres to most of a lung."""
    side = _either(rng)
    middle = np.array([side * rng.uniform(-0.1, 0.45), rng.uniform(-0.6, -0.12), rng.uniform(-0.3, 0.3)])
    reach = 0.12 + 0.25 * severity
    solids = []
    for number in range(8 + int(6 * severity)):
        centre = middle + min(number, 1) * rng.normal(0, 1, 3) * [reach, 0.5 * reach, reach]  # the first in the middle
        radii = (20 + 26 * severity) * rng.uniform(0.6, 1.3, 3) * patient.size.scale
        solids.append(Solid(centre, radii, soft=True))
    density = float(rng.uniform(0.7, 0.9))
    return Lesion("consolidation", severity, side, solids=tuple(solids), density=density, patchiness=0.06)


def effusion(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """Fluid at the bottom of the pleural space, its border rising to the side, from a blunt angle to a white lung."""
    side = _either(rng)
    level = float(np.interp(severity, [0, 0.3, EMERGENT_FROM, 1], [0.14, -0.04, -0.45, -1.05]))
    above = 2.5  # the remnant's ellipsoid reaches far above the lung; only its lower end shapes the border
    remnant = (np.array([-0.15 * side, -above, 0.1]), np.array([2.7, above + level, 3.2]))
    change = _pushed(side, severity, 22 * rng.uniform(0.7, 1.3), 0)
    return Lesion("effusion", severity, side, change=change, remnant=remnant)


def pneumothorax(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """Air between the chest wall and a lung that shrinks towards its hilum."""
    side = _either(rng)
    size = float(np.interp(severity, [0, EMERGENT_FROM, 1], [0.85, 0.56, 0.28]))
    shrunk = np.array([size, size, np.sqrt(size)])
    remnant = (hilum(side) * [1.8, 1, 1] * (1 - shrunk), shrunk)  # it leans against the mediastinum
    change = _pushed(side, severity, 24 * rng.uniform(0.7, 1.3), 22)
    # half of the air it loses leaves a lung; what it loses in volume beyond that makes it denser
    compaction = 0.5 + 0.5 / float(np.prod(shrunk))
    return Lesion("pneumothorax", severity, side, change=change, remnant=remnant, density=0.0, compaction=compaction)


def cardiomegaly(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """A heart that takes 0.55 to 0.70 of the chest's inner width."""
    wanted = 0.55 + 0.15 * severity
    return Lesion("cardiomegaly", severity, 0, change=Change(heart=wanted / patient.heart_width))


def tuberculosis(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """Patches and small lumps in the apex of a lung; when severe, with a cavity."""
    side = _either(rng)
    middle = np.array([side * rng.uniform(-0.1, 0.2), rng.uniform(-0.84, -0.68), rng.uniform(-0.35, 0.05)])
    size = patient.size.scale
    solids = []
    for number in range(4 + int(5 * severity)):
        centre = middle + min(number, 1) * rng.normal(0, 1, 3) * [0.16 + 0.06 * severity, 0.07, 0.16]
        solids.append(Solid(centre, (15 + 12 * severity) * rng.uniform(0.6, 1.3, 3) * size, soft=True))
    for _ in range(4 + int(8 * severity)):
        centre = middle + rng.normal(0, 1, 3) * [0.22, 0.12, 0.2]
        solids.append(Solid(centre, rng.uniform(3, 6) * size * np.ones(3)))
    cavity = Solid(middle + rng.normal(0, 0.03, 3), rng.uniform(12, 19) * size * np.ones(3), hollow=0.72)
    if severity > 0.5:
        solids.append(cavity)
    return Lesion("tuberculosis", severity, side, solids=tuple(solids), density=0.92, patchiness=0.06)


def interstitial(severity: float, patient: Patient, rng: np.random.Generator) -> Lesion:
    """Thickened walls between the lobules of both lungs: a net of fine lines, densest at the bases."""
    return Lesion("interstitial", severity, 0, net=(17 + 22 * severity) * rng.uniform(0.9, 1.1))


FINDINGS: dict[str, Callable[[float, Patient, np.random.Generator], Lesion]] = {
    "nodule": nodule,
    "consolidation": consolidation,
    "effusion": effusion,
    "pneumothorax": pneumothorax,
    "cardiomegaly": cardiomegaly,
    "tuberculosis": tuberculosis,
    "interstitial": interstitial,
}
EMERGENT_FINDINGS = ("effusion", "pneumothorax")


def _either(rng: np.random.Generator) -> int:
    return RIGHT if rng.random() < 0.5 else LEFT


def _pushed(side: int, severity: float, shift: float, lowered: float) -> Change:
    """Return the push away from `side`, which sets in at `EMERGENT_FROM` and reaches `shift` mm at severity 1."""
    part = 0.35 + 0.65 * (severity - EMERGENT_FROM) / (1 - EMERGENT_FROM) if severity >= EMERGENT_FROM else 0.0
    domes = (part * lowered, 0.0) if side == RIGHT else (0.0, part * lowered)
    return Change(shift=-side * part * shift, domes=domes)
