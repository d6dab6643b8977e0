"""Who a patient is: build, age and sex, drawn from a seed; and what an abnormality does to the organs.

Comes in: a random generator of the patient. Goes out: a `Patient`. Read next by `anatomy` and `bones`,
which build it in millimetres, and by `abnormalities`, `positioning` and `detector`.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.geometry import Placement

LEFT, RIGHT = 1, -1  # sign of x
SIDES = (RIGHT, LEFT)

CHILDREN = 0.1  # share of all patients
GROWN = 16.0  # years
GROWTH = ([1, 5, 10, 16], [0.52, 0.66, 0.79, 0.97])  # age in years, size of the chest relative to an adult's


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
    def youth(self) -> float:
        """1 for a child of one year, 0 from `GROWN` on: how much the chest has a child's shape."""
        return youth_at(self.age)

    @property
    def has_breasts(self) -> bool:
        """Whether breasts show."""
        return self.sex == "F" and self.age >= GROWN - 2

    @property
    def size(self) -> Placement:
        """What takes the middle-sized adult of `anatomy` to this patient."""
        return Placement(np.diag([self.breadth, self.stature, self.depth]), np.zeros(3))

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


def youth_at(age: float) -> float:
    """Return `Patient.youth` at an age in years."""
    return max(GROWN - age, 0.0) / (GROWN - 1)


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw an adult or, one time in ten, a child."""
    sex = "F" if rng.random() < 0.5 else "M"
    is_child, child_age = rng.random() < CHILDREN, float(rng.integers(1, 16))
    adult_age = float(np.clip(rng.normal(55, 18), 18, 95).round())
    age = child_age if is_child else adult_age
    size = rng.normal(0.96 if sex == "F" else 1.03, 0.035)
    if is_child:
        size = float(np.interp(age, *GROWTH)) * (0.96 + rng.normal(0, 0.03))
    youth = youth_at(age)
    breadth = size * rng.normal(1, 0.035)
    soft_tissue = float(np.clip(rng.gamma(6, 4), 10, 55))
    heart_width = float(np.clip(rng.normal(0.435, 0.022), 0.38, 0.475))
    return Patient(
        age=age,
        sex=sex,
        stature=float(np.clip(size * rng.normal(1, 0.035), 0.4, 1.12)) * (1 - 0.08 * youth),
        breadth=float(np.clip(breadth, 0.4, 1.12)),
        depth=float(np.clip(size * rng.normal(1, 0.05), 0.4, 1.18)) * (1 + 0.14 * youth),
        soft_tissue=soft_tissue * (size if is_child else 1.0),
        heart_width=heart_width + 0.02 * youth,
        lung_density=float(rng.uniform(0.22, 0.32)),
        bone_density=float(np.clip(rng.normal(1.05 - 0.003 * max(age - 40, 0), 0.1), 0.65, 1.3)) * (1 - 0.2 * youth),
        tree=int(rng.integers(2**32)),
    )
