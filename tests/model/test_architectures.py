"""The three networks: shapes, the exact grey fold, and starting from published weights."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from cxrtriage.config import Recipe
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.architectures import NETWORKS, build_network, fold_grey, load_initial_weights
from cxrtriage.model.bundle import save_model
from cxrtriage.model.card import ModelCard

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
IMAGENET_DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def published_network(net: str, classes: int, *, auxiliary: bool = True) -> nn.Module:
    """torchvision's own network as its published weights set it up, with random weights."""
    torch.manual_seed(1)
    if net == "googlenet":
        network = models.GoogLeNet(classes, aux_logits=auxiliary, transform_input=True, init_weights=False)
    elif net == "inception_v3":
        network = models.Inception3(classes, aux_logits=auxiliary, transform_input=True, init_weights=False)
    else:
        network = models.resnet152(num_classes=classes)
    for module in network.modules():  # statistics as after training, so that the batch norms do something
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def as_imagenet_sees_it(films: Tensor) -> Tensor:
    return (films.repeat(1, 3, 1, 1) - IMAGENET_MEAN) / IMAGENET_DEVIATION


@pytest.mark.parametrize("net", NETWORKS)
def test_initial_weights_give_the_three_channel_networks_output(net: str, tmp_path: Path) -> None:
    published = published_network(net, classes=2)
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    network = build_network(net, classes=2, size=128).eval()
    load_initial_weights(network, tmp_path / "weights.pth")
    films = torch.rand(2, 1, 128, 128)
    with torch.inference_mode():
        expected = published(as_imagenet_sees_it(films))
        found = network(films)
    # float32 through up to 152 layers; the folded stem itself is exact to a few units in the last place
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("net", NETWORKS)
def test_the_folded_first_layer_is_exact_at_the_borders(net: str) -> None:
    stem = {"googlenet": "conv1.conv", "inception_v3": "Conv2d_1a_3x3.conv", "resnet152": "conv1"}[net]
    published, network = published_network(net, classes=2), build_network(net, classes=2, size=128)
    with torch.no_grad():
        weight = published.get_submodule(stem).weight
        if net == "resnet152":
            network.get_submodule(stem).weight.copy_(fold_grey(weight, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        else:
            network.get_submodule(stem).weight.copy_(fold_grey(weight, (0.5,) * 3, (0.5,) * 3))
        films = torch.rand(1, 1, 128, 128)
        colour = as_imagenet_sees_it(films)
        if net != "resnet152":
            colour = published._transform_input(colour)
        expected = published.get_submodule(stem)(colour)
        found = network.get_submodule(stem)(films)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    ("net", "size", "heads"), [("googlenet", 128, 3), ("inception_v3", 128, 1), ("resnet152", 128, 1)]
)
def test_a_network_learns_forward_and_backward(net: str, size: int, heads: int) -> None:
    torch.manual_seed(0)
    network = build_network(net, classes=3, size=size).train()
    output = network(torch.rand(2, 1, size, size))
    outputs = output if isinstance(output, tuple) else (output,)
    assert [tuple(head.shape) for head in outputs] == [(2, 3)] * heads
    sum(head.sum() for head in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_inception_has_its_auxiliary_head_from_299_pixels() -> None:
    assert build_network("inception_v3", 2, 298).AuxLogits is None
    network = build_network("inception_v3", 2, 299).train()
    logits, auxiliary = network(torch.rand(2, 1, 299, 299))
    assert logits.shape == auxiliary.shape == (2, 2)


@pytest.mark.parametrize("net", NETWORKS)
def test_dropout_of_a_half_stands_before_every_classifier(net: str) -> None:
    network = build_network(net, 2, 299)
    rates = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    expected = {
        "googlenet": {"dropout", "aux1.dropout", "aux2.dropout"},
        "inception_v3": {"dropout", "AuxLogits.fc.0"},
        "resnet152": {"fc.0"},
    }
    assert rates == dict.fromkeys(expected[net], 0.5)


def test_networks_without_auxiliary_heads_keep_all_else() -> None:
    full, bare = build_network("googlenet", 2, 128), build_network("googlenet", 2, 128, auxiliary=False)
    extra = set(full.state_dict()) - set(bare.state_dict())
    assert {name.split(".")[0] for name in extra} == {"aux1", "aux2"}


def test_a_classifier_of_another_size_stays_fresh_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published = published_network("googlenet", classes=1000, auxiliary=False)
    state = {k: v for k, v in published.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "weights.safetensors")
    network = build_network("googlenet", 2, 128)
    fresh = network.fc.weight.clone()
    with caplog.at_level(logging.INFO, "cxrtriage"):
        load_initial_weights(network, tmp_path / "weights.safetensors")
    assert torch.equal(network.fc.weight, fresh)
    assert torch.equal(network.conv2.conv.weight, published.conv2.conv.weight)
    assert "fresh weights in aux1.conv.bn, aux1.conv.conv, aux1.fc1, aux1.fc2" in caplog.text
    assert "fc" in caplog.text.split("fresh weights in ")[1].split(", ")[-1]


def test_resnets_classifier_behind_dropout_takes_the_published_one(tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(2, 2048), "fc.bias": torch.zeros(2)}
    network = build_network("resnet152", 2, 128)
    state |= {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "weights.pth")
    load_initial_weights(network, tmp_path / "weights.pth")
    assert torch.equal(network.fc[1].weight, torch.ones(2, 2048))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other.pth does not hold weights of googlenet: conv1.conv.weight should"):
        load_initial_weights(build_network("googlenet", 2, 128), tmp_path / "other.pth")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_a_file_with_code_inside_is_refused_and_the_code_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pickled.pth").write_bytes(pickle.dumps(Malicious()))
    torch.save({"weight": Malicious()}, tmp_path / "zipped.pth")
    (tmp_path / "noise.pth").write_bytes(b"not weights at all")
    (tmp_path / "text.pth").write_bytes(b"hello world\n")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights at all")
    torch.save([1, 2], tmp_path / "list.pth")
    network = build_network("googlenet", 2, 128)
    for name in ("pickled.pth", "zipped.pth", "noise.pth", "text.pth", "noise.safetensors"):
        with pytest.raises(ModelError, match=rf"cannot read .*{name} as weights: expected a torchvision state dict"):
            load_initial_weights(network, tmp_path / name)
    with pytest.raises(ModelError, match="no plain state dict"):
        load_initial_weights(network, tmp_path / "list.pth")
    with pytest.raises(ModelError, match="there is no file"):
        load_initial_weights(network, tmp_path / "absent.pth")
    assert "code ran" not in capsys.readouterr().out


def test_unknown_networks_and_small_films_are_refused() -> None:
    with pytest.raises(ConfigError, match="no network 'vgg', expected one of googlenet"):
        build_network("vgg", 2, 224)
    with pytest.raises(ConfigError, match="googlenet needs films of at least 128 pixels, the set has 96"):
        build_network("googlenet", 2, 96)


def test_a_model_file_of_this_project_can_be_started_from(tmp_path: Path) -> None:
    trained = build_network("googlenet", 2, 128)
    card = ModelCard(architecture="googlenet", recipe=Recipe(size=128))
    save_model(tmp_path / "model.safetensors", trained, card)
    network = build_network("googlenet", 2, 160)
    load_initial_weights(network, tmp_path / "model.safetensors")
    for name in ("conv1.conv.weight", "inception5b.branch1.conv.weight", "fc.weight"):
        assert torch.equal(network.state_dict()[name], trained.state_dict()[name])
