"""Captum's methods against hand calculations on networks small enough to do them."""

import numpy as np
import torch
from torch import Tensor, nn

from cxrtriage.config import Recipe
from cxrtriage.explain.deletion import blur
from cxrtriage.explain.saliency import grad_cam, integrated_gradients, occlusion, window_and_stride
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import abnormal_logit, predict_logits

SIZE = 128
FILMS = np.random.default_rng(3).integers(0, 256, (2, SIZE, SIZE), dtype=np.uint8)


def model_of(network: nn.Module, size: int = SIZE) -> Model:
    return Model(network.eval().requires_grad_(False), ModelCard(architecture="hand", recipe=Recipe(size=size)))


class Linear(nn.Module):
    """z1 - z0 = sum of weight times film."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))

    def forward(self, films: Tensor) -> Tensor:
        logit = (films[:, 0] * self.weight).sum((1, 2))
        return torch.stack([-0.5 * logit, 0.5 * logit], dim=1)


WEIGHT = np.random.default_rng(4).normal(size=(SIZE, SIZE)) / SIZE


def test_integrated_gradients_of_a_linear_network_are_weight_times_film_less_baseline() -> None:
    evidence = integrated_gradients(model_of(Linear(WEIGHT)), FILMS)
    expected = WEIGHT * (FILMS.astype(float) - blur(FILMS)) / 255
    np.testing.assert_allclose(evidence, expected, atol=1e-6)


def test_integrated_gradients_sum_to_the_difference_in_logit_of_a_bent_network() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 9, stride=4), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 30 * 30, 2)]
    model = model_of(nn.Sequential(*layers))
    logit = abnormal_logit(predict_logits(model, FILMS)) - abnormal_logit(predict_logits(model, blur(FILMS)))
    np.testing.assert_allclose(integrated_gradients(model, FILMS).sum((1, 2)), logit, rtol=1e-3)


def test_occlusion_of_a_linear_network_is_the_mean_over_windows_of_what_each_takes_away() -> None:
    window, stride = window_and_stride(SIZE)
    effect = WEIGHT * (FILMS[0].astype(float) - blur(FILMS)[0]) / 255
    total, windows = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    steps = int(np.ceil((SIZE - window) / stride)) + 1  # the last window is cut off by the film's edge
    for down in range(0, steps * stride, stride):
        for right in range(0, steps * stride, stride):
            place = np.s_[down : down + window, right : right + window]
            total[place] += effect[place].sum()
            windows[place] += 1
    np.testing.assert_allclose(occlusion(model_of(Linear(WEIGHT)), FILMS[:1])[0], total / windows, atol=1e-5)


def test_windows_grow_with_the_film() -> None:
    assert window_and_stride(224) == (32, 25)
    assert window_and_stride(448) == (64, 50)


class OneConvolution(nn.Module):
    """A convolution with two 1 x 1 kernels (times 1 and times -1), averaged; z1 = 3 a + 1 b, z0 = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.maps.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)

    def forward(self, films: Tensor) -> Tensor:
        means = self.maps(films).mean((2, 3))
        return torch.stack([torch.zeros(len(films)), means @ torch.tensor([3.0, 1.0])], dim=1)


def test_grad_cam_of_one_convolution_on_a_ramp() -> None:
    """Maps x and -x, mean gradients 3 / S^2 and 1 / S^2: evidence (3 x - x) / S^2 = 2 x / S^2."""
    ramp = np.tile(np.arange(SIZE, dtype=np.uint8) * 2, (SIZE, 1))[None]
    evidence = grad_cam(model_of(OneConvolution()), ramp)
    assert evidence[0, 0, 0] == 0
    np.testing.assert_allclose(evidence[0, 7, [1, 64, 127]] * SIZE**2, [4 / 255, 256 / 255, 508 / 255], rtol=1e-5)


def test_grad_cam_keeps_evidence_for_normal() -> None:
    network = OneConvolution()
    network.maps.weight.data *= -1
    assert grad_cam(model_of(network), FILMS).max() <= 0
