"""Compare ways of training one trunk, on validation films and on a hospital that none of them saw.

    python -m training.packaged.compare DATA OUT [--seeds 2] [--films-seen 12000] [--ways NAME ...]

OUT is the folder of `python -m training.packaged`, whose prepared films and lungs are used. Shenzhen is left out of
every training and wholly tested on (the finder of the lungs saw its outlines). Goes out: OUT/compare with the scores of
each run, and `compare.md`: AUROCs, differences from the first way with 95 % intervals over patients and seeds, and how
well a probe tells the source from the features. Runs that are there are not made again.
"""

import argparse
import dataclasses
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.experiments.statistics import ArmScores, arm_scores, difference, mean_over_seeds
from cxrtriage.experiments.verdicts import signed
from cxrtriage.model.lungs import LungFinder, lung_boxes
from training.packaged import films as sets
from training.packaged.heads import FindingsNamed, SourceAdversary
from training.packaged.parts import imagenet_weights, joined, made_finder, made_lungs
from training.packaged.probe import pooled, source_told
from training.packaged.trunk import scored, train_trunk

logger = logging.getLogger("training")

NEVER_SEEN = "shenzhen"
NIH = {"nih": 0.2, "nih128": 0.8}
WITH_CHILDREN = {"nih": 0.16, "nih128": 0.64, "guangzhou": 0.2}


def unlearned(sources: Iterable[str]) -> list[nn.Module]:
    return [SourceAdversary(list(sources))]


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """How a trunk is trained; see `trunk.train_trunk`."""

    title: str
    shares: Mapping[str, float]
    imagenet: bool = True
    heads: Callable[[Mapping[str, float]], Sequence[nn.Module]] = lambda _: ()
    films_seen: float = 1.0  # times those of the others


WAYS = {
    "imagenet": Way("ImageNet start, NIH", NIH),
    "plain": Way("plain start", NIH, imagenet=False),
    "plain-longer": Way("plain start, three times the films seen", NIH, imagenet=False, films_seen=3.0),
    "unlearned": Way("ImageNet start, source unlearned", NIH, heads=unlearned),
    "findings": Way("ImageNet start, findings named", NIH, heads=lambda _: [FindingsNamed()]),
    "findings-lightly": Way("ImageNet start, findings named at 0.3", NIH, heads=lambda _: [FindingsNamed(0.3)]),
    "children": Way("ImageNet start, with Guangzhou's children", WITH_CHILDREN),
    "children-unlearned": Way("the same, source unlearned", WITH_CHILDREN, heads=unlearned),
}


def main(data: Path, out: Path, ways: Sequence[str], *, seeds: int, films_seen: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    films = sets.public_films(data, out / "films")
    finder = made_finder(films, out)
    lungs = made_lungs(finder, films, out)
    folder = out / "compare"
    folder.mkdir(exist_ok=True)
    for seed in range(seeds):
        for name in ways:
            if not (folder / f"{name}-{seed}.json").exists():
                logger.info("%s, seed %d", WAYS[name].title, seed)
                perform(WAYS[name], seed, films_seen, films, finder, lungs, folder / f"{name}-{seed}")
            (folder / "compare.md").write_text(table(folder, ways))


def perform(
    way: Way, seed: int, films_seen: int, films: PreparedSet, finder: LungFinder, lungs: np.ndarray, to: Path
) -> None:
    """Train a trunk without the hospital that is left out, and write what it says of the films."""
    manifest = films.manifest.copy()
    left_out = manifest["source"] == NEVER_SEEN
    manifest.loc[left_out, "split"] = "test"
    trunk = train_trunk(
        dataclasses.replace(films, manifest=manifest),
        lungs,
        imagenet_weights() if way.imagenet else None,
        way.shares,
        seed,
        int(films_seen * way.films_seen),
        way.heads(way.shares),
    )
    rows = np.flatnonzero(left_out | ((manifest["source"] == "nih128") & (manifest["split"] == "validation")))
    scores = manifest.iloc[rows][["patient_id", "source", "label"]].rename(columns={"patient_id": "patient"})
    scores["logit"] = scored(trunk, films, lung_boxes(torch.from_numpy(lungs).float() / 255), rows)
    scores.to_csv(to.with_suffix(".csv"), index_label="film", float_format="%.5g")
    network = joined(finder, trunk, trunk)
    told = source_told(films, lambda rows: pooled(network, films, rows, network.crop))
    to.with_suffix(".json").write_text(json.dumps({"source_told": told}))


def table(folder: Path, ways: Sequence[str]) -> str:
    """Return Markdown of the runs that are there; differences from the first way are over the seeds of both."""
    head = ["trained (seeds)", "nih128, validation", "difference", "Shenzhen, never seen", "difference", "source told"]
    lines = [head, ["---"] * len(head)]
    first = runs_of(folder, ways[0])
    for name in ways:
        runs = runs_of(folder, name)
        if not runs:
            continue
        line = [f"{WAYS[name].title} ({len(runs)})"]
        for source in ("nih128", NEVER_SEEN):
            found = mean_over_seeds(scores_of(runs, source))
            line.append(f"{found.estimate:.3f} ({found.lower:.3f} to {found.upper:.3f})")
            both = min(len(runs), len(first))
            beside = difference(scores_of(runs[:both], source), scores_of(first[:both], source))
            line.append("" if name == ways[0] else signed(beside))
        told = [
            json.loads((folder / f"{name}-{seed}.json").read_text())["source_told"][0] for seed, _ in enumerate(runs)
        ]
        lines.append([*line, f"{np.mean(told):.2f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def runs_of(folder: Path, name: str) -> list[pd.DataFrame]:
    """Return the scores of a way's finished runs, by seed."""
    finished = len(list(folder.glob(f"{name}-[0-9]*.json")))
    return [pd.read_csv(folder / f"{name}-{seed}.csv", index_col="film") for seed in range(finished)]


def scores_of(runs: Sequence[pd.DataFrame], source: str) -> ArmScores:
    return arm_scores([run[run["source"] == source] for run in runs])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--films-seen", type=int, default=12_000)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    main(given.data, given.out, given.ways, seeds=given.seeds, films_seen=given.films_seen)
