"""What lies on or in a patient without being an abnormality: leads, a pacemaker, a line, the side marker.

Comes in: random generators of patient and film. Goes out: tubes of metal. Read next by `radiograph`. Healthy and
ill patients carry them equally often, so a network gains nothing by looking at them.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.geometry import Tubes, join, tube
from cxrtriage.data.phantom.projection import View

SHARES = {"leads": 0.25, "line": 0.15, "pacemaker": 0.1}


@dataclass(frozen=True, slots=True)
class Devices:
    """What is on a film: names in `SHARES`; tubes of metal, in the patient's mm; where the side marker lies."""

    names: tuple[str, ...]
    tubes: Tubes
    marker: np.ndarray


def draw_devices(patient_rng: np.random.Generator, film_rng: np.random.Generator) -> Devices:
    """Draw which devices are seen; an implant stays with the patient, the rest changes from film to film."""
    # each is drawn whether it is worn or not, so that one does not change the course of the next
    drawn = {
        "leads": (film_rng.random() < SHARES["leads"], _leads(film_rng)),
        "line": (film_rng.random() < SHARES["line"], _line(film_rng)),
        "pacemaker": (patient_rng.random() < SHARES["pacemaker"], _pacemaker(patient_rng)),
    }
    worn = {name: tubes for name, (is_worn, tubes) in drawn.items() if is_worn}
    nothing = drawn["line"][1].select(np.arange(0))
    return Devices(tuple(worn), join([nothing, *worn.values()]), film_rng.uniform(0, 1, 3))


def side_marker(view: View, place: np.ndarray) -> Tubes:
    """Return a lead letter L on the detector, beside the patient's left shoulder.

    `place` is (3,) in [0, 1]: how far out, how far up, how large.
    """
    half = view.spacing * view.size / 2
    x, y, height = half * (0.72 + 0.18 * place[0]), -half * (0.75 + 0.17 * place[1]), 10 + 6 * place[2]
    z = view.detector_z + (1 if view.detector_z < view.source[2] else -1)
    letter = np.array([[x, y, z], [x, y + height, z], [x + 0.6 * height, y + height, z]])
    return tube(letter, (1.3, 0.5), flat=(0.7, 0.7, 0))


def _leads(rng: np.random.Generator) -> Tubes:
    """ECG electrodes on the skin, and their wires."""
    parts = []
    for x, y in [(-105, -95), (105, -95), (-115, 110), (118, 105), (25, 20)]:
        spot = np.array([x, y, 108]) + rng.normal(0, 14, 3) * [1, 1, 0]
        parts.append(tube(spot + np.array([[0, 0, 0], [0, 0, 1.2]]), 5, fill=0.35))
        exit_point = np.array([rng.normal(60, 60), 230, 112])
        parts.append(tube(_bent(spot, exit_point, rng.normal(0, 45, 2)), 0.7, fill=0.6))
    return join(parts)


def _pacemaker(rng: np.random.Generator) -> Tubes:
    """A generator below the left collar bone with a lead through the great vein to the heart."""
    case = np.array([96, -72, 92]) + rng.normal(0, 8, 3) * [1, 1, 0]
    tilted = rng.uniform(0, np.pi)
    flat = (float(np.cos(tilted)), float(np.sin(tilted)), 0.0)
    body = tube(case + np.array([[0, 0, 0], [0, 0, 7]]), (25, 20), flat=flat, hollow=0.9, fill=0.5, core=0.22)
    course = np.array(
        [case - np.array([15, 12, 0]), [60, -108, 40], [5, -92, 20], [-20, -55, 8], [-22, 0, 10], [0, 52, 20]]
    )
    tip = np.array([48 + rng.normal(0, 6), 72 + rng.normal(0, 6), 30])
    return join([body, tube(_smooth(np.concatenate([course, [tip]])), 0.9, fill=0.8)])


def _line(rng: np.random.Generator) -> Tubes:
    """A central venous line from the right side of the neck."""
    end = np.array([-20 + rng.normal(0, 3), rng.uniform(-40, 0), 8])
    course = np.array([[-60, -200, 40], [-42, -160, 30], [-30, -115, 20], [-22, -80, 10], end])
    return tube(_smooth(course), 1.1, hollow=0.6, fill=0.3)


def _bent(start: np.ndarray, end: np.ndarray, aside: np.ndarray) -> np.ndarray:
    """Return a curve from start to end that swings aside by so many mm in x and y."""
    middle = (start + end) / 2 + [aside[0], aside[1], 0]
    return _smooth(np.array([start, middle, end]))


def _smooth(points: np.ndarray) -> np.ndarray:
    """Return a finer line of points through these (Catmull-Rom)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, 6, endpoint=False)[:, None]
    before, start, end, after = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([curve.reshape(-1, 3), points[-1:]])
