"""A network made by hand that calls a film abnormal for its bright square, and a set of such films with their masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from prepared_sets import make_prepared

SIZE = 128


class BrightCells(nn.Module):
    """Counts how much of a film is brighter than 0.7, in cells of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(1, 1, 8, stride=8)
        self.fc = nn.Linear(1, 2)
        with torch.no_grad():
            self.cells.weight.fill_(1 / 64)
            self.cells.bias.fill_(-0.7)  # type: ignore[union-attr]
            self.fc.weight.copy_(torch.tensor([[0.0], [400.0]]))
            self.fc.bias.copy_(torch.tensor([0.0, -3.0]))

    def forward(self, films: Tensor) -> Tensor:
        bright = torch.relu(self.cells(films)).mean((2, 3))
        logits: Tensor = self.fc(bright)
        return logits


def bright_model() -> Model:
    network = BrightCells().eval().requires_grad_(False)
    return Model(network, ModelCard(architecture="googlenet", recipe=Recipe(size=SIZE)))


def bright_set(folder: Path, *, films: int = 24, lesions: bool = True) -> PreparedSet:
    """Every second test film has a bright square, at a place of its own; two films a patient."""
    label = np.arange(films) % 2
    prepared = make_prepared(
        folder,
        train=0,
        validation=films,
        size=SIZE,
        label=np.zeros(films, int),
        patient_id=[f"p{i // 2}" for i in range(films)],
        split=["test"] * (films - 8) + ["train"] * 8,
    )
    generator = np.random.default_rng(0)
    images = np.array(prepared.images)
    masks = np.zeros_like(images)
    for row in np.flatnonzero(label):
        y, x = generator.integers(8, SIZE - 40, 2)
        images[row, y : y + 30, x : x + 30] = 240
        masks[row, y : y + 30, x : x + 30] = 1
    masks[label == 0] = 255  # a normal film comes without a mask
    return replace(
        prepared,
        images=images,
        manifest=prepared.manifest.assign(label=label),
        lesion_masks=masks if lesions else None,
    )
