"""Does the network read anatomy, or how the films were made? The shortcut audit.

In come a model and the prepared set it was trained on; out goes a dict that stands in `metrics.json` under "audit" and
is printed beside the AUROC. Three things are set against the network's AUROC, all on the same films:

- a baseline that sees no anatomy: file size, sharpness, border, brightness, view, age and source (`baseline`),
- what the network still scores with the lungs blanked, and with only the border kept (`blanking`).
"""

from typing import Any

import numpy as np
import pandas as pd

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.evaluate.baseline import no_anatomy_baseline
from cxrtriage.evaluate.blanking import blank_lungs, keep_border
from cxrtriage.evaluate.intervals import Estimate, bootstrap, estimate_with_interval, mean_over_groups
from cxrtriage.evaluate.predicting import rows_of
from cxrtriage.evaluate.predictions import ONE_SOURCE
from cxrtriage.metrics import auroc
from cxrtriage.model.bundle import Model
from cxrtriage.predict import abnormal_logit, predict_logits
from cxrtriage.progress import progress_bar

MOST_FILMS = 4000  # to learn from, and to score: enough for an AUROC to two decimals
CLOSE = 0.05  # two AUROCs that differ by less are taken as the same
FILMS_AT_ONCE = 256


def shortcut_audit(
    model: Model, prepared: PreparedSet, *, split: str = "test", workers: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Set the network's AUROC against what can be had without anatomy.

    Parameters
    ----------
    model : from `load_model`
    prepared : set with a `split` column; the baseline learns from `train` and `validation`, save the audited split
    split : the films that are scored
    workers : processes that read films; None takes all processors
    seed : of the choice of films where there are more than 4000, of the baseline and of the bootstrap

    Returns
    -------
    dict
        `split`, `films`, `training_films`, `facts` (numbers); `telling_fact`; `sources`: name -> block;
        `mean_over_sources`: block of the mean of the sources with both classes, or None with one source; `verdict`:
        sentences. A block has the AUROC (estimate, lower, upper) of `network`, `baseline`, `telling_fact`,
        `lungs_blanked` and `border_only`, then `network_less_baseline`, and `can_show_anatomy`: whether the interval
        of `network_less_baseline` lies above 0, None where nothing can be said.

    Raises
    ------
    SourceError
        If the set has no films in `split`.
    """
    films = prepared.manifest
    rng = np.random.default_rng(seed)
    scored = _some(rows_of(prepared, split), rng)
    others = films["split"].isin([name for name in ("train", "validation") if name != split])
    learned = _some(np.flatnonzero(others & ~films["path"].duplicated()), rng)

    test = films.iloc[scored].reset_index(drop=True)
    scores = _network_scores(model, prepared, scored)
    baseline = no_anatomy_baseline(films.iloc[learned], test, workers=workers, seed=seed)
    if baseline.scores is not None and baseline.telling_scores is not None:
        scores |= {"baseline": baseline.scores, "telling_fact": baseline.telling_scores}

    source = test["source"].fillna("unnamed source") if "source" in test.columns else pd.Series(ONE_SOURCE, test.index)
    patients = test["patient_id"].fillna(test["path"]) if "patient_id" in test.columns else test["path"]
    compared = {}
    for number, name in enumerate(sorted(source.unique())):
        of_source = (source == name).to_numpy()
        compared[str(name)] = _compare(
            test["label"].to_numpy()[of_source] > 0,
            {kind: score[of_source] for kind, score in scores.items()},
            patients.to_numpy()[of_source],
            seed=seed + number,
        )
    sources = {name: figures for name, (figures, _) in compared.items()}
    both_classes = [name for name, figures in sources.items() if not np.isnan(figures["network"].estimate)]
    several = len(sources) > 1 and both_classes
    mean = mean_over_groups([compared[name] for name in both_classes]) if several else None
    verdict = _verdict(mean or next(iter(sources.values())), baseline.problem)
    blind = [name for name, figures in sources.items() if _can_show_anatomy(figures) is False]
    if mean and blind:
        verdict += f" Taken alone, {' and '.join(blind)} cannot show that the model reads anatomy."
    return {
        "split": split,
        "films": len(test),
        "training_films": len(learned),
        "facts": baseline.facts,
        "telling_fact": baseline.telling,
        "sources": {
            name: {"films": int((source == name).sum())} | _block(figures) for name, figures in sources.items()
        },
        "mean_over_sources": _block(mean) if mean else None,
        "verdict": verdict,
    }


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rows, or a random choice if there are more than the audit needs."""
    return rows if len(rows) <= MOST_FILMS else np.sort(rng.choice(rows, MOST_FILMS, replace=False))


def _network_scores(model: Model, prepared: PreparedSet, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the network's logit of abnormal for the films as they are, without lungs, and with the border alone."""
    scores: dict[str, list[np.ndarray]] = {"network": [], "lungs_blanked": [], "border_only": []}
    with progress_bar("scoring films without lungs", len(rows), "films") as advance:
        for start in range(0, len(rows), FILMS_AT_ONCE):
            chosen = rows[start : start + FILMS_AT_ONCE]
            images = np.asarray(prepared.images[chosen])
            masks = None if prepared.lung_masks is None else np.asarray(prepared.lung_masks[chosen])
            for kind, shown in (
                ("network", images),
                ("lungs_blanked", blank_lungs(images, masks)),
                ("border_only", keep_border(images)),
            ):
                scores[kind].append(abnormal_logit(predict_logits(model, shown)))
            advance(len(chosen))
    return {kind: np.concatenate(parts) for kind, parts in scores.items()}


def _compare(
    truth: np.ndarray, scores: dict[str, np.ndarray], patients: np.ndarray, *, seed: int
) -> tuple[dict[str, Estimate], dict[str, np.ndarray]]:
    """Return the AUROC of each score, and network less baseline, with intervals over patients."""

    def figures(weight: np.ndarray | None) -> dict[str, Any]:
        result = {kind: auroc(truth, score, weight) for kind, score in scores.items()}
        if "baseline" in result:
            result["network_less_baseline"] = result["network"] - result["baseline"]
        return result

    replicates = bootstrap(figures, patients, seed=seed)
    pairs = min(len(np.unique(patients[truth])), len(np.unique(patients[~truth])))
    return {
        kind: estimate_with_interval(value, replicates[kind], pairs if kind in scores else None)
        for kind, value in figures(None).items()
    }, replicates


def _can_show_anatomy(figures: dict[str, Estimate]) -> bool | None:
    """Tell whether the network is surely better than the baseline; None without one or without an AUROC."""
    if "baseline" not in figures or np.isnan(figures["network"].estimate):
        return None
    return figures["network_less_baseline"].lower > 0


def _verdict(figures: dict[str, Estimate], problem: str) -> str:
    """Say in sentences what the comparison shows."""
    network, blanked, border = (figures[kind].estimate for kind in ("network", "lungs_blanked", "border_only"))
    if np.isnan(network):
        return "Nothing can be said of shortcuts: an AUROC needs films of both classes."
    sentences = [_beside_baseline(figures) if "baseline" in figures else problem]
    if not figures["network"].lower > 0.5:
        sentences.append(
            f"With the lungs blanked it reaches {blanked:.3f}, which says little, since it is not surely better than "
            "chance (0.5) with them."
        )
    elif network - blanked <= CLOSE:
        sentences.append(f"With the lungs blanked it still reaches {blanked:.3f}, so it does not need the lungs.")
    else:
        sentences.append(f"With the lungs blanked it falls to {blanked:.3f}.")
    sentences.append(
        f"From the outermost tenth of the film alone it reaches {border:.3f}, "
        + ("better than chance (0.5)." if figures["border_only"].lower > 0.5 else "no better than chance (0.5).")
    )
    return " ".join(sentences)


def _beside_baseline(figures: dict[str, Estimate]) -> str:
    """Say whether the network is better than the baseline, and how sure that is."""
    network, baseline, more = (figures[kind] for kind in ("network", "baseline", "network_less_baseline"))
    alone = "file, sharpness, border and brightness"
    above = (
        f"AUROC of {network.estimate:.3f} is {more.estimate:.3f} ({more.lower:.3f} to {more.upper:.3f}) above the "
        f"{baseline.estimate:.3f} that {alone} reach without any anatomy"
    )
    if more.lower > 0:
        return f"The network's {above}."
    if more.estimate > CLOSE:
        return f"Too few films to show that the model reads anatomy: its {above}, an interval that includes 0."
    return (
        f"This set cannot show that the model reads anatomy: {alone} alone reach an AUROC of {baseline.estimate:.3f}, "
        f"the network {network.estimate:.3f}."
    )


def _block(figures: dict[str, Estimate]) -> dict[str, Any]:
    """Return the figures as they stand in `metrics.json`."""
    return {name: figure.for_json() for name, figure in figures.items()} | {
        "can_show_anatomy": _can_show_anatomy(figures)
    }
