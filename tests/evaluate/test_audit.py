"""The shortcut audit tells a network that looks at the lungs from one that looks at the border."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import SourceError
from cxrtriage.evaluate.audit import shortcut_audit
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from films import film_pixels

SIZE = 64


class Looks(nn.Module):
    """A network that scores how bright one place of a film is."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.place = rows, columns
        self.weight = nn.Parameter(torch.tensor(5.0))

    def forward(self, batch: Tensor) -> Tensor:
        rows, columns = self.place
        bright = self.weight * batch[:, 0, rows, columns].mean(dim=(1, 2))
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


LUNG = Looks(slice(24, 40), slice(12, 24))
CORNER = Looks(slice(0, 4), slice(0, 4))


def model(network: nn.Module) -> Model:
    return Model(network.eval(), ModelCard(architecture="googlenet", recipe=Recipe(size=SIZE)))


def prepared(folder: Path, *, quality: tuple[int, int] = (80, 80), sources: int = 1, films: int = 240) -> PreparedSet:
    """Films whose lung and corner tell the class, both not quite, and whose files do or do not."""
    rng = np.random.default_rng(0)
    label = np.arange(films) % 2
    images = rng.integers(90, 110, (films, SIZE, SIZE), dtype=np.uint8)
    for rows, columns, opposite in (
        (slice(24, 40), slice(12, 24), slice(40, 52)),
        (slice(0, 4), slice(0, 4), slice(60, 64)),
    ):
        brighter = (20 * label + rng.integers(0, 25, films)).astype(np.uint8)[:, None, None]
        images[:, rows, columns] += brighter
        images[:, rows, opposite] -= brighter  # so that the film's median, which fills what is blanked, tells nothing
    paths = [str(folder / f"{index}.jpg") for index in range(films)]
    for index, path in enumerate(paths):
        pixels = film_pixels(72, 64, bits=8, seed=index)
        cv2.imwrite(path, pixels, [cv2.IMWRITE_JPEG_QUALITY, quality[label[index]]])
    splits = ["train"] * (films // 3) + ["validation"] * (films // 6)
    manifest = pd.DataFrame(
        {
            "path": paths,
            "label": label,
            "patient_id": [f"p{index}" for index in range(films)],
            "split": splits + ["test"] * (films - len(splits)),
            "source": [f"hospital {'ab'[index // 2 % sources]}" for index in range(films)],
        }
    )
    return PreparedSet(folder, images, manifest, Recipe(size=SIZE), "0" * 64)


def only(audit: dict) -> dict:
    (block,) = audit["sources"].values()
    return block


def test_a_network_that_looks_at_the_lungs_falls_without_them(tmp_path: Path) -> None:
    audit = shortcut_audit(model(LUNG), prepared(tmp_path), workers=1)
    block = only(audit)
    assert (audit["films"], audit["training_films"]) == (120, 120)
    assert block["network"]["estimate"] > 0.85
    assert block["lungs_blanked"]["estimate"] == pytest.approx(0.5, abs=0.15)
    assert block["border_only"]["estimate"] == pytest.approx(0.5, abs=0.15)
    assert block["can_show_anatomy"] is True
    assert block["network_less_baseline"]["estimate"] == pytest.approx(
        block["network"]["estimate"] - block["baseline"]["estimate"]
    )
    assert "above the" in audit["verdict"]
    assert "With the lungs blanked it falls to" in audit["verdict"]
    assert "no better than chance" in audit["verdict"]


def test_a_network_that_looks_at_the_corner_is_found_out(tmp_path: Path) -> None:
    audit = shortcut_audit(model(CORNER), prepared(tmp_path), workers=1)
    block = only(audit)
    assert block["lungs_blanked"]["estimate"] == pytest.approx(block["network"]["estimate"])
    assert block["border_only"]["estimate"] == pytest.approx(block["network"]["estimate"])
    assert "so it does not need the lungs" in audit["verdict"]
    assert "better than chance (0.5)." in audit["verdict"]


def test_few_films_show_nothing_surely(tmp_path: Path) -> None:
    films = prepared(tmp_path)
    films.manifest.loc[120:227, "split"] = "train"
    audit = shortcut_audit(model(LUNG), films, workers=1)
    block = only(audit)
    assert block["network_less_baseline"]["estimate"] > 0.05
    assert block["network_less_baseline"]["lower"] <= 0
    assert block["can_show_anatomy"] is False
    assert audit["verdict"].startswith("Too few films to show that the model reads anatomy: its AUROC of")


def test_a_network_that_is_not_above_chance_has_nothing_to_lose(tmp_path: Path) -> None:
    films = prepared(tmp_path)
    films.images[:] = np.random.default_rng(1).integers(90, 110, films.images.shape)
    audit = shortcut_audit(model(LUNG), films, workers=1)
    assert only(audit)["network"]["lower"] <= 0.5
    assert "which says little, since it is not surely better than chance (0.5) with them." in audit["verdict"]
    assert "does not need the lungs" not in audit["verdict"]


def test_a_set_that_its_files_give_away_cannot_show_anything(tmp_path: Path) -> None:
    audit = shortcut_audit(model(LUNG), prepared(tmp_path, quality=(80, 60)), workers=1)
    assert only(audit)["baseline"]["estimate"] > 0.95
    assert only(audit)["can_show_anatomy"] is False
    assert audit["verdict"].startswith("This set cannot show that the model reads anatomy:")


def test_several_sources_are_audited_each_and_their_mean_decides(tmp_path: Path) -> None:
    audit = shortcut_audit(model(LUNG), prepared(tmp_path, sources=2), workers=1)
    assert list(audit["sources"]) == ["hospital a", "hospital b"]
    for kind in ("network", "baseline", "lungs_blanked", "border_only"):
        alone = [block[kind]["estimate"] for block in audit["sources"].values()]
        assert audit["mean_over_sources"][kind]["estimate"] == pytest.approx(np.mean(alone))


def test_a_source_of_one_class_is_left_out_of_the_mean(tmp_path: Path) -> None:
    films = prepared(tmp_path, sources=2)
    films.manifest.loc[films.manifest["source"] == "hospital b", "label"] = 1
    audit = shortcut_audit(model(LUNG), films, workers=1)
    assert audit["mean_over_sources"]["network"]["estimate"] == audit["sources"]["hospital a"]["network"]["estimate"]
    assert audit["sources"]["hospital b"]["network"]["estimate"] is None


def test_without_the_films_the_network_is_audited_all_the_same(tmp_path: Path) -> None:
    films = prepared(tmp_path)
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    audit = shortcut_audit(model(LUNG), films, workers=1)
    assert "baseline" not in only(audit)
    assert only(audit)["can_show_anatomy"] is None
    assert "can no longer be read" in audit["verdict"]
    assert "With the lungs blanked it falls" in audit["verdict"]


def test_a_split_of_one_class_says_that_nothing_can_be_said(tmp_path: Path) -> None:
    films = prepared(tmp_path)
    films.manifest.loc[films.manifest["split"] == "test", "label"] = 1
    audit = shortcut_audit(model(LUNG), films, workers=1)
    assert only(audit)["network"]["estimate"] is None
    assert audit["verdict"].startswith("Nothing can be said of shortcuts")


def test_large_sets_are_audited_on_a_seeded_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrtriage.evaluate.audit.MOST_FILMS", 60)
    films = prepared(tmp_path)
    audit = shortcut_audit(model(LUNG), films, workers=1)
    assert (audit["films"], audit["training_films"]) == (60, 60)
    assert shortcut_audit(model(LUNG), films, workers=1) == audit


def test_a_split_without_films_is_refused(tmp_path: Path) -> None:
    films = prepared(tmp_path, films=60)
    films.manifest["split"] = "train"
    with pytest.raises(
        SourceError, match="has no test films to measure a model on; its manifest's split column has train"
    ):
        shortcut_audit(model(LUNG), films, workers=1)
