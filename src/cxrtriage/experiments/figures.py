"""The study's figures 2 to 4 drawn again from the runs, with seeds as bands, and figures of what they come to.

In come the content of `results.json` and the histories of the runs; out go SVG and PNG. `pictures` draws the study's
figures 1 and 5 to 8.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cxrtriage.evaluate.plotting import BLUE, GREY, INK, PALE, SERIES, VERMILION, figure_written_to, grid
from cxrtriage.experiments.runs import load_run, load_scores

# Dunnmon et al., Radiology 290 (2019): the archive that the study's films came from, other labels and other test films.
DUNNMON_2019 = ((2_000, 20_000, 200_000), (0.84, 0.95, 0.96))
PANEL = 2.5  # inches
MOST_LOSS = 2.0  # shown: single epochs of an unsteady network would press all others flat
MARKED = 25  # points of a curve from which on they are not marked
STOPS = {"steps": ("equal steps", BLUE), "early": ("early stopping", VERMILION)}


def draw_experiment(results: dict[str, Any], out: Path) -> list[tuple[str, str]]:
    """Draw all figures of an experiment.

    Parameters
    ----------
    results : from `results.compute_results`
    out : folder of the experiments; the figures go into the folder of the experiment's kind

    Returns
    -------
    File names without suffix, and captions.
    """
    folder, arms = out / results["kind"], results["arms"]
    drawn = []
    if results["kind"] == "volume":
        of_equal_steps = [arm for arm in arms if arm["facts"]["stop"] == "steps"]
        draw_curves(of_equal_steps, "accuracy", out, folder / "figure2", short=True)
        draw_volume(results, folder / "volume")
        draw_learning(of_equal_steps, out, folder / "films-seen")
        drawn = [
            ("volume", "AUROC on the test films by number of training films; bars and bands are 95 % intervals."),
            (
                "films-seen",
                "Validation AUROC by films seen, at equal steps; bands reach from the lowest seed to the highest.",
            ),
            ("figure2", "The study's figure 2: accuracy while training on volumes of different size."),
        ]
    elif results["kind"] == "architecture":
        draw_curves(arms, "loss", out, folder / "figure3")
        drawn = [
            (
                "figure3",
                "The study's figure 3: loss of networks that increase in depth from left to right, cut off at 2.",
            )
        ]
    elif results["kind"] == "resolution":
        draw_curves(arms, "loss", out, folder / "figure4")
        drawn = [("figure4", "The study's figure 4: loss at different input sizes, cut off at 2.")]
    draw_differences(results, folder / "differences")
    shaded = "" if results["judged_on"] == "validation" else " Shaded: what counts as little."
    return [*drawn, ("differences", f"Differences in AUROC with 95 % intervals over patients and seeds.{shaded}")]


def draw_curves(
    arms: Sequence[dict[str, Any]], figure_name: str, out: Path, path: Path, *, short: bool = False
) -> None:
    """Draw loss or accuracy by epoch, a panel an arm, training and validation, as the study lays it out.

    Parameters
    ----------
    arms : `title`, `runs`, `facts`
    figure_name : "loss" or "accuracy"
    out : folder of the experiments
    path : of the figure, without suffix
    short : title the panels by their number of films alone
    """
    with figure_written_to(path, max(4.2, PANEL * len(arms)), 2.7) as figure:
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms, strict=True):
            histories = [load_run(out, run)[1] for run in arm["runs"]]
            for split, colour in (("train", BLUE), ("validation", VERMILION)):
                label = {"train": "training", "validation": "validation"}[split]
                _band(axes, histories, f"{split}_{figure_name}", colour, label, lambda table: table["epoch"].to_numpy())
            if figure_name == "accuracy":
                abnormal = (load_scores(out, arm["runs"][0], "validation")["label"] > 0).mean()
                axes.axhline(
                    max(abnormal, 1 - abnormal), color=INK, linewidth=0.9, linestyle=":", label="commoner class"
                )
            longest = max(len(table) for table in histories)
            axes.set_xlim(0.5 if longest < MARKED else 0, longest + 0.5)
            axes.set(xlabel="epoch", title=f"{arm['facts']['films']:,} films" if short else arm["title"])
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
            grid(axes)
        if figure_name == "loss":
            panels[0].set_ylim(0, top=min(panels[0].get_ylim()[1], MOST_LOSS))
        panels[0].set_ylabel("cross-entropy loss" if figure_name == "loss" else "accuracy")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def draw_volume(results: dict[str, Any], path: Path) -> None:
    """Draw AUROC by training films, one curve for each way to stop, with Dunnmon's points and the baseline.

    Parameters
    ----------
    results : of the kind "volume"
    path : of the figure, without suffix
    """
    with figure_written_to(path, 5.6, 3.7) as figure:
        axes = figure.subplots()
        for number, (stop, (title, colour)) in enumerate(STOPS.items()):
            rows = [
                (arm["facts"]["films"], row["auroc"])
                for arm, row in zip(results["arms"], results["table"], strict=True)
                if arm["facts"]["stop"] == stop
            ]
            films = np.array([count for count, _ in rows], dtype=float) * (0.985, 1.015)[number]  # bars side by side
            found, low, high = (_values([area for _, area in rows], name) for name in ("estimate", "lower", "upper"))
            axes.errorbar(
                films, found, (found - low, high - found), fmt="o-", color=colour, markersize=4, capsize=2,
                elinewidth=1, label=title,
            )  # fmt: skip
        axes.plot(
            *DUNNMON_2019, "D", color="white", markeredgecolor=GREY, markersize=5, label="Dunnmon 2019: another set"
        )
        baseline = results["no_anatomy"].get("auroc")
        if baseline:
            axes.axhline(
                baseline["estimate"], color=INK, linewidth=0.9, linestyle=":", label="without anatomy, all films"
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda films, _: f"{films:,.0f}"))
        axes.set(xlabel="training films", ylabel="AUROC", title=f"{results['films']:,} test films")
        grid(axes)
        figure.legend(loc="outside lower center", ncols=2)


def draw_learning(arms: Sequence[dict[str, Any]], out: Path, path: Path) -> None:
    """Draw validation AUROC by films seen, a curve an arm.

    Parameters
    ----------
    arms : of equal steps, `title`, `runs`, `facts`
    out : folder of the experiments
    path : of the figure, without suffix
    """
    with figure_written_to(path, 5.2, 3.2) as figure:
        axes = figure.subplots()
        for arm, colour in zip(arms, SERIES, strict=False):
            films = arm["facts"]["films"]
            histories = [load_run(out, run)[1] for run in arm["runs"]]
            _band(axes, histories, "validation_auroc", colour, f"{films:,} films", _films_seen(films))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seen, _: f"{seen:,.0f}"))
        axes.set(xlabel="films seen while training", ylabel="validation AUROC")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        grid(axes)
        axes.legend()


def draw_differences(results: dict[str, Any], path: Path) -> None:
    """Draw each comparison's difference in AUROC, its interval and its seeds; shaded is the margin of a claim.

    Parameters
    ----------
    results : from `results.compute_results`
    path : of the figure, without suffix
    """
    rows = results["differences"]
    with figure_written_to(path, 6.4, 1.1 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        if any(row["claim"] for row in rows):
            axes.axvspan(-results["margin"], results["margin"], color=PALE, alpha=0.6, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=0.8)
        for place, row in enumerate(rows):
            figures = row["difference"]
            axes.plot(row["of_seeds"], [place] * len(row["of_seeds"]), "|", color=GREY, markersize=7)
            if figures["lower"] is not None:
                axes.plot([figures["lower"], figures["upper"]], [place, place], color=BLUE)
            axes.plot(figures["estimate"], place, "o", color=BLUE, markersize=5)
        axes.set_yticks(range(len(rows)), [f"{row['arm']}\nv {row['against']}" for row in rows], fontsize=7.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("difference in AUROC (strokes: single seeds)")
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:+.2f}".replace("-", "−") if value else "0")
        )
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(axis="x", color=PALE, linewidth=0.5)


def _films_seen(films: int) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda table: films * table["epoch"].to_numpy()


def _band(
    axes: Axes,
    histories: Sequence[pd.DataFrame],
    column: str,
    colour: str,
    label: str,
    along: Callable[[pd.DataFrame], np.ndarray],
) -> None:
    """Draw the mean over seeds as far as all of them go, and a band from the lowest to the highest."""
    length = min(len(table) for table in histories)
    values = np.array([table[column].to_numpy()[:length] for table in histories])
    x = along(histories[0])[:length]
    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    if length == 1:  # where a band has no width
        axes.vlines(x, values.min(axis=0), values.max(axis=0), color=colour, linewidth=1)
    axes.plot(x, values.mean(axis=0), color=colour, marker="o" if length < MARKED else "", markersize=3, label=label)


def _values(figures: Sequence[dict[str, float | None]], name: str) -> np.ndarray:
    """Return one number of several figures, nan where it is not defined."""
    return np.array([figure[name] if figure[name] is not None else np.nan for figure in figures], dtype=float)
