"""Any table of predictions made regular, and the sentence for each that cannot be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage.errors import SourceError
from cxrtriage.evaluate.predictions import check_predictions, read_predictions


def written(folder: Path, text: str) -> Path:
    path = folder / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_are_read_as_numbers_and_as_names(tmp_path: Path) -> None:
    path = written(tmp_path, "label,probability\n0,0.1\n1.0,0.2\n2,0.3\nNormal,0.4\n abnormal,0.5\nEMERGENT,0.6\n")
    assert read_predictions(path)["label"].tolist() == [0, 1, 2, 0, 1, 2]


def test_missing_patients_and_sources_are_filled_in(tmp_path: Path) -> None:
    films = read_predictions(written(tmp_path, "label,probability\n0,0.1\n1,0.2\n"))
    assert films["patient_id"].nunique() == 2
    assert len(set(films["source"])) == 1
    films = read_predictions(
        written(tmp_path, "label,probability,patient_id,source\n0,0.1,007,a\n1,0.2,007,\n1,0.2,,a\n")
    )
    assert films["patient_id"].tolist()[:2] == ["007", "007"]
    assert films["patient_id"].nunique() == 2
    assert films["source"].tolist() == ["a", "unnamed source", "a"]


def test_a_spreadsheet_s_byte_order_mark_and_other_columns_do_no_harm(tmp_path: Path) -> None:
    films = read_predictions(written(tmp_path, "\ufefflabel,probability,ward\n0,0.1,3\n1,0.2,4\n"))
    assert films["ward"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("probability\n0.1\n", "it has no column label; found probability, expected at least label and probability"),
        ("truth,score\n0,0.1\n", "it has no column label and none probability; found truth, score"),
        ("label;probability\n0;0.1\n", "found label;probability, .* separated by commas"),
        ("label,probability\n", "it has no rows, expected one row a film"),
        ("label,probability\n0,0.1\n1,1.2\n", "line 3 has '1.2' as probability, expected a number from 0 to 1"),
        ("label,probability\n0,0.1\n1,-0.01\n", "line 3 has '-0.01' as probability"),
        ("label,probability\n0,\n1,0.2\n", "line 2 has nothing as probability"),
        ("label,probability\n0,high\n1,low\n", r"line 2 has 'high' as probability \(2 such rows\)"),
        ("label,probability\n0,inf\n", "line 2 has 'inf' as probability"),
        ("label,probability\n3,0.2\n", "line 2 has '3' as label, expected 0, 1, 2, normal, abnormal or emergent"),
        ("label,probability\n,0.2\n", "line 2 has nothing as label"),
        ("label,probability\npneumonia,0.2\n", "line 2 has 'pneumonia' as label"),
        ("label,probability,p_emergent\n1,0.2,7\n", "line 2 has '7' as p_emergent"),
        ("", "is empty, expected a CSV with a header"),
        ('label,probability\n0,"0.1\n', "expected a CSV in UTF-8: "),
    ],
)
def test_each_fault_is_told_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence) as caught:
        read_predictions(written(tmp_path, text))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_picture_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.csv does not exist"):
        read_predictions(tmp_path / "nowhere.csv")
    with pytest.raises(SourceError, match="is a folder, expected a CSV file"):
        read_predictions(tmp_path)
    picture = tmp_path / "film.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00\x81" * 20)
    with pytest.raises(SourceError, match="expected a CSV in UTF-8"):
        read_predictions(picture)


def test_a_frame_with_any_index_and_types_is_taken_and_left_as_it_was() -> None:
    table = pd.DataFrame(
        {"label": np.array([0, 2], dtype=np.uint8), "probability": np.float32([0.25, 1])}, index=[7, 7]
    )
    films = check_predictions(table)
    assert films.index.tolist() == [0, 1]
    assert films["probability"].tolist() == [0.25, 1.0]
    assert list(table.columns) == ["label", "probability"]
