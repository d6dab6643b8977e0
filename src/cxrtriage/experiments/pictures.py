"""The study's figures 1 and 5 to 8: films before and after preparation, and opposite-label images in both directions.

In come the model of a run and its films; out go figures, and the sentence on whether opposite-label images become
symmetric, which the study saw by eye. They are made once: tables and curves can be made again without films, these not.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.atomic import replacing
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.errors import SourceError
from cxrtriage.evaluate.figures import draw_equalisation
from cxrtriage.evaluate.plotting import figure_written_to
from cxrtriage.evaluate.predicting import predictions_table
from cxrtriage.explain.cases import choose_typical
from cxrtriage.explain.claim import measure_symmetry
from cxrtriage.explain.explained_films import score_split
from cxrtriage.explain.opposite import STEPS, OppositeImages, noise_films, opposite_images
from cxrtriage.model.bundle import Model
from cxrtriage.records import LABEL_NAMES

SHOWN = 4  # films in a figure
CARD = "pictures.json"
NUMBERS = {(1, 0): 5, (0, 1): 6, (None, 0): 7, (None, 1): 8}  # (label of the film, target) -> figure of the study


def draw_pictures(model: Model, prepared: PreparedSet, folder: Path, *, films: int, seed: int = 0) -> dict[str, Any]:
    """Draw figures 1 and 5 to 8, and measure symmetry.

    Parameters
    ----------
    model : of a run
    prepared : its films
    folder : to draw into; `pictures.json` is written last
    films : of each class that symmetry is measured on, at most
    seed : of noise and of the choice of films

    Returns
    -------
    dict
        Content of `pictures.json`: `captions` (name and caption a figure), `symmetry` (from `claim.measure_symmetry`).
    """
    captions = [*_draw_preparation(prepared, folder)]
    table = predictions_table(model, prepared, "test")
    for label, target in NUMBERS:
        start = "noise" if label is None else LABEL_NAMES[label]
        before = (
            noise_films(SHOWN, prepared.recipe.size, seed=seed) if label is None else _typical(prepared, table, label)
        )
        driven = opposite_images(model, before, np.full(len(before), target), seed=seed)
        name = f"figure{NUMBERS[label, target]}"
        _draw_driven(driven, folder / name)
        there = f"{int(driven.reached.sum())} of {len(before)} got there within {STEPS} steps"
        captions.append(
            (
                name,
                f"The study's {name.replace('figure', 'figure ')}: {start} driven to {LABEL_NAMES[target]}; {there}.",
            )
        )
    found = measure_symmetry(model, score_split(model, prepared, "test", seed=seed), films, seed=seed)
    content = {"captions": captions, "symmetry": found}
    with replacing(folder / CARD) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return content


def _draw_preparation(prepared: PreparedSet, folder: Path) -> list[tuple[str, str]]:
    """Draw a test film of each class before and after preparation, where it can still be read."""
    sources, titles = [], []
    test = prepared.manifest[prepared.manifest["split"] == "test"]
    for label in (0, 1):
        for path in test.loc[(test["label"] > 0) == label, "path"].head(1):
            try:
                sources.append(read_film(path))
                titles.append(LABEL_NAMES[label])
            except SourceError:
                continue
    if not sources:
        return []
    draw_equalisation(sources, prepared.recipe, titles, folder / "figure1")
    return [("figure1", "The study's figure 1: films as stored and after histogram equalisation.")]


def _typical(prepared: PreparedSet, table: pd.DataFrame, label: int) -> np.ndarray:
    """Return typical films that are rightly called, (n, S, S) uint8; of a network that calls none, any of the class."""
    chosen = choose_typical(table, SHOWN)[label]
    if chosen.empty:
        chosen = table[(table["label"] > 0) == label].head(SHOWN)
    row = dict(zip(prepared.manifest["film_number"], range(len(prepared.manifest)), strict=True))
    return np.array(prepared.images[[row[film] for film in chosen["film_number"]]])


def _draw_driven(driven: OppositeImages, path: Path) -> None:
    """Draw films before, after, and what changed, a column a film."""
    change = driven.difference.astype(float)
    strongest = max(1.0, float(np.percentile(np.abs(change), 99.5)))
    count = len(driven.before)
    with figure_written_to(path, 0.5 + 1.6 * count, 5.2) as figure:
        panels = figure.subplots(3, count, squeeze=False)
        for column in range(count):
            before, after = driven.probability_before[column], driven.probability_after[column]
            for axes, picture, limits, colours in (
                (panels[0, column], driven.before[column], (0, 255), "gray"),
                (panels[1, column], driven.after[column], (0, 255), "gray"),
                (panels[2, column], change[column], (-strongest, strongest), "PuOr_r"),
            ):
                axes.imshow(picture, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="antialiased")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
            panels[0, column].set_title(f"p = {before:.2f}", fontweight="normal", loc="center", fontsize=8.5, pad=3)
            panels[1, column].set_title(f"p = {after:.2f}", fontweight="normal", loc="center", fontsize=8.5, pad=3)
        for axes, word in zip(panels[:, 0], ("before", "after", "change"), strict=True):
            axes.set_ylabel(word)
        figure.supxlabel(
            f"p: probability of abnormal. Change: ±{strongest:.0f} grey levels, orange is brighter.", fontsize=7.5
        )
