"""Symmetry of films made symmetric, shifted and disturbed by hand."""

import numpy as np
import pytest

from cxrtriage.explain.symmetry import find_midlines, lungs, random_change, smooth, symmetry

GENERATOR = np.random.default_rng(0)
SIZE = 96
HALF = GENERATOR.random((4, SIZE, SIZE // 2))
MIRRORED = np.concatenate([HALF, HALF[:, :, ::-1]], axis=2)


def test_mirrored_film_has_symmetry_one_whole_and_in_the_lungs() -> None:
    films = smooth(MIRRORED)
    midlines = find_midlines(films)
    np.testing.assert_allclose(midlines, (SIZE - 1) / 2)
    for region in (None, lungs(SIZE)):
        np.testing.assert_allclose(symmetry(films, midlines, region), 1, atol=1e-6)


@pytest.mark.parametrize("shift", [-8, -3, 1, 7])
def test_shifted_film_has_its_midline_shifted_and_stays_symmetric(shift: int) -> None:
    wide = np.concatenate([GENERATOR.random((4, SIZE, 10)), MIRRORED, GENERATOR.random((4, SIZE, 10))], axis=2)
    films = smooth(wide[:, :, 10 - shift : 10 - shift + SIZE])
    np.testing.assert_allclose(find_midlines(films), (SIZE - 1) / 2 + shift)
    about_the_middle = symmetry(films, np.full(4, (SIZE - 1) / 2))
    # what came in at the side has no mirror image; the rest does
    assert (symmetry(films, find_midlines(films)) > np.maximum(0.6, about_the_middle)).all()


def test_midline_is_not_looked_for_beyond_a_tenth_of_the_side() -> None:
    films = smooth(np.roll(MIRRORED, 30, axis=2))
    assert (np.abs(find_midlines(films) - (SIZE - 1) / 2) <= SIZE / 10).all()


def test_antisymmetric_difference_has_symmetry_minus_one() -> None:
    opposite = np.concatenate([HALF, -HALF[:, :, ::-1]], axis=2)
    np.testing.assert_allclose(symmetry(opposite, np.full(4, (SIZE - 1) / 2)), -1)


def test_symmetry_is_the_correlation_with_the_flipped_film_and_ignores_brightness_and_contrast() -> None:
    films = GENERATOR.random((2, 20, 20))
    middle = np.full(2, 9.5)
    expected = [np.corrcoef(film.ravel(), film[:, ::-1].ravel())[0, 1] for film in films]
    np.testing.assert_allclose(symmetry(films, middle), expected)
    np.testing.assert_allclose(symmetry(40 * films + 7, middle), expected)


def test_region_off_centre_compares_only_what_lies_in_it() -> None:
    """Whatever is outside the region, on either side, does not count."""
    films = smooth(MIRRORED)
    midline = np.full(4, (SIZE - 1) / 2 + 2.5)
    region = lungs(SIZE)
    outside = ~(np.roll(region, 2, axis=1) | np.roll(region, 3, axis=1))
    spoilt = np.where(outside, GENERATOR.random(films.shape), films)
    assert 0.1 < outside.mean() < 0.9
    np.testing.assert_array_equal(symmetry(spoilt, midline, region), symmetry(films, midline, region))
    assert (symmetry(spoilt, midline) < symmetry(films, midline)).all()


def test_even_film_has_no_symmetry_and_the_middle_as_midline() -> None:
    even = np.full((1, 32, 32), 5.0)
    assert np.isnan(symmetry(even, np.array([15.5]))).all()
    assert find_midlines(even).tolist() == [15.5]


def test_random_change_keeps_norm_and_spectrum_and_loses_symmetry() -> None:
    change = MIRRORED - 0.5
    other = random_change(change, seed=1)
    np.testing.assert_allclose(np.linalg.norm(other, axis=(1, 2)), np.linalg.norm(change, axis=(1, 2)))
    np.testing.assert_allclose(np.abs(np.fft.fft2(other)), np.abs(np.fft.fft2(change)), atol=1e-6)
    middle = np.full(4, (SIZE - 1) / 2)
    drawn = np.stack([symmetry(random_change(change, seed=seed), middle) for seed in range(50)])
    assert abs(drawn.mean()) < 0.05
