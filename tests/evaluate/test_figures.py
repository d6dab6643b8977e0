"""Figures are written whole, small, as vector and as picture, and never through global state."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrtriage.config import Recipe
from cxrtriage.evaluate.evaluation import evaluate_predictions, measured_films
from cxrtriage.evaluate.figures import draw_curves, draw_equalisation, draw_evaluation
from cxrtriage.records import SourceImage
from films import film_pixels
from prediction_tables import made_up_predictions


def check(path: Path, most_kib: int = 150) -> str:
    """Check both files of a figure and return the text in the SVG."""
    svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
    root = ElementTree.parse(svg).getroot()
    assert root.tag.endswith("svg")
    assert svg.stat().st_size < most_kib * 1024
    picture = cv2.imread(str(png))
    assert min(picture.shape[:2]) > 300
    assert (picture[0, 0] == 255).all()  # a light background
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20  # something is drawn
    return " ".join(root.itertext())


@pytest.mark.parametrize(("sources", "emergent"), [(1, False), (1, True), (3, False)])
def test_an_evaluation_is_drawn(tmp_path: Path, sources: int, emergent: bool) -> None:
    table = made_up_predictions(200, sources=sources, emergent=emergent)
    metrics = evaluate_predictions(table, resamples=100)
    draw_evaluation(measured_films(table, metrics), metrics, tmp_path)
    text = {name: check(tmp_path / name) for name in ("confusion", "roc", "calibration", "scores")}
    for block in metrics["every_film"]["sources"].values():
        auroc = block["figures"]["auroc"]
        assert f"AUROC {auroc['estimate']:.3f} ({auroc['lower']:.3f}–{auroc['upper']:.3f})" in text["roc"]
    for row in metrics["every_film"]["all"]["confusion"]:
        assert all(str(count) in text["confusion"] for count in row)
    assert ("emergent" in text["scores"]) == emergent
    assert ("hospital c" in text["calibration"]) == (sources == 3)


def test_curves_that_need_both_classes_are_left_out_where_there_is_one(tmp_path: Path) -> None:
    table = pd.DataFrame({"label": [1, 1, 1], "probability": [0.2, 0.5, 0.9]})
    metrics = evaluate_predictions(table, resamples=100)
    draw_evaluation(measured_films(table, metrics), metrics, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == ["confusion.svg", "scores.svg"]


@pytest.mark.parametrize("probabilities", [[0.5] * 6, [0.0, 1.0] * 3, [0.1, 0.1, 0.1, 0.9, 0.9, 0.9]])
def test_degenerate_predictions_are_drawn_too(tmp_path: Path, probabilities: list[float]) -> None:
    table = pd.DataFrame({"label": [0, 0, 0, 1, 1, 1], "probability": probabilities})
    metrics = evaluate_predictions(table, resamples=100)
    draw_evaluation(measured_films(table, metrics), metrics, tmp_path)
    check(tmp_path / "roc")
    check(tmp_path / "calibration")


@pytest.mark.parametrize("epochs", [1, 40])
def test_training_curves_are_drawn_with_and_without_an_auroc(tmp_path: Path, epochs: int) -> None:
    columns = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    history = pd.DataFrame({name: np.linspace(0.4, 0.8, epochs) for name in columns})
    history = history.assign(epoch=range(1, epochs + 1), validation_auroc=np.nan)
    draw_curves(history, tmp_path / "curves")
    assert "validation AUROC" in check(tmp_path / "curves")


def test_films_are_drawn_before_and_after_equalisation(tmp_path: Path) -> None:
    films = [SourceImage(film_pixels(600, 500, bits=12), bits=12), SourceImage(film_pixels(100, 100, bits=8), bits=8)]
    films.append(SourceImage(film_pixels(90, 80, bits=12).astype(np.int16) - 2000, bits=12))
    titles = ["twelve bits", "eight bits", "signed"]
    draw_equalisation(films, Recipe(size=64), titles, tmp_path / "equalisation")
    text = check(tmp_path / "equalisation", most_kib=400)
    assert all(title in text for title in titles)
    assert "Equalised, 64 × 64" in text


def test_the_same_figures_are_the_same_files(tmp_path: Path) -> None:
    table = made_up_predictions(60)
    metrics = evaluate_predictions(table, resamples=50)
    for folder in ("a", "b"):
        draw_evaluation(measured_films(table, metrics), metrics, tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_drawing_leaves_the_global_state_of_matplotlib_alone() -> None:
    code = "import sys, cxrtriage.evaluate.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
