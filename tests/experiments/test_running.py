"""All experiments on phantoms with a tiny network: what is there in the end, and what a second start does."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import nn

from cxrtriage.data.labels.manifest import read_manifest, save_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.errors import ConfigError
from cxrtriage.experiments import KINDS, ExperimentSettings, run_experiments, runs, write_again
from cxrtriage.experiments.settings import QUICK
from cxrtriage.explain import claim
from cxrtriage.model import bundle
from cxrtriage.train import run as run_module
from prepared_sets import TinyNetwork

SETTINGS = ExperimentSettings(**QUICK, quick=True)


def tiny_network(net: str, classes: int, size: int, dropout: float = 0.5, *, auxiliary: bool = True) -> nn.Module:
    return TinyNetwork(net, classes, size, dropout)


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "build_network", tiny_network)
        patch.setattr(bundle, "build_network", tiny_network)
        patch.setattr(claim, "STEPS", 3)
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    labels = make_phantoms(folder, 90, 128, ratio=(50, 50, 0), workers=1)
    save_manifest(split_manifest(read_manifest(labels), test=0.25, validation=0.2), folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def done(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All experiments, done."""
    out = tmp_path_factory.mktemp("experiments") / "out"
    assert run_experiments(KINDS, manifest, out, SETTINGS, workers=1) == out / "README.md"
    return out


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("nothing was to be trained")

    monkeypatch.setattr(runs, "train_and_calibrate", refuse)


def small_files(out: Path) -> list[Path]:
    return [
        path
        for path in out.rglob("*")
        if path.is_file() and not {"prepared", "train"} & set(path.relative_to(out).parts)
    ]


def test_every_experiment_leaves_its_page_table_and_figures(done: Path) -> None:
    names = {str(path.relative_to(done)) for path in done.rglob("*")}
    figures = {
        "volume": ("figure2", "volume", "films-seen", "differences"),
        "architecture": ("figure3", "differences"),
        "resolution": ("figure4", "differences"),
        "split": ("differences",),
        "recipe": ("differences",),
        "visualise": ("figure1", "figure5", "figure6", "figure7", "figure8"),
    }
    assert set(figures) == set(KINDS)
    for kind, drawn in figures.items():
        assert {f"{kind}/{name}.{suffix}" for name in drawn for suffix in ("svg", "png")} <= names
        assert f"{kind}/results.md" in names
        if kind != "visualise":
            assert {f"{kind}/plan.json", f"{kind}/results.json", f"{kind}/table.csv"} <= names
    page = (done / "README.md").read_text()
    for kind in KINDS:
        assert f"cxrtriage experiment {kind} manifest.csv --out DIR --quick" in page
    assert "prove nothing" in page


def test_each_run_keeps_what_tables_need_and_no_checkpoint(done: Path) -> None:
    for folder in (done / "runs").iterdir():
        assert {path.name for path in folder.iterdir()} == {
            "history.csv", "run.json", "test.csv", "validation.csv", "train",
        }  # fmt: skip
        assert (folder / "train" / "model.safetensors").exists()
        assert not (folder / "train" / "last.ckpt").exists()


def test_all_arms_of_an_experiment_are_tested_on_the_same_films(done: Path) -> None:
    for kind in ("volume", "architecture", "resolution"):
        plan = json.loads((done / kind / "plan.json").read_text())
        tested = {
            tuple(pd.read_csv(done / "runs" / name / "test.csv")["film"])
            for arm in plan["arms"]
            for name in arm["runs"]
        }
        assert len(tested) == 1


def test_what_can_be_committed_names_neither_patients_nor_folders(done: Path, manifest: Path) -> None:
    patients = set(pd.read_csv(manifest, dtype=str)["patient_id"])
    for path in small_files(done):
        if path.suffix != ".png":
            text = path.read_text()
            assert str(manifest.parent) not in text, path
            assert str(done) not in text, path
            if path.suffix != ".svg":
                assert not any(f'"{patient}"' in text or f",{patient}," in text for patient in patients), path
    ignored = (done / ".gitignore").read_text().split()
    assert ignored == ["prepared/", "runs/*/train/"]


def test_a_second_start_trains_nothing(done: Path, manifest: Path, no_training: None) -> None:
    before = {path: path.read_bytes() for path in small_files(done)}
    run_experiments(KINDS, manifest, done, SETTINGS, workers=1)
    assert {path: path.read_bytes() for path in small_files(done)} == before


def test_the_small_files_are_enough_to_go_on_from(
    done: Path, manifest: Path, no_training: None, tmp_path: Path
) -> None:
    for path in small_files(done):
        target = tmp_path / "copy" / path.relative_to(done)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    results = (done / "volume" / "results.json").read_bytes()
    (tmp_path / "copy" / "volume" / "results.json").unlink()
    run_experiments(KINDS, manifest, tmp_path / "copy", SETTINGS, workers=1)
    assert (tmp_path / "copy" / "volume" / "results.json").read_bytes() == results
    (tmp_path / "copy" / "volume" / "results.json").unlink()
    write_again(tmp_path / "copy")
    assert (tmp_path / "copy" / "volume" / "results.json").read_bytes() == results
    assert (tmp_path / "copy" / "README.md").read_bytes() == (done / "README.md").read_bytes()


def test_pictures_are_made_from_a_model_that_is_trained_again_where_it_was_left_behind(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"seeds": 1})
    run_experiments(("architecture",), manifest, tmp_path, settings, workers=1)
    shutil.rmtree(tmp_path / "runs" / "googlenet-128px-seed0" / "train")
    trained = []
    train = runs.train_and_calibrate
    monkeypatch.setattr(
        runs,
        "train_and_calibrate",
        lambda *given, **more: trained.append(given[1].parent.name) or train(*given, **more),
    )
    run_experiments(("visualise",), manifest, tmp_path, settings, workers=1)
    assert trained == ["googlenet-128px-seed0"]
    assert (tmp_path / "visualise" / "figure5.png").exists()


def test_an_interrupted_experiment_goes_on_with_the_run_it_was_at(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    train = runs.train_and_calibrate

    def counting(*given: Any, **more: Any) -> Path:
        started.append(given[1].parent.name)
        if len(started) == 2:
            raise KeyboardInterrupt
        return train(*given, **more)

    monkeypatch.setattr(runs, "train_and_calibrate", counting)
    settings = SETTINGS.model_copy(update={"seeds": 1})
    with pytest.raises(KeyboardInterrupt):
        run_experiments(("architecture",), manifest, tmp_path, settings, workers=1)
    assert not (tmp_path / "architecture" / "results.json").exists()
    run_experiments(("architecture",), manifest, tmp_path, settings, workers=1)
    assert len(started) == 4  # three runs, one of them twice
    assert started[1] == started[2]


def test_an_experiment_is_written_as_soon_as_its_runs_are_done(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = runs.train_and_calibrate

    def until_the_next_experiment(*given: Any, **more: Any) -> Path:
        if "160px" in given[1].parent.name:
            raise KeyboardInterrupt
        return train(*given, **more)

    monkeypatch.setattr(runs, "train_and_calibrate", until_the_next_experiment)
    settings = SETTINGS.model_copy(update={"seeds": 1})
    with pytest.raises(KeyboardInterrupt):
        run_experiments(("architecture", "resolution"), manifest, tmp_path, settings, workers=1)
    assert "Network architecture" in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "resolution").exists()


def test_results_do_not_depend_on_which_experiment_came_first(done: Path, manifest: Path, tmp_path: Path) -> None:
    run_experiments(("resolution",), manifest, tmp_path, SETTINGS, workers=1)
    alone, together = (json.loads((out / "resolution" / "results.json").read_text()) for out in (tmp_path, done))
    for row in (*alone["table"], *together["table"]):
        del row["seconds"]
    assert alone == together


def test_where_nothing_can_leak_all_others_are_run(
    manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = read_manifest(manifest).drop_duplicates("patient_id")
    save_manifest(films, tmp_path / "single.csv")
    settings = SETTINGS.model_copy(update={"seeds": 1})
    run_experiments(("split", "resolution"), tmp_path / "single.csv", tmp_path / "out", settings, workers=1)
    assert "experiment split is left out" in caplog.text
    assert (tmp_path / "out" / "resolution" / "results.md").exists()
    assert not (tmp_path / "out" / "split").exists()


def test_weights_that_are_not_there_are_told_at_once(manifest: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"init": tmp_path / "none.pth"})
    with pytest.raises(ConfigError, match=r"there is no file .*none\.pth to start from. Check --init"):
        run_experiments(("recipe",), manifest, tmp_path, settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2}, r"googlenet-128px-seed0 holds a run with epochs=1, but epochs=2 was asked for now"),
        ({"batch": 4}, r"holds a run with batch=8, but batch=4"),
        ({"films": 40}, r"holds a run with films="),
    ],
)
def test_other_settings_or_films_are_refused_before_anything_is_done(
    done: Path, manifest: Path, no_training: None, change: dict[str, int], message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in small_files(done)}
    with pytest.raises(ConfigError, match=message):
        run_experiments(("architecture",), manifest, done, SETTINGS.model_copy(update=change), workers=1)
    assert {path: path.stat().st_mtime_ns for path in small_files(done)} == before


def test_experiments_on_other_films_are_refused_even_where_no_run_is_shared(
    done: Path, manifest: Path, no_training: None
) -> None:
    other = SETTINGS.model_copy(update={"films": 40, "size": 144, "sizes": (144, 160), "nets": ("googlenet",) * 2})
    with pytest.raises(ConfigError, match="holds experiments on other films than this manifest's"):
        run_experiments(("architecture",), manifest, done, other, workers=1)


def test_a_run_that_another_experiment_is_at_work_on_is_refused(
    done: Path, manifest: Path, tmp_path: Path, no_training: None
) -> None:
    names = [path.name for path in (done / "runs").iterdir()]
    for name in names:
        (tmp_path / "runs" / name / "train").mkdir(parents=True)
    with ExitStack() as held:
        for name in names:
            lock = held.enter_context((tmp_path / "runs" / name / "train" / ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"another process is at work on .*runs/.*\. Wait for it"):
            run_experiments(("architecture",), manifest, tmp_path, SETTINGS, workers=1)
