"""What a film shows without being an abnormality: leads, a pacemaker, a line, clothing, markers of lead, writing.

Comes in: random generators of patient and film. Goes out: tubes of metal, read next by `radiograph`, and words, which
`film` burns into the finished picture. Healthy and ill patients carry them equally often, so a network gains nothing
by looking at them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cxrtriage.data.phantom.geometry import Tubes, join, rods, tube
from cxrtriage.data.phantom.projection import View

SHARES = {"leads": 0.25, "line": 0.15, "pacemaker": 0.1, "clothing": 0.12, "writing": 0.25}
WORDS = {"PA": ("PA", "PA ERECT", "ERECT", "CHEST PA"), "AP": ("AP", "PORTABLE", "AP SUPINE", "MOBILE", "SEMI ERECT")}
# strokes of the letters, 0 to 1 from left to right and from top to bottom
LETTERS: dict[str, list[list[tuple[float, float]]]] = {
    "L": [[(0, 0), (0, 1), (0.6, 1)]],
    "R": [[(0, 1), (0, 0), (0.4, 0), (0.6, 0.14), (0.6, 0.36), (0.4, 0.5), (0, 0.5)], [(0.3, 0.5), (0.62, 1)]],
}


@dataclass(frozen=True, slots=True)
class Devices:
    """What is on a film: names in `SHARES`; tubes of metal, in the patient's mm; how markers and writing look.

    `marker` and `writing` are (5,) in [0, 1]: which, how far out, how far up, how large, how strong.
    """

    names: tuple[str, ...]
    tubes: Tubes
    marker: np.ndarray
    writing: np.ndarray


def draw_devices(patient_rng: np.random.Generator, film_rng: np.random.Generator) -> Devices:
    """Draw which devices are seen; an implant stays with the patient, the rest changes from film to film."""
    # each is drawn whether it is worn or not, so that one does not change the course of the next
    drawn = {
        "leads": (film_rng.random() < SHARES["leads"], _leads(film_rng)),
        "line": (film_rng.random() < SHARES["line"], _line(film_rng)),
        "pacemaker": (patient_rng.random() < SHARES["pacemaker"], _pacemaker(patient_rng)),
        "clothing": (film_rng.random() < SHARES["clothing"], _clothing(film_rng)),
    }
    worn = {name: tubes for name, (is_worn, tubes) in drawn.items() if is_worn}
    nothing = drawn["line"][1].select(np.arange(0))
    names = (*worn, *(["writing"] if film_rng.random() < SHARES["writing"] else []))
    return Devices(names, join([nothing, *worn.values()]), film_rng.random(5), film_rng.random(5))


def side_marker(view: View, look: np.ndarray) -> Tubes:
    """Return a letter of lead on the detector, L beside the patient's left shoulder or R beside the right."""
    which, out, up, large, strong = look
    letter = "L" if which < 0.55 else "R"
    half = view.spacing * view.size / 2
    height = half * (0.045 + 0.05 * large)
    corner = half * np.array([(0.74 + 0.16 * out) * (1 if letter == "L" else -1), -(0.72 + 0.2 * up)])
    z = view.detector_z + (1 if view.detector_z < view.source[2] else -1)
    strokes = []
    for stroke in LETTERS[letter]:
        points = np.column_stack([corner + height * np.array(stroke), np.full(len(stroke), z)])
        strokes.append(tube(points, (0.09 * height, 0.6), flat=(0.7, 0.7, 0), fill=1 + 5 * strong))
    return join(strokes)


def burn_in(pixels: np.ndarray, bits: int, view_position: str, look: np.ndarray) -> None:
    """Write a word into (S, S) `pixels`, in place, in white near one of the upper corners."""
    which, out, up, large, strong = look
    words = WORDS[view_position]
    word = words[int(which * len(words))]
    size = len(pixels)
    scale = size * (0.0006 + 0.0005 * large)
    thickness = max(1, round(1.8 * scale))
    (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    canvas = np.zeros((2 * height, width + 4), dtype=np.uint8)
    cv2.putText(canvas, word, (2, height + height // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
    row = int((0.02 + 0.1 * up) * size)
    from_edge = int((0.02 + 0.06 * (2 * out % 1)) * size)
    column = from_edge if out < 0.5 else size - from_edge - width - 4
    there = pixels[row : row + len(canvas), max(column, 0) : max(column, 0) + width + 4]
    ink = canvas[: there.shape[0], : there.shape[1]].astype(np.float32) * ((0.6 + 0.4 * strong) / 255)
    np.maximum(there, (ink * (2**bits - 1)).astype(np.uint16), out=there)


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


def _clothing(rng: np.random.Generator) -> Tubes:
    """A row of press studs down the front, or a chain round the neck."""
    studs, first, apart, x = int(rng.integers(3, 7)), rng.uniform(-110, -40), rng.uniform(32, 60), rng.normal(0, 18)
    middle, low = rng.normal(0, 10), rng.uniform(-110, -40)
    if rng.random() < 0.6:
        spots = np.stack([np.full(studs, x), first + apart * np.arange(studs), np.full(studs, 112.0)], axis=1)
        spots += rng.normal(0, 1.5, spots.shape)
        return rods(spots, spots + np.array([0, 0, 2]), rng.uniform(4, 7), hollow=0.55, fill=0.5, core=0.2)
    course = np.array([[-58, -185, 0], [-46, -150, 50], [middle, low, 95], [46, -150, 50], [58, -185, 0]])
    return tube(_smooth(course), 0.8, fill=0.7)


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
