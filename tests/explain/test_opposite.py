"""Opposite-label images: hand-checked on a logistic model, and properties that hold on any."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cxrtriage.config import Recipe
from cxrtriage.explain.opposite import FILM_LIKE, PLAIN, Form, noise_films, opposite_images
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import probabilities
from cxrtriage.records import Calibration
from prepared_sets import TinyNetwork

SIZE = 128
WHOLE_LEVELS = Form(step=1.0)  # a step of 1 grey level where all weights have one size: nothing is lost in rounding


class Logistic(nn.Module):
    """z1 - z0 = slope times the mean over pixels of sign times (grey level - 100)."""

    def __init__(self, sign: np.ndarray, slope: float, classes: int) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.from_numpy(sign.astype(np.float32)))
        self.slope, self.classes = slope, classes

    def forward(self, films: Tensor) -> Tensor:
        logit = self.slope * ((255 * films[:, 0] - 100) * self.sign).mean((1, 2))
        columns = [torch.zeros_like(logit), logit]
        if self.classes == 3:  # emergent takes half of what abnormal had: the logit of both together stays
            columns = [torch.zeros_like(logit), logit - np.log(2), logit - np.log(2)]
        return torch.stack(columns, dim=1)


def logistic(slope: float = 0.5, classes: int = 2, calibration: Calibration | None = None) -> Model:
    sign = np.where(np.indices((SIZE, SIZE)).sum(0) % 2, 1, -1)
    names = ("normal", "abnormal", "emergent")[:classes]
    recipe, calibration = Recipe(size=SIZE), calibration or Calibration()
    card = ModelCard(architecture="hand", classes=names, recipe=recipe, calibration=calibration)
    return Model(Logistic(sign, slope, classes).eval().requires_grad_(False), card)


def tiny() -> Model:
    torch.manual_seed(5)
    network = TinyNetwork("tiny", 2, SIZE).eval().requires_grad_(False)
    return Model(network, ModelCard(architecture="tiny", recipe=Recipe(size=SIZE)))


FLAT = np.full((2, SIZE, SIZE), 100, np.uint8)  # logit 0


@pytest.mark.parametrize("classes", [2, 3])
def test_a_logistic_model_is_sure_after_the_predicted_steps_along_its_weights(classes: int) -> None:
    """Each step adds 0.5 to the logit; sigmoid(2.5) = 0.924 and sigmoid(3) = 0.953, so 0.95 takes 6 steps."""
    model = logistic(classes=classes)
    changed = opposite_images(model, FLAT, np.array([0, 1]), form=WHOLE_LEVELS)
    assert changed.steps.tolist() == [6, 6]
    assert changed.reached.all()
    expected = 6 * model.network.sign.numpy().astype(int)
    np.testing.assert_array_equal(changed.difference, [-expected, expected])
    logits = 0.5 * np.arange(7)
    np.testing.assert_allclose(changed.probability[1, :7], 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert np.isnan(changed.probability[:, 7:]).all()


def test_confidence_is_the_networks_own_and_what_is_told_is_calibrated() -> None:
    """The logit of 0.95 is 2.94; half of that, and 1 more, are logits of 0.385 (down) and 0.922 (up)."""
    model = logistic(calibration=Calibration(temperature=2, intercept=1))
    changed = opposite_images(model, FLAT, np.array([0, 1]), form=WHOLE_LEVELS)
    assert changed.steps.tolist() == [6, 6]
    np.testing.assert_allclose(changed.goal, [0.3841, 0.9221], atol=1e-4)
    np.testing.assert_allclose(changed.probability_before, [0.7311, 0.7311], atol=1e-4)


def test_a_film_that_is_there_already_stays_as_it_is() -> None:
    bright = np.where(np.indices((1, SIZE, SIZE)).sum(0) % 2, 110, 90).astype(np.uint8)  # logit 5
    changed = opposite_images(logistic(), bright, np.array([1]), form=WHOLE_LEVELS)
    assert changed.steps.tolist() == [0]
    assert changed.reached.all()
    np.testing.assert_array_equal(changed.after, bright)


def test_a_film_that_cannot_be_driven_is_reported_and_stays_within_black_and_white() -> None:
    changed = opposite_images(logistic(slope=0.001), FLAT, np.array([0, 1]), steps=7, form=Form(step=200.0))
    assert not changed.reached.any()
    assert changed.steps.tolist() == [7, 7]
    assert set(np.unique(changed.after)) == {0, 255}
    assert not np.isnan(changed.probability).any()


def test_pixels_stay_within_the_reach_asked_for() -> None:
    changed = opposite_images(logistic(slope=0.001), FLAT, np.array([0, 1]), steps=30, form=Form(step=1.0, most=10.0))
    assert np.abs(changed.difference).max() == 10


@pytest.mark.parametrize("form", [PLAIN, FILM_LIKE], ids=["plain", "film-like"])
def test_what_the_network_is_sure_of_is_a_film_that_can_be_saved(form: Form) -> None:
    """The stated probability is that of the 8-bit film, as `score` would find it."""
    model = tiny()
    films = noise_films(3, SIZE, form, seed=2)
    changed = opposite_images(model, films, np.array([0, 1, 1]), steps=40, form=form)
    assert changed.after.dtype == np.uint8
    np.testing.assert_allclose(changed.probability_after, probabilities(model, changed.after), atol=1e-5)
    np.testing.assert_allclose(changed.probability_before, probabilities(model, films), atol=1e-5)
    sureness = np.where(changed.target == 1, changed.probability_after, 1 - changed.probability_after)
    np.testing.assert_array_equal(changed.reached, sureness >= 0.95)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), film_like=st.booleans(), targets=st.lists(st.integers(0, 1), min_size=2, max_size=4))
def test_a_film_does_not_depend_on_its_neighbours(seed: int, film_like: bool, targets: list[int]) -> None:
    """Convolutions of another batch size round otherwise, so a pixel here and there may fall on the next level."""
    model, form = tiny(), FILM_LIKE if film_like else PLAIN
    films = noise_films(len(targets), SIZE, seed=seed)
    together = opposite_images(model, films, np.array(targets), steps=8, form=form, seed=seed)
    last = opposite_images(model, films[-1:], np.array(targets[-1:]), steps=8, form=form, seed=seed)
    assert last.steps[0] == together.steps[-1]
    np.testing.assert_allclose(last.probability[0], together.probability[-1], atol=1e-3)
    assert (last.after[0] != together.after[-1]).mean() < 0.01


def test_the_same_seed_gives_the_same_films_and_another_one_other_jitter() -> None:
    films = noise_films(2, SIZE)
    first, again, other = (
        opposite_images(tiny(), films, np.array([0, 1]), steps=5, form=FILM_LIKE, seed=seed).after for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_blur_and_total_variation_make_the_change_smoother() -> None:
    """The plain way to fool weights of random sign is as rough as they are."""
    sign = np.where(np.random.default_rng(0).random((SIZE, SIZE)) < 0.5, -1, 1)
    model = Model(Logistic(sign, 0.001, 2).eval(), ModelCard(architecture="hand", recipe=Recipe(size=SIZE)))

    def roughness(form: Form) -> float:
        change = opposite_images(model, FLAT, np.array([0, 1]), steps=20, form=form).difference.astype(float)
        return float(np.abs(np.diff(change, axis=2)).sum() / np.abs(change).sum())

    plain = roughness(Form())
    assert roughness(Form(blur=1 / 64)) < 0.6 * plain
    assert roughness(Form(total_variation=1.0)) < 0.8 * plain


def test_noise_has_every_grey_level_equally_often() -> None:
    for form in (PLAIN, FILM_LIKE):
        noise = noise_films(2, SIZE, form, seed=3)
        assert (np.stack([np.bincount(film.ravel(), minlength=256) for film in noise]) == SIZE**2 // 256).all()
    assert (noise_films(1, SIZE, seed=3) != noise_films(1, SIZE, seed=4)).any()


def test_wrong_targets_and_confidence_are_refused() -> None:
    with pytest.raises(ValueError, match="target of 0 or 1 for each of 2 films"):
        opposite_images(logistic(), FLAT, np.array([0, 2]))
    with pytest.raises(ValueError, match=r"confidence in \(0.5, 1\), got 1"):
        opposite_images(logistic(), FLAT, np.array([0, 1]), confidence=1)
