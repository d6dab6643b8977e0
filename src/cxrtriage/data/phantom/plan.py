"""Which patients and films a set of phantoms holds, and what is wrong with each.

Comes in: how many films, their ratio, a seed. Goes out: a list of `FilmPlan`. Read next by `films`.

Patients and their number of films come from the seed alone; only the labels depend on how many films there
are, because each label has to come out exactly.
"""

from dataclasses import dataclass

import numpy as np

from cxrtriage.data.phantom.abnormalities import EMERGENT_FINDINGS, EMERGENT_FROM, NORMAL
from cxrtriage.data.phantom.film import generator

FILMS_OF_A_PATIENT = (0.76, 0.18, 0.06)  # shares of patients with 1, 2 and 3 films: 1.3 on average
# of abnormal films that are no emergency
FINDING_SHARES = {
    "nodule": 0.1,
    "consolidation": 0.18,
    "effusion": 0.2,
    "pneumothorax": 0.17,
    "cardiomegaly": 0.18,
    "tuberculosis": 0.09,
    "interstitial": 0.08,
}
CHANGED = 0.15  # share of a patient's later films whose label is drawn anew: fallen ill, or well again


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """What film number `film` of a set shows; patients and films are counted from 0."""

    film: int
    patient: int
    finding: str
    severity: float


def plan_films(films: int, ratio: tuple[float, float, float], seed: int) -> list[FilmPlan]:
    """Plan a set.

    Parameters
    ----------
    films : how many
    ratio : of normal, abnormal and emergent films, in any unit

    Returns
    -------
    list of FilmPlan
        Films of one patient follow each other and mostly have one label, finding and side.
    """
    patients = _patients(films, seed)
    labels = _deal(patients, label_counts(films, ratio), np.random.default_rng([seed, films]))
    return [
        FilmPlan(film, patient, *_diagnosis(label, seed, patient, film))
        for film, (patient, label) in enumerate(zip(patients, labels, strict=True))
    ]


def label_counts(films: int, ratio: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return how many films get label 0, 1 and 2, by the method of the largest remainder.

    Examples
    --------
    >>> label_counts(7, (60, 35, 5))
    (4, 3, 0)
    """
    quotas = films * np.array(ratio, dtype=float) / sum(ratio)
    counts = np.floor(quotas).astype(int)
    largest = np.argsort(counts - quotas, kind="stable")
    counts[largest[: films - counts.sum()]] += 1
    return int(counts[0]), int(counts[1]), int(counts[2])


def _patients(films: int, seed: int) -> list[int]:
    """Return the patient of each film."""
    patients: list[int] = []
    patient = 0
    while len(patients) < films:
        count = 1 + generator(seed, "visits", patient).choice(3, p=FILMS_OF_A_PATIENT)
        patients += [patient] * count
        patient += 1
    return patients[:films]


def _deal(patients: list[int], counts: tuple[int, int, int], rng: np.random.Generator) -> list[int]:
    """Deal the labels at random, a patient's films the same one as long as there are any left."""
    left = np.array(counts)
    labels: list[int] = []
    for film, patient in enumerate(patients):
        again = film > 0 and patients[film - 1] == patient and rng.random() >= CHANGED and left[labels[-1]] > 0
        label = labels[-1] if again else int(rng.choice(3, p=left / left.sum()))
        left[label] -= 1
        labels.append(label)
    return labels


def _diagnosis(label: int, seed: int, patient: int, film: int) -> tuple[str, float]:
    """Return finding and severity: the patient's, with a severity that changes a little from film to film."""
    rng = generator(seed, "diagnosis", patient)
    finding, emergency = (
        str(rng.choice(list(FINDING_SHARES), p=list(FINDING_SHARES.values()))),
        str(rng.choice(EMERGENT_FINDINGS)),
    )
    # more plain than subtle ones: a hospital's film is taken because something is suspected
    grade = float(np.clip(rng.random() ** 0.5 + generator(seed, "course", film).normal(0, 0.05), 0, 0.999))
    if label == 0:
        return NORMAL, 0.0
    if label == 1:
        return finding, grade * (EMERGENT_FROM if finding in EMERGENT_FINDINGS else 1)
    return finding if finding in EMERGENT_FINDINGS else emergency, EMERGENT_FROM + (1 - EMERGENT_FROM) * grade
