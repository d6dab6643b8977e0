"""The charts of the page: training curves, ROC, precision-recall, calibration, scores, grey levels, films of a hundred.

In come tables and the figures as measured; out goes markup, with the legend beside it as words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from cxrtriage.evaluate.bands import calibration_band, roc_and_precision_bands
from cxrtriage.records import LABEL_NAMES
from cxrtriage.report.svg import Panel
from cxrtriage.report.words import number, with_interval

MOST_SOURCES = 6  # drawn, the largest ones; more cannot be told apart
BINS = 64  # of grey levels


@dataclass(frozen=True)
class Chart:
    """A picture and the words that belong to it.

    Parameters
    ----------
    picture : inline SVG
    legend : (series, words) of each line
    """

    title: str
    picture: Markup
    legend: list[tuple[str, str]]


def training_charts(history: pd.DataFrame, kept: int) -> list[Chart]:
    """Draw loss and accuracy by epoch, the gap shaded, the epoch whose weights were kept marked.

    Parameters
    ----------
    history : content of `run/history.csv`
    kept : the epoch
    """
    epoch = history["epoch"].to_numpy(dtype=float)
    ends = (float(epoch[0]) - (len(epoch) == 1), float(epoch[-1]))
    charts = []
    for name, title in (("loss", "Loss"), ("accuracy", "Accuracy and AUROC")):
        train, validation = (history[f"{split}_{name}"].to_numpy(dtype=float) for split in ("train", "validation"))
        auroc = history["validation_auroc"].to_numpy(dtype=float)
        shown = np.concatenate([train, validation, auroc if name == "accuracy" else []])
        shown = shown[np.isfinite(shown)]
        low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
        margin = max(0.08 * (high - low), 0.01)
        panel = Panel(
            "epoch",
            "cross-entropy" if name == "loss" else "share called rightly; AUROC",
            ends,
            (low - margin, high + margin),
        )
        panel.rule(x=kept)
        panel.text(kept, high + margin, "kept", anchor="end" if kept > np.mean(ends) else "start", above=2)
        known = np.isfinite(train) & np.isfinite(validation)
        panel.band(epoch[known], train[known], validation[known], "gap")
        panel.line(epoch, train, "s0")
        panel.line(epoch, validation, "s1")
        panel.dots(epoch, train, "s0")
        panel.dots(epoch, validation, "s1")
        legend = [("s0", "training films"), ("s1", "validation films"), ("gap", "the gap between them")]
        if name == "accuracy" and np.isfinite(auroc).any():
            panel.line(epoch, auroc, "s2")
            legend.append(("s2", "AUROC on validation films"))
        last = f"last: training {number(train[-1])}, validation {number(validation[-1])}"
        charts.append(Chart(title, panel.svg(f"{title} over {len(epoch)} epochs; {last}."), legend))
    return charts


def curve_charts(films: pd.DataFrame, metrics: dict[str, Any]) -> list[Chart]:
    """Draw ROC and precision-recall curves with 95 % bands over patients, the threshold in use ringed.

    Parameters
    ----------
    films : predictions as measured
    metrics : content of `metrics.json`
    """
    roc_panel = Panel("normal films flagged (1 − specificity)", "abnormal films flagged (sensitivity)", height=370)
    precision_panel = Panel(
        "abnormal films flagged (sensitivity)", "flagged films that are abnormal (precision)", height=370
    )
    roc_panel.line([0, 1], [0, 1], "chance")
    roc_legend, precision_legend = [], []
    several = len(metrics["every_film"]["sources"]) > 1
    for series, source, group in _sources_with_both_classes(films):
        block = metrics["every_film"]["sources"][source]
        figures = block["figures"]
        truth, score = group["label"].to_numpy() > 0, group["probability"].to_numpy()
        roc, precision = roc_and_precision_bands(
            truth, score, group["patient_id"].to_numpy(), prevalence=block["prevalence"]
        )
        for panel, band in ((roc_panel, roc), (precision_panel, precision)):
            panel.band(band.x, band.low, band.high, series)
        precision_panel.rule(y=block["prevalence"], series=series)
        roc_panel.line(np.concatenate([[0], roc.x]), np.concatenate([[0], roc.y]), series)
        precision_panel.line(precision.x, precision.y, series)
        found = figures["sensitivity"]["estimate"]
        roc_panel.ring(1 - figures["specificity"]["estimate"], found, series)
        if figures["ppv"]["estimate"] is not None:
            precision_panel.ring(found, figures["ppv"]["estimate"], series)
        name = f"{source}: " if several else ""
        roc_legend.append((series, f"{name}AUROC {with_interval(figures['auroc'])}"))
        precision_legend.append((series, f"{name}average precision {with_interval(figures['average_precision'])}"))
    if not roc_legend:
        return []
    ring = ("ring", f"threshold in use ({metrics['settings']['threshold']:.3f})")
    roc_words, precision_words = (", ".join(words for _, words in legend) for legend in (roc_legend, precision_legend))
    return [
        Chart(
            "ROC",
            roc_panel.svg(f"ROC curve: {roc_words}."),
            [*roc_legend, ring, ("chance", "chance")],
        ),
        Chart(
            "Precision–recall",
            precision_panel.svg(f"Precision-recall curve: {precision_words}."),
            [*precision_legend, ring, ("rule", "chance: the share of abnormal films")],
        ),
    ]


def calibration_chart(films: pd.DataFrame, metrics: dict[str, Any]) -> Chart | None:
    """Draw how often films are abnormal that are given a certain probability, with exact 95 % intervals.

    Parameters
    ----------
    films, metrics : as for `curve_charts`
    """
    bins = metrics["settings"]["ece_bins"]
    panel = Panel("probability the model gives", "share that is abnormal", height=370)
    panel.line([0, 1], [0, 1], "chance")
    legend = []
    for offset, (series, source, group) in enumerate(_sources_with_both_classes(films)):
        block = metrics["every_film"]["sources"][source]
        truth, probability = group["label"].to_numpy() > 0, group["probability"].to_numpy()
        patients = group["patient_id"].to_numpy()
        band = calibration_band(truth, probability, patients, bins=bins, prevalence=block["prevalence"])
        aside = band.x + 0.006 * offset  # so that intervals do not cover each other
        panel.intervals(aside, band.low, band.high, series)
        panel.line(aside, band.y, series)
        panel.dots(aside, band.y, series)
        slope, intercept = (block["figures"][f"calibration_{kind}"] for kind in ("slope", "intercept"))
        name = f"{source}: " if len(metrics["every_film"]["sources"]) > 1 else ""
        legend.append((series, f"{name}slope {with_interval(slope, 2)}, intercept {with_interval(intercept, 2)}"))
    if not legend:
        return None
    words = "; ".join(words for _, words in legend)
    return Chart("Calibration", panel.svg(f"Calibration: {words}."), [*legend, ("chance", "perfect calibration")])


def scores_chart(films: pd.DataFrame, threshold: float) -> Chart:
    """Draw how the probabilities of each class are spread, and the threshold.

    Parameters
    ----------
    films : predictions as measured
    threshold : abnormal from here on
    """
    spread = {}
    for label, name in enumerate(LABEL_NAMES):
        scores = films.loc[films["label"] == label, "probability"]
        if len(scores):
            counts, edges = np.histogram(scores, bins=20, range=(0, 1))
            spread[name] = (len(scores), counts / len(scores), edges)
    highest = max(shares.max() for _, shares, _ in spread.values())
    panel = Panel(
        "probability of abnormal", "share of the class", y=(0, 1.08 * highest), height=370, percent=True, ticks=(5, 4)
    )
    legend = []
    for name, (films_of_class, shares, edges) in spread.items():
        panel.steps(edges, shares, name)
        legend.append((name, f"{name} ({films_of_class:,})"))
    panel.rule(x=threshold)
    middles = ", ".join(f"{name} films {films_of}" for name, (films_of, _, _) in spread.items())
    description = f"Spread of the probabilities of {middles}; threshold {threshold:.3f}."
    return Chart(
        "Spread of the probabilities", panel.svg(description), [*legend, ("rule", f"threshold {threshold:.3f}")]
    )


def grey_levels_chart(counts: np.ndarray, lowest: int, what: str) -> Markup:
    """Draw how many pixels a film has at each grey level, as bars, and the share up to each level, as a line.

    Parameters
    ----------
    counts : (L,) int
    lowest : grey level of the first count
    what : what is drawn, for the description
    """
    present = np.flatnonzero(counts)
    edges = np.linspace(present[0], present[-1] + 1, BINS + 1)
    shares, _ = np.histogram(np.arange(len(counts)), bins=edges, weights=counts / counts.sum())
    ends = (float(edges[0] + lowest), float(edges[-1] + lowest))
    panel = Panel("grey level", "pixels", ends, (0.0, 1.05), width=210, height=160, ticks=(3, 0))
    panel.steps(edges + lowest, shares / shares.max(), "s0")
    panel.line(edges + lowest, np.concatenate([[0], np.cumsum(shares)]), "s1")
    return panel.svg(f"Grey levels {what}: from {ends[0]:,.0f} to {ends[1] - 1:,.0f}.")


def hundred_films(flagged: float, what: str) -> Markup:
    """Draw a hundred films as dots, those that are flagged filled.

    Parameters
    ----------
    flagged : share in [0, 1]
    what : which films, for the description
    """
    filled = round(100 * flagged)
    dots = "".join(
        f'<circle class="{"flagged" if film < filled else "unflagged"}" cx="{7 + 14 * (film % 20)}" '
        f'cy="{7 + 14 * (film // 20)}" r="5"/>'
        for film in range(100)
    )
    description = f"A hundred {what} films as dots: {filled} are flagged."
    return Markup(f'<svg class="hundred" role="img" aria-label="{description}" viewBox="0 0 280 70">{dots}</svg>')


def _sources_with_both_classes(films: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield series, name and films of the largest sources, of those the ones with normal and abnormal films."""
    for number_, source in enumerate(sorted(films["source"].value_counts().index[:MOST_SOURCES])):
        group = films[films["source"] == source]
        if 0 < (group["label"] > 0).mean() < 1:
            yield f"s{number_}", str(source), group
