"""Tables, sentences and figures come from the small files of runs alone, and say what the runs show."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrtriage.errors import ConfigError
from cxrtriage.experiments import write_again
from cxrtriage.experiments.results import compute_results, swing
from cxrtriage.experiments.verdicts import FALLS, STANDS, UNKNOWN
from cxrtriage.metrics import auroc
from experiments.made_up import write_baseline, write_run

SEEDS = 3


def write_experiment(
    out: Path,
    skills: list[float],
    *,
    kind: str = "resolution",
    same_films: bool = True,
    claim: str = "it changes little",
) -> dict[str, Any]:
    """Write an experiment of one arm a skill, whose later arms are compared with the first; return its plan.

    Runs of a seed share their noise, as models that were tested on the same films do in part.
    """
    arms = []
    for number, skill in enumerate(skills):
        names = [f"arm{number}-seed{seed}" for seed in range(SEEDS)]
        for seed, name in enumerate(names):
            write_run(out, name, skill=skill, seed=seed, films=600, first=0 if same_films else 300 * number)
        stop = ("steps", "early")[number // 2 % 2]
        arms.append({"title": f"arm {number}", "runs": names, "facts": {"films": 100 * (number + 1), "stop": stop}})
    comparisons = [{"arm": number, "against": 0, "claim": claim} for number in range(1, len(skills))]
    plan: dict[str, Any] = {"kind": kind, "title": "A title", "method": "As it was done.", "command": "cxrtriage"}
    plan |= {"judged_on": "test", "arms": arms, "comparisons": comparisons}
    (out / kind).mkdir()
    (out / kind / "plan.json").write_text(json.dumps(plan))
    return plan


def test_verdicts_follow_the_skill_that_runs_were_given(tmp_path: Path) -> None:
    write_baseline(tmp_path, skill=0.2, films=600)
    plan = write_experiment(tmp_path, [1.5, 1.51, 0.5, 1.39])
    results = compute_results(plan, tmp_path, resamples=300)
    assert [row["verdict"] for row in results["differences"]] == [STANDS, FALLS, UNKNOWN]
    assert results["films"] == 600
    assert results["patients"] == 300


def test_a_row_has_the_means_over_seeds(tmp_path: Path) -> None:
    write_baseline(tmp_path, skill=0.2, films=600)
    plan = write_experiment(tmp_path, [1.0, 1.2])
    row = compute_results(plan, tmp_path, resamples=100)["table"][1]
    tables = [pd.read_csv(tmp_path / "runs" / name / "test.csv") for name in plan["arms"][1]["runs"]]
    assert row["auroc"]["estimate"] == pytest.approx(np.mean([auroc(t["label"], t["logit"]) for t in tables]))
    right = [((t["probability"] >= 0.5) == (t["label"] > 0)).mean() for t in tables]
    assert row["accuracy"] == pytest.approx(np.mean(right))
    assert row["majority_accuracy"] == 0.5
    found = [((t["probability"] < 0.5) & (t["label"] == 0)).sum() for t in tables]
    called = [(t["probability"] < 0.5).sum() for t in tables]
    expected = np.mean([2 * right / (300 + of_all) for right, of_all in zip(found, called, strict=True)])
    assert row["f1_normal"] == pytest.approx(expected)
    baseline = pd.read_csv(tmp_path / "no_anatomy.csv")
    above = row["auroc"]["estimate"] - auroc(baseline["label"], baseline["logit"])
    assert row["above_no_anatomy"]["estimate"] == pytest.approx(above)


def test_arms_that_were_tested_on_other_films_are_compared_on_those_they_share(tmp_path: Path) -> None:
    write_baseline(tmp_path, skill=0.2, films=900)
    plan = write_experiment(tmp_path, [1.0, 1.0], same_films=False)
    results = compute_results(plan, tmp_path, resamples=50)
    assert results["films"] == 300
    table = pd.read_csv(tmp_path / "runs" / "arm0-seed0" / "test.csv", index_col="film").loc[300:599]
    assert results["table"][0]["auroc_of_seeds"][0] == pytest.approx(auroc(table["label"], table["logit"]))


def test_no_network_above_the_baseline_is_said(tmp_path: Path) -> None:
    write_baseline(tmp_path, skill=3.0, films=600)
    remarks = compute_results(write_experiment(tmp_path, [0.5, 0.6]), tmp_path, resamples=100)["remarks"]
    assert "does not show that any network here reads anatomy" in " ".join(remarks)


def test_a_baseline_that_could_not_be_trained_is_said(tmp_path: Path) -> None:
    write_baseline(tmp_path, skill=None, films=600)
    results = compute_results(write_experiment(tmp_path, [0.5, 0.6]), tmp_path, resamples=50)
    assert "The no-anatomy baseline needs more films." in results["remarks"]
    assert results["table"][0]["above_no_anatomy"] is None


def test_networks_at_chance_settle_nothing(tmp_path: Path) -> None:
    write_baseline(tmp_path, skill=0.0, films=600)
    results = compute_results(write_experiment(tmp_path, [0.0, 0.0]), tmp_path, resamples=100)
    assert results["differences"][0]["verdict"] == UNKNOWN
    assert "No arm is surely better than chance, so nothing here can be told." in results["remarks"]


@pytest.mark.parametrize(
    ("skills", "said"),
    [([1.0, 2.0], "Best on validation: arm 1, by +0"), ([1.0, 0.5], "Best on validation: arm 0; no change")],
)
def test_the_best_recipe_is_named_with_its_difference(tmp_path: Path, skills: list[float], said: str) -> None:
    write_baseline(tmp_path, skill=0.2, films=600)
    plan = write_experiment(tmp_path, skills, kind="recipe", claim="") | {"judged_on": "validation"}
    assert said in compute_results(plan, tmp_path, resamples=100)["remarks"][0]


def test_steadier_curves_swing_less() -> None:
    assert swing(np.array([0.5, 0.7, 0.7, 0.7])) == 0
    assert swing(np.array([0.1, 0.9, 0.6, 0.8])) == pytest.approx(0.2)
    assert np.isnan(swing(np.array([0.5])))


@pytest.mark.parametrize(
    ("kind", "figures"),
    [
        ("volume", ("volume", "films-seen", "figure2", "differences")),
        ("architecture", ("figure3", "differences")),
        ("resolution", ("figure4", "differences")),
        ("split", ("differences",)),
    ],
)
def test_everything_is_written_again_from_the_small_files(tmp_path: Path, kind: str, figures: tuple[str, ...]) -> None:
    write_baseline(tmp_path, skill=0.2, films=600)
    write_experiment(tmp_path, [1.0, 1.4, 1.1, 1.5], kind=kind)
    page = write_again(tmp_path).read_text()
    for name in figures:
        root = ElementTree.parse(tmp_path / kind / f"{name}.svg").getroot()
        assert root.tag.endswith("svg")
        picture = cv2.imread(str(tmp_path / kind / f"{name}.png"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
        assert f"]({kind}/{name}.png)" in page
    results = json.loads((tmp_path / kind / "results.json").read_text())
    for row in results["differences"]:
        assert row["sentence"] in page
    table = pd.read_csv(tmp_path / kind / "table.csv")
    assert len(table) == 4
    assert table["auroc_estimate"].tolist() == pytest.approx(
        [row["auroc"]["estimate"] for row in results["table"]], abs=1e-4
    )
    assert str(tmp_path) not in page + (tmp_path / kind / "results.json").read_text()


def test_a_folder_without_experiments_is_said_to_hold_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no experiment"):
        write_again(tmp_path)
