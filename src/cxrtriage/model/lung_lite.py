"""The network of the packaged model: lungs found and cropped, then two EfficientNet-Lite0, one of them for adults.

`architectures.build_network` builds it by its name, `training.packaged` trains it. What a network learns from small
children's films, of which one large public set consists, makes it worse on adults' at a hospital that it never saw.
So one trunk learned from adults alone and decides on what looks like an adult; the other learned from everybody.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from cxrtriage.model.lite0 import CHANNELS, lite0
from cxrtriage.model.lungs import LungCrop, place

TRUNKS = 2  # as many as fit into 15 MB: that of the adults first, then that of everybody
CROP_SIZE = 160  # side of the cropped films in pixels
LITE_MEAN, LITE_DEVIATION = 127 / 255, 128 / 255  # what the published weights were trained to see


class LungLite(nn.Module):
    """Films in, logits out, from nothing but the box around the lungs.

    The classifier gives three numbers: the adults' trunk's logit of abnormal, everybody's, and the logit that this is a
    small child, with which the two are mixed.

    Parameters
    ----------
    dropout : share of features dropped before the classifier while training
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.crop = LungCrop(CROP_SIZE)
        self.trunks = Trunks(TRUNKS)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(TRUNKS * CHANNELS, 3)

    def forward(self, films: Tensor) -> Tensor:
        maps = self.trunks(self.crop(films))
        adults, everybody, child = self.classifier(self.dropout(maps.mean(dim=(2, 3)))).unbind(dim=1)
        logit = adults + child.sigmoid() * (everybody - adults)
        return torch.stack([-logit / 2, logit / 2], dim=1)

    def place(self, maps: Tensor, films: Tensor) -> Tensor:
        """Put maps over the crops, (B, C, h, w), back where they lie on the films: (B, C, S, S), 0 around the lungs."""
        enlarged = F.interpolate(maps, (self.crop.size, self.crop.size), mode="bilinear", align_corners=False)
        return place(enlarged, self.crop.boxes(films), films.shape[-1])


class Trunks(nn.Module):
    """EfficientNet-Lite0's convolutions, `count` times side by side: (B, 1, S, S) -> (B, count * 1280, S/32, S/32)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(lite0() for _ in range(count))

    def forward(self, films: Tensor) -> Tensor:
        coloured = ((films - LITE_MEAN) / LITE_DEVIATION).expand(-1, 3, -1, -1)
        return torch.cat([member(coloured) for member in self.members], dim=1)
