"""The one number that all explanations explain: how much more abnormal than normal, in torch, so that it has gradients.

In comes a model; out goes a network with a single output, and films as it takes them. Read next by `saliency` and
`opposite`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from cxrtriage.model.bundle import Model


class AbnormalLogit(nn.Module):
    """(B, 1, S, S) float32 films in [0, 1] -> (B,) float32 abnormal logits, as `predict.abnormal_logit` has them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, films: Tensor) -> Tensor:
        logits = self.network(films).float()  # (B, C)
        logit: Tensor = torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]
        return logit


def check_films(model: Model, images: np.ndarray) -> None:
    """Raise ValueError unless `images` are (N, S, S) uint8 with the S of the model's recipe."""
    size = model.card.recipe.size
    if images.ndim != 3 or images.shape[1:] != (size, size) or images.dtype != np.uint8:
        raise ValueError(f"expected (N, {size}, {size}) uint8 films, got {images.shape} {images.dtype}")


def film_tensor(model: Model, images: np.ndarray) -> Tensor:
    """Return (N, S, S) uint8 or float films as (N, 1, S, S) float32 in [0, 1] on the device of the model's network."""
    device = next(model.network.parameters()).device
    films = torch.from_numpy(np.array(images, dtype=np.float32)).to(device)
    return films.unsqueeze(1) / 255


@contextmanager
def exact() -> Iterator[None]:
    """Run in full fp32 (cuDNN would round convolutions to TF32) and with gradients, whatever surrounds the call."""
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
