"""Opening a prepared set: what is whole opens, what is not is told."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import SetCard, SetOrder, open_prepared
from cxrtriage.errors import SourceError

ORDER = SetOrder(recipe=Recipe(size=32), draws=1, source_hash="ab" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = np.arange(3 * 32 * 32, dtype=np.uint32).astype(np.uint8).reshape(3, 32, 32)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "lung_masks.npy", images % 2)
    pd.DataFrame({"path": ["a", "b", "c"], "label": [0, 1, 2]}).to_parquet(tmp_path / "manifest.parquet")
    card = SetCard(order=ORDER, versions={}, films=4, rows=3, rejected=1, seconds=0.5)
    (tmp_path / "prepared.json").write_text(card.model_dump_json())
    return tmp_path


def test_a_set_opens_without_reading_its_images(folder: Path) -> None:
    prepared = open_prepared(folder)
    assert isinstance(prepared.images, np.memmap)
    assert not prepared.images.flags.writeable
    assert prepared.images[1, 0, :4].tolist() == [0, 1, 2, 3]
    assert prepared.lung_masks is not None
    assert prepared.lung_masks[2, 0, 1] == 1
    assert prepared.lesion_masks is None
    assert prepared.manifest["label"].tolist() == [0, 1, 2]
    assert prepared.recipe == Recipe(size=32)
    assert prepared.source_hash == "ab" * 32


def test_a_set_made_before_there_was_a_choice_of_contrast_is_an_equalised_one(folder: Path) -> None:
    card = json.loads((folder / "prepared.json").read_text())
    del card["order"]["recipe"]["contrast"]
    (folder / "prepared.json").write_text(json.dumps(card))
    assert open_prepared(folder).recipe.contrast == "equalise"


def test_a_folder_without_a_finished_set_is_told_apart(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            SourceError, match=r"holds no finished prepared set: prepared\.json is missing.*goes on where it was"
        ):
            open_prepared(path)


def test_a_set_in_a_store_is_to_be_copied_first() -> None:
    with pytest.raises(SourceError, match=r"found one in s3://\. Copy it here"):
        open_prepared(Path("s3://bucket/prepared"))


SHORT = r"images\.npy is missing or cut short"
NO_CARD = r"prepared\.json does not describe a set"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "images.npy").unlink(), SHORT),
        (lambda f: (f / "images.npy").write_bytes((f / "images.npy").read_bytes()[:-5]), SHORT),
        (lambda f: (f / "images.npy").write_bytes(b""), SHORT),
        (lambda f: (f / "images.npy").write_bytes(bytes(4000)), SHORT),
        (lambda f: np.save(f / "images.npy", np.zeros((2, 32, 32), np.uint8)), r"shape \(2, .* shape \(3, 32, 32\)"),
        (lambda f: np.save(f / "lung_masks.npy", np.zeros((3, 32, 32))), r"lung_masks\.npy is float64"),
        (lambda f: (f / "manifest.parquet").unlink(), r"manifest\.parquet cannot be read"),
        (lambda f: (f / "manifest.parquet").write_bytes(b"PAR1"), r"manifest\.parquet cannot be read"),
        (lambda f: pd.DataFrame({"path": ["a"]}).to_parquet(f / "manifest.parquet"), r"1 rows, prepared\.json says 3"),
        (lambda f: (f / "prepared.json").write_text("{"), NO_CARD),
        (lambda f: (f / "prepared.json").write_bytes(b"\xff\xfe"), NO_CARD),
        (lambda f: (f / "prepared.json").write_text(json.dumps({"order": 1})), NO_CARD),
    ],
)
def test_a_damaged_set_is_refused_with_what_is_wrong(folder: Path, spoil: object, message: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(SourceError, match=message) as caught:
        open_prepared(folder)
    assert "Remove the folder and run 'cxrtriage prepare' again." in str(caught.value)
