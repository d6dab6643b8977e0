"""Experiments are laid out so that an arm differs from another in one thing only."""

from pathlib import Path

import numpy as np
import pytest

from cxrtriage.errors import ConfigError
from cxrtriage.experiments.plans import DESIGNS, Design, architecture_design, recipe_design, split_design, volume_design
from cxrtriage.experiments.runs import RunPlan
from cxrtriage.experiments.settings import ExperimentSettings
from experiments.made_up import make_films

SETTINGS = ExperimentSettings(size=128, sizes=(128, 160), volumes=(0.5, 1.0), seeds=2, epochs=6)


def runs_of(design: Design) -> dict[str, RunPlan]:
    return {plan.name: plan for plan in design.runs}


def test_smaller_volumes_lie_within_larger_ones_and_all_are_tested_on_the_same_films() -> None:
    films = make_films()
    design = volume_design(films, SETTINGS)
    plans = runs_of(design)
    for stop in (0, 2):
        small, large = design.arms[stop], design.arms[stop + 1]
        for less, more in zip(small.runs, large.runs, strict=True):
            trained = [set(np.flatnonzero(plans[name].split == "train")) for name in (less, more)]
            assert trained[0] < trained[1]
            assert [len(each) for each in trained] == [60, 120]
    for plan in plans.values():
        for judged in ("validation", "test"):
            assert ((plan.split == judged) == (films.manifest["split"] == judged)).all()


def test_another_seed_trains_on_another_subset() -> None:
    plans = runs_of(volume_design(make_films(), SETTINGS))
    subsets = [plan.split for plan in plans.values() if plan.training_films == 60 and plan.settings.patience]
    assert len(subsets) == 2
    assert (subsets[0] != subsets[1]).any()


@pytest.mark.parametrize(("epochs", "runs"), [(6, 6), (20, 8)])  # below 10, the largest volume's runs are shared
def test_equal_steps_are_equal_and_early_stopping_stops(epochs: int, runs: int) -> None:
    design = volume_design(make_films(), SETTINGS.model_copy(update={"epochs": epochs}))
    plans = runs_of(design)
    assert len(plans) == runs
    steps = []
    for arm in design.arms:
        plan = plans[arm.runs[0]]
        if arm.facts["stop"] == "steps":
            assert plan.settings.patience == 0 or plan.settings.epochs < 10  # else it could stop early
            steps.append(plan.settings.epochs * -(-plan.training_films // plan.settings.batch))
        else:
            assert plan.settings.patience == 10
            assert plan.settings.epochs == epochs
    assert max(steps) - min(steps) <= -(-60 // plan.settings.batch) / 2  # half an epoch of the smaller
    assert len({plan.settings.batch for plan in plans.values()}) == 1


def test_each_volume_is_compared_with_the_largest_that_stops_alike() -> None:
    design = volume_design(make_films(), SETTINGS.model_copy(update={"volumes": (0.25, 0.5, 1.0)}))
    pairs = [(design.arms[each.arm].facts, design.arms[each.against].facts) for each in design.comparisons]
    assert [(arm["films"], against["films"]) for arm, against in pairs] == [(30, 120), (60, 120)] * 2
    assert all(arm["stop"] == against["stop"] for arm, against in pairs)


def test_experiments_share_the_runs_they_have_in_common() -> None:
    films = make_films()
    runs = [runs_of(DESIGNS[kind](films, SETTINGS)) for kind in ("volume", "architecture", "resolution", "split")]
    common = set.intersection(*map(set, runs))
    assert common == {"googlenet-128px-seed0", "googlenet-128px-seed1"}
    for name in common:
        assert len({str(each[name].settings) + str(each[name].recipe) for each in runs}) == 1
        assert all((each[name].split == runs[0][name].split).all() for each in runs)


def test_a_run_has_one_name_whatever_volumes_are_asked_for() -> None:
    films = make_films()
    for kind in ("architecture", "volume"):
        batches = set()
        for volumes in ((0.5, 1.0), (0.2, 0.4, 1.0), None):
            plans = runs_of(DESIGNS[kind](films, SETTINGS.model_copy(update={"volumes": volumes})))
            batches.add(plans["googlenet-128px-seed0"].settings.batch)
        assert len(batches) == 1


def test_names_tell_all_runs_of_all_experiments_apart() -> None:
    films = make_films()
    init = SETTINGS.model_copy(update={"init": Path("weights.pth")})
    told: dict[str, str] = {}
    for design in DESIGNS.values():
        for plan in design(films, init).runs:
            what = f"{plan.settings} {plan.recipe} {plan.split.tolist()}"
            assert told.setdefault(plan.name, what) == what, plan.name
    assert len(set(told.values())) == len(told)


def test_networks_differ_in_nothing_else() -> None:
    design = architecture_design(make_films(), SETTINGS)
    plans = runs_of(design)
    for seed in range(2):
        same = [plans[arm.runs[seed]] for arm in design.arms]
        assert len({str(plan.settings.model_copy(update={"net": "googlenet"})) for plan in same}) == 1
        assert len({plan.recipe for plan in same}) == 1


def test_a_leak_changes_neither_the_number_of_training_films_nor_validation() -> None:
    design = split_design(make_films(), SETTINGS)
    plans = runs_of(design)
    for by_patient, by_image in zip(*(arm.runs for arm in design.arms), strict=True):
        assert plans[by_patient].training_films == plans[by_image].training_films
        assert ((plans[by_patient].split == "validation") == (plans[by_image].split == "validation")).all()


def test_without_patients_of_several_films_there_is_no_leak_to_measure() -> None:
    with pytest.raises(ConfigError, match="needs test patients with several films"):
        split_design(make_films(films_each=1), SETTINGS)


def test_recipes_change_one_thing_of_what_fit_does_and_are_judged_on_validation() -> None:
    design = recipe_design(make_films(), SETTINGS.model_copy(update={"init": Path("weights.pth")}))
    plans = runs_of(design)
    assert design.judged_on == "validation"
    base = plans[design.arms[0].runs[0]]
    assert base.settings.recipe == "clinical"
    for arm in design.arms[1:]:
        plan = plans[arm.runs[0]]
        changed = {
            name
            for ours, theirs in ((plan.settings, base.settings), (plan.recipe, base.recipe))
            for name, value in ours.model_dump().items()
            if value != getattr(theirs, name)
        }
        assert len(changed) == 1, arm.title
    assert len(design.arms) == 6
