"""EfficientNet-Lite0's convolutions, from torchvision's building blocks.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6, so that it quantises well (Tan, Le. EfficientNet:
rethinking model scaling for convolutional neural networks. ICML 2019; Lite: the authors' variant of 2020). torchvision
has B0 only. Layers are in the published order, so a published state dict loads by position.
"""

from functools import partial

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

CHANNELS = 1280  # of the maps that come out
STEM = 32
STAGES = (  # expansion, channels, blocks, stride of the first, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)

_layer = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=1e-3), activation_layer=nn.ReLU6)


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; the input is added where the shape allows."""

    def __init__(self, before: int, after: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = before * expansion
        widen = [_layer(before, wide, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen, _layer(wide, wide, kernel, stride, groups=wide), _layer(wide, after, 1, activation_layer=None)
        )
        self.adds = stride == 1 and before == after

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.layers(maps)
        return maps + result if self.adds else result


def lite0() -> nn.Sequential:
    """Return the network up to its last maps: (B, 3, S, S) float32 in [-1, 1] -> (B, 1280, S/32, S/32).

    Its children are the stem, the seven stages and the head.
    """
    stages = [_layer(3, STEM, 3, 2)]
    before = STEM
    for expansion, after, blocks, stride, kernel in STAGES:
        stage = []
        for number in range(blocks):
            stage.append(InvertedResidual(before, after, expansion, 1 if number else stride, kernel))
            before = after
        stages.append(nn.Sequential(*stage))
    return nn.Sequential(*stages, _layer(before, CHANNELS, 1))
