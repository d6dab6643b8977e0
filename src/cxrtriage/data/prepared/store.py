"""A prepared set on disk, opened for reading.

    prepared/
      images.npy          (N, S, S) uint8, memory-mapped
      lung_masks.npy      the same for masks, where the manifest has any: 1 inside, 0 outside, 255 unknown
      lesion_masks.npy
      manifest.parquet    row for row
      rejects.csv         path, reason of the films left out
      prepared.json       what the set was made from and how; written last, so a set without it is unfinished

`build.prepare_set` writes it; `dataset`, `duplicates`, `train` and `evaluate` read it next.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from cxrtriage.config import Recipe
from cxrtriage.errors import ConfigError, SourceError

IMAGES = "images.npy"
MANIFEST = "manifest.parquet"
REJECTS = "rejects.csv"
CARD = "prepared.json"
MASKS = {"lung_mask": "lung_masks.npy", "lesion_mask": "lesion_masks.npy"}  # manifest column -> file


class SetOrder(BaseModel):
    """What a set was asked to be; two sets of the same order are the same.

    Parameters
    ----------
    recipe : how each film is prepared
    draws : how often each training film is in the set
    source_hash : of the manifest, from `manifest.manifest_hash`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    draws: int
    source_hash: str

    def describe(self) -> str:
        """Return the order as one line, for messages that compare two of them."""
        return f"{self.recipe.describe()}, draws={self.draws}, manifest {self.source_hash[:12]}"


class SetCard(BaseModel):
    """The content of `prepared.json`.

    Parameters
    ----------
    order : what the set was asked to be
    versions : of what made it
    films, rows, rejected : films asked for, rows in the set, films left out
    seconds : the time it took, over all runs
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: SetOrder
    versions: dict[str, str]
    films: int
    rows: int
    rejected: int
    seconds: float


def other_order(folder: Path | str, what: str, found: SetOrder, wanted: SetOrder) -> ConfigError:
    """Return the error for a folder that holds something else than is wanted."""
    return ConfigError(
        f"{folder} holds {what} made with {found.describe()}, but asked for is {wanted.describe()}. "
        "Choose another --out or remove that folder."
    )


@dataclass(frozen=True, slots=True)
class PreparedSet:
    """A finished set. Row i of the manifest tells of image i.

    Parameters
    ----------
    path : its folder
    images : (N, S, S) uint8, a read-only memory map
    manifest : N rows; besides the manifest's columns `draw`, `film_height`, `film_width`, `film_bits`,
        `polarity_inverted`
    recipe : how the films were prepared
    source_hash : hash of the manifest that the set was made from
    lung_masks, lesion_masks : (N, S, S) uint8, 1 inside, 0 outside, 255 unknown; None where the manifest had none
    """

    path: Path
    images: np.ndarray
    manifest: pd.DataFrame
    recipe: Recipe
    source_hash: str
    lung_masks: np.ndarray | None = None
    lesion_masks: np.ndarray | None = None


def open_prepared(path: Path) -> PreparedSet:
    """Open a finished prepared set.

    Parameters
    ----------
    path : the folder that `prepare_set` wrote

    Raises
    ------
    SourceError
        If there is no finished set, or its files do not fit each other.
    """
    card = read_card(path)
    try:
        manifest = pd.read_parquet(path / MANIFEST)
    except (OSError, ValueError) as error:
        raise damaged(path, f"{MANIFEST} cannot be read ({type(error).__name__})") from error
    if len(manifest) != card.rows:
        raise damaged(path, f"{MANIFEST} has {len(manifest)} rows, {CARD} says {card.rows}")
    masks = {file: open_array(path, file, card) for file in MASKS.values() if (path / file).exists()}
    return PreparedSet(
        path=path,
        images=open_array(path, IMAGES, card),
        manifest=manifest,
        recipe=card.order.recipe,
        source_hash=card.order.source_hash,
        lung_masks=masks.get(MASKS["lung_mask"]),
        lesion_masks=masks.get(MASKS["lesion_mask"]),
    )


def read_card(path: Path) -> SetCard:
    """Read `prepared.json` of the set in folder `path`; raise SourceError where there is none or it is damaged."""
    try:
        return SetCard.model_validate_json((path / CARD).read_text())
    except (FileNotFoundError, NotADirectoryError):
        store = str(path).partition("/")[0]
        if store.endswith(":"):  # s3://bucket/set, as a path
            raise SourceError(
                f"a prepared set is read from a disk, expected a folder, found one in {store}//. Copy it here with the "
                "store's own program, such as 'aws s3 cp --recursive', and give that folder."
            ) from None
        raise SourceError(
            f"{path} holds no finished prepared set: {CARD} is missing. Run 'cxrtriage prepare' with --out {path}; "
            "if it was interrupted, the same command goes on where it was."
        ) from None
    except (UnicodeDecodeError, ValidationError) as error:
        raise damaged(path, f"{CARD} does not describe a set") from error


def open_array(path: Path, file: str, card: SetCard) -> np.ndarray:
    expected = (card.rows, card.order.recipe.size, card.order.recipe.size)
    try:
        array: np.memmap = np.load(path / file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, f"{file} is missing or cut short") from error
    if array.shape != expected or array.dtype != np.uint8:
        raise damaged(path, f"{file} is {array.dtype} of shape {array.shape}, {CARD} says uint8 of shape {expected}")
    return array


def damaged(path: Path, found: str) -> SourceError:
    return SourceError(
        f"the prepared set {path} is damaged: {found}. Remove the folder and run 'cxrtriage prepare' again."
    )
