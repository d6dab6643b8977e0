"""An experiment's films: split by patient, with both classes everywhere, numbered the same wherever they lie."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import ConfigError
from cxrtriage.experiments.films import prepare_films, read_films, recipe_name, with_split
from cxrtriage.experiments.settings import ExperimentSettings
from experiments.made_up import make_films
from films import film_pixels, write_png

SETTINGS = ExperimentSettings(size=128)


def save(folder: Path, **columns: object) -> Path:
    """Write a manifest of films that are there."""
    films = make_films(24, 2, test=8, validation=8).manifest.drop(columns=["film_number", "patient_number"])
    films["path"] = [f"films/{number:02}.png" for number in range(len(films))]
    (folder / "films").mkdir(parents=True)
    for number, path in enumerate(films["path"]):
        write_png(folder / path, film_pixels(40, 40, bits=8, seed=number))
    for name, values in columns.items():
        films[name] = values
    films.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_films_and_patients_keep_their_numbers_when_the_set_moves_or_its_rows_are_shuffled(tmp_path: Path) -> None:
    first = read_films(save(tmp_path / "a"), SETTINGS)
    table = pd.read_csv(save(tmp_path / "elsewhere"))
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "elsewhere" / "manifest.csv", index=False)
    second = read_films(tmp_path / "elsewhere" / "manifest.csv", SETTINGS)
    assert first.hash == second.hash
    for column in ("label", "split", "film_number", "patient_number"):
        assert (first.manifest[column] == second.manifest[column]).all()


def test_fewer_films_are_whole_patients_of_both_classes_and_other_splits_stay(tmp_path: Path) -> None:
    path = save(tmp_path)
    table = pd.read_csv(path)
    table.loc[table["split"] == "validation", "split"] = "train"
    table.loc[table.index[16:24], "split"] = "validation"
    table.to_csv(path, index=False)
    whole = read_films(path, SETTINGS)
    fewer = read_films(path, ExperimentSettings.model_construct(films=12, quick=False))
    assert len(fewer.rows("train")) == 12
    assert len(fewer.rows("test")) == len(whole.rows("test"))
    assert (fewer.manifest.groupby("patient_id").size() == 2).all()
    assert fewer.hash != whole.hash


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": None}, "has no column split, which experiments need"),
        ({"split": "train"}, "0 normal and 0 abnormal films for validation, expected at least 4 of each"),
        ({"split_by": "image"}, "is split by image, expected by patient"),
    ],
)
def test_films_that_cannot_be_used_are_refused(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_films(save(tmp_path, **columns), SETTINGS)


def test_runs_share_images_and_differ_in_who_is_trained_on(tmp_path: Path) -> None:
    films = read_films(save(tmp_path / "set"), SETTINGS)
    prepared = prepare_films(films, Recipe(size=32), tmp_path / "out", workers=1)
    assert isinstance(prepared, PreparedSet)
    split = films.manifest["split"].to_numpy().astype(str)
    same, fewer = with_split(prepared, split), with_split(prepared, np.where(np.arange(48) == 40, "", split))
    assert fewer.images is prepared.images
    assert (fewer.manifest["split"] == "train").sum() == (same.manifest["split"] == "train").sum() - 1
    assert len({prepared.source_hash, same.source_hash, fewer.source_hash}) == 3


def test_a_recipe_s_name_tells_recipes_apart() -> None:
    recipes = [
        Recipe(size=size, contrast=contrast, downsample=downsample)  # type: ignore[arg-type]
        for size in (128, 224)
        for contrast in ("equalise", "none", "clahe")
        for downsample in ("random", "area")
    ]
    assert len({recipe_name(recipe) for recipe in recipes}) == len(recipes)
