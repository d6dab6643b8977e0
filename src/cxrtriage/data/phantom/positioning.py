"""How a patient stands before the detector on one film: turned, shifted, breathing, filmed from behind or in front.

Comes in: a `Patient` and a random generator of the film. Goes out: a `Stance`. Read next by `film`.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.geometry import Placement, turn
from cxrtriage.data.phantom.patient import Patient
from cxrtriage.data.phantom.projection import View

AP_SHARE = 0.3  # of all films; taken at the bedside, so nearer, leaning back, less deeply breathed in


@dataclass(frozen=True, slots=True)
class Stance:
    """Where patient, tube and detector are.

    Parameters
    ----------
    view_position : "PA" or "AP"
    placement : of the patient
    source, detector_z : mm, see `projection.View`
    field : mm, side of the detector
    breath : mm that the diaphragm stands lower than usual
    blades : mm that the shoulder blades are rolled outwards, off the lungs
    arms : degrees that the upper arms are held away from the body
    """

    view_position: str
    placement: Placement
    source: np.ndarray
    detector_z: float
    field: float
    breath: float
    blades: float
    arms: float

    def view(self, size: int) -> View:
        """Return the view on a detector of so many pixels a side."""
        return View(self.source, self.detector_z, self.field / size, size)


def draw_stance(patient: Patient, rng: np.random.Generator) -> Stance:
    """Draw how a film of this patient is taken."""
    bedside = bool(rng.random() < AP_SHARE)
    lean, yaw, roll = rng.normal([9, 0, 0] if bedside else [0, 0, 0], [5, 4, 3] if bedside else [2, 3, 1.8])
    # PA: the chest touches the detector in front of it; AP: the detector lies behind the back
    detector_z = (patient.thickness / 2 + rng.uniform(25, 60)) * (-1 if bedside else 1)
    distance = rng.uniform(1000, 1300) if bedside else -1800.0
    field = rng.uniform(395, 440) * min(1, 1.06 * max(patient.stature, patient.breadth))  # collimated to a child
    aside = rng.normal(0, [0.025, 0.03] if bedside else [0.018, 0.024]) * field
    elbows_up = rng.random() < patient.youth  # a small child's arms are held up beside the head
    return Stance(
        view_position="AP" if bedside else "PA",
        placement=Placement(turn(lean, yaw, roll), np.array([aside[0], aside[1] - 0.012 * field, 0])),
        source=np.array([rng.normal(0, 12), rng.normal(0, 15), detector_z + distance]),
        detector_z=detector_z,
        field=field,
        breath=rng.normal(-14 if bedside else -2, 8),
        blades=rng.uniform(-5, 10) if bedside else rng.uniform(12, 32),
        arms=rng.uniform(100, 150) if elbows_up else rng.uniform(4, 25) if bedside else rng.uniform(12, 55),
    )
