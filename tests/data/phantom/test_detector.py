"""The film follows Beer and Lambert, its noise is that of the quanta, and its grey levels are in range."""

from dataclasses import replace

import numpy as np
import pytest

from cxrtriage.data.phantom.detector import Technique, blacken_margins, draw_technique, expose, transmission
from cxrtriage.data.phantom.radiograph import LineIntegrals

PLAIN = Technique(
    quanta=1e5,
    scatter=0.0,
    heel=(0.0, 0.0),
    blur=0.01,
    centre=1.0,
    width=4.0,
    enhancement=0.0,
    levelling=0.0,
    bits=14,
    margins=(0.0, 0.0, 0.0, 0.0),
)


def slab(soft: float = 0.0, bone: float = 0.0, metal: float = 0.0, size: int = 64) -> LineIntegrals:
    return LineIntegrals(*(np.full((size, size), length, dtype=np.float32) for length in (soft, bone, metal)))


def optical_depth(pixels: np.ndarray, technique: Technique) -> np.ndarray:
    """Undo the S-shaped curve: return -log(signal)."""
    top = 2**technique.bits - 1
    return technique.centre - technique.width / 4 * np.log(top / pixels.astype(float) - 1)


def test_a_slab_lets_through_what_beer_and_lambert_say() -> None:
    # by hand: exp(-2.849), exp(-2.171), exp(-1.932) for 100 mm of soft tissue at 40, 60 and 80 keV
    expected = 0.22 * 0.05790 + 0.45 * 0.11406 + 0.33 * 0.14486
    assert transmission(slab(soft=100))[0, 0] == pytest.approx(expected, rel=1e-3)
    assert transmission(slab())[0, 0] == pytest.approx(1, rel=1e-6)


def test_two_slabs_let_through_less_than_the_beam_that_is_hardened_would_suggest() -> None:
    once, twice = (transmission(slab(soft=depth))[0, 0] for depth in (100, 200))
    assert once**2 < twice < once  # the first slab takes the soft rays out, the second finds harder ones


def test_bone_and_metal_stop_more_than_soft_tissue() -> None:
    soft, bone, metal = (transmission(slab(**{kind: 5.0}))[0, 0] for kind in ("soft", "bone", "metal"))
    assert metal < bone < soft


def test_grey_levels_show_the_optical_depth() -> None:
    pixels = expose(slab(soft=60), replace(PLAIN, quanta=1e9), 64, 64.0, np.random.default_rng(0))
    expected = -np.log(transmission(slab(soft=60))[0, 0])
    assert optical_depth(pixels, PLAIN).mean() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("quanta", [400, 10_000])
def test_noise_is_that_of_the_quanta_counted(quanta: float) -> None:
    technique = replace(PLAIN, quanta=quanta)
    field = 128 * 0.5  # pixels of 0.5 mm: a quarter of the quanta of a square millimetre each
    pixels = expose(slab(soft=30, size=128), technique, 128, field, np.random.default_rng(0))
    counted = transmission(slab(soft=30))[0, 0] * quanta * 0.25
    assert optical_depth(pixels, technique).std() == pytest.approx(counted**-0.5, rel=0.05)


def test_scatter_takes_contrast_away() -> None:
    half = slab(soft=150)
    half.soft[:, 32:] = 60
    clear, veiled = (
        expose(half, replace(PLAIN, scatter=scatter, quanta=1e9), 64, 400.0, np.random.default_rng(0))
        for scatter in (0.0, 1.0)
    )
    contrasts = [
        optical_depth(pixels, PLAIN)[:, :20].mean() - optical_depth(pixels, PLAIN)[:, 44:].mean()
        for pixels in (clear, veiled)
    ]
    assert contrasts[1] < 0.9 * contrasts[0]


def test_levelling_brings_thick_and_thin_parts_closer_and_leaves_details_alone() -> None:
    steps = slab(soft=60, size=128)
    steps.soft[:, 64:] = 160
    steps.soft[60:64] += 10  # a thin detail across both
    plain, levelled = (
        optical_depth(
            expose(steps, replace(PLAIN, levelling=levelling, quanta=1e9), 128, 400.0, np.random.default_rng(0)), PLAIN
        )
        for levelling in (0.0, 0.4)
    )
    (before, detail_before), (after, detail_after) = (
        (depth[:40, 110:].mean() - depth[:40, :18].mean(), depth[61:63].mean() - depth[30:34].mean())
        for depth in (plain, levelled)
    )
    assert 0.55 * before < after < 0.75 * before
    assert detail_after > 0.8 * detail_before


def test_larger_films_are_enlarged_before_the_noise_is_added() -> None:
    pixels = expose(slab(soft=30, size=64), PLAIN, 150, 64.0, np.random.default_rng(0))
    assert pixels.shape == (150, 150)
    deviation = optical_depth(pixels, PLAIN) - optical_depth(pixels, PLAIN).mean()
    neighbours = (deviation[:, 1:] * deviation[:, :-1]).mean() / deviation.var()
    assert abs(neighbours) < 0.05  # independent from pixel to pixel


@pytest.mark.parametrize("bits", [12, 14])
def test_grey_levels_stay_within_the_bits_stored(bits: int) -> None:
    extremes = slab(size=64)
    extremes.metal[20:] = 1000
    pixels = expose(extremes, replace(PLAIN, bits=bits), 64, 64.0, np.random.default_rng(0))
    assert pixels.dtype == np.uint16
    assert pixels.max() == 2**bits - 1


def test_margins_are_black_and_no_wider_than_asked() -> None:
    image = np.ones((100, 100), dtype=np.uint16)
    blacken_margins(image, (0.05, 0.0, 0.02, 0.1))
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (5, 99, 2, 89)
    blacken_margins(untouched := np.ones((100, 100)), (0.0, 0.0, 0.0, 0.0))
    assert untouched.all()


def test_a_thicker_patient_gets_more_exposure_and_a_window_further_up() -> None:
    thin, thick = (draw_technique("PA", thickness, np.random.default_rng(3)) for thickness in (190, 300))
    assert thick.quanta > thin.quanta
    assert thick.centre > thin.centre
    assert (thick.width, thick.bits, thick.margins) == (thin.width, thin.bits, thin.margins)
