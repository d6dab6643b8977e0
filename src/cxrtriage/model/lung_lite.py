"""The network of the packaged model: lungs found and cropped, then EfficientNet-Lite0, once or several times.

`architectures.build_network` builds it by its name, `training/packaged.py` trains it. Several trunks that are
averaged are one linear layer on their joined features, so the whole is a plain network to everyone else.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from cxrtriage.model.lite0 import CHANNELS, lite0
from cxrtriage.model.lungs import LungCrop, place

TRUNKS = 2  # networks that are averaged: as many as fit into 15 MB
CROP_SIZE = 160  # side of the cropped films in pixels
LITE_MEAN, LITE_DEVIATION = 127 / 255, 128 / 255  # what the published weights were trained to see


class LungLite(nn.Module):
    """Films in, logits out, from nothing but the box around the lungs.

    Parameters
    ----------
    classes : number of outputs
    dropout : share of features dropped before the classifier while training
    """

    def __init__(self, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.crop = LungCrop(CROP_SIZE)
        self.trunks = Trunks(TRUNKS)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(TRUNKS * CHANNELS, classes)

    def forward(self, films: Tensor) -> Tensor:
        maps = self.trunks(self.crop(films))
        return torch.as_tensor(self.classifier(self.dropout(maps.mean(dim=(2, 3)))))

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
