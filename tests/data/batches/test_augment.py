"""Augmentation: what changes, by how much, and that each film gets its own."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Generator, Tensor

from cxrtriage.data.batches import augment as module
from cxrtriage.data.batches.augment import augment

RECIPES = ("study", "clinical")


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def films(count: int = 4, size: int = 32) -> Tensor:
    return torch.rand(count, 1, size, size, generator=seeded(9))


@pytest.mark.parametrize("recipe", RECIPES)
def test_augmented_films_keep_shape_type_and_range_and_the_originals_stay(recipe: str) -> None:
    original = films()
    kept = original.clone()
    changed = augment(original, recipe, seeded())
    assert changed.shape == original.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(original, kept)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_generator_gives_the_same_films(recipe: str) -> None:
    assert torch.equal(augment(films(), recipe, seeded(3)), augment(films(), recipe, seeded(3)))
    assert not torch.equal(augment(films(), recipe, seeded(3)), augment(films(), recipe, seeded(4)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_film_of_a_batch_is_changed_in_its_own_way(recipe: str) -> None:
    same = films(1).repeat(16, 1, 1, 1)
    changed = augment(same, recipe, seeded())
    assert len(torch.unique(changed.flatten(1), dim=0)) == 16


def test_the_study_turns_and_mirrors_to_the_eight_outcomes_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STUDY_NOISE", 0.0)
    film = np.random.default_rng(0).random((5, 5), dtype=np.float32)
    expected = {np.rot90(side, turns).tobytes() for side in (film, film[:, ::-1]) for turns in range(4)}
    batch = torch.from_numpy(film).repeat(4000, 1, 1, 1)
    found, counts = np.unique(augment(batch, "study", seeded())[:, 0].numpy(), axis=0, return_counts=True)
    assert {array.tobytes() for array in found} == expected
    # 500 expected of each; 4 standard deviations of a binomial are 84
    assert np.all(np.abs(counts - 500) < 84)


def test_the_studys_noise_has_the_stated_deviation() -> None:
    grey = torch.full((8, 1, 64, 64), 0.5)
    assert float((augment(grey, "study", seeded()) - 0.5).std()) == pytest.approx(module.STUDY_NOISE, rel=0.05)


@pytest.fixture
def geometry_only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("DEGREES", "SHIFT", "SCALE", "CONTRAST", "GAMMA", "NOISE"):
        monkeypatch.setattr(module, f"CLINICAL_{name}", 0.0)
    return monkeypatch


def test_clinical_without_any_change_is_the_identity(geometry_only: pytest.MonkeyPatch) -> None:
    torch.testing.assert_close(augment(films(), "clinical", seeded()), films(), rtol=0, atol=1e-5)


def centre_of_mass(film: Tensor) -> tuple[float, float]:
    return ndimage.center_of_mass(film[0].numpy())


def test_a_clinical_shift_moves_by_at_most_the_stated_share(geometry_only: pytest.MonkeyPatch) -> None:
    geometry_only.setattr(module, "CLINICAL_SHIFT", 0.05)
    spot = torch.zeros(64, 1, 101, 101)
    spot[:, :, 50, 50] = 1
    places = np.array([centre_of_mass(film) for film in augment(spot, "clinical", seeded())]) - 50
    assert np.abs(places).max() <= 0.05 * 101 + 0.01
    assert np.abs(places).max() > 0.04 * 101  # 64 draws come near the limit


def test_a_clinical_turn_keeps_distances_and_stays_within_its_degrees(geometry_only: pytest.MonkeyPatch) -> None:
    geometry_only.setattr(module, "CLINICAL_DEGREES", 10.0)
    spot = torch.zeros(64, 1, 101, 101)
    spot[:, :, 50, 80] = 1  # 30 pixels to the right of the centre
    down, right = (np.array([centre_of_mass(film) for film in augment(spot, "clinical", seeded())]) - 50).T
    np.testing.assert_allclose(np.hypot(down, right), 30, atol=0.3)  # bilinear spread of a single pixel
    degrees = np.degrees(np.arctan2(down, right))
    assert 8 < np.abs(degrees).max() <= 10.5
    assert degrees.min() < 0 < degrees.max()


def test_a_clinical_film_is_never_mirrored() -> None:
    half = torch.zeros(200, 1, 32, 32)
    half[..., :16] = 1
    changed = augment(half, "clinical", seeded())
    assert (changed[..., :16].mean((1, 2, 3)) > changed[..., 16:].mean((1, 2, 3))).all()
