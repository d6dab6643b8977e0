"""Heads that are trained beside the classifier, to shape the features: one unlearns the source, one names findings.

Each is called with (B, 1280) features, the B rows of the manifest, and the share of the training that is done in
[0, 1]; it returns a loss that is added to the classifier's.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

from cxrtriage.model.lite0 import CHANNELS

NIH_FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
HIDDEN = 128
STRONGEST = 0.1  # with 1, the features were driven to nothing within 2,000 films
STEEPNESS = 10.0  # of the rise from 0 over the training, as in Ganin 2016, section 5.2


class SourceAdversary(nn.Module):
    """Learns to name the source, while what lies before it learns to prevent that (Ganin 2016).

    A step draws both classes of each source alike, so nothing of the disease is unlearned with the source.

    Parameters
    ----------
    sources : names that can occur
    """

    def __init__(self, sources: Sequence[str]) -> None:
        super().__init__()
        self.sources = list(sources)
        self.head = nn.Sequential(nn.Linear(CHANNELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(self.sources)))

    def forward(self, features: Tensor, films: pd.DataFrame, progress: float) -> Tensor:
        strength = STRONGEST * (2 / (1 + math.exp(-STEEPNESS * progress)) - 1)
        truth = torch.tensor([self.sources.index(name) for name in films["source"]])
        return F.cross_entropy(self.head(_Reversed.apply(features, strength)), truth)


class FindingsNamed(nn.Module):
    """Learns which findings a film of NIH shows, a harder lesson than that it shows some.

    Parameters
    ----------
    weight : of the sum of the findings' losses, beside 1 of the classifier's
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.head = nn.Linear(CHANNELS, len(NIH_FINDINGS))

    def forward(self, features: Tensor, films: pd.DataFrame, _: float) -> Tensor:
        known = torch.tensor(films["source"].isin(["nih", "nih128"]).tolist())
        named = [[finding in str(told).split("|") for finding in NIH_FINDINGS] for told in films["finding"]]
        loss = F.binary_cross_entropy_with_logits(self.head(features), torch.tensor(named).float(), reduction="none")
        return self.weight * (loss.sum(dim=1) * known).mean()


class _Reversed(torch.autograd.Function):
    """The features as they are, their gradient turned round."""

    @staticmethod
    def forward(context: Any, features: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None
