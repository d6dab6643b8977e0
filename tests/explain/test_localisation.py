"""Peak and mass of heat in lesions, against counting by hand."""

import numpy as np
import pytest

from cxrtriage.explain.localisation import centre_heat, localise, usual_place


def disc(size: int, row: int, column: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


LESIONS = np.stack([disc(64, 20, 15, 6), disc(64, 40, 50, 9)])


def test_heat_that_is_the_lesion_scores_one() -> None:
    found = localise(LESIONS.astype(np.float32), LESIONS)
    assert found.peak.tolist() == [1, 1]
    assert found.mass.tolist() == [1, 1]


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_even_heat_scores_chance_exactly(level: float) -> None:
    found = localise(np.full(LESIONS.shape, level), LESIONS)
    np.testing.assert_allclose(found.peak, found.peak_by_chance)
    np.testing.assert_allclose(found.mass, LESIONS.mean(axis=(1, 2)))
    assert (found.peak_by_chance > found.mass_by_chance).all()  # the tolerance adds to the lesion


def test_random_peaks_hit_as_often_as_chance_says() -> None:
    films = 4000
    heat = np.random.default_rng(0).random((films, 16, 16))
    lesions = np.broadcast_to(disc(16, 6, 6, 3), heat.shape)
    found = localise(heat, lesions, tolerance=0.1)
    share = found.peak_by_chance[0]
    assert abs(found.peak.mean() - share) < 4 * np.sqrt(share * (1 - share) / films)


def test_peak_counts_within_the_tolerance_and_not_beyond() -> None:
    lesion = np.zeros((1, 100, 100), bool)
    lesion[0, 50, 50] = True
    for beside, hit in ((0, 1), (3, 1), (4, 0)):  # 3 % of 100 pixels
        heat = np.zeros((1, 100, 100))
        heat[0, 50, 50 + beside] = 1
        assert localise(heat, lesion).peak.tolist() == [hit]


def test_mass_is_the_share_of_heat_inside() -> None:
    heat = np.where(LESIONS, 2.0, 1.0)
    area = LESIONS.mean(axis=(1, 2))
    np.testing.assert_allclose(localise(heat, LESIONS).mass, 2 * area / (1 + area))


def test_film_without_lesion_is_refused() -> None:
    with pytest.raises(ValueError, match="each film needs a lesion"):
        localise(np.ones((1, 8, 8)), np.zeros((1, 8, 8), bool))


def test_fixed_maps_peak_where_they_should() -> None:
    assert np.unravel_index(centre_heat(65).argmax(), (65, 65)) == (32, 32)
    common = np.stack([disc(64, 20, 15, 6), disc(64, 22, 15, 6), disc(64, 50, 50, 3)])
    place = usual_place(common)
    assert place[21, 15] == pytest.approx(2 / 3)
    assert place.max() == pytest.approx(2 / 3)
