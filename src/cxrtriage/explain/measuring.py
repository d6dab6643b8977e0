"""Every explanation method scored on one model: the table that tells which of them to show.

In come a model and the prepared set it is tested on; out goes a dict that stands in `explanations.json`. `fit` and the
command `explain` write it, `scoreboard` prints it, the report shows it.
"""

import time
from typing import Any

import numpy as np

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.explain.attribution import METHODS, attribute, heat_of
from cxrtriage.explain.averages import Figure, mean_figure, ratio_figure
from cxrtriage.explain.claim import measure_symmetry
from cxrtriage.explain.deletion import SHARES, Score, areas_under_curves, blur
from cxrtriage.explain.explained_films import ScoredFilms, choose_explained, lesions_of_others, score_split
from cxrtriage.explain.localisation import TOLERANCE, centre_heat, localise, usual_place
from cxrtriage.explain.recommending import recommend
from cxrtriage.explain.sanity import NOISE, noise_stability, randomised_models, similarity
from cxrtriage.model.bundle import Model
from cxrtriage.predict import probabilities
from cxrtriage.progress import progress_bar

FILMS = 24  # that all methods explain
SANITY_FILMS = 4  # whose maps are made again, with noise and with random weights at each stage
STAGES = 3
EXPOSED = 0.5  # similarity that is left with all weights random, from which a method is exposed
WORTH_BLURRING = 0.1  # by which the score must fall when a film is blurred, for the curves to have room
SYMMETRY_FILMS = 10  # of each class, driven to the opposite label in each form

Values = dict[str, np.ndarray]  # name of a measure -> (N,) a film


def measure_explanations(
    model: Model, prepared: PreparedSet, *, split: str | None = "test", films: int = FILMS, seed: int = 0
) -> dict[str, Any]:
    """Score all explanation methods on one model and recommend one.

    The rule: methods whose map survives random weights are exposed and come last. Among the others the one whose peak
    lies in the lesion most often is recommended where lesions are known, and the one with the largest area of insertion
    less deletion elsewhere. The reason says so where a map that never looks at the film is as good.

    Parameters
    ----------
    model : from `load_model`
    prepared : set prepared by the model's recipe
    split : whose films are explained; None takes all
    films : how many at most
    seed : of the choice of films, of noise, random weights, random orders and the bootstrap

    Returns
    -------
    dict
        JSON-able, None where not defined. `methods` (name -> figures), `references` ("chance", "centre": the same
        figures for a map at random and for the harder of two fixed maps), `lesions`, `recommended`, `reason`,
        `symmetry` (see `claim`), `notes` (sentences). A figure is a dict of `estimate`, `lower`, `upper`, the 95 %
        interval over patients:

        `peak_in_lesion`, `mass_in_lesion`, `mass_ratio` : see `localisation`; the last is the mass over the lesion's
            share of the film, 1 by chance; None without lesions
        `deletion`, `insertion`, `insertion_less_deletion` : areas under the curves of the calibrated probability
        `peak_over_centre`, `over_random`, `over_centre` : differences on the same films, of the peaks against the fixed
            map, and of insertion less deletion against a random order and against the fixed map
        `randomisation` : similarity that is left when all weights are random; `randomisation_steps` on the way there
        `noise_stability` : similarity of the maps of films with a little noise
        `exposed`, `seconds_a_film`

    Raises
    ------
    ModelError
        If the set was prepared otherwise than the model expects.
    SourceError
        If the set has no films in `split`.
    """
    scored = score_split(model, prepared, split, seed=seed)
    chosen, lesions, notes = choose_explained(scored, prepared, films, seed=seed)
    size = chosen.images.shape[-1]

    def score(images: np.ndarray) -> np.ndarray:
        return probabilities(model, images)

    even = np.zeros(chosen.images.shape, np.float32)
    chance = _values(even, chosen, lesions, score, seed)
    centre, centre_name = _harder_fixed_map(chosen, lesions, prepared, score, seed)
    methods = {}
    with progress_bar("scoring explanations", len(METHODS) + 1, "methods") as advance:
        for method in METHODS:
            methods[method] = _measure_method(model, chosen, lesions, method, score, chance, centre, seed)
            advance(1, note=method)
        symmetry = measure_symmetry(model, scored, min(SYMMETRY_FILMS, films), seed=seed)
        advance(1)
    recommended, reason = recommend(methods, centre_name)
    return {
        "split": split,
        "films": len(chosen.rows),
        "seed": seed,
        "size": size,
        "methods": methods,
        "references": {
            "chance": _figures(chance, chosen.patient_id, seed),
            "centre": _figures(centre, chosen.patient_id, seed) | {"map": centre_name},
        },
        "lesions": None
        if lesions is None
        else {"films": len(lesions), "median_area_share": float(np.median(lesions.mean(axis=(1, 2))))},
        "recommended": recommended,
        "reason": reason,
        "symmetry": symmetry,
        "notes": [*notes, *_notes(chosen, lesions, score)],
    }


def _measure_method(
    model: Model,
    films: ScoredFilms,
    lesions: np.ndarray | None,
    method: str,
    score: Score,
    chance: Values,
    centre: Values,
    seed: int,
) -> dict[str, Any]:
    """Return the figures of one method."""

    def make_heat(explained: Model, images: np.ndarray) -> np.ndarray:
        return heat_of(attribute(explained, images, method, seed=seed), method)

    start = time.perf_counter()
    heat = make_heat(model, films.images)
    seconds = (time.perf_counter() - start) / len(heat)
    values = _values(heat, films, lesions, score, seed)
    figures = _figures(values, films.patient_id, seed)
    figures["peak_over_centre"] = (
        None if lesions is None else mean_figure(values["peak"] - centre["peak"], films.patient_id, seed=seed)
    )
    for name, reference in (("over_random", chance), ("over_centre", centre)):
        figures[name] = mean_figure(_gain(values) - _gain(reference), films.patient_id, seed=seed)

    few = np.linspace(0, len(heat) - 1, min(SANITY_FILMS, len(heat))).round().astype(int)
    images, patients = films.images[few], films.patient_id[few]
    left = np.zeros(len(few))
    steps: list[dict[str, Any]] = []
    for layers, random in randomised_models(model, images, STAGES, seed):
        left = similarity(heat[few], make_heat(random, images))
        steps.append({"layers": layers, "similarity": float(left.mean())})
    figures["randomisation"] = mean_figure(left, patients, seed=seed)
    figures["randomisation_steps"] = steps
    figures["exposed"] = bool(left.mean() > EXPOSED)
    stable = noise_stability(make_heat, model, images, heat[few], seed)
    figures["noise_stability"] = mean_figure(stable, patients, seed=seed)
    figures["seconds_a_film"] = round(seconds, 3)
    return figures


def _values(heat: np.ndarray, films: ScoredFilms, lesions: np.ndarray | None, score: Score, seed: int) -> Values:
    """Return what a map scores on each film. An even heat scores chance: a random order, a random peak."""
    areas = areas_under_curves(score, films.images, heat, seed=seed)
    values = {"deletion": areas.deletion, "insertion": areas.insertion}
    if lesions is not None:
        found = localise(heat, lesions)
        values |= {"peak": found.peak, "mass": found.mass, "area": found.mass_by_chance}
    return values


def _figures(values: Values, patients: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the figures that any map has, methods and references alike."""
    figures: dict[str, Figure | None] = dict.fromkeys(("peak_in_lesion", "mass_in_lesion", "mass_ratio"))
    if "peak" in values:
        figures["peak_in_lesion"] = mean_figure(values["peak"], patients, share=True, seed=seed)
        figures["mass_in_lesion"] = mean_figure(values["mass"], patients, seed=seed)
        figures["mass_ratio"] = ratio_figure(values["mass"], values["area"], patients, seed=seed)
    figures["deletion"] = mean_figure(values["deletion"], patients, seed=seed)
    figures["insertion"] = mean_figure(values["insertion"], patients, seed=seed)
    figures["insertion_less_deletion"] = mean_figure(_gain(values), patients, seed=seed)
    return figures


def _gain(values: Values) -> np.ndarray:
    gain: np.ndarray = values["insertion"] - values["deletion"]
    return gain


def _harder_fixed_map(
    films: ScoredFilms, lesions: np.ndarray | None, prepared: PreparedSet, score: Score, seed: int
) -> tuple[Values, str]:
    """Return what the better of two maps that never look at the film scores, and its name.

    A Gaussian at the film's centre is what lesions in photographs are measured against. Lesions in a chest lie beside
    the centre, so the place where other patients' lesions lie most often is the harder opponent as a rule.
    """
    maps = {"a Gaussian at the film's centre": centre_heat(films.images.shape[-1])}
    if lesions is not None:
        others = lesions_of_others(prepared, films.patient_id, seed=seed)
        if len(others):
            maps["the place where other patients' lesions lie most often"] = usual_place(others)
    measures = ("peak", "mass") if lesions is not None else ("insertion",)
    scored = {
        name: _values(np.broadcast_to(fixed, films.images.shape), films, lesions, score, seed)
        for name, fixed in maps.items()
    }
    name = max(scored, key=lambda name: [scored[name][measure].mean() for measure in measures])
    return scored[name], name


def _notes(films: ScoredFilms, lesions: np.ndarray | None, score: Score) -> list[str]:
    """Return what a reader of the table must know."""
    few = min(SANITY_FILMS, len(films.rows))
    shares = ", ".join(f"{share:.0%}" for share in SHARES[1:-1])
    blurred = score(blur(films.images)).mean()
    notes = [
        f"Random weights and noise: {few} of these films, one draw of weights in {STAGES} stages.",
        f"Exposed is a method whose maps keep a rank correlation above {EXPOSED} when all weights are random.",
        f"Noise has a standard deviation of {NOISE:.0%} of the range.",
        f"Curves exchange {shares} of the pixels.",
        f"The films score {films.probability.mean():.2f} on average, their blurred copies {blurred:.2f}.",
    ]
    if blurred > films.probability.mean() - WORTH_BLURRING:
        notes.append("Blur alone hardly lowers the score, so the curves say little of what this network needs.")
    if lesions is not None:
        notes.append(
            f"A peak may lie {TOLERANCE:.0%} of the side beside the lesion, a peak by chance too; mass may not."
        )
    return notes
