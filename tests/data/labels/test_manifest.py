"""Tables and class folders become one checked manifest, and everything wrong with them is said in a sentence."""

import gzip
import logging
from pathlib import Path

import numpy as np
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

TWO_FILMS = "path,label,patient_id\na.png,0,007\nb.png,1,008\n"


def make_set(folder: Path, text: str | bytes = TWO_FILMS, films: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """Write a table and empty files for films; reading a manifest never opens a film."""
    for film in films:
        (folder / film).parent.mkdir(parents=True, exist_ok=True)
        (folder / film).touch()
    table = folder / "labels.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return table


def films(**columns: object) -> pd.DataFrame:
    """Return the rows of a manifest as a caller might make them."""
    count = max((len(values) for values in columns.values() if isinstance(values, list)), default=2)
    rows = {
        "path": [f"/films/{number}.png" for number in range(count)],
        "label": [0] * count,
        "patient_id": list("abcdefgh")[:count],
    }
    return pd.DataFrame(rows | columns)


# -- where a row's film lies ------------------------------------------------------------------------------------


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


# -- how a table is written -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TWO_FILMS.encode("utf-8-sig"), id="byte order mark"),
        pytest.param(TWO_FILMS.replace(",", ";").encode(), id="semicolons"),
        pytest.param(TWO_FILMS.replace(",", "\t").encode(), id="tabs"),
        pytest.param(TWO_FILMS.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(TWO_FILMS.replace("\n", ",\n").encode(), id="separator at the end"),
        pytest.param(TWO_FILMS.replace(",", " , ").encode(), id="blanks around"),
        pytest.param(TWO_FILMS.replace("\n", "\n\n").encode() + b",,\n\n", id="blank rows"),
        pytest.param(b'"path","label","patient_id"\n"a.png","0","007"\n"b.png","1","008"\n', id="quotes"),
    ],
)
def test_every_way_to_write_a_csv_reads_the_same(tmp_path: Path, text: bytes) -> None:
    expected = pd.DataFrame(
        {
            "path": [str(tmp_path / "a.png"), str(tmp_path / "b.png")],
            "label": [0, 1],
            "patient_id": ["007", "008"],
        }
    )
    pd.testing.assert_frame_equal(read_manifest(make_set(tmp_path, text)), expected)


def test_a_packed_table_is_read(tmp_path: Path) -> None:
    table = make_set(tmp_path)
    packed = tmp_path / "labels.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    pd.testing.assert_frame_equal(read_manifest(packed), read_manifest(table))


def test_parquet_with_numbers_as_ids_reads_like_csv(tmp_path: Path) -> None:
    make_set(tmp_path)
    rows = {
        "path": ["a.png", "b.png"],
        "label": [0.0, 1.0],
        "patient_id": [7.0, np.nan],
        "study_id": [12, 13],
        "age": [50, None],
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "labels.parquet")
    manifest = read_manifest(tmp_path / "labels.parquet")
    assert manifest["patient_id"].tolist() == ["7", "b.png"]
    assert manifest["study_id"].tolist() == ["12", "13"]
    assert manifest["age"].tolist()[0] == 50.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty, expected a table with a header row"),
        (b"path,label\n", "has a header but no rows"),
        (b"path,label\nM\xfcller.png,0\n", r"is not UTF-8 text \(byte 0xFC\)"),
        ("path,label\na.png,0\n".encode("utf-16"), "is not UTF-8 text"),
        (b"PK\x03\x04rest of a workbook", "is a spreadsheet file. Save it as CSV"),
        (b"path,label\na.png,0\nb.png,1,2\n", "cannot read the table .*line 3"),
        (b"path,label\na.png,0,9\nb.png,1,9\n", "more fields than the header has names"),
        (b"path,label,label\na.png,0,1\n", "two columns named 'label'"),
        (b"path,Label\na.png,0\n", "no column 'label'; it has path, Label. Rename 'Label' to 'label'"),
        (b"paths,label\na.png,0\n", "no column 'path'; it has paths, label. Rename 'paths' to 'path'"),
        (b"film,label\na.png,0\n", "no column 'path'; it has film, label. Add or rename a column to 'path'"),
        (b"path,label\n,0\n", "path in row 2 is blank"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_manifest(make_set(tmp_path, text))


def test_a_missing_table_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is neither a table nor a folder"):
        read_manifest(tmp_path / "labels.csv")
    with pytest.raises(SourceError, match="is a folder, expected a table"):
        read_manifest(tmp_path)


def test_a_damaged_packed_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv.gz").write_bytes(gzip.compress(TWO_FILMS.encode())[:-12])
    with pytest.raises(SourceError, match="cannot read the table"):
        read_manifest(tmp_path / "labels.csv.gz")


# -- what the columns may hold ----------------------------------------------------------------------------------


def test_sex_is_a_letter_however_it_is_written() -> None:
    written = ["Female", "f", "MALE", "M", "other", "unknown", None]
    films = pd.DataFrame({"path": [f"/f/{row}.png" for row in range(7)], "label": 0, "sex": written})
    found = check_manifest(films)["sex"]
    assert found.fillna("").tolist() == ["F", "F", "M", "M", "O", "unknown", ""]


def test_labels_are_numbers_or_names() -> None:
    written = ["0", "1", "2", "0.0", "1.", "normal", "Abnormal", " EMERGENT "]
    assert check_manifest(films(label=written))["label"].tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    assert check_manifest(films(label=[2.0, 0.0]))["label"].tolist() == [2, 0]


@pytest.mark.parametrize("label", ["3", "-1", "0.5", "No Finding", "True", None])
def test_any_other_label_is_refused_with_row_and_value(label: str | None) -> None:
    with pytest.raises(
        SourceError, match=rf"label in row 3 \(/films/1.png\) is {label or 'blank'!r}".replace("'blank'", "blank")
    ):
        check_manifest(films(label=["0", label]))


def test_row_numbers_are_those_of_a_spreadsheet_also_behind_blank_rows(tmp_path: Path) -> None:
    text = "path,label\na.png,0\n\n\nb.png,what\n"
    with pytest.raises(
        SourceError, match=r"row 5 \(.*b\.png\) is 'what', expected 0, 1, 2 or normal, abnormal, emergent"
    ):
        read_manifest(make_set(tmp_path, text))


def test_many_wrong_rows_are_counted() -> None:
    with pytest.raises(SourceError, match="Correct it in this row and 2 more, or remove the rows"):
        check_manifest(films(label=["x", "x", "0", "x"]))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("p_abnormal", [0.5, 1.2], "p_abnormal in row 3 .* is '1.2', expected a number from 0 to 1"),
        ("p_abnormal", [-0.1, 0.5], "p_abnormal in row 2 .* is '-0.1'"),
        ("weight", [1, -2], "weight in row 3 .* is '-2', expected a number not below 0"),
        ("weight", [1, np.inf], "weight in row 3 .* is 'inf'"),
        ("age", ["058Y", "60"], "age in row 2 .* is '058Y', expected a number from 0 to 130, or nothing"),
        ("age", [411, 60], "age in row 2"),
        ("split", ["train", "val"], "split in row 3 .* is 'val', expected train, validation or test"),
        ("split", ["train", None], "split in row 3 .* is blank"),
    ],
)
def test_values_out_of_bounds_are_refused(column: str, values: list[object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        check_manifest(films(**{column: values}))


def test_blank_numbers_are_missing_and_a_blank_weight_counts_one() -> None:
    manifest = check_manifest(films(age=["", "60"], weight=[None, 2], p_abnormal=[0.25, None]))
    assert manifest["age"].isna().tolist() == [True, False]
    assert manifest["weight"].tolist() == [1.0, 2.0]
    assert manifest["p_abnormal"].isna().tolist() == [False, True]


def test_a_film_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"names the film .*a\.png in row 2 and in row 4\. Keep one"):
        read_manifest(make_set(tmp_path, "path,label\na.png,0\nb.png,0\n./a.png,1\n"))


def test_films_without_patient_are_patients_of_their_own_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = read_manifest(make_set(tmp_path, "path,label\na.png,0\nb.png,1\n"))
    assert manifest["patient_id"].tolist() == ["a.png", "b.png"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "2 of the 2 films" in caplog.text
    assert "no patient_id" in caplog.text
    caplog.clear()
    save_manifest(manifest, tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "manifest.csv"), manifest)
    assert not caplog.records


def test_other_columns_are_carried_along_as_they_stand(tmp_path: Path) -> None:
    text = "path,label,patient_id,accession_number,note\na.png,0,1,0042,\nb.png,1,2,17,seen\n"
    manifest = read_manifest(make_set(tmp_path, text))
    assert manifest["accession_number"].tolist() == ["0042", "17"]
    assert manifest["note"].tolist()[1] == "seen"


def test_a_patient_in_two_splits_is_refused_without_naming_the_patient() -> None:
    rows = films(patient_id=["Jane Doe", "Jane Doe"], split=["train", "test"])
    with pytest.raises(SourceError, match=r"\(1 patients\): /films/0.png is train and /films/1.png is test") as error:
        check_manifest(rows)
    assert "Jane" not in str(error.value)


def test_a_split_by_image_may_tear_patients() -> None:
    rows = films(patient_id=["a", "a"], split=["train", "test"], split_by=["image", "image"])
    assert check_manifest(rows)["split"].tolist() == ["train", "test"]


def test_an_empty_split_column_is_no_split() -> None:
    assert "split" not in check_manifest(films(split=[None, ""]))


def test_checking_leaves_the_callers_frame_alone_and_can_be_repeated() -> None:
    rows = films(label=["normal", "emergent"], age=["40", ""], study_id=[1, 2])
    before = rows.copy()
    once = check_manifest(rows)
    pd.testing.assert_frame_equal(rows, before)
    pd.testing.assert_frame_equal(check_manifest(once), once)


def test_a_manifest_without_rows_is_refused() -> None:
    with pytest.raises(SourceError, match="has no rows"):
        check_manifest(films().iloc[:0])


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
