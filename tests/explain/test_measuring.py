"""All methods scored on a network whose reasons are known: the bright square."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bright_square import bright_model, bright_set
from cxrtriage.errors import ModelError, SourceError
from cxrtriage.explain.attribution import METHODS
from cxrtriage.explain.measuring import measure_explanations
from cxrtriage.explain.scoreboard import scoreboard


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measure_explanations(bright_model(), bright_set(tmp_path_factory.mktemp("set")), films=6)


def test_all_methods_have_all_figures_and_json_can_hold_them(measured: dict[str, Any]) -> None:
    assert tuple(measured["methods"]) == METHODS
    assert measured["films"] == 6
    for figures in measured["methods"].values():
        for name in ("peak_in_lesion", "mass_ratio", "deletion", "insertion", "randomisation", "noise_stability"):
            assert set(figures[name]) == {"estimate", "lower", "upper"}
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_methods_find_the_square_that_the_network_reads_and_chance_does_not(measured: dict[str, Any]) -> None:
    chance = measured["references"]["chance"]
    assert chance["mass_ratio"]["estimate"] == pytest.approx(1)
    assert chance["mass_in_lesion"]["estimate"] == pytest.approx(900 / 128**2)
    for name, figures in measured["methods"].items():
        assert figures["peak_in_lesion"]["estimate"] == 1, name
        assert figures["mass_ratio"]["estimate"] > 3, name
        assert figures["over_random"]["lower"] > 0, name
    assert measured["lesions"] == {"films": 6, "median_area_share": pytest.approx(900 / 128**2)}


def test_the_harder_fixed_map_is_no_better_than_luck_where_squares_lie_anywhere(measured: dict[str, Any]) -> None:
    centre = measured["references"]["centre"]
    assert centre["peak_in_lesion"]["estimate"] <= 0.5
    assert centre["map"] in measured["reason"]


def test_symmetry_is_measured_by_class_and_from_both_sides(measured: dict[str, Any]) -> None:
    symmetry = measured["symmetry"]
    kinds = [(row["class"], row["region"]) for row in symmetry["untouched"]]
    assert kinds == [(kind, region) for region in ("whole", "lungs") for kind in ("normal", "abnormal", "difference")]
    for rows in (symmetry["step"], symmetry["difference_image"]):
        assert len(rows) == 8  # from two classes, in two forms, over two regions
        assert all(row["films"] <= row["driven"] for row in rows)
    driven = [row for row in symmetry["step"] if row["films"]]
    assert driven
    for row in driven:
        assert row["change"]["estimate"] == pytest.approx(row["after"]["estimate"] - row["before"]["estimate"])
        assert row["excess"]["estimate"] == pytest.approx(row["change"]["estimate"] - row["random_change"]["estimate"])
    assert "claim" in symmetry["sentence"]


def test_recommended_is_a_method_that_is_not_exposed(measured: dict[str, Any]) -> None:
    sound = [name for name, figures in measured["methods"].items() if not figures["exposed"]]
    assert not sound or measured["recommended"] in sound
    assert measured["recommended"] in measured["reason"]


@pytest.mark.slow
def test_same_seed_gives_the_same_table_and_leaves_model_and_films_as_they_were(
    tmp_path: Path, measured: dict[str, Any]
) -> None:
    def timeless(table: dict[str, Any]) -> dict[str, Any]:
        methods = {name: {**figures, "seconds_a_film": 0} for name, figures in table["methods"].items()}
        return {**table, "methods": methods}

    model, prepared = bright_model(), bright_set(tmp_path)
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    images = np.array(prepared.images)
    assert timeless(measure_explanations(model, prepared, films=6)) == timeless(measured)
    assert all(tensor.equal(model.network.state_dict()[name]) for name, tensor in weights.items())
    assert not model.network.training
    np.testing.assert_array_equal(prepared.images, images)


def test_without_lesions_faithfulness_decides(tmp_path: Path) -> None:
    measured = measure_explanations(bright_model(), bright_set(tmp_path, lesions=False), films=3)
    assert measured["lesions"] is None
    assert all(figures["peak_in_lesion"] is None for figures in measured["methods"].values())
    assert measured["reason"].startswith("Insertion less deletion")


def test_terminal_table_shows_every_method_and_the_reason(measured: dict[str, Any]) -> None:
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(scoreboard(json.loads(json.dumps(measured))))
    text = capture.get()
    for words in ("grad-cam", "occlusion", "chance", "Recommended", "peak in lesion", "symmetry"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 80
    assert "nan" not in text
    assert "None" not in text


def test_other_recipe_or_empty_split_is_refused(tmp_path: Path) -> None:
    model, prepared = bright_model(), bright_set(tmp_path)
    with pytest.raises(SourceError, match="has no validation films"):
        measure_explanations(model, prepared, split="validation")
    other = model.card.model_copy(update={"recipe": model.card.recipe.model_copy(update={"fit": "pad"})})
    with pytest.raises(ModelError, match="expects films prepared with"):
        measure_explanations(type(model)(model.network, other), prepared)
