"""Where a row's film lies: what is found by its path, by its name, and what is not."""

from pathlib import Path

import pytest

from cxrtriage.data.labels.manifest import (
    read_manifest,
)
from cxrtriage.errors import SourceError
from label_tables import make_set


def test_a_path_is_looked_up_below_the_images_first(tmp_path: Path) -> None:
    table = make_set(tmp_path, films=("a.png", "b.png", "elsewhere/a.png"))
    manifest = read_manifest(table, tmp_path / "elsewhere")
    assert manifest["path"].tolist() == [str(tmp_path / "elsewhere/a.png"), str(tmp_path / "b.png")]


def test_a_path_is_looked_up_by_its_file_name_last(tmp_path: Path) -> None:
    table = make_set(tmp_path / "tables", films=("../films/1/a.png", "../films/2/b.png"))
    manifest = read_manifest(table, tmp_path / "films")
    assert manifest["path"].tolist() == [str(tmp_path / "films/1/a.png"), str(tmp_path / "films/2/b.png")]


def test_a_film_converted_to_another_format_is_found_by_its_name(tmp_path: Path) -> None:
    table = make_set(tmp_path, films=("small/a.JPG", "small/b.dcm", "small/b.txt"))
    manifest = read_manifest(table, tmp_path / "small")
    assert [Path(path).name for path in manifest["path"]] == ["a.JPG", "b.dcm"]


def test_absolute_paths_and_paths_from_windows_are_taken(tmp_path: Path) -> None:
    text = f"path,label\n{tmp_path}/x/a.png,0\nx\\b.png,1\n"
    manifest = read_manifest(make_set(tmp_path, text, ("x/a.png", "x/b.png")))
    assert manifest["path"].tolist() == [str(tmp_path / "x/a.png"), str(tmp_path / "x/b.png")]


def test_a_file_name_that_is_there_twice_is_refused_with_both_paths(tmp_path: Path) -> None:
    table = make_set(tmp_path, films=("1/a.png", "2/a.png", "b.png"))
    with pytest.raises(SourceError, match=r"names 'a\.png', and .* more than one .*1/a\.png and .*2/a\.png"):
        read_manifest(table)


def test_a_missing_film_keeps_its_row_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = read_manifest(make_set(tmp_path, films=("a.png",)))
    assert manifest["path"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert "1 of the 2 films" in caplog.text
    assert str(tmp_path / "b.png") in caplog.text


def test_a_table_none_of_whose_films_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"none of the 2 films .* exists, e\.g\. 'a\.png', looked for below .*Give the folder"
    ):
        read_manifest(make_set(tmp_path, films=()))


def test_a_missing_folder_of_films_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no folder of films"):
        read_manifest(make_set(tmp_path), tmp_path / "nowhere")


def test_masks_are_looked_up_like_films(tmp_path: Path) -> None:
    text = "path,label,patient_id,lung_mask\nx/a.png,0,1,masks/a.png\nx/b.png,1,2,\n"
    manifest = read_manifest(make_set(tmp_path, text, ("x/a.png", "x/b.png", "masks/a.png")))
    assert manifest["lung_mask"].tolist()[0] == str(tmp_path / "masks/a.png")
    assert manifest["lung_mask"].isna().tolist() == [False, True]


def test_a_missing_mask_is_not_mistaken_for_the_film_of_the_same_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "path,label,patient_id,lung_mask\nx/a.png,0,1,masks/a.png\n"
    manifest = read_manifest(make_set(tmp_path, text, ("x/a.png",)))
    assert manifest["lung_mask"].isna().all()
    assert "1 of the 1 files in column lung_mask" in caplog.text


def test_a_missing_film_is_not_another_rows_film_of_the_same_name(tmp_path: Path) -> None:
    text = "path,label,patient_id\np1/IM1.png,0,p1\np2/IM1.png,1,p2\n"
    manifest = read_manifest(make_set(tmp_path, text, ("p2/IM1.png",)))
    assert manifest["path"].tolist() == [str(tmp_path / "p1/IM1.png"), str(tmp_path / "p2/IM1.png")]


def test_a_missing_film_is_not_its_own_mask(tmp_path: Path) -> None:
    text = "path,label,patient_id,lung_mask\nx/a.png,0,1,masks/a.png\nx/b.png,1,2,masks/b.png\n"
    manifest = read_manifest(make_set(tmp_path, text, ("x/a.png", "masks/a.png", "masks/b.png")))
    assert manifest["path"].tolist()[1] == str(tmp_path / "x/b.png")
    assert manifest["lung_mask"].tolist() == [str(tmp_path / "masks/a.png"), str(tmp_path / "masks/b.png")]


def test_of_several_files_of_a_name_the_one_in_the_folder_of_the_same_name_is_taken(tmp_path: Path) -> None:
    text = "path,label,patient_id\nold/p1/IM1.png,0,p1\nold/p2/IM1.png,1,p2\n"
    manifest = read_manifest(make_set(tmp_path, text, ("new/p1/IM1.png", "new/p2/IM1.png")))
    assert manifest["path"].tolist() == [str(tmp_path / "new/p1/IM1.png"), str(tmp_path / "new/p2/IM1.png")]
