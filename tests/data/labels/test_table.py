"""However a table is written, it reads the same; what is none is refused in a sentence."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage.data.labels.manifest import (
    read_manifest,
)
from cxrtriage.errors import SourceError
from label_tables import TWO_FILMS, make_set


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
    assert manifest["patient_id"].tolist() == ["7", "13"]  # whose patient is not known, whose study is
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
        (b"a.png,0,Doe^John\nb.png,1,Roe^Jane\n", "no column 'path': its first row looks like one of a film. Put"),
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


def test_a_first_row_of_a_film_is_not_repeated_since_it_may_name_a_patient(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        read_manifest(make_set(tmp_path, "a.png,0,Doe^John\nb.png,1,Roe^Jane\n"))
    assert "Doe" not in str(refused.value)


def test_a_parquet_table_of_two_put_together_keeps_each_row_its_own(tmp_path: Path) -> None:
    make_set(tmp_path, films=("a.png", "b.png", "masks/a.png"))
    halves = [
        pd.DataFrame({"path": ["a.png"], "label": [0], "patient_id": ["1"], "lung_mask": ["masks/a.png"]}),
        pd.DataFrame({"path": ["b.png"], "label": [1], "patient_id": ["2"], "lung_mask": [None]}),
    ]
    pd.concat(halves).to_parquet(tmp_path / "labels.parquet")
    manifest = read_manifest(tmp_path / "labels.parquet")
    assert manifest["lung_mask"].isna().tolist() == [False, True]
