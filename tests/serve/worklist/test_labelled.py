import hashlib
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cxrtriage.errors import SourceError
from cxrtriage.model.bundle import load_model, weights_sha256
from cxrtriage.records import REVIEWED_WEIGHTS
from cxrtriage.serve import models
from cxrtriage.serve.database import reading
from cxrtriage.serve.worklist import reviews
from cxrtriage.serve.worklist.labelled import reviewed_films
from serve.worklist.rows import SETTINGS, Rows


@pytest.fixture
def home(sqlite: Engine, tmp_path: Path, model_file: Path) -> Path:
    """A node whose readers called its four studies normal, abnormal, emergent, and nothing."""
    rows = Rows(sqlite)
    sha256 = models.add_model(sqlite, tmp_path, model_file, "active").sha256
    for probability in (0.2, 0.8, 0.9, 0.4):
        rows.study(10, probability, model=sha256, patient_id="P1", person="SECRET^NAME")
    with sqlite.begin() as connection:
        reviews.give_verdict(connection, 2, "x", "agree", False, settings=SETTINGS, home=tmp_path)
        reviews.give_verdict(connection, 3, "x", "emergent", True, settings=SETTINGS, home=tmp_path)
        reviews.mark_read(connection, 1, "final report", False, settings=SETTINGS, home=tmp_path)
    return tmp_path


def test_what_readers_said_becomes_a_manifest_without_names(sqlite: Engine, home: Path, model_file: Path) -> None:
    with reading(sqlite) as connection:
        films = reviewed_films(connection, home)
    assert films[["label", "score_visible"]].to_numpy().tolist() == [[0, True], [1, False], [2, True]]
    assert films["patient_id"].nunique() == 1
    assert set(films[REVIEWED_WEIGHTS]) == {weights_sha256(load_model(model_file))}
    assert "SECRET" not in films.to_csv()
    assert "P1" not in films.to_csv()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["disagree", "report normal"], (0, True)),  # of a normal score: abnormal
        (["report normal", "disagree"], (1, False)),
        (["report abnormal", "emergent"], (2, False)),
        (["emergent", "report abnormal"], (2, False)),  # the report adds nothing
        (["emergent", "report normal"], (0, True)),
        (["report abnormal", "report normal"], (0, True)),
        (["emergent", "report normal", "reopen"], (2, False)),
    ],
)
def test_the_last_word_counts_whoever_said_it(
    sqlite: Engine, tmp_path: Path, model_file: Path, words: list[str], expected: tuple[int, bool]
) -> None:
    sha256 = models.add_model(sqlite, tmp_path, model_file, "active").sha256
    Rows(sqlite).study(10, 0.1, model=sha256)
    for said in words:
        with sqlite.begin() as connection:
            if said.startswith("report"):
                found = said == "report abnormal"
                reviews.mark_read(connection, 1, "final report", found, settings=SETTINGS, home=tmp_path)
            elif said == "reopen":
                reviews.reopen(connection, 1, "x")
            else:
                reviews.give_verdict(connection, 1, "x", said, False, settings=SETTINGS, home=tmp_path)  # type: ignore[arg-type]
    with reading(sqlite) as connection:
        films = reviewed_films(connection, tmp_path)
    assert (films["label"][0], films["score_visible"][0]) == expected


def test_nobody_without_the_key_finds_a_number_by_trying_all(sqlite: Engine, home: Path) -> None:
    with reading(sqlite) as connection:
        films = reviewed_films(connection, home)
        again = reviewed_films(connection, home)
        (home / "deidentify.key").unlink()
        other_site = reviewed_films(connection, home)
    tried = {hashlib.sha256(number.encode()).hexdigest()[:16] for number in ("P1", "1.2.3.1", "1.2.3.2", "1.2.3.3")}
    for column in ("patient_id", "study_id"):
        assert list(films[column]) == list(again[column])
        assert not set(films[column]) & (tried | set(other_site[column]))
    assert films["study_id"].nunique() == 3


def test_nothing_read_is_told(sqlite: Engine, tmp_path: Path) -> None:
    with reading(sqlite) as connection, pytest.raises(SourceError, match=r"no study of the node .* has been read"):
        reviewed_films(connection, tmp_path)
