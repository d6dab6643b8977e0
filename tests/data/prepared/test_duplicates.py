"""Films that are in a set twice are found, under another size, file format or grey-level curve too."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.labels.manifest import read_manifest
from cxrtriage.data.prepared.duplicates import NEAR, THUMBNAIL, duplicates_sentence, find_duplicates
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.records import SourceImage
from films import REAL_FILMS


def made_up_films(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """Return (count, size, size) uint8 pictures that differ like films: in their coarse structure."""
    coarse = np.random.default_rng(seed).normal(size=(count, 8, 8)).astype(np.float32)
    films = np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in coarse])
    return (127 + 40 * films).clip(0, 255).astype(np.uint8)


def rows(count: int, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"/{number}.png" for number in range(count)], "label": 0, **columns})


def prepared(pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    return prepare_film(SourceImage(pixels=pixels, bits=8), recipe)


def pairs(found: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(found["path_a"], found["path_b"], strict=True))


def test_equal_films_are_exact_and_slightly_changed_ones_near() -> None:
    films = made_up_films(6)
    films[4] = films[1]
    films[5] = films[2]
    films[5, 10, 10] ^= 64
    found = find_duplicates(films, rows(6, label=[0, 1, 0, 0, 0, 0], split=["train"] * 4 + ["test"] * 2))
    assert found.to_dict("list") == {
        "path_a": ["/1.png", "/2.png"],
        "path_b": ["/4.png", "/5.png"],
        "kind": ["exact", "near"],
        "split_a": ["train", "train"],
        "split_b": ["test", "test"],
        "label_a": [1, 0],
        "label_b": [0, 0],
    }


def test_the_same_pairs_are_found_as_by_comparing_all_with_all() -> None:
    films = made_up_films(300)
    random = np.random.default_rng(1)
    for target, strength in zip(range(200, 300), np.linspace(0, 10, 100), strict=True):  # from equal to unlike
        noise = cv2.resize(random.normal(0, strength, (12, 12)), (64, 64))
        films[target] = (films[target - 200] + noise).clip(0, 255)
    small = [cv2.resize(film, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel() for film in films]
    correlation = np.triu(np.corrcoef(np.array(small, dtype=float)), 1)
    expected = {(f"/{a}.png", f"/{b}.png") for a, b in np.argwhere(correlation >= NEAR)}
    assert 20 < len(expected) < 90
    assert pairs(find_duplicates(films, rows(300))) == expected


def test_films_of_one_thumbnail_are_each_paired_with_the_first() -> None:
    films = made_up_films(5)
    films[[2, 3, 4]] = films[1]
    assert pairs(find_duplicates(films, rows(5))) == {("/1.png", "/2.png"), ("/1.png", "/3.png"), ("/1.png", "/4.png")}


def test_only_one_draw_of_a_film_is_compared() -> None:
    films = made_up_films(2)[[0, 0, 1]]
    assert find_duplicates(films, rows(3, draw=[0, 1, 0])).empty


@pytest.mark.parametrize("count", [0, 1, 2])
def test_sets_of_a_film_or_two_have_no_duplicates(count: int) -> None:
    assert find_duplicates(made_up_films(2)[:count], rows(count)).empty


def test_constant_films_are_like_no_other() -> None:
    films = made_up_films(4)
    films[0], films[1] = 7, 9
    assert find_duplicates(films, rows(4)).empty


def test_images_and_rows_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="got 3 images and 2 manifest rows"):
        find_duplicates(made_up_films(3), rows(2))


def test_the_sentence_counts_films_splits_and_labels() -> None:
    films = made_up_films(7)
    films[[1, 2]] = films[0]
    films[4] = films[3]
    manifest = rows(7, label=[0, 0, 0, 1, 0, 0, 0], split=["train", "train", "test", "train", "train", "test", "test"])
    assert duplicates_sentence(find_duplicates(films, manifest)) == (
        "2 films are in the set more than once, as 5 files; 1 in more than one split; 1 with different labels. "
        "Remove the copies or give them one patient_id: as it is, the figures are too good."
    )
    one = find_duplicates(films[:2], rows(2))
    assert duplicates_sentence(one) == "1 film is in the set more than once, as 2 files."


# -- on real films ----------------------------------------------------------------------------------------------

random_recipe = Recipe(size=96, downsample="random")


def real(name: str) -> pd.DataFrame:
    if not (REAL_FILMS / name).exists():
        pytest.skip(f"the real films {REAL_FILMS / name} are not here")
    return read_manifest(REAL_FILMS / name / "labels.csv")


def prepare_all(paths: Iterable[str]) -> np.ndarray:
    return np.stack([prepare_film(read_film(Path(path)), random_recipe) for path in paths])


def test_every_film_of_two_real_sets_is_recognised_and_no_other_pair_is_made() -> None:
    """ChestX-ray14 as 512-pixel PNG and as 128-pixel JPEG; most others are further films of the same patients."""
    large, small = real("nih"), real("nih128")
    shared = set(large["path"].map(stem)) & set(small["path"].map(stem))
    assert len(shared) == 408
    large = large[large["path"].map(stem).isin(shared)].iloc[::3]
    small = small[small["patient_id"].isin(large["patient_id"])].groupby("patient_id").head(12)
    manifest = pd.concat([large, small], ignore_index=True)
    found = find_duplicates(prepare_all(manifest["path"]), manifest)
    expected = {(a, b) for a in large["path"] for b in small["path"] if stem(a) == stem(b)}
    assert len(expected) > 100
    assert pairs(found) == expected
    assert set(found["kind"]) == {"near"}


def test_a_real_film_is_recognised_after_another_coding_but_not_after_mirroring() -> None:
    paths = real("nih")["path"].iloc[:40]
    films = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in paths]
    changes = {
        "JPEG": [cv2.imdecode(cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 0) for film in films],
        "size": [cv2.resize(film, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA) for film in films],
        "curve": [(255 * np.sqrt(np.arange(256) / 255)).astype(np.uint8)[film] for film in films],
        "mirror": [film[:, ::-1].copy() for film in films],
    }
    base = np.stack([prepared(film, random_recipe) for film in films])
    for change, changed in changes.items():
        found = find_duplicates(np.concatenate((base, [prepared(film, random_recipe) for film in changed])), rows(80))
        expected = set() if change == "mirror" else {(f"/{n}.png", f"/{n + 40}.png") for n in range(40)}
        assert pairs(found) == expected, change


def stem(path: str) -> str:
    return Path(path).stem
