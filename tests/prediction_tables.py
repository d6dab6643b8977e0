"""Prediction tables for tests, with an AUROC near 0.85 and several films a patient."""

import numpy as np
import pandas as pd

STUDY = (138, 55, 88, 430)  # the 2017 study's confusion matrix: normal called normal, normal called abnormal, ...


def study_predictions() -> pd.DataFrame:
    """The 711 predictions of the study, as far as its matrix tells them."""
    return pd.DataFrame(
        {"label": np.repeat([0, 0, 1, 1], STUDY), "probability": np.repeat([0.2, 0.8, 0.2, 0.8], STUDY)}
    )


def made_up_predictions(films: int = 300, sources: int = 1, emergent: bool = False, seed: int = 0) -> pd.DataFrame:
    """Predictions with every column that an evaluation knows; two films a patient on average."""
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, films // 2, films)
    label = (rng.random(films) < 0.4).astype(int)
    of_patient = rng.normal(size=films // 2)[patient]
    probability = 1 / (1 + np.exp(-(1.7 * label - 0.9 + 0.5 * of_patient + rng.normal(size=films))))
    table = pd.DataFrame(
        {
            "path": [f"/films/{number}.png" for number in range(films)],
            "label": label,
            "probability": probability,
            "patient_id": [f"p{number}" for number in patient],
            "source": [f"hospital {'abcdef'[number]}" for number in rng.integers(0, sources, films)],
            "view_position": rng.choice(["AP", "PA"], films),
            "sex": rng.choice(["F", "M"], films),
            "age": rng.integers(1, 95, films),
            "finding": np.where(label > 0, rng.choice(["Mass", "Effusion|Mass", "Effusion"], films), "No Finding"),
        }
    )
    if emergent:
        table["label"] = np.where((label > 0) & (rng.random(films) < 0.3), 2, label)
        table["p_emergent"] = probability * np.where(table["label"] == 2, 0.7, 0.3) * rng.random(films)
    return table
