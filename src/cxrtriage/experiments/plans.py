"""Each experiment laid out: its arms, what is compared with what, and the runs that takes.

In come films and settings; out goes a `Design`, whose arms are kept in `<kind>/plan.json` and whose runs are carried
out by `running`. An arm is one way of doing it, run with several seeds. Arms of different experiments that come to
the same run share it: the name of a run says all that tells runs of one folder apart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cxrtriage.config import Recipe, TrainSettings
from cxrtriage.errors import ConfigError
from cxrtriage.experiments.films import Films, recipe_name
from cxrtriage.experiments.runs import RunPlan
from cxrtriage.experiments.settings import ExperimentSettings, Net
from cxrtriage.experiments.subsets import leaking_split, nested_order, resolve_volumes
from cxrtriage.train.plan import SMALLEST_BATCH, pick_batch, pick_epochs

SHOWN_NETS = {"googlenet": "GoogLeNet", "inception_v3": "Inception V3", "resnet152": "ResNet-152"}
PATIENCE = TrainSettings().patience
STEPS_AN_EPOCH = 4  # at least, of the smallest volume


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the ways that an experiment compares.

    Parameters
    ----------
    title : what it is, for tables and legends
    runs : names of its runs, by seed
    facts : of what figures are drawn over, such as the number of films
    """

    title: str
    runs: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms, by their place, and what the study claims of the difference; "" where it claims nothing."""

    arm: int
    against: int
    claim: str


@dataclass(frozen=True, slots=True)
class Design:
    """An experiment, laid out.

    Parameters
    ----------
    kind : its name on the command line
    title : heading of its page
    method : sentences on how the comparison is made fair
    judged_on : split whose films decide
    arms, comparisons : see there
    runs : what has to be done
    """

    kind: str
    title: str
    method: str
    judged_on: Literal["validation", "test"]
    arms: list[Arm]
    comparisons: list[Comparison]
    runs: list[RunPlan]


class Runs:
    """Makes run plans of the study's kind (GoogLeNet, its training, its preparation) with what an arm changes."""

    def __init__(self, films: Films, settings: ExperimentSettings) -> None:
        self.films = films
        self.settings = settings
        self.split = films.manifest["split"].to_numpy().astype(str)
        self.train = films.rows("train")
        self.made: dict[str, RunPlan] = {}
        self.batch = self._batch()

    def arm(self, title: str, *, facts: dict[str, Any] | None = None, **changes: Any) -> Arm:
        """Plan an arm's runs; see `run` for the changes."""
        return Arm(title, [self.run(seed, **changes) for seed in range(self.settings.seeds)], facts or {})

    def run(
        self,
        seed: int,
        *,
        subset: str = "",
        split: Callable[[int], np.ndarray] | None = None,
        recipe: Recipe | None = None,
        epochs: int | None = None,
        steps: bool = False,
        net: Net = "googlenet",
        training: Literal["study", "clinical"] = "study",
        init: Path | None = None,
    ) -> str:
        """Plan a run and return its name.

        Parameters
        ----------
        seed : of the run
        subset : what the training films are called in its name; "" for all
        split : seed -> split of its films; None for the manifest's
        recipe : of the preparation; None for the study's
        epochs : None for what was asked for, or what `train` takes
        steps : whether to train for all epochs, without early stopping
        net, init : see `config.TrainSettings`
        training : its `recipe`
        """
        recipe = recipe or Recipe(size=self.settings.size)
        own = self.split if split is None else split(seed)
        settings = TrainSettings(net=net, recipe=training, classes=2, init=init, batch=self.batch, seed=seed)
        settings = settings.model_copy(
            update={
                "epochs": epochs or self.settings.epochs or pick_epochs(int((own == "train").sum()), settings)[0],
                "patience": 0 if steps else settings.patience,
                "budget_s": self.settings.budget_s,
            }
        )
        words = [
            settings.net,
            recipe_name(recipe),
            "" if settings.recipe == "study" else settings.recipe,
            "init" if settings.init else "",
            subset,
            f"{settings.epochs}epochs" if steps else "",
            f"seed{seed}",
        ]
        name = "-".join(word for word in words if word)
        self.made.setdefault(name, RunPlan(name, recipe, settings, own))
        return name

    def _batch(self) -> int:
        """Return one batch for all runs, with which the study's smallest volume makes several steps an epoch.

        It depends on the number of films alone, so that experiments can share runs whatever volumes are asked for.
        """
        if self.settings.batch is not None:
            return self.settings.batch
        usual = pick_batch(len(self.train), "study", None)[0]
        smallest = resolve_volumes(None, len(self.train))[0]
        return max(min(usual, smallest // STEPS_AN_EPOCH), min(SMALLEST_BATCH, usual))


def volume_design(films: Films, settings: ExperimentSettings) -> Design:
    """Lay out how AUROC grows with training films."""
    runs = Runs(films, settings)
    volumes = resolve_volumes(settings.volumes, len(runs.train))
    orders = [runs.train[nested_order(films.manifest.iloc[runs.train], seed)] for seed in range(settings.seeds)]

    def first(volume: int) -> Callable[[int], np.ndarray]:
        def split(seed: int) -> np.ndarray:
            chosen = runs.split.copy()
            chosen[orders[seed][volume:]] = ""
            return chosen

        return split

    epochs = settings.epochs or pick_epochs(volumes[-1], TrainSettings())[0]
    steps = epochs * math.ceil(volumes[-1] / runs.batch)
    arms = []
    for stop, words in (("steps", "equal steps"), ("early", "early stopping")):
        for volume in volumes:
            changes: dict[str, Any] = {
                "subset": "" if volume == len(runs.train) else f"{volume}films",
                "split": first(volume),
                "facts": {"films": volume, "stop": stop},
            }
            # at the largest, where patience cannot run out, both ways are one: its runs serve both
            if stop == "steps" and (volume < volumes[-1] or epochs > PATIENCE):
                changes |= {"steps": True, "epochs": max(1, round(steps / math.ceil(volume / runs.batch)))}
            arms.append(runs.arm(f"{volume:,} films, {words}", **changes))
    count = len(volumes)
    claim = "more training films change little"
    return Design(
        kind="volume",
        title="Dataset volume",
        method=(
            f"Smaller volumes are random patients of the larger ones, drawn anew for each seed. Equal steps: every "
            f"volume is trained for about {steps:,} optimiser steps of {runs.batch} films, so small ones are seen "
            "more often. Early stopping: epochs as usual, ended after 10 without a better validation figure. Of every "
            "run the epoch best on validation counts."
        ),
        judged_on="test",
        arms=arms,
        comparisons=[
            Comparison(place, (place // count + 1) * count - 1, claim)
            for place in range(2 * count)
            if (place + 1) % count
        ],
        runs=list(runs.made.values()),
    )


def architecture_design(films: Films, settings: ExperimentSettings) -> Design:
    """Lay out whether deeper networks do better."""
    runs = Runs(films, settings)
    arms = [runs.arm(SHOWN_NETS[net], net=net) for net in settings.nets]
    return Design(
        kind="architecture",
        title="Network architecture",
        method=(
            f"The same {len(runs.train):,} training films at {settings.size} pixels and the same training for all. "
            "Below 299 pixels Inception V3 has no auxiliary classifier."
        ),
        judged_on="test",
        arms=arms,
        comparisons=[Comparison(place, 0, "deeper networks change little") for place in range(1, len(arms))],
        runs=list(runs.made.values()),
    )


def resolution_design(films: Films, settings: ExperimentSettings) -> Design:
    """Lay out whether more pixels do better."""
    runs = Runs(films, settings)
    sizes = sorted(set(settings.sizes))
    arms = [runs.arm(f"{size} × {size}", recipe=Recipe(size=size), facts={"size": size}) for size in sizes]
    return Design(
        kind="resolution",
        title="Input size",
        method=(
            f"GoogLeNet on the same {len(runs.train):,} training films, each prepared from the film as stored. A film "
            "smaller than the size is enlarged, which adds no information."
        ),
        judged_on="test",
        arms=arms,
        comparisons=[Comparison(place, 0, "more pixels change little") for place in range(1, len(arms))],
        runs=list(runs.made.values()),
    )


def split_design(films: Films, settings: ExperimentSettings) -> Design:
    """Lay out what a split by image adds."""
    runs = Runs(films, settings)
    tested = films.rows("test")
    several = int(films.manifest["patient_id"].iloc[tested].duplicated(keep=False).sum())
    if not may_leak(films):
        raise ConfigError(
            "experiment split needs test patients with several films: every test film here is of another patient, so a "
            "split by image leaks nothing. Check the column patient_id."
        )
    folds = max(2, settings.seeds)

    def leaking(seed: int) -> np.ndarray:
        return leaking_split(films.manifest, seed, folds, seed)

    arms = [
        runs.arm("split by patient"),
        runs.arm("split by image", subset=f"leak{folds}", split=leaking),
    ]
    return Design(
        kind="split",
        title="Split by patient or by image",
        method=(
            f"The test films are cut into {folds} parts, one a seed. By image, the other films of a part's patients "
            "are trained on, each in the place of a random training film; by patient, none is. Both arms train on "
            f"{len(runs.train):,} films and are measured on the same part. {several} of the {len(tested)} "
            f"test films are of patients with several; {(folds - 1) / folds:.0%} of such a patient's other films leak "
            "(90 % in the study's split). Validation films are the same and leak nothing."
        ),
        judged_on="test",
        arms=arms,
        comparisons=[Comparison(1, 0, "treating each film as a patient of its own changes little")],
        runs=list(runs.made.values()),
    )


def may_leak(films: Films) -> bool:
    """Tell whether a test patient has several films, without which a split by image leaks nothing."""
    return bool(films.manifest["patient_id"].iloc[films.rows("test")].duplicated().any())


def recipe_design(films: Films, settings: ExperimentSettings) -> Design:
    """Lay out which preparation and training is best, one change at a time."""
    runs = Runs(films, settings)
    base = Recipe(size=settings.size)
    changes: list[tuple[str, dict[str, Any]]] = [
        ("fit's defaults", {}),
        ("study's training", {"training": "study"}),
        ("contrast not equalised", {"recipe": base.model_copy(update={"contrast": "none"})}),
        ("contrast by CLAHE", {"recipe": base.model_copy(update={"contrast": "clahe"})}),
        ("area instead of random pixels", {"recipe": base.model_copy(update={"downsample": "area"})}),
    ]
    if settings.init is not None:
        changes.append(("started from given weights", {"init": settings.init}))
    arms = [runs.arm(title, **({"training": "clinical"} | change)) for title, change in changes]
    return Design(
        kind="recipe",
        title="Preparation and training",
        method=(
            f"GoogLeNet at {settings.size} pixels; each arm changes one thing of fit's defaults: clinical training, "
            "equalised films, random pixels, fresh weights. The validation films choose the epoch too, which flatters "
            "all arms alike; the test films stay unseen."
        ),
        judged_on="validation",
        arms=arms,
        comparisons=[Comparison(place, 0, "") for place in range(1, len(arms))],
        runs=list(runs.made.values()),
    )


DESIGNS: dict[str, Callable[[Films, ExperimentSettings], Design]] = {
    "volume": volume_design,
    "architecture": architecture_design,
    "resolution": resolution_design,
    "split": split_design,
    "recipe": recipe_design,
}
