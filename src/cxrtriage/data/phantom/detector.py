"""From line integrals to stored grey levels: spectrum, scatter, blur, quantum noise, response.

Comes in: `LineIntegrals` and a `Technique` (how the film was taken). Goes out: uint16 pixels with bone
white and air black (MONOCHROME2). Read next by `film`.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cxrtriage.data.phantom.radiograph import LineIntegrals

# Linear attenuation in 1/mm at 40, 60 and 80 keV: mass attenuation coefficients of NIST (XCOM; cortical bone and
# soft tissue of ICRU-44) times density (1.06, 1.92, 7.87 g/cm³). The shares are those of the energy that a
# caesium iodide detector takes from a filtered 120 kVp beam behind a patient, in three lumps.
SHARES = [0.22, 0.45, 0.33]
SOFT = [0.02849, 0.02171, 0.01932]
BONE = [0.12778, 0.06044, 0.04280]
METAL = [2.8560, 0.9483, 0.4684]  # iron

SCATTER_MM = 45.0  # spread of scattered radiation
SCATTERER_MM = 150.0  # of soft tissue, behind which a ray has given rise to as much scatter as it will
FINE_MM = 6.0  # what is smaller counts as detail
LEVELLING_MM = 40.0  # what is larger counts as thickness rather than detail
DARKEST = np.float32(1e-5)  # the smallest signal the detector tells from none


@dataclass(frozen=True, slots=True)
class Technique:
    """How a film was taken and developed.

    Parameters
    ----------
    quanta : detected per mm² in air; sets the noise
    scatter : scattered radiation relative to what arrives directly
    heel : (across, down) relative fall of the beam from one edge to the other
    blur : mm, standard deviation of focal spot, motion and detector together
    centre, width : of the window in optical depth (-log of the signal) that spans the grey levels
    enhancement : strength of the contrast that the development adds to details
    levelling : share of the difference between thick and thin parts of the body that the development takes away
    bits : 12 or 14 bits stored
    margins : (top, bottom, left, right) parts of the film that the collimator leaves black
    """

    quanta: float
    scatter: float
    heel: tuple[float, float]
    blur: float
    centre: float
    width: float
    enhancement: float
    levelling: float
    bits: int
    margins: tuple[float, float, float, float]


def draw_technique(view_position: str, thickness: float, rng: np.random.Generator) -> Technique:
    """Draw how a film was taken; `thickness` is the patient's, in mm, as the exposure control would find it.

    It must not depend on what is wrong with the patient: brightness would then tell the label.
    """
    scatter = float(rng.uniform(0.7, 1.8) if view_position == "AP" else rng.uniform(0.3, 0.8))
    # optical depth midway between lung and heart, less what scatter adds to the signal
    behind = 0.0205 * (thickness - 95) - np.log1p(0.75 * scatter)
    margins = rng.uniform(0, 0.08, 4) * (rng.random(4) < 0.7) * (rng.random() < 0.45)
    return Technique(
        quanta=float(np.exp(rng.normal(0, 0.6) + np.interp(thickness, [180, 320], [11.5, 13.3]))),
        scatter=scatter,
        heel=(float(rng.normal(0, 0.06)), float(rng.normal(0, 0.08))),
        blur=float(rng.uniform(0.15, 0.45)),
        centre=float(behind + rng.normal(0, 0.22)),
        width=float(rng.triangular(1.9, 2.5, 4.2)),
        enhancement=float(rng.uniform(0.4, 1.5)),
        levelling=float(rng.uniform(0.0, 0.35)),
        bits=12 if rng.random() < 0.6 else 14,
        margins=(float(margins[0]), float(margins[1]), float(margins[2]), float(margins[3])),
    )


def transmission(integrals: LineIntegrals) -> np.ndarray:
    """Return the share of the beam that passes (Beer and Lambert, for three energies), (S, S) float32 in (0, 1]."""
    passed = np.zeros_like(integrals.soft)
    for share, soft, bone, metal in zip(SHARES, SOFT, BONE, METAL, strict=True):
        depth = integrals.soft * -soft
        depth -= integrals.bone * bone
        depth -= integrals.metal * metal
        passed += share * np.exp(depth, out=depth)
    return passed


def expose(
    integrals: LineIntegrals, technique: Technique, size: int, field: float, rng: np.random.Generator
) -> np.ndarray:
    """Take the film.

    Parameters
    ----------
    integrals : (R, R) line integrals, R <= `size`
    size, field : side of the film in pixels and in mm

    Returns
    -------
    (size, size) uint16 below 2 ** `technique.bits`
    """
    coarse = field / len(integrals.soft)
    signal = transmission(integrals)
    signal += technique.scatter * _scattered(signal, integrals.soft, coarse)
    edge = np.linspace(-0.5, 0.5, len(signal), dtype=np.float32)
    signal *= np.float32(1) + technique.heel[0] * edge[None, :] + technique.heel[1] * edge[:, None]
    blurred: np.ndarray = cv2.GaussianBlur(signal, (0, 0), technique.blur / coarse)
    detail = -np.log(np.maximum(blurred, DARKEST))
    shade = technique.enhancement * (_smoothed(detail, FINE_MM / coarse) - detail)
    shade += technique.levelling * (_smoothed(detail, LEVELLING_MM / coarse) - np.float32(technique.centre))
    if len(blurred) != size:
        blurred = cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR)
        shade = cv2.resize(shade, (size, size), interpolation=cv2.INTER_LINEAR)
    pixels = np.empty((size, size), dtype=np.uint16)
    rows = max(1, (1 << 18) // size)  # a band of rows stays in the cache
    for first in range(0, size, rows):
        band = slice(first, first + rows)
        pixels[band] = _develop(blurred[band], shade[band], technique, field / size, rng)
    return pixels


def blacken_margins(image: np.ndarray, margins: tuple[float, float, float, float]) -> None:
    """Set to 0, in place, what the collimator keeps the beam from (see `Technique.margins`)."""
    top, bottom, left, right = (round(margin * len(image)) for margin in margins)
    image[:top] = image[len(image) - bottom :] = 0
    image[:, :left] = image[:, len(image) - right :] = 0


def _scattered(signal: np.ndarray, soft: np.ndarray, spacing: float) -> np.ndarray:
    """Return the radiation that soft tissue scatters, spread over `SCATTER_MM`."""
    source = signal * np.minimum(soft * np.float32(1 / SCATTERER_MM), 1)
    return _smoothed(source, SCATTER_MM / spacing)


def _smoothed(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return a Gaussian blur of many pixels, worked out on a coarser grid."""
    side = len(image)
    step = max(1, int(sigma / 3))
    small = cv2.resize(image, (max(1, side // step),) * 2, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma * len(small) / side, borderType=cv2.BORDER_REPLICATE)
    large: np.ndarray = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    return large


def _develop(
    signal: np.ndarray, shade: np.ndarray, technique: Technique, spacing: float, rng: np.random.Generator
) -> np.ndarray:
    """Return grey levels: noise, logarithm, detail contrast, and a film's S-shaped curve."""
    quanta = np.float32(technique.quanta * spacing**2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise *= np.sqrt(signal * (1 / quanta))  # Poisson counts of `quanta` for a signal of 1
    depth = np.log(np.maximum(signal + noise, DARKEST))
    depth += shade
    depth += np.float32(technique.centre)
    depth *= np.float32(4 / technique.width)
    level = np.exp(depth, out=depth)
    level += 1
    return (np.float32(2**technique.bits - 1) / level + np.float32(0.5)).astype(np.uint16)
