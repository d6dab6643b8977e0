"""The figures of a fit and of an evaluation, each as SVG and PNG.

In come predictions as they were measured and the dict of figures (`evaluation`), the history of a training run, or
films; out go files that the report and a paper can take as they are.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.equalise import count_levels
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.evaluate.bands import calibration_band, roc_and_precision_bands
from cxrtriage.evaluate.plotting import (
    BLUE,
    CLASS_COLOURS,
    GREEN,
    GREY,
    INK,
    PALE,
    SERIES,
    VERMILION,
    figure_written_to,
    grid,
    unit_square,
)
from cxrtriage.records import LABEL_NAMES, SourceImage

SHOWN_PIXELS = 360  # of a film in a figure
MOST_SOURCES = len(SERIES)  # drawn, the largest ones; more colours cannot be told apart


def draw_evaluation(films: pd.DataFrame, metrics: dict[str, Any], out: Path) -> None:
    """Draw all figures of an evaluation into a folder.

    Parameters
    ----------
    films : from `evaluation.measured_films`
    metrics : from `evaluation.evaluate_predictions`
    out : folder; `confusion`, `roc`, `calibration` and `scores` are written into it. Curves that need both classes are
        left out where there is one
    """
    draw_confusion(metrics, out / "confusion")
    draw_scores(films, metrics, out / "scores")
    if list(_sources_with_both_classes(films)):
        draw_roc(films, metrics, out / "roc")
        draw_calibration(films, metrics, out / "calibration")


def draw_confusion(metrics: dict[str, Any], out: Path) -> None:
    """Draw the confusion matrix as the 2017 study lays it out: truth in rows, prediction in columns.

    Parameters
    ----------
    metrics : from `evaluation.evaluate_predictions`
    out : path without suffix
    """
    block = metrics["every_film"]["all"]
    matrices: list[tuple[np.ndarray, tuple[str, ...]]] = [(np.array(block["confusion"]), LABEL_NAMES[:2])]
    if block["three_classes"]:
        matrices.append((np.array(block["three_classes"]["confusion"]), LABEL_NAMES))
    with figure_written_to(out, 3.3 * len(matrices), 3.1) as figure:
        panels = figure.subplots(1, len(matrices), squeeze=False)[0]
        for axes, (matrix, names) in zip(panels, matrices, strict=True):
            of_truth = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
            axes.imshow(of_truth, cmap="Blues", vmin=0, vmax=1.25)
            for (row, column), count in np.ndenumerate(matrix):
                colour = "white" if of_truth[row, column] > 0.6 else INK
                axes.text(column, row - 0.08, f"{count}", ha="center", va="center", color=colour, fontsize=13)
                share = f"{of_truth[row, column]:.1%}"
                axes.text(column, row + 0.2, share, ha="center", va="center", color=colour, fontsize=8)
            axes.set_xticks(range(len(names)), names)
            axes.set_yticks(range(len(names)), names, rotation=90, va="center")
            axes.set_xlabel(f"predicted (abnormal from {metrics['settings']['threshold']:.3f})")
            axes.set_ylabel("truth (a row is 100 %)")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        together = "" if metrics["leads"] == "all" else ", all sources together"
        figure.suptitle(f"{block['films']} films{together}", fontsize=9.5, fontweight="bold")


def draw_roc(films: pd.DataFrame, metrics: dict[str, Any], out: Path) -> None:
    """Draw ROC and precision-recall curves with 95 % bands over patients, the threshold in use marked.

    Parameters
    ----------
    films : from `evaluation.measured_films`
    metrics : from `evaluation.evaluate_predictions`
    out : path without suffix
    """
    with figure_written_to(out, 7.2, 3.9) as figure:
        roc_axes, precision_axes = figure.subplots(1, 2)
        roc_axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for (source, group), colour in zip(_sources_with_both_classes(films), SERIES, strict=False):
            truth, score = group["label"].to_numpy() > 0, group["probability"].to_numpy()
            block = metrics["every_film"]["sources"][source]
            figures, patients = block["figures"], group["patient_id"].to_numpy()
            roc, precision = roc_and_precision_bands(truth, score, patients, prevalence=block["prevalence"])
            name = f"{source}: " if len(metrics["every_film"]["sources"]) > 1 else ""
            for axes, band, figure_name, short in (
                (roc_axes, roc, "auroc", "AUROC"),
                (precision_axes, precision, "average_precision", "AP"),
            ):
                axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
                label = f"{name}{short} {_with_interval(figures[figure_name])}"
                axes.plot(band.x, band.y, color=colour, label=label)
            roc_axes.plot([0, 0], [0, roc.y[0]], color=colour)
            alarms, found = 1 - figures["specificity"]["estimate"], figures["sensitivity"]["estimate"]
            _mark(roc_axes, alarms, found, colour)
            if figures["ppv"]["estimate"] is not None:
                _mark(precision_axes, found, figures["ppv"]["estimate"], colour)
            precision_axes.axhline(block["prevalence"], color=colour, linewidth=0.8, linestyle=":")
        mark = f"abnormal from {metrics['settings']['threshold']:.3f}"
        for axes in (roc_axes, precision_axes):
            axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=6, label=mark)
            unit_square(axes)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17))
        roc_axes.set(title="ROC", xlabel="1 − specificity (normal films flagged)", ylabel="sensitivity")
        precision_axes.set(title="Precision–recall", xlabel="sensitivity (recall)", ylabel="precision")


def draw_calibration(films: pd.DataFrame, metrics: dict[str, Any], out: Path) -> None:
    """Draw how often films are abnormal that are given a certain probability, with 95 % intervals and a histogram.

    Parameters
    ----------
    films : from `evaluation.measured_films`
    metrics : from `evaluation.evaluate_predictions`
    out : path without suffix
    """
    bins = metrics["settings"]["ece_bins"]
    with figure_written_to(out, 3.9, 5.4) as figure:
        axes, below = figure.subplots(2, 1, height_ratios=(3.4, 1), sharex=True)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for number, (source, group) in enumerate(_sources_with_both_classes(films)):
            colour, aside = SERIES[number], 0.006 * number  # so that intervals do not cover each other
            truth, probability = group["label"].to_numpy() > 0, group["probability"].to_numpy()
            block = metrics["every_film"]["sources"][source]
            figures, patients = block["figures"], group["patient_id"].to_numpy()
            band = calibration_band(truth, probability, patients, bins=bins, prevalence=block["prevalence"])
            name = f"{source}: " if len(metrics["every_film"]["sources"]) > 1 else ""
            slope, intercept, error = (
                _number(figures[kind]["estimate"]) for kind in ("calibration_slope", "calibration_intercept", "ece")
            )
            axes.vlines(band.x + aside, band.low, band.high, color=colour, linewidth=1)
            label = f"{name}slope {slope}, intercept {intercept}, error {error}"
            axes.plot(band.x + aside, band.y, "o-", color=colour, markersize=4, linewidth=1.2, label=label)
            below.hist(probability, bins=2 * bins, range=(0, 1), color=colour, histtype="step", linewidth=1.2)
        axes.set(title=f"Calibration ({bins} bins)", ylabel="share of abnormal films", ylim=(-0.01, 1.01))
        grid(axes)
        figure.legend(loc="outside lower center")
        grid(below)
        below.set(xlabel="probability of abnormal", ylabel="films", xlim=(-0.01, 1.01))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def draw_scores(films: pd.DataFrame, metrics: dict[str, Any], out: Path) -> None:
    """Draw how the probabilities of normal, abnormal and emergent films are spread, and the threshold.

    Parameters
    ----------
    films : from `evaluation.measured_films`
    metrics : from `evaluation.evaluate_predictions`
    out : path without suffix
    """
    sources = sorted(films["source"].value_counts().index[:MOST_SOURCES])
    with figure_written_to(out, 5.4, 1.1 + 1.7 * len(sources)) as figure:
        panels = figure.subplots(len(sources), 1, sharex=True, squeeze=False)[:, 0]
        for axes, source in zip(panels, sources, strict=True):
            group = films[films["source"] == source]
            for label, name in enumerate(LABEL_NAMES):
                scores = group.loc[group["label"] == label, "probability"]
                if len(scores):
                    counts, edges = np.histogram(scores, bins=20, range=(0, 1))
                    colour, title = CLASS_COLOURS[name], f"{name} ({len(scores)})"
                    axes.stairs(counts / len(scores), edges, fill=True, color=colour, alpha=0.22)
                    axes.stairs(counts / len(scores), edges, color=colour, linewidth=1.3, label=title)
            axes.axvline(metrics["settings"]["threshold"], color=INK, linewidth=1, linestyle="--")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set(ylabel="share of the class", title=source if len(sources) > 1 else "", xlim=(0, 1))
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3)
            grid(axes)
        panels[-1].set_xlabel(f"probability of abnormal (dashed: abnormal from {metrics['settings']['threshold']:.3f})")


def draw_curves(history: pd.DataFrame, out: Path) -> None:
    """Draw the training run: loss and accuracy by epoch on training and validation films, and the gap between them.

    Parameters
    ----------
    history : a row an epoch: `epoch`, `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy`,
        `validation_auroc`
    out : path without suffix
    """
    epoch = history["epoch"].to_numpy()
    marker = "o" if len(epoch) < 25 else ""
    with figure_written_to(out, 7.2, 3.0) as figure:
        loss_axes, accuracy_axes = figure.subplots(1, 2)
        for axes, name in ((loss_axes, "loss"), (accuracy_axes, "accuracy")):
            train, validation = (history[f"{split}_{name}"].to_numpy(dtype=float) for split in ("train", "validation"))
            axes.plot(epoch, train, color=BLUE, marker=marker, markersize=3, label="training")
            axes.plot(epoch, validation, color=VERMILION, marker=marker, markersize=3, label="validation")
            axes.fill_between(epoch, train, validation, color=PALE, alpha=0.6, linewidth=0, label="gap between them")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("epoch")
            grid(axes)
        auroc = history["validation_auroc"].to_numpy(dtype=float)
        accuracy_axes.plot(epoch, auroc, color=GREEN, linestyle="--", linewidth=1.3, label="validation AUROC")
        loss_axes.set(title="Cross-entropy loss")
        accuracy_axes.set(title="Accuracy")
        for axes in (loss_axes, accuracy_axes):
            axes.legend()


def draw_equalisation(sources: Sequence[SourceImage], recipe: Recipe, titles: Sequence[str], out: Path) -> None:
    """Draw films before and after preparation, each beside its histogram.

    Parameters
    ----------
    sources : films as read
    recipe : how they are prepared
    titles : a word or two a film
    out : path without suffix
    """
    with figure_written_to(out, 7.2, 0.5 + 1.75 * len(sources)) as figure:
        panels = figure.subplots(len(sources), 4, squeeze=False, width_ratios=(1, 1.15, 1, 1.15))
        for (before, before_histogram, after, after_histogram), source, title in zip(
            panels, sources, titles, strict=True
        ):
            prepared = prepare_film(source, recipe)
            _show(before, source.pixels)
            _show(after, prepared)
            before.set_ylabel(title)
            counts = count_levels(np.ascontiguousarray(source.pixels))
            lowest = float(np.iinfo(source.pixels.dtype).min)
            _histogram(before_histogram, counts, lowest)
            _histogram(after_histogram, np.bincount(prepared.ravel(), minlength=256), 0)
        panels[0, 0].set_title("As stored")
        treated = {"equalise": "Equalised", "clahe": "CLAHE", "none": "Stretched"}[recipe.contrast]
        panels[0, 2].set_title(f"{treated}, {recipe.size} × {recipe.size}")
        for axes in panels[-1, 1::2]:
            axes.set_xlabel("grey level")
        figure.supxlabel("Bars: pixels at a grey level. Line: share of the pixels up to it.", fontsize=8)


def _sources_with_both_classes(films: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the largest sources, of those the ones with normal and abnormal films."""
    for source in sorted(films["source"].value_counts().index[:MOST_SOURCES]):
        group = films[films["source"] == source]
        if 0 < (group["label"] > 0).mean() < 1:
            yield str(source), group


def _with_interval(figure: dict[str, float | None]) -> str:
    """Return "0.843 (0.833–0.853)", without the interval where it is not defined."""
    interval = "" if figure["lower"] is None else f" ({figure['lower']:.3f}–{figure['upper']:.3f})"
    return f"{figure['estimate']:.3f}{interval}"


def _number(value: float | None) -> str:
    """Return three decimals, a dash where not defined."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _mark(axes: Axes, x: float, y: float, colour: str) -> None:
    """Mark the threshold in use on a curve."""
    axes.plot(x, y, "o", color="white", markeredgecolor=colour, markeredgewidth=1.6, markersize=6, zorder=5)


def _show(axes: Axes, pixels: np.ndarray) -> None:
    """Show a film, reduced to what a figure can show, so that the file stays small."""
    shrink = min(1.0, SHOWN_PIXELS / max(pixels.shape))
    values = pixels.astype(np.float32)
    size = [max(1, round(shrink * length)) for length in pixels.shape]
    reduced = cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA) if shrink < 1 else values
    axes.imshow(reduced, cmap="gray", interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _histogram(axes: Axes, counts: np.ndarray, lowest: float) -> None:
    """Draw the counts of grey levels in 64 bins, and the share of pixels up to each as a line."""
    present = np.flatnonzero(counts)
    first, last = present[0], present[-1]
    edges = np.linspace(first, last + 1, 65)
    levels = np.arange(len(counts))
    shares, _ = np.histogram(levels, bins=edges, weights=counts / counts.sum())
    axes.stairs(shares, edges + lowest, fill=True, color=BLUE, alpha=0.8)
    axes.set_yticks([])
    axes.set_xlim(first + lowest, last + 1 + lowest)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.spines["left"].set_visible(False)
    cumulative = axes.twinx()
    cumulative.plot(
        levels[first : last + 1] + lowest, (np.cumsum(counts) / counts.sum())[first : last + 1], color=VERMILION
    )
    cumulative.set_ylim(0, 1.02)
    cumulative.set_yticks([])
    cumulative.spines["left"].set_visible(False)
