"""What a node must not score, drawn: laterals, hands, long bones, bellies, skulls, blank films and noise.

Comes in: a random generator. Goes out: (96, 96) uint8 whose levels are ranks. `validity` learns from them
and is measured on others of them. Laterals are the chest phantom seen from the side, so that they differ
from frontal phantoms in the view alone.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import skimage.data

from cxrtriage.data.phantom.abnormalities import NORMAL
from cxrtriage.data.phantom.film import set_scene, take_film
from cxrtriage.data.phantom.geometry import Placement, turn
from cxrtriage.serve.validity.thumbnail import ranked

SIDE = 96  # larger than a thumbnail, so that it can be shifted, turned and enlarged without losing detail
FRONTAL_SIZE = 128
PICTURES = (
    "astronaut", "camera", "coffee", "chelsea", "rocket", "moon", "page", "text", "clock", "coins", "brick", "grass",
    "gravel", "hubble_deep_field", "retina", "immunohistochemistry", "horse", "logo", "cell",
)  # fmt: skip
Drawing = Callable[[np.random.Generator], np.ndarray]


def shrunk(picture: np.ndarray) -> np.ndarray:
    """Return any grey picture as (96, 96) uint8 ranks."""
    return ranked(cv2.resize(picture.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def frontal(rng: np.random.Generator, finding: str = NORMAL) -> np.ndarray:
    """Draw a frontal phantom."""
    number = int(rng.integers(1 << 30))
    return shrunk(take_film(set_scene(FRONTAL_SIZE, finding, rng.random(), seed=7, patient=number, film=number)).pixels)


def lateral(rng: np.random.Generator) -> np.ndarray:
    """Draw a phantom from the left or from the right, arms raised as they are for a lateral."""
    number = int(rng.integers(1 << 30))
    scene = set_scene(FRONTAL_SIZE, NORMAL, 0.5, seed=8, patient=number, film=number)
    side = rng.choice((-1, 1))
    detector_z = float(rng.uniform(190, 260))
    stance = replace(
        scene.stance,
        placement=Placement(
            turn(0, side * rng.normal(90, 6), rng.normal(0, 4)), np.array([rng.normal(0, 12), rng.normal(0, 12), 0])
        ),
        source=np.array([rng.normal(0, 12), rng.normal(0, 15), detector_z - 1800]),
        detector_z=detector_z,
        arms=float(rng.uniform(130, 175)),
    )
    technique = replace(scene.technique, centre=scene.technique.centre + rng.uniform(0, 2), width=rng.uniform(3, 6))
    return shrunk(take_film(replace(scene, stance=stance, technique=technique)).pixels)


def hand(rng: np.random.Generator) -> np.ndarray:
    """Draw a hand, or two: five fingers of four bones each, on a wrist."""
    film = _Film(rng)
    for centre in (0.27, 0.73) if rng.random() < 0.3 else (0.5,):
        _draw_hand(film, rng, centre, scale=0.55 if centre != 0.5 else rng.uniform(0.8, 1.2))
    return film.taken()


def long_bones(rng: np.random.Generator) -> np.ndarray:
    """Draw one or two long bones of an arm or leg, with a joint or without."""
    film = _Film(rng)
    tilt, middle = rng.normal(0, 0.12), rng.uniform(0.4, 0.6)
    flesh = rng.uniform(0.14, 0.3)
    top, bottom = np.array([middle - tilt, -0.1]), np.array([middle + tilt, 1.1])
    joint = top + (bottom - top) * rng.uniform(0.25, 0.75)
    film.limb(top, bottom, flesh, 0.6)
    for offset in (-0.35, 0.35) if rng.random() < 0.6 else (0.0,):
        aside = np.array([offset * flesh, 0])
        film.bone(joint + aside, bottom + aside, flesh * rng.uniform(0.18, 0.3))
    if rng.random() < 0.8:
        film.bone(top, joint, flesh * rng.uniform(0.3, 0.45))
        film.disc(joint, flesh * rng.uniform(0.5, 0.7), 0.6)
    return film.taken()


def belly(rng: np.random.Generator) -> np.ndarray:
    """Draw a belly with pelvis: a wide body, a spine, two hip bones, gas."""
    film = _Film(rng)
    film.disc(np.array([0.5, 0.5]), rng.uniform(0.48, 0.65), 1.0, aspect=rng.uniform(1.1, 1.6))
    film.bone(np.array([0.5, -0.1]), np.array([0.5, rng.uniform(0.6, 0.75)]), rng.uniform(0.06, 0.09))
    hips = rng.uniform(0.7, 0.95)
    for side in (-1, 1):
        film.ring(np.array([0.5 + side * 0.22, hips]), rng.uniform(0.16, 0.24), 0.5)
        film.bone(np.array([0.5 + side * 0.3, hips + 0.12]), np.array([0.5 + side * 0.36, 1.2]), 0.07)
    for _ in range(rng.integers(2, 9)):
        film.disc(rng.uniform((0.25, 0.2), (0.75, 0.8)), rng.uniform(0.02, 0.07), -0.25)
    return film.taken()


def skull(rng: np.random.Generator) -> np.ndarray:
    """Draw a skull from the front or the side."""
    film = _Film(rng)
    centre = rng.normal((0.5, 0.45), 0.03)
    radius = rng.uniform(0.28, 0.38)
    film.disc(centre, radius * 1.08, 0.5, aspect=rng.uniform(1.0, 1.3))
    film.ring(centre, radius, 0.6, aspect=rng.uniform(1.0, 1.3))
    film.limb(centre, np.array([0.5, 1.2]), radius * 0.6, 0.5)
    film.bone(np.add(centre, (0, radius)), np.array([0.5, 1.2]), radius * 0.25)
    for side in (-1, 1):
        film.disc(np.add(centre, (side * radius * 0.4, radius * 0.35)), radius * 0.22, -0.25)
    film.disc(np.add(centre, (0, radius * 0.9)), radius * 0.4, 0.35)
    return film.taken()


def picture(rng: np.random.Generator, names: tuple[str, ...] = PICTURES) -> np.ndarray:
    """Cut a piece out of a picture that is no radiograph."""
    grey = _grey(names[rng.integers(len(names))])
    side = int(min(grey.shape) * rng.uniform(0.5, 1))
    row, column = (int(rng.integers(length - side + 1)) for length in grey.shape)
    return shrunk(grey[row : row + side, column : column + side])


def noise(rng: np.random.Generator) -> np.ndarray:
    """Draw noise of some grain, or a gradient with noise: a detector that saw nothing."""
    grain = float(np.exp(rng.uniform(np.log(0.3), np.log(3))))  # coarser blotches can look like faint lungs
    film = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), grain)
    film /= film.std()
    if rng.random() < 0.5:
        y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        film += rng.uniform(0.5, 10) * (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(0, 1) * (x**2 + y**2))
    return ranked(film)


class _Film:
    """Attenuation drawn on a canvas whose sides are 1."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.canvas = np.zeros((2 * SIDE, 2 * SIDE), np.float32)

    def _add(self, weight: float, draw: Callable[[np.ndarray], object]) -> None:
        mask = np.zeros_like(self.canvas)
        draw(mask)
        self.canvas += weight * cv2.GaussianBlur(mask, (0, 0), 1.2)

    def _at(self, point: np.ndarray) -> tuple[int, int]:
        x, y = np.rint(np.asarray(point) * len(self.canvas)).astype(int)
        return int(x), int(y)

    def _length(self, share: float) -> int:
        return max(1, round(share * len(self.canvas)))

    def limb(self, start: np.ndarray, end: np.ndarray, radius: float, weight: float) -> None:
        def draw(mask: np.ndarray) -> object:
            return cv2.line(mask, self._at(start), self._at(end), 1.0, 2 * self._length(radius))

        self._add(weight, draw)

    def bone(self, start: np.ndarray, end: np.ndarray, radius: float) -> None:
        self.limb(start, end, radius, 0.7)
        self.limb(start, end, radius * 0.5, -0.25)  # marrow

    def disc(self, centre: np.ndarray, radius: float, weight: float, aspect: float = 1.0) -> None:
        sides = self._length(radius), self._length(radius * aspect)
        self._add(weight, lambda mask: cv2.ellipse(mask, self._at(centre), sides, 0, 0, 360, 1.0, -1))

    def ring(self, centre: np.ndarray, radius: float, weight: float, aspect: float = 1.0) -> None:
        sides = self._length(radius), self._length(radius * aspect)
        self._add(weight, lambda mask: cv2.ellipse(mask, self._at(centre), sides, 0, 0, 360, 1.0, self._length(0.03)))

    def taken(self) -> np.ndarray:
        grain = self.rng.standard_normal(self.canvas.shape).astype(np.float32)
        blotches = cv2.GaussianBlur(self.rng.standard_normal(self.canvas.shape).astype(np.float32), (0, 0), 8)
        film = self.canvas + np.exp(self.rng.uniform(-7, -3)) * grain
        film += np.exp(self.rng.uniform(-7, -3)) * blotches / blotches.std()
        falling = np.linspace(-0.5, 0.5, len(film), dtype=np.float32)
        slopes = self.rng.normal(0, 0.05, 2)
        return shrunk(film + slopes[0] * falling[:, None] + slopes[1] * falling[None, :])


def _draw_hand(film: _Film, rng: np.random.Generator, middle: float, scale: float) -> None:
    wrist = np.array([middle, rng.uniform(0.75, 0.95)])
    spread = rng.uniform(0.6, 1.2)
    film.limb(wrist, np.add(wrist, (0, 0.5)), 0.09 * scale, 0.5)
    for offset in (-0.04, 0.04):
        film.bone(np.add(wrist, (offset * scale, 0.05)), np.add(wrist, (offset * scale, 0.5)), 0.03 * scale)
    film.disc(np.subtract(wrist, (0, 0.2 * scale)), 0.16 * scale, 0.45)
    for _ in range(7):
        film.disc(wrist + rng.normal(0, 0.03, 2) * scale, 0.03 * scale, 0.5)
    thumb = rng.choice((-1, 1))
    for finger, length in enumerate((0.62, 0.8, 0.85, 0.8, 0.65)):
        angle = thumb * spread * (-0.75 if finger == 0 else 0.22 * (finger - 2.5))
        direction = np.array([np.sin(angle), -np.cos(angle)]) * scale
        film.limb(wrist + 0.15 * direction, wrist + (length - 0.05) * direction, 0.045 * scale, 0.3)
        joints = np.array((0.08, 0.34, 0.54, 0.68, 0.78)) * length / 0.8
        for start, end in pairwise(joints):
            film.bone(wrist + (start + 0.01) * direction, wrist + (end - 0.01) * direction, 0.02 * scale)


def _grey(name: str) -> np.ndarray:
    grey = np.asarray(getattr(skimage.data, name)(), dtype=np.float32)
    return grey[..., :3].mean(axis=2) if grey.ndim == 3 else grey
