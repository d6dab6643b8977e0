"""Which cases are shown, and that table and pictures fit the report's contract."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxrtriage.config import Recipe
from cxrtriage.evaluate.predicting import predictions_table
from cxrtriage.explain.cases import choose_cases, choose_typical, place_of, write_cases
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import probabilities
from cxrtriage.records import Calibration
from prepared_sets import TinyNetwork, make_prepared

COLUMNS = ["kind", "path", "label", "probability", "decision", "method"]
COLUMNS += ["picture", "before", "after", "reached", "sentence"]


def table(**columns: list[object]) -> pd.DataFrame:
    frame = pd.DataFrame({"path": [f"/f/{i}" for i in range(len(columns["label"]))], **columns})
    return frame.assign(decision=np.where(frame["probability"] >= 0.5, "abnormal", "normal"))


def test_the_surest_right_and_wrong_calls_are_chosen_one_a_patient() -> None:
    films = table(
        label=[1, 1, 2, 1, 0, 0, 0, 0],
        probability=[0.9, 0.99, 0.8, 0.1, 0.2, 0.05, 0.6, 0.7],
        patient_id=["a", "a", "b", "c", "d", "e", "f", "f"],
    )
    chosen = {kind: rows["path"].tolist() for kind, rows in choose_cases(films).items()}
    assert chosen == {
        "most_sure_abnormal": ["/f/1", "/f/2"],
        "most_sure_normal": ["/f/5", "/f/4"],
        "missed": ["/f/3"],
        "false_alarm": ["/f/7"],
    }


def test_typical_films_lie_at_the_median_of_those_called_rightly() -> None:
    films = table(label=[1, 1, 1, 1, 0], probability=[0.99, 0.8, 0.6, 0.2, 0.1])
    chosen = choose_typical(films, films=1)
    assert chosen[1]["path"].tolist() == ["/f/1"]
    assert chosen[0]["path"].tolist() == ["/f/4"]


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
def test_each_ninth_of_a_picture_has_its_name(row: int, column: int) -> None:
    heat = np.zeros((9, 9))
    heat[3 * row + 1, 3 * column + 1] = 1
    names = [["upper left", "upper centre", "upper right"], ["middle left", "centre", "middle right"]]
    names.append(["lower left", "lower centre", "lower right"])
    assert place_of(heat) == f"in the {names[row][column]} of the picture"


def test_a_single_bright_pixel_is_no_place() -> None:
    heat = np.zeros((9, 9))
    heat[:3, :3] = 1
    heat[8, 8] = 5
    assert place_of(heat) == "in the upper left of the picture"


@pytest.mark.parametrize("method", ["grad-cam", "opposite"])
def test_table_and_pictures_are_as_the_report_reads_them(tmp_path: Path, method: str) -> None:
    prepared = make_prepared(tmp_path / "prepared", train=0, validation=12, split=["test"] * 12)
    torch.manual_seed(2)
    network = TinyNetwork("tiny", 2, 128).eval().requires_grad_(False)
    blank = Model(network, ModelCard(architecture="tiny", recipe=Recipe(size=128)))
    middle = float(np.median(np.log(1 / (1 / probabilities(blank, prepared.images) - 1))))
    card = blank.card.model_copy(update={"calibration": Calibration(intercept=-middle)})  # half is called abnormal
    model = Model(network, card)
    write_cases(model, prepared, predictions_table(model, prepared, "test"), tmp_path, method=method)
    cases = pd.read_csv(tmp_path / "cases.csv")
    assert cases.columns.tolist() == COLUMNS
    assert cases["picture"].is_unique
    for picture in cases["picture"]:
        with Image.open(tmp_path / "cases" / picture) as opened:
            assert opened.format == "WEBP"
    opposite = cases["kind"].str.startswith("opposite")
    assert (cases.loc[~opposite, "method"] == method).all()
    assert cases.loc[~opposite, ["before", "after", "reached"]].isna().all(axis=None)
    assert cases.loc[opposite, ["before", "after", "reached"]].notna().all(axis=None)
    noise = cases[cases["path"].isna()]
    assert sorted(noise["kind"].unique()) == ["opposite_from_noise_to_abnormal", "opposite_from_noise_to_normal"]
    for form in ("plain", "film-like"):
        assert (noise["picture"].str.endswith(f"{form}.webp")).sum() == 2
    assert cases["sentence"].str.endswith(".").all()
    assert not cases["sentence"].str.contains("/films/").any()
