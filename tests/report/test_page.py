"""The page as text: self-contained, small, without names, complete, and right about what is not there."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from cxrtriage.errors import CxrTriageError, SourceError
from cxrtriage.evaluate.evaluation import evaluate_predictions, measured_films
from cxrtriage.report import write_report
from cxrtriage.report.page import MOST_BYTES, render_small_enough
from cxrtriage.report.reading import read_run
from prediction_tables import made_up_predictions
from report.runs import make_evaluation, make_explanations, make_fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fit(tmp_path_factory.mktemp("report") / "fit")


@pytest.fixture(scope="module")
def html(fitted: Path) -> str:
    return write_report(fitted).read_text(encoding="utf-8")


def identifiers(folder: Path) -> set[str]:
    tables = [pd.read_csv(folder / "manifest.csv"), pd.read_csv(folder / "evaluation" / "predictions.csv")]
    films = pd.concat(tables)
    return set(films["patient_id"]) | {Path(path).stem for path in films["path"]}


def words_of(html: str) -> str:
    """The page's text as a reader sees it, white space as single blanks."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.words: list[str] = []
            self.hidden = False

        def handle_starttag(self, tag: str, attributes: object) -> None:
            self.hidden |= tag == "style"

        def handle_endtag(self, tag: str) -> None:
            self.hidden &= tag != "style"

        def handle_data(self, data: str) -> None:
            self.words += [] if self.hidden else [data]

    reader = Reader()
    reader.feed(html)
    return " ".join("".join(reader.words).split())


def test_no_patient_and_no_file_name_is_on_the_page(fitted: Path, html: str) -> None:
    names = identifiers(fitted)
    assert len(names) > 300
    assert [name for name in names if name in html] == []
    assert "DOE" not in words_of(html)
    assert "JONES" not in html  # of a film that was left out
    assert str(fitted) not in html
    assert "secret" not in html  # folders in config.toml


def test_file_names_are_there_when_asked_for_and_patients_even_then_are_not(fitted: Path, tmp_path: Path) -> None:
    page = write_report(fitted, tmp_path / "named.html", identify=True).read_text(encoding="utf-8")
    assert "SMITH_" in page
    assert "JONES_0001_JIM.png" in page
    assert "PID_" not in page
    assert "This page names files" in words_of(page)


def test_a_film_is_called_by_its_row_in_the_predictions(fitted: Path, tmp_path: Path) -> None:
    page = write_report(fitted, tmp_path / "named.html", identify=True).read_text(encoding="utf-8")
    films = pd.read_csv(fitted / "evaluation" / "predictions.csv")
    named = re.findall(r"est film (\d+) \((SMITH_\d+_JANE\.png)\)", page)
    assert named
    assert all(Path(films["path"].iloc[int(row) - 1]).name == name for row, name in named)


def test_it_is_one_file_without_script_or_address(html: str) -> None:
    assert "<script" not in html
    assert not re.findall(r"https?://(?!www\.w3\.org)", html)
    assert set(re.findall(r'(?:src|href)="([^"]{5})', html)) <= {"data:", *(f"#{name}"[:5] for name in SECTION_IDS)}
    assert "default-src 'none'" in html


SECTION_IDS = ("films", "training", "results", "audit", "explained", "limits", "record")


def test_every_section_is_there_in_the_order_a_reader_needs(html: str) -> None:
    assert re.findall(r'<section id="(\w+)"', html) == list(SECTION_IDS)
    assert "Not on this page" not in html


def test_the_head_sets_the_figure_beside_the_one_without_anatomy(fitted: Path, html: str) -> None:
    metrics = json.loads((fitted / "evaluation" / "metrics.json").read_text())
    head = words_of(html.split("<nav")[0])
    auroc = metrics["every_film"]["all"]["figures"]["auroc"]
    assert (
        f"AUROC of the network {auroc['estimate']:.3f} 95 % interval {auroc['lower']:.3f}–{auroc['upper']:.3f}" in head
    )
    assert "AUROC without anatomy 0.600 95 % interval 0.500–0.700" in head
    assert metrics["audit"]["verdict"] in head
    assert "Not a medical device." in head
    assert re.search(r"Of 100 abnormal films, \S+.* are flagged; of 100 normal films, \d+ \(\d+–\d+\) too", head)


def test_sections_without_files_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    table = made_up_predictions(120)
    make_evaluation(tmp_path / "alone", table)
    page = write_report(tmp_path / "alone").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == ["films", "results", "limits", "record"]
    text = words_of(page)
    assert (
        "Not on this page, for want of what they are made from: Training (run/history.csv), Does it read anatomy?"
        in text
    )
    assert "not measured: only a fit is audited" in text


def test_several_sources_and_emergent_films_have_their_rows(tmp_path: Path) -> None:
    page = write_report(make_fit(tmp_path / "fit", sources=3, emergent=True, explanations=False)).read_text("utf-8")
    text = words_of(page)
    assert "truly emergent" in text
    assert "mean of the sources" in text
    for name in ("hospital a", "hospital b", "hospital c"):
        assert f"{name}: AUROC" in text


def test_a_threshold_and_a_prevalence_given_by_hand_are_named_as_such(tmp_path: Path) -> None:
    table = made_up_predictions(120).assign(split="test")
    evaluate = {"threshold": 0.4, "prevalence": 0.1, "resamples": 60}
    metrics = evaluate_predictions(table, **evaluate)
    tmp_path.joinpath("metrics.json").write_text(json.dumps(metrics))
    measured_films(table, metrics).to_csv(tmp_path / "predictions.csv", index=False)
    text = words_of(write_report(tmp_path).read_text(encoding="utf-8"))
    assert re.search(r"0\.4 \(decides\) ?the threshold in use", text)
    assert "10 % (as stated)" in text
    assert "No patient is in two splits" not in text
    assert "The network learns from" not in text


def test_one_class_alone_is_reported_without_what_needs_both(tmp_path: Path) -> None:
    table = pd.DataFrame({"label": [1, 1, 1], "probability": [0.2, 0.6, 0.9]})
    make_evaluation(tmp_path / "one", table)
    text = words_of(write_report(tmp_path / "one").read_text(encoding="utf-8"))
    assert "It needs films of both classes." in text
    assert "These films are all abnormal" in text


def test_a_missing_folder_and_a_damaged_file_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds neither evaluation/metrics.json nor metrics.json"):
        write_report(tmp_path)
    make_evaluation(tmp_path / "alone", made_up_predictions(60))
    (tmp_path / "alone" / "metrics.json").write_text("{")
    with pytest.raises(SourceError, match=r"metrics.json: it is damaged \(JSONDecodeError\)"):
        write_report(tmp_path / "alone")


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    folder = make_fit(tmp_path / "fit")
    (folder / "explanations" / "cases" / "case_3.png").unlink()
    with pytest.raises(SourceError, match=r"case_3.png: the picture is missing"):
        write_report(folder)


def test_a_changed_model_file_is_noticed(html: str) -> None:
    assert "The model file has changed since it was measured" in words_of(html)


def test_pictures_shrink_until_the_page_is_small_enough(fitted: Path) -> None:
    run = read_run(fitted)
    large = render_small_enough(run)
    assert len(large.encode()) < MOST_BYTES
    limit = int(0.95 * len(large.encode()))
    small = render_small_enough(run, most_bytes=limit)
    assert len(small.encode()) <= limit
    assert words_of(small) == words_of(large)
    with pytest.raises(CxrTriageError, match=r"expected at most 0\.001 MB"):
        render_small_enough(run, most_bytes=1000)


def test_the_largest_pictures_a_run_may_have_stay_under_five_megabytes(tmp_path: Path) -> None:
    folder = make_fit(tmp_path / "fit", explanations=False)
    make_explanations(folder / "explanations", pd.read_csv(folder / "evaluation" / "predictions.csv"), side=600)
    assert write_report(folder).stat().st_size < MOST_BYTES


def test_the_command_is_the_one_that_was_given(tmp_path: Path) -> None:
    fitted = make_fit(tmp_path / "fit", explanations=False)
    (fitted / "budget.json").write_text('{"budget_s": 3600.0, "training_s": 2999.1}')
    manifest = pd.read_csv(fitted / "manifest.csv")
    manifest.assign(split_by="image").to_csv(fitted / "manifest.csv", index=False)
    rejects = pd.DataFrame({"path": manifest["path"].head(3), "reason": "cannot read it"})
    rejects.to_csv(fitted / "prepared" / "rejects.csv", index=False)
    page = words_of(write_report(fitted).read_text("utf-8"))
    assert f"--budget 3600s --split-by image --max-rejected {math.ceil(300 / len(manifest)) / 100:g}" in page
