"""The whole way on phantoms, small and short: every stage's file is there, and a second start skips what is done."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage import pipeline
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.store import open_prepared
from cxrtriage.engines import engine_of_file
from cxrtriage.errors import ConfigError, CxrTriageError, ModelError, SourceError
from cxrtriage.explain import attribution, cases, claim, folder, measuring
from cxrtriage.model.bundle import replace_card
from cxrtriage.model.card import load_card
from cxrtriage.pipeline import FitResult, evaluate_csv, evaluate_model, explain_model, fit, recalibrate_for
from cxrtriage.score import score_films

SETTINGS = {"size": 128, "epochs": 2, "batch": 16, "workers": 1, "explain_films": 2}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantoms(tmp_path_factory.mktemp("phantoms"), 80, 128, ratio=(50, 50, 0), workers=1)


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """A network of two epochs is never sure, so opposite-label images would take all the steps they may."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (attribution, cases, claim):
            patch.setattr(module, "STEPS", 3)
        patch.setattr(measuring, "SANITY_FILMS", 1)
        patch.setattr(measuring, "STAGES", 1)
        yield


@pytest.fixture(scope="module")
def fitted(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fit(phantoms.parent, phantoms, tmp_path_factory.mktemp("fit") / "out", **SETTINGS)


def test_fit_leaves_every_stage_in_its_place(fitted: FitResult) -> None:
    names = {str(path.relative_to(fitted.out)) for path in fitted.out.rglob("*")}
    assert {
        "manifest.csv", "duplicates.csv", "prepared/images.npy", "prepared/rejects.csv", "run/history.csv",
        "run/config.toml", "run/model.safetensors", "evaluation/predictions.csv", "evaluation/metrics.json",
        "explanations/explanations.json", "explanations/cases.csv", "report.html",
    } <= names  # fmt: skip
    for figure in ("curves", "confusion", "roc", "calibration", "scores", "equalisation"):
        assert {f"evaluation/{figure}.svg", f"evaluation/{figure}.png"} <= names


def test_the_figures_are_of_the_test_patients_alone(fitted: FitResult) -> None:
    manifest = pd.read_csv(fitted.out / "manifest.csv")
    predictions = pd.read_csv(fitted.out / "evaluation" / "predictions.csv")
    trained = set(manifest.loc[manifest["split"] != "test", "patient_id"])
    assert len(predictions) == (manifest["split"] == "test").sum()
    assert not trained & set(predictions["patient_id"])


def test_the_audit_stands_beside_the_figures(fitted: FitResult) -> None:
    assert fitted.metrics["audit"]["verdict"]


def test_the_model_file_names_the_data_it_was_made_from(fitted: FitResult) -> None:
    card = load_card(fitted.model)
    assert card.data_hash == open_prepared(fitted.out / "prepared").source_hash
    assert card.sources == ["phantom"]


def test_a_second_start_trains_and_measures_nothing_again(
    fitted: FitResult, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (fitted.out / "prepared").iterdir()}
    history = (fitted.out / "run" / "history.csv").read_text()
    monkeypatch.setattr(pipeline, "shortcut_audit", None)  # would fail if it were called
    monkeypatch.setattr(folder, "measure_explanations", None)
    again = fit(phantoms.parent, phantoms, fitted.out, **SETTINGS)
    assert again.metrics == json.loads((fitted.out / "evaluation" / "metrics.json").read_text())
    assert again.explanations == fitted.explanations
    assert (fitted.out / "run" / "history.csv").read_text() == history
    assert {path: path.stat().st_mtime_ns for path in (fitted.out / "prepared").iterdir()} == before


@pytest.mark.slow  # as long as all of the fit's explanations
def test_methods_scored_by_themselves_score_as_at_the_end_of_the_fit(fitted: FitResult, tmp_path: Path) -> None:
    again = explain_model(fitted.model, fitted.out / "prepared", tmp_path / "again", explain_films=2)
    assert fitted.explanations is not None
    for name in ("films", "references", "lesions", "symmetry", "notes"):
        assert again[name] == fitted.explanations[name], name
    pictures = {path.name for path in (tmp_path / "again" / "cases").iterdir()}
    assert pictures == set(pd.read_csv(tmp_path / "again" / "cases.csv")["picture"])


@pytest.mark.slow  # as long as all of the fit's explanations
def test_films_without_a_split_are_all_explained(fitted: FitResult, phantoms: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(phantoms).drop(columns=["split"], errors="ignore").head(12)
    labels["path"] = [str(phantoms.parent / path) for path in labels["path"]]
    labels.drop(columns=["lung_mask", "lesion_mask"]).to_csv(tmp_path / "others.csv", index=False)
    found = explain_model(fitted.model, tmp_path / "others.csv", tmp_path / "out", explain_films=1)
    assert (found["split"], found["films"], found["lesions"]) == (None, 1, None)


def test_other_settings_in_the_same_folder_are_refused(fitted: FitResult, phantoms: Path) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        fit(phantoms.parent, phantoms, fitted.out, **(SETTINGS | {"epochs": 3}))


def test_evaluating_the_manifest_again_gives_the_same_scores(fitted: FitResult, tmp_path: Path) -> None:
    metrics = evaluate_model(fitted.model, fitted.out / "manifest.csv", tmp_path / "again")
    assert metrics["every_film"]["all"]["confusion"] == fitted.metrics["every_film"]["all"]["confusion"]
    table = pd.read_csv(tmp_path / "again" / "predictions.csv")
    fit_table = pd.read_csv(fitted.out / "evaluation" / "predictions.csv")
    merged = table.merge(fit_table, on="path", validate="one_to_one")
    np.testing.assert_allclose(merged["probability_x"], merged["probability_y"], atol=1e-4)


def test_measuring_a_model_on_its_own_training_films_is_told(
    fitted: FitResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = pd.read_csv(fitted.out / "manifest.csv")
    own = int((manifest["split"] != "test").sum())
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    names = [renamed / f"{number}{Path(path).suffix}" for number, path in enumerate(manifest["path"])]
    for name, path in zip(names, manifest["path"], strict=True):
        name.symlink_to(path)
    manifest.assign(path=names).drop(columns="split").to_csv(tmp_path / "all.csv", index=False)
    metrics = evaluate_model(fitted.model, tmp_path / "all.csv", tmp_path / "evaluation")
    said = f"trained or calibrated on {own} of these {len(manifest)} films, so the figures are too good."
    assert said in metrics["notes"][-1]
    assert said in caplog.text
    assert "too good" not in " ".join(fitted.metrics["notes"])


@pytest.mark.parametrize("prevalence", [0.02, 0.9])
def test_another_prevalence_calls_the_same_films_abnormal_as_score_does(
    fitted: FitResult, tmp_path: Path, prevalence: float
) -> None:
    """Also for a model whose films were too few for an operating point, which decides at 0.5 of its own prevalence."""
    card = load_card(fitted.model).model_copy(update={"operating_points": [], "decision": "0.5"})
    card.validation.update({"not_calibrated": "", "prevalence": 0.5})
    path = tmp_path / "model.safetensors"
    shutil.copy(fitted.model, path)
    replace_card(path, card)
    evaluate_model(path, fitted.out / "prepared", tmp_path / "out", prevalence=prevalence)
    measured = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("path")
    card, run = engine_of_file(path, "torch")
    for row in score_films(card, list(measured.index[:12]), prevalence=prevalence, engine=run):
        assert row.probability == pytest.approx(measured["probability"][row.path], abs=1e-3)
        assert row.decision == measured["decision"][row.path]


def test_raw_probabilities_are_not_shifted_to_another_prevalence(fitted: FitResult, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    shutil.copy(fitted.model, path)
    card = load_card(path)
    replace_card(path, card.model_copy(update={"validation": card.validation | {"not_calibrated": "too few films"}}))
    with pytest.raises(ModelError, match="cxrtriage recalibrate"):
        evaluate_model(path, fitted.out / "prepared", tmp_path / "out", prevalence=0.1)


@pytest.mark.parametrize(("split", "purpose"), [("test", "measure"), ("validation", "calibrate")])
def test_a_set_without_films_for_a_later_stage_is_refused_before_training(
    phantoms: Path, tmp_path: Path, split: str, purpose: str
) -> None:
    labels = pd.read_csv(phantoms)
    splits = ["train"] * len(labels) if split == "test" else ["train", "test"] * (len(labels) // 2)
    split_labels = labels.assign(split=splits)
    if split == "validation":  # too few training patients to take some out
        split_labels = split_labels[split_labels["split"] == "test"]
    split_labels.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(SourceError, match=f"there are no {split} films to {purpose} the model on"):
        fit(phantoms.parent, tmp_path / "labels.csv", tmp_path / "out", **SETTINGS)
    assert not (tmp_path / "out" / "prepared").exists()


def test_another_budget_in_the_same_folder_is_refused(fitted: FitResult, phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a fit with no budget, but a budget of 600 s was asked for"):
        fit(phantoms.parent, phantoms, fitted.out, budget_s=600.0, **SETTINGS)
    out = tmp_path / "out"
    out.mkdir()
    (out / "budget.json").write_text(json.dumps({"budget_s": 60.0, "training_s": 40.0}))
    for asked, found in ((90.0, "a budget of 90 s"), (None, "no budget")):
        with pytest.raises(ConfigError, match=f"with a budget of 60 s, but {found} was asked for"):
            fit(phantoms.parent, phantoms, out, budget_s=asked, **SETTINGS)


def test_predictions_evaluated_from_their_csv_give_the_same_figures(fitted: FitResult, tmp_path: Path) -> None:
    threshold = fitted.metrics["settings"]["threshold"]
    metrics = evaluate_csv(fitted.out / "evaluation" / "predictions.csv", tmp_path, threshold=threshold)
    assert metrics["every_film"]["all"]["confusion"] == fitted.metrics["every_film"]["all"]["confusion"]


def test_recalibration_writes_another_file_and_leaves_the_model_alone(fitted: FitResult, tmp_path: Path) -> None:
    before = fitted.model.read_bytes()
    manifest = pd.read_csv(fitted.out / "manifest.csv").drop(columns="split")
    manifest.to_csv(tmp_path / "local.csv", index=False)
    recalibrate_for(fitted.model, tmp_path / "local.csv", tmp_path / "local.safetensors")
    assert fitted.model.read_bytes() == before
    assert load_card(tmp_path / "local.safetensors").validation["films"] == len(manifest)


def test_a_prepared_set_of_another_recipe_is_refused(fitted: FitResult, phantoms: Path, tmp_path: Path) -> None:
    fit(phantoms.parent, phantoms, tmp_path / "other", **(SETTINGS | {"size": 144, "epochs": 1, "explain_films": 0}))
    with pytest.raises(ModelError, match=r"size=128.*size=144"):
        evaluate_model(fitted.model, tmp_path / "other" / "prepared", tmp_path / "evaluation")


def test_class_folders_need_no_table(phantoms: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(phantoms)
    for path, label in zip(labels["path"], labels["label"], strict=True):
        of_class = tmp_path / "films" / ("normal", "abnormal")[label]
        of_class.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantoms.parent / path, of_class)
    result = fit(tmp_path / "films", None, tmp_path / "out", **(SETTINGS | {"epochs": 1, "explain_films": 0}))
    assert result.model.exists()
    assert result.explanations is None
    assert result.report.exists()


def test_too_many_unreadable_films_stop_the_fit_and_are_listed(phantoms: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(phantoms)
    labels["path"] = [str(phantoms.parent / path) for path in labels["path"]]
    labels.loc[:9, "path"] = [str(tmp_path / f"gone{n}.tiff") for n in range(10)]
    labels.drop(columns=["lung_mask", "lesion_mask"]).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(CxrTriageError, match=r"rejects\.csv"):
        fit(phantoms.parent, tmp_path / "labels.csv", tmp_path / "out", **SETTINGS)
    assert len(pd.read_csv(tmp_path / "out" / "prepared" / "rejects.csv")) == 10


@pytest.mark.slow
def test_a_budget_is_kept_for_the_next_start(phantoms: Path, tmp_path: Path) -> None:
    """What is left of a budget differs from start to start; a run is taken up with what it was given first."""
    settings = {key: SETTINGS[key] for key in ("size", "batch", "workers")} | {"budget_s": 30.0}
    result = fit(phantoms.parent, phantoms, tmp_path / "out", **settings)
    assert result.explanations is None  # they would take longer than such a budget
    given = json.loads((tmp_path / "out" / "budget.json").read_text())["training_s"]
    assert given < 30
    fit(phantoms.parent, phantoms, tmp_path / "out", **settings)
    assert json.loads((tmp_path / "out" / "budget.json").read_text())["training_s"] == given
