"""The small files of runs in, the content of `results.json` out: a row an arm, a sentence a comparison.

Nothing here trains or reads films, so results can be made again wherever the small files are. `figures` and `writing`
read what comes out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrtriage import metrics
from cxrtriage.evaluate.intervals import RESAMPLES, Estimate
from cxrtriage.experiments.no_anatomy import load_baseline
from cxrtriage.experiments.runs import load_run, load_scores
from cxrtriage.experiments.statistics import ArmScores, arm_scores, delong, difference, mean_over_seeds
from cxrtriage.experiments.verdicts import CHANCE, MARGIN, sentence, signed, verdict

CALLED_ABNORMAL = 0.5  # as the study, which took the likelier class


def compute_results(plan: dict[str, Any], out: Path, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Measure the arms of an experiment and compare them.

    Parameters
    ----------
    plan : content of `plan.json`: `kind`, `title`, `method`, `judged_on`, `arms`, `comparisons`, `command`
    out : folder of the experiments
    resamples : of the bootstrap

    Returns
    -------
    dict
        The plan, and `films`, `patients`, `abnormal` (counts of those judged), `margin`, `table` (a row an arm),
        `no_anatomy` (AUROC of the baseline, and its problem), `differences` (a row a comparison, with `sentence` and
        `verdict`) and `remarks` (sentences that hold for all of it).
    """
    scores = _on_common_films(
        [[load_scores(out, run, plan["judged_on"]) for run in arm["runs"]] for arm in plan["arms"]]
    )
    baseline, about = load_baseline(out)
    of_baseline = None
    if baseline is not None:
        # once for each seed, on its films: the parts of a split by image have other films for each seed
        of_baseline = arm_scores([baseline.loc[run.index] for run in scores[0]], resamples=resamples)
    measured = [arm_scores(runs, resamples=resamples) for runs in scores]
    means = [mean_over_seeds(arm) for arm in measured]
    judged = pd.concat(scores[0])
    judged = judged[~judged.index.duplicated()]
    return {
        **plan,
        "margin": MARGIN,
        "films": len(judged),
        "patients": int(judged["patient"].nunique()),
        "abnormal": int((judged["label"] > 0).sum()),
        "no_anatomy": about | ({} if of_baseline is None else {"auroc": mean_over_seeds(of_baseline).for_json()}),
        "table": [
            _row(arm, runs, scored, mean, of_baseline, out)
            for arm, runs, scored, mean in zip(plan["arms"], scores, measured, means, strict=True)
        ],
        "differences": [
            _compare(comparison, plan["arms"], scores, measured, means) for comparison in plan["comparisons"]
        ],
        "remarks": _remarks(plan, measured, means, of_baseline, about),
    }


def _on_common_films(arms: list[list[pd.DataFrame]]) -> list[list[pd.DataFrame]]:
    """Keep, for each seed, the films that all arms were judged on."""
    kept = []
    for runs in zip(*arms, strict=True):
        common = runs[0].index
        for run in runs[1:]:
            common = common.intersection(run.index)
        kept.append([run.loc[common.sort_values()] for run in runs])
    return [list(arm) for arm in zip(*kept, strict=True)]


def _row(
    arm: dict[str, Any],
    runs: list[pd.DataFrame],
    scored: ArmScores,
    mean: Estimate,
    baseline: ArmScores | None,
    out: Path,
) -> dict[str, Any]:
    """Return a row of the table: figures as means over seeds."""
    matrices = np.stack(
        [
            metrics.confusion_matrix(run["label"].to_numpy(), run["probability"].to_numpy() >= CALLED_ABNORMAL)
            for run in runs
        ]
    )
    cards, histories = zip(*(load_run(out, name) for name in arm["runs"]), strict=True)
    return {
        "arm": arm["title"],
        "seeds": len(runs),
        "training_films": _mean([card["films"]["train"] for card in cards]),
        "films_seen": _mean([card["films_seen"] for card in cards]),
        "steps": _mean([card["steps"] for card in cards]),
        "auroc": mean.for_json(),
        "auroc_of_seeds": scored.found.tolist(),
        "above_no_anatomy": None if baseline is None else difference(scored, baseline).for_json(),
        "accuracy": _mean(metrics.accuracy(matrices)),
        "majority_accuracy": _mean(metrics.majority_accuracy(matrices)),
        "f1_normal": _mean(metrics.f1_score(matrices, 0)),
        "f1_abnormal": _mean(metrics.f1_score(matrices, 1)),
        "training_accuracy": _mean([history["train_accuracy"].max() for history in histories]),
        "swing": _mean([swing(history["validation_accuracy"].to_numpy()) for history in histories]),
        "seconds": _mean([card["seconds"] for card in cards]),
    }


def swing(accuracy: np.ndarray) -> float:
    """Return by how much a curve moves from epoch to epoch in its second half, on average; nan for one epoch.

    The study saw validation accuracy become steadier with more films; this is that, as a number.

    Examples
    --------
    >>> float(round(swing(np.array([0.1, 0.5, 0.8, 0.7, 0.8])), 3))
    0.1
    """
    late = accuracy[len(accuracy) // 2 :]
    return float(np.abs(np.diff(late)).mean()) if len(late) > 1 else float("nan")


def _compare(
    comparison: dict[str, Any],
    arms: list[dict[str, Any]],
    scores: list[list[pd.DataFrame]],
    measured: list[ArmScores],
    means: list[Estimate],
) -> dict[str, Any]:
    """Compare two arms."""
    arm, against = comparison["arm"], comparison["against"]
    seeds = len(scores[arm])
    found = difference(measured[arm], measured[against])
    judged = verdict(found, means[arm], means[against], seeds) if comparison["claim"] else ""
    titles = arms[arm]["title"], arms[against]["title"]
    pairs = [
        delong(first["label"].to_numpy() > 0, first["logit"].to_numpy(), second["logit"].to_numpy())
        for first, second in zip(scores[arm], scores[against], strict=True)
    ]
    return {
        "arm": titles[0],
        "against": titles[1],
        "claim": comparison["claim"],
        "difference": found.for_json(),
        "of_seeds": (measured[arm].found - measured[against].found).tolist(),
        "delong": [pair.for_json() for pair in pairs],
        "verdict": judged,
        "sentence": sentence(titles, (means[arm], means[against]), found, comparison["claim"], judged, seeds),
    }


def _remarks(
    plan: dict[str, Any],
    measured: list[ArmScores],
    means: list[Estimate],
    baseline: ArmScores | None,
    about: dict[str, Any],
) -> list[str]:
    """Say what bounds the worth of all comparisons, and name the best arm where that is the question."""
    remarks = []
    best = int(np.nanargmax([mean.estimate for mean in means])) if not all(np.isnan(m.estimate) for m in means) else 0
    title = plan["arms"][best]["title"]
    if plan["judged_on"] == "validation":
        if best:
            found = difference(measured[best], measured[0])
            sure = "surely better" if found.lower > 0 and len(measured[best].found) > 1 else "not surely better"
            remarks.append(f"Best on validation: {title}, by {signed(found)}; {sure} than {plan['arms'][0]['title']}.")
        else:
            remarks.append(f"Best on validation: {title}; no change of one thing does better.")
    if not any(mean.lower > CHANCE for mean in means):
        remarks.append("No arm is surely better than chance, so nothing here can be told.")
    if about["problem"]:
        remarks.append(about["problem"])
    elif baseline is not None:
        level = mean_over_seeds(baseline)
        above = difference(measured[best], baseline)
        remarks.append(
            f"Without anatomy (file, sharpness, border, brightness) AUROC {level.estimate:.3f} is reached; the best "
            f"arm, {title}, differs from that by {signed(above)}"
            + ("." if above.lower > 0 else ", which does not show that any network here reads anatomy.")
        )
    return remarks


def _mean(values: Any) -> float | None:
    """Return the mean of what is defined, None where nothing is."""
    defined = np.asarray(values, dtype=float)
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else None
