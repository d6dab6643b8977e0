"""The packaged model's network."""

from pathlib import Path

import pytest
import torch

from cxrtriage.config import Recipe
from cxrtriage.explain.saliency import grad_cam
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model, load_model, save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.model.lite0 import CHANNELS, lite0
from cxrtriage.model.lung_lite import TRUNKS, LungLite

CARD = ModelCard(architecture="lung_lite", recipe=Recipe(size=256, downsample="area"))


@pytest.fixture(scope="module")
def network() -> LungLite:
    torch.manual_seed(0)
    network = build_network("lung_lite", 2, 256).eval()
    assert isinstance(network, LungLite)
    return network


def test_lite0_has_the_published_size_and_stride() -> None:
    network = lite0().eval()
    # Table of the authors' repository: 4.7 million parameters with the classifier of 1,000 classes
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008 - 1280 * 1000 - 1000
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, CHANNELS, 2, 3)


@pytest.mark.parametrize(("child", "expert"), [(-50.0, 0), (50.0, 1)])
def test_an_adult_is_the_adults_trunks_and_a_child_everybodys(network: LungLite, child: float, expert: int) -> None:
    films = torch.rand(2, 1, 256, 256)
    bias = network.classifier.bias.detach().clone()
    with torch.inference_mode():
        network.classifier.bias[2] = child
        logits = network(films)
        network.classifier.bias.copy_(bias)
        pooled = network.trunks(network.crop(films)).mean(dim=(2, 3))
        expected = network.classifier(pooled)[:, expert]
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], expected)


def test_a_trunk_sees_the_film_as_its_published_weights_do(network: LungLite) -> None:
    films = torch.rand(1, 1, 64, 64)
    coloured = (films.expand(-1, 3, -1, -1) * 255 - 127) / 128
    with torch.inference_mode():
        first = network.trunks.members[0](coloured)
        torch.testing.assert_close(network.trunks(films)[:, :CHANNELS], first)
    assert len(network.trunks.members) == TRUNKS


def test_what_lies_around_the_lungs_changes_nothing(network: LungLite) -> None:
    torch.manual_seed(0)
    films = torch.rand(1, 1, 256, 256)
    with torch.inference_mode():
        left, top, right, bottom = (256 * network.crop.boxes(films)[0]).tolist()
        # the box is fixed, so that only the crop is tested and not whether the finder would find it again
        network.crop.boxes = lambda _: torch.tensor([[left, top, right, bottom]]) / 256  # type: ignore[method-assign]
        before = network(films)
        marked = films.clone()
        marked[..., : max(0, int(top) - 1), :] = 1
        marked[..., int(bottom) + 2 :, :] = 1
        marked[..., :, : max(0, int(left) - 1)] = 1
        marked[..., :, int(right) + 2 :] = 1
        assert (marked != films).any()
        after = network(marked)
    del network.crop.boxes
    torch.testing.assert_close(before, after)


def test_a_file_in_half_precision_loads_as_single(network: LungLite, tmp_path: Path) -> None:
    half = {name: each.half() if each.is_floating_point() else each for name, each in network.state_dict().items()}
    save_model(tmp_path / "model.safetensors", half, CARD)
    loaded = load_model(tmp_path / "model.safetensors").network
    films = torch.rand(1, 1, 256, 256)
    assert all(each.dtype == torch.float32 for each in loaded.state_dict().values() if each.is_floating_point())
    with torch.inference_mode():
        torch.testing.assert_close(loaded(films), network(films), atol=0.01, rtol=0.01)
    assert (tmp_path / "model.safetensors").stat().st_size < 15e6


def test_grad_cam_is_zero_outside_the_box(network: LungLite) -> None:
    films = torch.randint(0, 256, (1, 256, 256), dtype=torch.uint8).numpy()
    _left, top, right, _bottom = network.crop.boxes(torch.from_numpy(films)[None].float() / 255)[0].tolist()
    evidence = grad_cam(Model(network, CARD), films)[0]
    assert evidence.shape == (256, 256)
    assert (evidence != 0).any()
    assert not evidence[: max(0, int(256 * top) - 3)].any()
    assert not evidence[:, int(256 * right) + 4 :].any()
