"""One interface to all methods: shapes, signs, three classes, three architectures, nothing left behind."""

import numpy as np
import pytest
import torch

from cxrtriage.config import Recipe
from cxrtriage.explain.attribution import METHODS, attribute, evidence_of_change, heat_of, smooth_evidence
from cxrtriage.explain.opposite import OppositeImages
from cxrtriage.explain.saliency import last_block
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from prepared_sets import TinyNetwork

FILMS = np.random.default_rng(0).integers(0, 256, (2, 128, 128), dtype=np.uint8)


def tiny_model(classes: int) -> Model:
    torch.manual_seed(classes)
    names = ("normal", "abnormal", "emergent")[:classes]
    network = TinyNetwork("tiny", classes, 128).eval().requires_grad_(False)
    return Model(network, ModelCard(architecture="tiny", classes=names, recipe=Recipe(size=128)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_method_explains_two_and_three_classes_and_leaves_the_network_alone(classes: int, method: str) -> None:
    model = tiny_model(classes)
    model.network.requires_grad_(True)  # as after training; explaining must not fill the gradients
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    evidence = attribute(model, FILMS, method, seed=1)
    assert evidence.shape == FILMS.shape
    assert evidence.dtype == np.float32
    assert np.isfinite(evidence).all()
    assert evidence.any()
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.network.modules())
    assert not any(module.training for module in model.network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.network.state_dict().items())
    heat = heat_of(evidence, method)
    assert heat.shape == FILMS.shape
    assert (heat >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_film_is_explained_alike_alone_and_among_others(method: str) -> None:
    model = tiny_model(2)
    together, alone = attribute(model, FILMS, method), attribute(model, FILMS[1:], method)
    np.testing.assert_allclose(alone[0], together[1], atol=1e-4 * np.abs(together).max())


@pytest.mark.parametrize(
    ("net", "block"), [("googlenet", "inception5b"), ("inception_v3", "Mixed_7c"), ("resnet152", "layer4")]
)
def test_grad_cam_looks_at_the_last_block_of_each_architecture(net: str, block: str) -> None:
    with torch.device("meta"):
        network = build_network(net, 3, 299)  # with auxiliary classifiers, which come last in the list of children
    assert last_block(network) is network.get_submodule(block)


@pytest.mark.parametrize("net", ["inception_v3", "resnet152"])
def test_gradients_reach_the_film_through_the_deep_networks(net: str) -> None:
    """GoogLeNet is covered by the command's tests."""
    torch.manual_seed(0)
    network = build_network(net, 2, 128, auxiliary=False).eval().requires_grad_(False)
    model = Model(network, ModelCard(architecture=net, recipe=Recipe(size=128)))
    assert attribute(model, FILMS[:1], "grad-cam").any()


def test_opposite_evidence_is_for_abnormal_where_the_film_was_driven_to_normal() -> None:
    before = np.full((2, 2, 2), 100, np.uint8)
    after = np.array([[[90, 100], [100, 105]]] * 2, np.uint8)
    changed = OppositeImages(
        before, after, np.array([0, 1]), np.zeros((2, 1)), np.zeros(2), np.zeros(2, int), np.ones(2, bool)
    )
    np.testing.assert_array_equal(evidence_of_change(changed), [[[10, 0], [0, 5]], [[-10, 0], [0, -5]]])


def test_heat_keeps_what_speaks_for_abnormal_and_the_size_of_a_change() -> None:
    signed = np.zeros((1, 64, 64), np.float32)
    signed[0, 20, 20], signed[0, 50, 50] = 2, -2
    assert heat_of(signed, "occlusion")[0, 50, 50] == 0
    assert heat_of(signed, "occlusion")[0, 20, 20] == 2
    change = heat_of(signed, "opposite")
    assert change[0, 50, 50] == pytest.approx(change[0, 20, 20])


def test_smoothing_keeps_the_sum_of_the_evidence() -> None:
    evidence = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(smooth_evidence(evidence).sum((1, 2)), evidence.sum((1, 2)), rtol=1e-4)


def test_an_unknown_method_and_films_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="no method 'lime', expected one of opposite, grad-cam"):
        attribute(tiny_model(2), FILMS, "lime")
    with pytest.raises(ValueError, match=r"expected \(N, 128, 128\) uint8 films"):
        attribute(tiny_model(2), FILMS[:, :64], "grad-cam")
