"""Maps compared, weights randomised, noise added: an edge detector is exposed, a gradient is not."""

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from scipy.stats import spearmanr

from cxrtriage.config import Recipe
from cxrtriage.explain.sanity import cell_means, noise_stability, randomised_models, similarity, stage_ends
from cxrtriage.model.architectures import NETWORKS, build_network
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from prepared_sets import TinyNetwork

FILMS = np.random.default_rng(0).integers(0, 256, (4, 128, 128), dtype=np.uint8)
FILMS[:, 30:90, 40:80] //= 4  # something with edges


def tiny_model() -> Model:
    torch.manual_seed(0)
    network = TinyNetwork("googlenet", 2, 128).eval().requires_grad_(False)
    return Model(network, ModelCard(architecture="googlenet", recipe=Recipe(size=128)))


def edges(_: Model, images: np.ndarray) -> np.ndarray:
    films = images.astype(np.float32)
    return np.hypot(sobel(films, axis=1), sobel(films, axis=2))


def gradient(model: Model, images: np.ndarray) -> np.ndarray:
    films = (torch.from_numpy(images).unsqueeze(1).float() / 255).requires_grad_()
    logits = model.network(films)
    (slope,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), films)
    return slope.abs().squeeze(1).numpy()


def test_similarity_is_spearmans_of_the_cells() -> None:
    maps = np.random.default_rng(1).random((2, 3, 64, 64)) ** 4
    cells = maps.reshape(2, 3, 16, 4, 16, 4).mean((3, 5)).reshape(2, 3, 256)
    expected = [spearmanr(first, second)[0] for first, second in zip(*cells, strict=True)]
    np.testing.assert_allclose(similarity(*maps), expected)


def test_map_is_like_itself_and_a_flat_one_like_nothing() -> None:
    maps = np.random.default_rng(1).random((2, 40, 40))
    np.testing.assert_allclose(similarity(maps, maps), 1)
    assert similarity(maps, np.zeros_like(maps)).tolist() == [0, 0]


@pytest.mark.parametrize("size", [16, 50, 144])
def test_cells_of_any_size_keep_the_mean_of_an_even_map(size: int) -> None:
    means = cell_means(np.full((1, size, size), 3.0))
    assert means.shape == (1, 16, 16)
    np.testing.assert_allclose(means, 3)


def test_method_that_ignores_the_weights_survives_and_one_that_reads_them_does_not() -> None:
    model = tiny_model()
    for method, survives in ((edges, True), (gradient, False)):
        *_, (layers, random) = randomised_models(model, FILMS, stages=3, seed=1)
        left = similarity(method(model, FILMS), method(random, FILMS)).mean()
        assert layers == "all layers"
        assert (left == pytest.approx(1)) if survives else (left < 0.5), method.__name__


def test_randomising_goes_from_the_classifier_to_the_stem_and_leaves_the_model_alone() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    changed = []
    for _, random in randomised_models(model, FILMS, stages=3, seed=1):
        state = random.network.state_dict()
        changed.append({name for name in before if name.endswith("weight") and not before[name].equal(state[name])})
        assert not random.network.training
    assert changed[0] == {"fc.weight"}
    assert changed[1] == {"fc.weight", "features.3.weight"}
    assert {"fc.weight", "features.3.weight", "features.0.weight"} <= changed[2]
    assert all(tensor.equal(model.network.state_dict()[name]) for name, tensor in before.items())


def test_same_seed_gives_the_same_random_weights() -> None:
    models = [list(randomised_models(tiny_model(), FILMS, stages=2, seed=5))[-1][1] for _ in range(2)]
    first, second = (model.network.state_dict() for model in models)
    assert all(tensor.equal(second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("net", NETWORKS)
def test_signals_of_random_networks_neither_vanish_nor_overflow(net: str) -> None:
    network = build_network(net, 2, 128, auxiliary=False).eval().requires_grad_(False)
    model = Model(network, ModelCard(architecture=net, recipe=Recipe(size=128)))
    *_, (_, random) = randomised_models(model, FILMS, stages=2, seed=0)
    with torch.no_grad():
        logits = random.network(torch.from_numpy(FILMS).unsqueeze(1).float() / 255)
    assert 1e-3 < logits.abs().max() < 100


def test_stages_end_with_all_layers() -> None:
    assert stage_ends(152, 4) == [1, 51, 102, 152]
    assert stage_ends(2, 4) == [1, 2]
    assert stage_ends(1, 4) == [1]


def test_stable_method_is_stable_and_noise_itself_is_not() -> None:
    def brightness(_: Model, images: np.ndarray) -> np.ndarray:
        return images.astype(float)

    def hash_of_film(_: Model, images: np.ndarray) -> np.ndarray:
        return np.random.default_rng(int(images.sum())).random(images.shape)

    model = tiny_model()
    assert noise_stability(brightness, model, FILMS, FILMS, seed=0).min() > 0.95
    assert abs(noise_stability(hash_of_film, model, FILMS, hash_of_film(model, FILMS), seed=0).mean()) < 0.2
