"""Class folders and tables become one checked manifest, which is saved, read back and hashed."""

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrtriage.data.labels.manifest import (
    check_manifest,
    manifest_from_folders,
    manifest_hash,
    read_labelled,
    read_manifest,
    save_manifest,
)
from cxrtriage.data.labels.table import read_table
from cxrtriage.errors import ConfigError, SourceError
from films import REAL_FILMS
from label_tables import films, make_set

# -- class folders ----------------------------------------------------------------------------------------------


def test_class_folders_become_labels(tmp_path: Path) -> None:
    for name in (
        "Normal/a.png",
        "ABNORMAL/p1/b.dcm",
        "emergent/c.tif",
        "Normal/notes.csv",
        "readme.txt",
        ".cache/d.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    manifest = read_labelled(tmp_path)
    assert dict(zip(manifest["patient_id"], manifest["label"], strict=True)) == {
        "Normal/a.png": 0,
        "ABNORMAL/p1/b.dcm": 1,
        "emergent/c.tif": 2,
    }


def test_a_relative_folder_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_set(tmp_path, films=("normal/a.png",))
    monkeypatch.chdir(tmp_path)
    assert manifest_from_folders(Path())["path"].tolist() == [str(tmp_path / "normal/a.png")]


@pytest.mark.parametrize(
    ("films", "message"),
    [
        (
            ("normal/a.png", "sick/b.png", "odd/c.png"),
            "holds the folders odd, sick, expected normal, abnormal, emergent",
        ),
        (("a.png",), "holds no folders, expected normal, abnormal, emergent"),
        (("normal/a.txt",), "the folders normal in .* hold no films"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, films: tuple[str, ...], message: str) -> None:
    make_set(tmp_path, films=films)
    with pytest.raises(SourceError, match=message):
        manifest_from_folders(tmp_path)


def test_a_film_whose_name_no_table_can_hold_is_refused(tmp_path: Path) -> None:
    make_set(tmp_path, films=("normal/a.png", "abnormal/b.png"))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/abnormal/f\xff0.tif")).touch()
    with pytest.raises(SourceError, match=r"the name of the film '.*f\\udcff0\.tif' is not UTF-8"):
        manifest_from_folders(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no folder"):
        manifest_from_folders(tmp_path / "nowhere")


def test_an_unknown_public_set_is_refused_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no public set 'nhi', expected one of nih, chexpert"):
        read_labelled(tmp_path, public_set="nhi")


# -- saving and hashing -----------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=8).filter(
    lambda text: text.strip() and text.strip().lower() not in {"na", "n/a", "nan", "null", "none"}
)


@st.composite
def manifests(draw: st.DrawFn) -> pd.DataFrame:
    count = draw(st.integers(1, 6))

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=count, max_size=count))

    rows = {
        "path": [f"/films/{number % 2}/{number}.png" for number in range(count)],
        "label": column(st.integers(0, 2)),
        "patient_id": column(texts),
        "source": column(st.none() | texts),
        "age": column(st.none() | st.floats(0, 130)),
        "p_abnormal": column(st.none() | st.floats(0, 1)),
    }
    return check_manifest(pd.DataFrame(rows))


@settings(deadline=None, max_examples=50)
@given(manifest=manifests(), suffix=st.sampled_from(["csv", "parquet"]))
def test_a_saved_manifest_reads_back_the_same(
    manifest: pd.DataFrame, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("saved") / f"manifest.{suffix}"
    digest = save_manifest(manifest, path)
    again = check_manifest(read_table(path))
    assert manifest_hash(again) == digest
    given = [column for column in manifest if manifest[column].notna().any()]
    pd.testing.assert_frame_equal(again[given], manifest[given])


@settings(deadline=None, max_examples=50)
@given(manifest=manifests(), data=st.data())
def test_the_hash_does_not_depend_on_order_or_on_carried_columns(manifest: pd.DataFrame, data: st.DataObject) -> None:
    rows = data.draw(st.permutations(range(len(manifest))))
    columns = data.draw(st.permutations(list(manifest.columns)))
    other = manifest.iloc[rows][columns].assign(note="carried", study_id=None)
    assert manifest_hash(other) == manifest_hash(manifest)


def test_the_hash_changes_with_what_the_manifest_says() -> None:
    base = films(split=["train", "test"], source=["x", "x"])
    changed = [
        base.assign(label=[0, 1]),
        base.assign(patient_id=["a", "c"]),
        base.assign(split=["test", "train"]),
        base.assign(source=["x", "y"]),
        base.assign(age=[50, None]),
        base.assign(path=["/films/0.png", "/films/2.png"]),
        base.iloc[:1],
    ]
    hashes = {manifest_hash(check_manifest(rows)) for rows in [base, *changed]}
    assert len(hashes) == 1 + len(changed)


def test_the_hash_stays_when_the_folder_is_moved() -> None:
    base = check_manifest(films(lung_mask=["/films/m/0.png", None]))
    moved = base.assign(
        path=base["path"].str.replace("/films", "/mnt/disk/films"),
        lung_mask=base["lung_mask"].str.replace("/films", "/mnt/disk/films"),
    )
    assert manifest_hash(moved) == manifest_hash(base)


def test_single_films_with_different_names_have_different_hashes() -> None:
    one, other = films(path=["/x/a.png"]), films(path=["/x/b.png"])
    assert manifest_hash(check_manifest(one)) != manifest_hash(check_manifest(other))


def test_a_manifest_is_saved_only_as_csv_or_parquet(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.csv or \.parquet"):
        save_manifest(check_manifest(films()), tmp_path / "manifest.xlsx")


@pytest.mark.parametrize(
    ("name", "labels", "patients", "masks"),
    [
        ("nih", {0: 352, 1: 330}, 460, 0),
        ("nih128", {0: 4024, 1: 2739}, 1786, 0),
        ("shenzhen", {0: 251, 1: 255}, 506, 429),
        ("guangzhou", {0: 1340, 1: 3850}, 3721, 0),
    ],
)
def test_the_real_sets_are_read_whole(name: str, labels: dict[int, int], patients: int, masks: int) -> None:
    folder = REAL_FILMS / name
    if not folder.exists():
        pytest.skip(f"the real films {folder} are not here")
    manifest = read_manifest(folder / "labels.csv", folder / "images")
    assert manifest["label"].value_counts().to_dict() == labels
    assert manifest["patient_id"].nunique() == patients
    assert all(Path(path).is_file() for path in manifest["path"])
    assert ("lung_mask" in manifest and manifest["lung_mask"].notna().sum()) == masks
