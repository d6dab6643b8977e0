"""Do opposite-label images become symmetric, as the 2017 study saw by eye? The claim put to the numbers.

In come films with their labels, and films before and after the opposite-label step; out go the entries of "symmetry" in
`explanations.json`. `measuring` calls it.

Three questions, each with an interval over patients: are normal films more symmetric than abnormal ones to begin with;
do films become more symmetric on their way to the opposite label; and more than under a change of equal norm and
spectrum that has no plan? Only a yes to the second and the third, on the way to normal, supports the claim.
"""

from typing import Any

import numpy as np

from cxrtriage.explain.averages import Figure, difference_figure, mean_figure
from cxrtriage.explain.explained_films import ScoredFilms
from cxrtriage.explain.opposite import FILM_LIKE, PLAIN, opposite_images
from cxrtriage.explain.symmetry import find_midlines, lungs, random_change, smooth, symmetry
from cxrtriage.model.bundle import Model

REGIONS = ("whole", "lungs")
STEPS = 40  # most; films that are not there by then are left out
DRAWS = 8  # random changes of each film, averaged
VISIBLE = 0.1  # of the way to untouched normal films, from which growing symmetry could have been seen by eye
FORMS = {"plain": PLAIN, "film-like": FILM_LIKE}


def measure_symmetry(model: Model, scored: ScoredFilms, films: int, *, seed: int = 0) -> dict[str, Any]:
    """Measure symmetry by class on all films, and before and after the step on some of each class.

    Driven to the opposite label are films that the model calls rightly, plainly and film-like; those that did not get
    there within the steps are left out, since they are not what the study looked at.

    Parameters
    ----------
    model : from `load_model`
    scored : films of both classes, from `explained_films.score_split`
    films : how many of each class to drive to the opposite label, at most
    seed : of the choice of films, the step, the random changes and the bootstrap

    Returns
    -------
    dict
        `untouched` (from `symmetry_by_class`), `step` and `difference_image` (from `symmetry_of_step`, each row with
        `from`, `form` and `driven`, the films that set out) and `sentence` (from `claim_sentence`).
    """
    untouched = symmetry_by_class(scored.images, scored.abnormal, scored.patient_id, seed=seed)
    steps: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for label, target in (("abnormal", 0), ("normal", 1)):
        called_so = np.flatnonzero((scored.called == scored.abnormal) & (scored.abnormal == (label == "abnormal")))
        if len(called_so) > films:
            called_so = np.sort(np.random.default_rng(seed).choice(called_so, films, replace=False))
        for name, form in FORMS.items():
            driven = opposite_images(
                model, scored.images[called_so], np.full(len(called_so), target), steps=STEPS, form=form, seed=seed
            )
            there = driven.reached & (driven.steps > 0)
            of_films, of_differences = symmetry_of_step(
                driven.before[there], driven.after[there], scored.patient_id[called_so][there], seed=seed
            )
            kind = {"from": label, "form": name, "driven": len(called_so)}
            steps += [kind | row for row in of_films]
            differences += [kind | row for row in of_differences]
    return {
        "untouched": untouched,
        "step": steps,
        "difference_image": differences,
        "sentence": claim_sentence(untouched, steps),
    }


def symmetry_by_class(
    images: np.ndarray, abnormal: np.ndarray, patient_id: np.ndarray, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Measure the symmetry of untouched films, normal against abnormal.

    Parameters
    ----------
    images : (N, S, S) uint8
    abnormal : (N,) bool
    patient_id : (N,)
    seed : of the bootstrap

    Returns
    -------
    list of dict
        Rows with `class` ("normal", "abnormal", or "difference": normal less abnormal), `region`, `films`, `symmetry`.
        The mean of correlations is plain, not Fisher's z, so that it reads as a correlation; the bootstrap needs no
        normal distribution.
    """
    smoothed = smooth(images)
    midlines = find_midlines(smoothed)
    rows: list[dict[str, Any]] = []
    for region in REGIONS:
        values = symmetry(smoothed, midlines, _pixels(region, images.shape[-1]))
        defined = ~np.isnan(values)
        groups = {"normal": ~abnormal & defined, "abnormal": abnormal & defined}
        for name, group in groups.items():
            figure = mean_figure(values[group], patient_id[group], seed=seed)
            rows.append({"class": name, "region": region, "films": int(group.sum()), "symmetry": figure})
        normal, diseased = groups.values()
        difference = difference_figure(
            values[normal], values[diseased], patient_id[normal], patient_id[diseased], seed=seed
        )
        rows.append({"class": "difference", "region": region, "films": int(defined.sum()), "symmetry": difference})
    return rows


def symmetry_of_step(
    before: np.ndarray, after: np.ndarray, patient_id: np.ndarray, *, seed: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measure what the opposite-label step does to the symmetry of films, and how symmetric the step itself is.

    The midline is that of the film before, for all: a midline looked for again would let each change choose the one
    that suits it. Random changes are added and cut off at black and white like the real one.

    Parameters
    ----------
    before : (N, S, S) uint8
    after : (N, S, S) uint8 or float in [0, 255]
    patient_id : (N,)
    seed : of the random changes and the bootstrap

    Returns
    -------
    Two lists of a dict a region. Of the films: `region`, `films`, `before`, `after`, `change`, `random_change` and
    `excess` (change less random change). Of the difference images: `region`, `films`, `symmetry`, `random`.
    """
    start = smooth(before)
    midlines = find_midlines(start)
    difference = after.astype(np.float64) - before
    random = [smooth((before + random_change(difference, seed * DRAWS + draw)).clip(0, 255)) for draw in range(DRAWS)]
    end = smooth(after)
    films, differences = [], []
    for region in REGIONS:
        pixels = _pixels(region, before.shape[-1])
        values = {"before": symmetry(start, midlines, pixels), "after": symmetry(end, midlines, pixels)}
        values["change"] = values["after"] - values["before"]
        drawn = np.mean([symmetry(changed, midlines, pixels) for changed in random], axis=0)
        values["random_change"] = drawn - values["before"]
        values["excess"] = values["change"] - values["random_change"]
        films.append(_row(region, values, patient_id, seed))
        of_difference = {
            "symmetry": symmetry(end - start, midlines, pixels),
            "random": np.mean([symmetry(changed - start, midlines, pixels) for changed in random], axis=0),
        }
        differences.append(_row(region, of_difference, patient_id, seed))
    return films, differences


def claim_sentence(untouched: list[dict[str, Any]], step: list[dict[str, Any]]) -> str:
    """Say whether the films support the study's claim; by its plain form, from abnormal to normal.

    Support needs three things: symmetry surely grows, surely more than under a random change, and by an amount that
    could be seen: `VISIBLE` of the way from the films before to the untouched normal films. Many films make a change of
    a thousandth certain; nobody saw that by eye.

    Parameters
    ----------
    untouched : from `symmetry_by_class`
    step : rows of `symmetry_of_step` with `from` and `form` added

    Returns
    -------
    str
        Some sentences with the numbers.
    """
    sentences = []
    for row in untouched:
        if row["class"] == "difference" and row["symmetry"]["lower"] is not None:
            more = _sign(row["symmetry"])
            words = {1: "more symmetric than", -1: "less symmetric than", 0: "not clearly more or less symmetric than"}
            sentences.append(
                f"Untouched normal films are {words[more]} abnormal ones {_in(row)} "
                f"(difference of the correlations {_signed(row['symmetry'])})."
            )
    plain = [row for row in step if row["from"] == "abnormal" and row["form"] == "plain" and row["films"] > 1]
    sentences += [
        f"Driven from abnormal to normal, {row['films']} films change from {row['before']['estimate']:.3f} to "
        f"{row['after']['estimate']:.3f} {_in(row)} ({_signed(row['change'])}), {_signed(row['excess'])} beside a "
        "random change of equal size."
        for row in plain
    ]
    if not plain:
        return " ".join([*sentences, "Too few films reached the opposite label to judge the study's claim."])
    claim = "that films driven to normal become more symmetric"
    grown = [row for row in plain if _sign(row["change"]) > 0 and _sign(row["excess"]) > 0]
    seen = [row for row in grown if _way_to_normal(row, untouched) >= VISIBLE]
    if len(seen) == len(plain):
        verdict = f"The data support the study's claim {claim}."
    elif seen:
        verdict = f"The data support the study's claim {claim} {_in(seen[0])} only."
    elif grown:
        ways = " and ".join(f"{_way_to_normal(row, untouched):.0%} {_in(row)}" for row in grown)
        verdict = (
            f"The data do not support the study's claim {claim}: they do so measurably, but by too little to be seen, "
            f"{ways} of the way to untouched normal films."
        )
    elif all(_sign(row["change"]) < 0 for row in plain):
        verdict = "The data contradict the study's claim: films driven to normal become less symmetric."
    else:
        verdict = f"The data do not support the study's claim {claim}."
    return " ".join([*sentences, verdict])


def _row(region: str, values: dict[str, np.ndarray], patient_id: np.ndarray, seed: int) -> dict[str, Any]:
    defined = ~np.isnan(list(values.values())).any(axis=0)
    figures = {name: mean_figure(value[defined], patient_id[defined], seed=seed) for name, value in values.items()}
    return {"region": region, "films": int(defined.sum()), **figures}


def _way_to_normal(row: dict[str, Any], untouched: list[dict[str, Any]]) -> float:
    """Return what share of the way to the symmetry of untouched normal films a step went; 1 where there is no way."""
    normal = [of["symmetry"] for of in untouched if of["class"] == "normal" and of["region"] == row["region"]]
    if not normal or normal[0]["estimate"] is None or normal[0]["estimate"] <= row["before"]["estimate"]:
        return 1.0
    return float(row["change"]["estimate"] / (normal[0]["estimate"] - row["before"]["estimate"]))


def _pixels(region: str, size: int) -> np.ndarray | None:
    return lungs(size) if region == "lungs" else None


def _in(row: dict[str, Any]) -> str:
    return "over the whole film" if row["region"] == "whole" else "within the lungs"


def _sign(figure: Figure) -> int:
    """Return 1 or -1 where the whole interval is above or below 0, else 0."""
    if figure["lower"] is None or figure["upper"] is None:
        return 0
    return int(figure["lower"] > 0) - int(figure["upper"] < 0)


def _signed(figure: Figure) -> str:
    """Return "+0.031 (+0.010 to +0.052)"."""
    if figure["estimate"] is None:
        return "unknown"
    digits = 3 if abs(figure["estimate"]) >= 0.0005 else 5
    if figure["lower"] is None or figure["upper"] is None:
        return f"{figure['estimate']:+.{digits}f}"
    numbers = (f"{figure[name]:+z.{digits}f}" for name in ("estimate", "lower", "upper"))
    return "{}, {} to {}".format(*numbers).replace("-", "−")
