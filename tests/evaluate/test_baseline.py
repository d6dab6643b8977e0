"""The no-anatomy baseline finds a shortcut where there is one, and nothing where there is none."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxrtriage.evaluate.baseline import no_anatomy_baseline
from films import film_pixels


def films(folder: Path, number: int, quality: tuple[int, int], seed: int = 0) -> pd.DataFrame:
    """JPEG films that differ by their noise; normal and abnormal ones are written with a quality each."""
    rows = []
    for index in range(number):
        label, path = index % 2, folder / f"{seed}_{index}.jpg"
        pixels = film_pixels(72, 64, bits=8, seed=seed + index)
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality[label]])
        rows.append({"path": str(path), "label": label, "patient_id": f"p{index}"})
    return pd.DataFrame(rows)


def auroc(learn: pd.DataFrame, score: pd.DataFrame) -> float:
    return float(roc_auc_score(score["label"], no_anatomy_baseline(learn, score, workers=1).scores))


def test_a_class_that_was_saved_at_another_quality_is_told_apart(tmp_path: Path) -> None:
    learn, score = films(tmp_path, 60, (80, 70)), films(tmp_path, 40, (80, 70), seed=1000)
    baseline = no_anatomy_baseline(learn, score, workers=1)
    assert roc_auc_score(score["label"], baseline.scores) > 0.95
    assert roc_auc_score(score["label"], baseline.telling_scores) > 0.9
    assert baseline.telling
    assert baseline.facts > 40
    assert baseline.problem == ""


def test_films_that_were_made_alike_are_not(tmp_path: Path) -> None:
    learn, score = films(tmp_path, 80, (80, 80)), films(tmp_path, 120, (80, 80), seed=1000)
    assert auroc(learn, score) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("column", "of_normal", "of_abnormal"),
    [("view_position", "PA", "AP"), ("age", 30, 60), ("source", "here", "there"), ("age", np.nan, 60)],
)
def test_the_manifest_is_used_too(tmp_path: Path, column: str, of_normal: object, of_abnormal: object) -> None:
    learn, score = films(tmp_path, 60, (80, 80)), films(tmp_path, 40, (80, 80), seed=1000)
    for table in (learn, score):
        table[column] = np.where(table["label"] > 0, of_abnormal, of_normal)
    assert auroc(learn, score) > 0.99


def test_the_same_seed_gives_the_same_scores(tmp_path: Path) -> None:
    learn, score = films(tmp_path, 40, (80, 60)), films(tmp_path, 10, (80, 60), seed=1000)
    first, second = (no_anatomy_baseline(learn, score, workers=1).scores for _ in range(2))
    assert (first == second).all()


def test_films_that_can_no_longer_be_read_are_told(tmp_path: Path) -> None:
    learn, score = films(tmp_path, 40, (80, 60)), films(tmp_path, 10, (80, 60), seed=1000)
    learn.loc[:4, "path"] = str(tmp_path / "gone.jpg")
    assert auroc(learn, score) > 0.5  # a few are no matter
    learn["path"] = str(tmp_path / "gone.jpg")
    baseline = no_anatomy_baseline(learn, score, workers=1)
    assert baseline.scores is None
    assert "40 of 50 can no longer be read, such as" in baseline.problem


def test_too_few_films_to_learn_from_are_told(tmp_path: Path) -> None:
    table = films(tmp_path, 12, (80, 60))
    baseline = no_anatomy_baseline(table, table, workers=1)
    assert baseline.scores is None
    assert baseline.problem == (
        "The no-anatomy baseline needs at least 10 training films of each class, found 6 abnormal and 6 normal."
    )
