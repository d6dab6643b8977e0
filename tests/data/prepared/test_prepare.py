"""The one preparation: what comes out for which film."""

import hashlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.exposure import equalize_hist, rescale_intensity

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.cells import cell_edges, pick_positions
from cxrtriage.data.prepared.equalise import count_levels
from cxrtriage.data.prepared.prepare import prepare_draws, prepare_film, prepare_mask, seed_of
from cxrtriage.records import SourceImage
from films import REAL_FILMS, film_pixels

RECIPES = [
    Recipe(size=64, downsample=downsample, fit=fit, crop_edges=borders, mask_border=borders)
    for downsample in ("random", "area")
    for fit in ("stretch", "pad")
    for borders in (False, True)
]


def source(pixels: np.ndarray) -> SourceImage:
    return SourceImage(pixels, bits=8 * pixels.itemsize)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16])
def test_a_film_becomes_scikit_images_equalised_film_at_the_picked_pixels(dtype: type) -> None:
    limits = np.iinfo(dtype)
    film = np.random.default_rng(0).integers(limits.min, limits.max, (301, 203), dtype=dtype)
    picked = pick_positions(film.shape, (64, 64), seed_of(count_levels(film), film.shape, 0))
    expected = np.rint(255 * equalize_hist(film).ravel()[picked]).astype(np.uint8)
    np.testing.assert_array_equal(prepare_film(source(film), Recipe(size=64)), expected)


def test_area_averages_the_equalised_pixels_of_each_cell() -> None:
    film = film_pixels(301, 203)
    equalised = 255 * equalize_hist(film)
    tops, lefts = cell_edges(301, 64), cell_edges(203, 64)
    expected = [
        [equalised[top:bottom, left:right].mean() for left, right in pairwise(lefts)] for top, bottom in pairwise(tops)
    ]
    found = prepare_film(source(film), Recipe(size=64, downsample="area"))
    assert abs(found - np.array(expected)).max() <= 0.5 + 255 / 65535


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.describe)
@pytest.mark.parametrize("shape", [(300, 200), (40, 300), (300, 33), (48, 40), (64, 64)])
def test_every_recipe_and_shape_gives_a_square_that_uses_the_whole_range(
    recipe: Recipe, shape: tuple[int, int]
) -> None:
    prepared = prepare_film(source(film_pixels(*shape)), recipe)
    assert prepared.shape == (64, 64)
    assert prepared.dtype == np.uint8
    assert prepared.max() >= 250


@given(st.integers(0, 2**32), st.sampled_from([recipe for recipe in RECIPES if not recipe.crop_edges]))
@settings(max_examples=40, deadline=None)
def test_a_strictly_increasing_map_of_the_levels_changes_nothing(seed: int, recipe: Recipe) -> None:
    random = np.random.default_rng(seed)
    film = random.integers(0, 200, (80, 70), dtype=np.uint8)
    levels = np.sort(random.choice(65536, 256, replace=False)) - 32768
    mapped = levels[film].astype(np.int16)
    np.testing.assert_array_equal(prepare_film(source(film), recipe), prepare_film(source(mapped), recipe))


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.describe)
def test_preparing_depends_on_nothing_but_film_recipe_and_draw(recipe: Recipe) -> None:
    film = film_pixels(150, 130)
    film.setflags(write=False)  # nor does it write to the film
    once = prepare_film(source(film), recipe)
    np.random.default_rng().random(5)
    padded = np.zeros((160, 140), film.dtype)
    padded[5:155, 5:135] = film
    np.testing.assert_array_equal(prepare_film(source(padded[5:155, 5:135]), recipe), once)  # in another memory layout


def test_draws_pick_other_pixels_and_the_first_is_the_only_ones() -> None:
    film = source(film_pixels(300, 260))
    draws = prepare_draws(film, Recipe(size=64), range(3))
    np.testing.assert_array_equal(draws[0], prepare_film(film, Recipe(size=64)))
    np.testing.assert_array_equal(draws[2], prepare_film(film, Recipe(size=64), draw=2))
    assert (draws[0] != draws[1]).mean() > 0.5


def test_films_of_another_histogram_or_shape_are_picked_elsewhere() -> None:
    counts = np.array([5, 3, 0, 2])
    seeds = {
        seed_of(counts, (2, 5), 0),
        seed_of(counts[::-1], (2, 5), 0),
        seed_of(counts, (5, 2), 0),
        seed_of(counts, (2, 5), 1),
        seed_of(np.array([5, 3, 0, 2, 1]), (2, 5), 0),
    }
    assert len(seeds) == 5
    assert seed_of(counts, (2, 5), 0) == seed_of(np.array([5, 0, 3, 2]), (2, 5), 0)  # same film, levels moved


def test_a_constant_film_is_white_as_scikit_image_has_it() -> None:
    assert (prepare_film(source(np.full((90, 80), 7, np.uint16)), Recipe(size=64)) == 255).all()
    for recipe in RECIPES:
        assert prepare_film(source(np.full((90, 80), 7, np.uint16)), recipe).max() == 255


GOLDEN = (
    "e06d28325a2b84f5",
    "ac2c176576419fac",
    "fe7af83bbcbd94af",
    "41af6499f130cda5",
    "8a878d0026416644",
    "3c188d193b391766",
    "fd85a1c224bd98a5",
    "f8373967df5161f1",
)


@pytest.mark.parametrize(("recipe", "expected"), list(zip(RECIPES, GOLDEN, strict=True)))
def test_prepared_bytes_never_change(recipe: Recipe, expected: str) -> None:
    """Prepared sets and models outlive versions and machines: these hashes were written down once.

    The film is made of whole numbers only, so that it is the same everywhere.
    """
    y, x = np.mgrid[:331, :277]
    film = ((x * x + 3 * y * y + (x * 7919 + y * 104729) % 997) % 4096).astype(np.uint16)
    film[:30] = 0
    digest = hashlib.sha256(prepare_film(source(film), recipe).tobytes()).hexdigest()
    assert digest[:16] == expected


def test_pad_keeps_proportions_and_pads_with_black() -> None:
    prepared = prepare_film(source(film_pixels(300, 150) + 1), Recipe(size=64, fit="pad"))
    assert (prepared[:, :16] == 0).all()
    assert (prepared[:, 48:] == 0).all()
    assert (prepared[:, 16:48] > 0).mean() > 0.99


def test_a_small_film_is_equalised_and_then_enlarged() -> None:
    film = np.array([[0, 1], [2, 3]], dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    prepared = prepare_film(source(film), Recipe(size=160))
    # the corners are the equalised levels 1/4, 2/4, 3/4, 1; between them the values rise evenly
    assert [prepared[0, 0], prepared[0, -1], prepared[-1, 0], prepared[-1, -1]] == [64, 128, 191, 255]
    assert prepared[0, 78] < prepared[0, 79] < prepared[0, 80] < prepared[0, 81]


def test_masking_the_border_gives_the_lungs_the_range_that_the_border_took() -> None:
    film = np.zeros((400, 400), np.uint16)
    film[:, 160:] = np.random.default_rng(5).integers(100, 4096, (400, 240))
    whole = prepare_film(source(film), Recipe(size=64))
    masked = prepare_film(source(film), Recipe(size=64, mask_border=True))
    assert whole[:, :25].min() == whole[:, 27:].min() == 102  # 40 % of the range are spent on the border
    assert masked[:, :25].max() == 0
    assert masked[:, 27:].min() < 3


def test_cutting_the_border_leaves_the_film_alone() -> None:
    film = np.zeros((340, 300), np.uint16)
    film[20:320, 30:280] = np.random.default_rng(6).integers(100, 4096, (300, 250))
    cut = prepare_film(source(film), Recipe(size=64, crop_edges=True))
    np.testing.assert_array_equal(cut, prepare_film(source(film[20:320, 30:280]), Recipe(size=64)))


@pytest.mark.parametrize("recipe", RECIPES, ids=Recipe.describe)
@pytest.mark.parametrize("shape", [(300, 260), (40, 300)])
def test_a_mask_keeps_to_its_film(recipe: Recipe, shape: tuple[int, int]) -> None:
    film = np.full(shape, 1000, np.uint16) + (film_pixels(*shape) >> 4)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = True
    film[mask] += 3000
    prepared, prepared_mask = prepare_film(source(film), recipe), prepare_mask(mask, source(film), recipe)
    assert prepared_mask.dtype == bool
    # where the film was raised, and only there, the mask says so; the rims differ where cells straddle them
    raised = prepared > 255 * (1 - mask.mean())
    assert (raised != prepared_mask).mean() < 0.03


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask has shape \(3, 3\), its film \(90, 80\)"):
        prepare_mask(np.zeros((3, 3), bool), source(film_pixels(90, 80)), Recipe(size=64))


@pytest.mark.skipif(not REAL_FILMS.exists(), reason="the real films are not here")
@pytest.mark.parametrize("name", ["nih", "shenzhen", "guangzhou"])
def test_real_films_fill_the_range_evenly(name: str) -> None:
    for path in sorted((REAL_FILMS / name / "images").iterdir())[:5]:
        for recipe in RECIPES:
            prepared = prepare_film(read_film(path), recipe)
            if recipe.fit == "stretch" and not recipe.mask_border:
                assert 100 < prepared.mean() < 155


@pytest.mark.parametrize("downsample", ["random", "area"])
def test_without_equalisation_a_film_is_stretched_at_the_same_pixels(downsample: str) -> None:
    film = film_pixels(320, 192)
    stretched = rescale_intensity(film.astype(float), out_range=(0, 255))
    found = prepare_film(source(film), Recipe(size=64, downsample=downsample, contrast="none"))
    if downsample == "random":
        picked = pick_positions(film.shape, (64, 64), seed_of(count_levels(film), film.shape, 0))
        np.testing.assert_array_equal(found, np.rint(stretched.ravel()[picked]))
    else:
        averaged = cv2.resize(stretched, (64, 64), interpolation=cv2.INTER_AREA)
        assert abs(found - averaged).max() <= 0.5 + 255 / 65535


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_clahe_is_opencvs_on_the_stretched_film_without_its_padding(fit: str) -> None:
    film = source(film_pixels(300, 150))
    plain, local = (prepare_film(film, Recipe(size=64, fit=fit, contrast=contrast)) for contrast in ("none", "clahe"))
    inside = slice(16, 48) if fit == "pad" else slice(None)
    expected = cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(plain[:, inside]))
    np.testing.assert_array_equal(local[:, inside], expected)
    assert fit == "stretch" or (local[:, :16] == 0).all()


@given(st.integers(1, 50), st.integers(0, 3000), st.sampled_from(["none", "clahe"]))
@settings(max_examples=30, deadline=None)
def test_a_linear_map_of_the_levels_changes_nothing_without_equalisation(
    slope: int, offset: int, contrast: str
) -> None:
    film = np.random.default_rng(0).integers(0, 1000, (80, 70)).astype(np.uint16)
    recipe = Recipe(size=64, contrast=contrast)
    mapped = (film * np.uint16(slope) + np.uint16(offset)).astype(np.uint16)
    np.testing.assert_array_equal(prepare_film(source(film), recipe), prepare_film(source(mapped), recipe))


def test_a_recipe_written_before_there_was_a_choice_of_contrast_means_equalisation() -> None:
    earlier = '{"size": 64, "downsample": "random", "fit": "stretch", "crop_edges": false, "mask_border": false}'
    assert Recipe.model_validate_json(earlier) == Recipe(size=64, contrast="equalise")
    assert Recipe(size=64, contrast="clahe").describe().endswith("contrast=clahe")
