"""Acceptance of a node at its site: local labelled films in, a recalibrated model with figures on them out.

The films go the way of received ones: gate, preparation, the active model. Half of the patients set calibration and
threshold, the other half measure what these reach, so no figure is taken on films that set it. Until this has
been done every page of the node says *not validated here*.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxrtriage.data.film.source import read_film
from cxrtriage.data.labels.manifest import read_labelled, save_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.errors import ConfigError, ModelError, SourceError
from cxrtriage.evaluate.evaluation import leading_figures
from cxrtriage.model.card import ModelCard
from cxrtriage.pipeline import evaluate_model, recalibrate_for
from cxrtriage.progress import progress_bar
from cxrtriage.serve import gate, models
from cxrtriage.serve.database import now, reading
from cxrtriage.serve.open_node import open_node

logger = logging.getLogger("cxrtriage")

TABLE = "labels.csv"
LOCAL = "local-"  # before the name of a recalibrated model file
SHOWN = ("auroc", "sensitivity", "specificity")
LEAST_AUROC = 0.5  # the interval must lie above it, or the model cannot be told from chance here


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What came out: the version that is active now, all figures, and films that were not assessed with reasons."""

    version: models.ModelVersion
    metrics: dict[str, Any]
    not_assessed: dict[str, str]


def accept(home: Path, films: Path, *, seed: int = 0) -> Acceptance:
    """Measure the active model of a node on a site's own films, and fit its probabilities and threshold to them.

    Parameters
    ----------
    home : the node's folder; the evaluation stays there, under `acceptance/`
    films : folder with `labels.csv`, or with folders `normal`, `abnormal`, `emergent`
    seed : which patients set the threshold

    Raises
    ------
    ConfigError
        If the node has no model yet.
    SourceError
        If the films cannot be read, or all are outside the model's scope.
    ModelError
        If the model cannot be told from chance on these films; nothing is changed then.
    """
    manifest = read_labelled(films / TABLE if (films / TABLE).is_file() else films)
    with open_node(home) as (_, engine):
        with reading(engine) as connection:
            active = models.active_model(connection)
        if active is None:
            raise ConfigError(
                f"the node at {home} has no model yet. Start it with `cxrtriage serve --model FILE` once."
            )
        not_assessed = dict(_set_aside(manifest, active.card))
        taken = manifest[~manifest["path"].isin(list(not_assessed))].drop(columns="split", errors="ignore")
        if taken.empty:
            raise SourceError(f"none of the {len(manifest)} films in {films} is within the scope of the active model.")
        halves = split_manifest(taken, test=0.5, validation=0, seed=seed)
        halves["split"] = halves["split"].replace("train", "validation")
        out = home / "acceptance" / f"{now():%Y%m%dT%H%M%S}"
        out.mkdir(parents=True)
        save_manifest(halves, out / "manifest.csv")
        local = out / f"{LOCAL}{active.name.removeprefix(LOCAL)}"
        recalibrate_for(home / active.path, out / "manifest.csv", local)
        metrics = evaluate_model(local, out / "manifest.csv", out, seed=seed)
        figures = leading_figures(metrics)
        low = figures["auroc"]["lower"]
        if low is None or low <= LEAST_AUROC:
            raise ModelError(
                f"the model cannot be told from chance on these films (AUROC from {low or 0:.2f}, expected above "
                f"{LEAST_AUROC}); it was not accepted and nothing was changed. All figures are in {out}."
            )
        record = {
            "at": now().isoformat(timespec="seconds"),
            "films": int((halves["split"] == "test").sum()),
            "not_assessed": len(not_assessed),
            "figures": {name: figures[name] for name in SHOWN},
        }
        version = models.add_model(engine, home, local, "active", acceptance=record, actor="acceptance")
    return Acceptance(version, metrics, not_assessed)


def _set_aside(manifest: pd.DataFrame, card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield the films that the node would not assess, and why."""
    with progress_bar("gate", len(manifest), "films") as advance:
        for row in manifest.itertuples():
            path = str(row.path)
            age = getattr(row, "age", None)
            age = None if pd.isna(age) else age  # then what the film's header tells counts
            try:
                source = read_film(Path(path))
                reason = gate.reason_against(source, prepare_film(source, card.recipe), card, age)
            except SourceError as error:
                reason = gate.reason_unreadable(error)
            if reason:
                yield path, reason
            advance(1)
