"""Where to draw the line between normal and abnormal.

In come the truth and calibrated probabilities of validation films; out go operating points: thresholds that each stand
for a wish ("miss at most 1 in 20", "a miss costs five false alarms"). They are stored in the model file, and on test
films only applied. A point that these films are too few to promise is refused, with the reason and what it would take.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cxrtriage.evaluate.intervals import (
    CONFIDENCE,
    Estimate,
    bootstrap,
    estimate_with_interval,
    surely_reached,
)
from cxrtriage.metrics import confusion_matrix, counts_by_score, sensitivity, specificity
from cxrtriage.records import OperatingPoint

TARGET_SENSITIVITY = 0.95
COST_OF_A_MISS = 5.0  # in false alarms
MINIMUM_PATIENTS = 10  # of each class, for the points that promise nothing
PLAIN_THRESHOLD = "0.5"  # the name of the decision where no point could be determined


@dataclass(frozen=True)
class OperatingChoice:
    """The operating points that could be determined, and why the others could not.

    Parameters
    ----------
    points : in the order sensitivity, Youden, cost
    undetermined : name of the point -> one sentence
    """

    points: list[OperatingPoint] = field(default_factory=list)
    undetermined: dict[str, str] = field(default_factory=dict)

    @property
    def decision(self) -> str:
        """Name of the point that decides: the promised sensitivity, else Youden's, else a plain 0.5."""
        names = [point.name for point in self.points]
        return next((name for name in names if not name.startswith("cost")), PLAIN_THRESHOLD)


def choose_operating_points(
    y_true: np.ndarray,
    probability: np.ndarray,
    patient_id: np.ndarray,
    *,
    split: str = "validation",
    target_sensitivity: float = TARGET_SENSITIVITY,
    cost_of_a_miss: float = COST_OF_A_MISS,
    seed: int = 0,
) -> OperatingChoice:
    """Choose thresholds on one split of the films.

    - "sensitivity 0.95": the highest threshold at which the sensitivity is at least 0.95 with 95 % confidence. A
      patient with several abnormal films counts once, found by the share of them that is flagged. The bound is that of
      an order statistic, so it holds although the threshold was chosen on the same patients.
    - "youden": sensitivity + specificity as large as it gets; of equals, the more sensitive one.
    - "cost 5:1": as few false alarms + 5 x misses as possible, among these films.

    A threshold lies halfway between the last score that is flagged and the next below, so that rounding in another
    program moves no film across it.

    Parameters
    ----------
    y_true : (N,) int, above 0 is abnormal
    probability : (N,) float in [0, 1], calibrated
    patient_id : (N,)
    split : name of the split that these films are, kept with the points
    target_sensitivity : float in (0, 1)
    cost_of_a_miss : float above 0, in false alarms
    seed : seed of the bootstrap behind the intervals

    Examples
    --------
    >>> probability = np.linspace(0, 1, 200)
    >>> choice = choose_operating_points(probability > 0.4, probability, np.arange(200))
    >>> [point.name for point in choice.points], choice.decision
    (['sensitivity 0.95', 'youden', 'cost 5:1'], 'sensitivity 0.95')
    >>> few = choose_operating_points(probability[::5] > 0.4, probability[::5], np.arange(40))
    >>> few.decision, few.undetermined["sensitivity 0.95"].split(":")[0]
    ('youden', 'sensitivity 0.95 cannot be determined')
    """
    truth, score, patients = np.asarray(y_true) > 0, np.asarray(probability), np.asarray(patient_id)
    abnormal_patients, normal_patients = len(np.unique(patients[truth])), len(np.unique(patients[~truth]))
    thresholds: dict[str, float] = {}
    undetermined: dict[str, str] = {}

    name = _sensitivity_name(target_sensitivity)
    needed = patients_needed(target_sensitivity)
    promised = _threshold_for_sensitivity(truth, score, patients, target_sensitivity)
    if promised is not None:
        thresholds[name] = promised
    else:
        undetermined[name] = (
            f"{name} cannot be determined: {split} has {abnormal_patients} abnormal patients, and {needed} of {needed} "
            f"found are the fewest that show a sensitivity of {target_sensitivity:g} with {100 * CONFIDENCE:g} % "
            "confidence."
        )

    cost_name = f"cost {cost_of_a_miss:g}:1"
    if min(abnormal_patients, normal_patients) >= MINIMUM_PATIENTS:
        thresholds["youden"] = _cheapest_threshold(truth, score, (~truth).sum() / truth.sum())
        thresholds[cost_name] = _cheapest_threshold(truth, score, cost_of_a_miss)
    else:
        for point in ("youden", cost_name):
            undetermined[point] = (
                f"{point} cannot be determined: {split} has {abnormal_patients} abnormal and {normal_patients} normal "
                f"patients, expected at least {MINIMUM_PATIENTS} of each."
            )

    points = [
        OperatingPoint(
            name=point,
            threshold=thresholds[point],
            split=split,
            abnormal_patients=abnormal_patients,
            normal_patients=normal_patients,
            sensitivity=found,
            specificity=cleared,
        )
        for point, (found, cleared) in _reached(truth, score, patients, thresholds, seed).items()
    ]
    return OperatingChoice(points, undetermined)


def patients_needed(target_sensitivity: float) -> int:
    """Return how many abnormal patients, all found, show a sensitivity with 95 % confidence.

    Examples
    --------
    >>> patients_needed(0.95)
    59
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(target_sensitivity))


def _reached(
    truth: np.ndarray, score: np.ndarray, patient_id: np.ndarray, thresholds: dict[str, float], seed: int
) -> dict[str, tuple[Estimate, Estimate]]:
    """Return sensitivity and specificity over films at each threshold, with intervals over patients."""

    def figures(weight: np.ndarray | None) -> dict[str, Any]:
        matrices = {name: confusion_matrix(truth, score >= threshold, weight) for name, threshold in thresholds.items()}
        return {f"{name}: sensitivity": sensitivity(matrix) for name, matrix in matrices.items()} | {
            f"{name}: specificity": specificity(matrix) for name, matrix in matrices.items()
        }

    estimates, replicates = figures(None), bootstrap(figures, patient_id, seed=seed)
    abnormal, normal = len(np.unique(patient_id[truth])), len(np.unique(patient_id[~truth]))
    return {
        name: (
            estimate_with_interval(estimates[f"{name}: sensitivity"], replicates[f"{name}: sensitivity"], abnormal),
            estimate_with_interval(estimates[f"{name}: specificity"], replicates[f"{name}: specificity"], normal),
        )
        for name in thresholds
    }


def _sensitivity_name(target: float) -> str:
    """Return the point's name, such as "sensitivity 0.95"."""
    return f"sensitivity {target:g}"


def _threshold_for_sensitivity(
    truth: np.ndarray, score: np.ndarray, patient_id: np.ndarray, target: float
) -> float | None:
    """Return the highest threshold whose sensitivity over patients is promised, or None."""
    patients, patient, films = np.unique(patient_id[truth], return_inverse=True, return_counts=True)
    if len(patients) < patients_needed(target):
        return None
    shares = (1 / films)[patient]  # what each abnormal film is of its patient
    scores, found_at, _ = counts_by_score(np.ones(len(shares)), score[truth], shares)
    found = np.minimum(np.cumsum(found_at[::-1])[::-1], len(patients))  # when flagging from each score up
    found[0] = len(patients)  # the sum of the shares, but for rounding
    return _just_below(float(scores[surely_reached(found, len(patients), target)].max()), score)


def _cheapest_threshold(truth: np.ndarray, score: np.ndarray, cost_of_a_miss: float) -> float:
    """Return the threshold with the least false alarms + cost x misses; of equals, the lowest."""
    scores, abnormal, normal = counts_by_score(truth, score)
    missed = np.cumsum(abnormal) - abnormal  # when flagging from each score up
    false_alarms = np.cumsum(normal[::-1])[::-1]
    cost = missed * cost_of_a_miss + false_alarms
    return _just_below(float(scores[cost <= cost.min() * (1 + 1e-9)].min()), score)


def _just_below(flagged: float, score: np.ndarray) -> float:
    """Return the middle between a score and the next lower one; 0, which flags every film, below the lowest."""
    lower = score[score < flagged]
    return (flagged + float(lower.max())) / 2 if lower.size else 0.0
