"""A small prepared set and a small network made in code, for tests of what comes after preparing."""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import PreparedSet


def make_prepared(
    folder: Path,
    *,
    train: int = 8,
    validation: int = 4,
    size: int = 128,
    source_hash: str = "0" * 64,
    **columns: object,
) -> PreparedSet:
    """A set of noise in which each abnormal film (every second one, unless `label` is given) has a bright square.

    `columns` are added to the manifest, or replace its own.
    """
    films = train + validation
    generator = np.random.default_rng(0)
    images = generator.integers(40, 120, (films, size, size), dtype=np.uint8)
    label = np.array(columns.pop("label", np.arange(films) % 2))
    corner = size // 3
    images[label > 0, corner : 2 * corner, corner : 2 * corner] = 230
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images)
    manifest = pd.DataFrame(
        {
            "path": [f"/films/{i}.png" for i in range(films)],
            "label": label,
            "patient_id": [f"p{i}" for i in range(films)],
            "split": ["train"] * train + ["validation"] * validation,
        }
    ).assign(**columns)
    return PreparedSet(
        path=folder,
        images=np.load(folder / "images.npy", mmap_mode="r"),
        manifest=manifest,
        recipe=Recipe(size=size),
        source_hash=source_hash,
    )


class TinyNetwork(nn.Module):
    """A network of 2,000 weights with what the large ones have: batch norm, dropout, a classifier "fc"."""

    def __init__(self, net: str, classes: int, size: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            # no bias, as in the large networks: its gradient is 0 before batch norm, and Adam steps by its rounding
            nn.Conv2d(1, 8, 8, stride=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(16, classes)

    def forward(self, films: Tensor) -> Tensor:
        return self.fc(self.dropout(self.features(films).amax((2, 3))))
