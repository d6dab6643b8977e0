"""Converted networks are kept, and what is kept never changes a score or stops one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxrtriage.config import Recipe
from cxrtriage.engines import engine_of_file, openvino_engine, torch_engine
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import Model, load_model, save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.model.converted import KEPT, cache_folder, convert
from films import film_pixels, write_png

FILMS = np.random.default_rng(0).integers(0, 256, (3, 128, 128), dtype=np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = build_network("googlenet", 2, 128, auxiliary=False)
    save_model(path, network, ModelCard(architecture="googlenet", recipe=Recipe(size=128)))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def logits(file: Path) -> np.ndarray:
    return engine_of_file(file, "openvino")[1](FILMS)


def test_first_and_later_starts_give_what_pytorch_gives_and_damage_is_mended(file: Path, cache: Path) -> None:
    expected = torch_engine(load_model(file))(FILMS)
    tolerance = 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(logits(file), expected, atol=tolerance)
    (kept,) = cache.iterdir()
    np.testing.assert_allclose(logits(file), expected, atol=tolerance)
    weights = kept / "network.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    np.testing.assert_allclose(logits(file), expected, atol=tolerance)
    assert weights.stat().st_size > 1_000_000


def test_other_weights_are_another_network_and_the_longest_unused_ones_go(
    file: Path, cache: Path, tmp_path: Path
) -> None:
    cache.mkdir(parents=True)
    for age in range(KEPT + 2):
        (cache / f"old{age}").mkdir()
        os.utime(cache / f"old{age}", (1000 - age, 1000 - age))
    logits(file)
    kept = {folder.name for folder in cache.iterdir()}
    assert len(kept) == KEPT
    assert {"old0", "old1", "old2"} < kept
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_model(other, build_network("googlenet", 2, 128, auxiliary=False), load_model(file).card)
    assert not np.allclose(logits(other), logits(file))


def test_results_are_the_same_to_the_last_bit_at_any_start_in_any_batch_with_any_number_of_threads(
    file: Path, cache: Path
) -> None:
    """So a row does not depend on which machine made it, or where an interrupted table went on."""
    first = logits(file)
    np.testing.assert_array_equal(logits(file), first)
    _, run = engine_of_file(file, "openvino", threads=1)
    np.testing.assert_array_equal(np.concatenate([run(FILMS[:1]), run(FILMS[1:])]), first)


def test_where_nothing_can_be_kept_films_are_scored_all_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "occupied").write_text("a file, where a folder would be needed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "occupied"))
    assert logits(file).shape == (3, 2)


def test_a_second_start_scores_without_pytorch(file: Path, cache: Path, tmp_path: Path) -> None:
    film = write_png(tmp_path / "film.png", film_pixels(150, 150, bits=8))
    script = f"""
import sys
from cxrtriage.cli import main
sys.argv = ["cxrtriage", "score", {str(film)!r}, "--model", {str(file)!r}, "--out", {str(tmp_path / "scores.csv")!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("torch" in sys.modules)
"""
    rows = []
    for loaded in ("True", "False"):
        run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert run.stdout.splitlines()[-1] == loaded
        rows.append((tmp_path / "scores.csv").read_text())
    assert rows[0] == rows[1]
    assert cache.exists()


@pytest.mark.parametrize(
    ("pool", "simplified"),
    [
        (nn.MaxPool2d(3, 2), True),
        (nn.MaxPool2d(3, 2, ceil_mode=True), True),
        (nn.MaxPool2d(3, 1, padding=1), True),
        (nn.MaxPool2d(3, 2, dilation=2), False),
        (nn.MaxPool2d(2, 3, padding=1, ceil_mode=True), False),  # a last window would lie in the padding alone
    ],
)
def test_poolings_give_what_those_of_pytorch_give_and_places_only_where_they_must(
    pool: nn.MaxPool2d, simplified: bool
) -> None:
    torch.manual_seed(0)
    pooled = pool(torch.zeros(1, 1, 64, 64)).numel()
    network = nn.Sequential(pool, nn.Flatten(), nn.Linear(pooled, 2)).eval().requires_grad_(False)
    model = Model(network, ModelCard(architecture="googlenet", recipe=Recipe(size=64)))
    films = FILMS[:, :64, :64]
    np.testing.assert_allclose(openvino_engine(model)(films), torch_engine(model)(films), atol=1e-5)
    (found,) = [node for node in convert(model).get_ordered_ops() if node.get_type_name() == "MaxPool"]
    assert len(found.outputs()) == (1 if simplified else 2)
