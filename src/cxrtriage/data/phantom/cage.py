"""The shape of one patient's rib cage, which lungs fill and ribs go round.

Comes in: a random generator. Goes out: a `Cage`. Read next by `anatomy` and `bones`.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.geometry import Ellipsoid, turn

TOP = -150.0  # y where the lungs' lower and larger part would end
OUTERMOST = 137.0  # mm from the midline to the widest part of the lungs


@dataclass(frozen=True, slots=True)
class Cage:
    """How a chest is shaped, in the millimetres of a middle-sized adult.

    Parameters
    ----------
    widest : y where the lungs are widest, before they lean
    bulge : mm, half width of one lung; the more, the more its outer side curves
    lean : degrees by which the lungs' tips lean towards each other
    short : mm that an adult's diaphragm stands higher than in the deepest chests
    """

    widest: float
    bulge: float
    lean: float
    short: float

    def cavity(self, side: int) -> Ellipsoid:
        """Return the space of the lung on `side`, without its tip."""
        centre = (side * (OUTERMOST - self.bulge), self.widest, -2)
        return Ellipsoid.of(centre, (self.bulge, self.widest - TOP, 82), turn(about_z=-side * self.lean))

    def extent(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return half width and half depth in mm of the cage at heights `y`: a little outside the lungs."""
        lung = self.cavity(1)
        spread = lung.axes @ lung.axes.T
        up = np.clip(y - lung.centre[1], None, 0.55 * (self.widest - TOP))
        narrowing = np.sqrt(np.clip(1 - up**2 / spread[1, 1], 0.12, 1))
        widest = np.sqrt(spread[0, 0] - spread[0, 1] ** 2 / spread[1, 1])
        half_width = lung.centre[0] + spread[0, 1] / spread[1, 1] * up + widest * narrowing + 3
        return half_width, 86 * np.where(up < 0, narrowing, 1)


def draw_cage(rng: np.random.Generator) -> Cage:
    """Draw a shape, from a narrow flat-sided chest to a barrel."""
    return Cage(
        widest=rng.uniform(35, 75), bulge=rng.uniform(66, 78), lean=rng.uniform(2.5, 7.5), short=rng.uniform(-6, 22)
    )
