"""What the columns of a manifest may hold, and what is said of anything else."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage.data.labels.manifest import (
    check_manifest,
    read_manifest,
    save_manifest,
)
from cxrtriage.errors import SourceError
from label_tables import films, make_set


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


def test_films_of_a_study_are_one_patients_where_no_patient_is_named(tmp_path: Path) -> None:
    text = "path,label,study_id\na.png,0,s1\nb.png,1,s1\nc.png,1,\n"
    manifest = read_manifest(make_set(tmp_path, text, ("a.png", "b.png", "c.png")))
    assert manifest["patient_id"].tolist() == ["s1", "s1", "c.png"]


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
