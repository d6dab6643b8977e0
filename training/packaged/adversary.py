"""A head that names a film's source, and through which the features learn to say nothing of it (Ganin 2016)."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

HIDDEN = 128
STEEPNESS = 10.0  # of the rise from 0 to 1 over the training, as in Ganin 2016, section 5.2


class SourceAdversary(nn.Module):
    """Features in, the loss of naming their source out; what lies before learns to raise that loss.

    A step draws both classes of each source alike, so nothing of the disease is unlearned with the source.

    Parameters
    ----------
    channels : of the features
    sources : names that can occur
    """

    def __init__(self, channels: int, sources: Sequence[str]) -> None:
        super().__init__()
        self.sources = list(sources)
        self.head = nn.Sequential(nn.Linear(channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(self.sources)))

    def forward(self, features: Tensor, source: pd.Series, progress: float) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        features : (B, channels)
        source : names, B of them
        progress : share of the training that is done, in [0, 1]
        """
        strength = 2 / (1 + math.exp(-STEEPNESS * progress)) - 1
        truth = torch.tensor([self.sources.index(name) for name in source])
        return F.cross_entropy(self.head(_Reversed.apply(features, strength)), truth)


class _Reversed(torch.autograd.Function):
    """The features as they are, their gradient turned round."""

    @staticmethod
    def forward(context: Any, features: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None
