"""An evaluation as a whole: the study's figures, sources, patients, prevalence, and sets that are hardly any."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.evaluate.evaluation import evaluate_predictions, leading_figures, measured_films, write_evaluation
from cxrtriage.evaluate.operating import choose_operating_points
from cxrtriage.metrics import shift_prevalence
from prediction_tables import made_up_predictions, study_predictions


def evaluate(table: pd.DataFrame, **settings: Any) -> dict[str, Any]:
    return evaluate_predictions(table, resamples=200, **settings)


def test_the_study_s_predictions_give_the_study_s_figures() -> None:
    metrics = evaluate(study_predictions())
    block = metrics["every_film"]["all"]
    assert block["confusion"] == [[138, 55], [88, 430]]
    assert block["majority_accuracy"] == pytest.approx(518 / 711)
    rounded = {name: round(figure["estimate"], 3) for name, figure in block["figures"].items()}
    assert rounded["accuracy"] == 0.799
    assert (rounded["f1_normal"], rounded["f1_abnormal"]) == (0.659, 0.857)
    assert (rounded["sensitivity"], rounded["specificity"]) == (0.830, 0.715)


def test_figures_are_scikit_learn_s() -> None:
    table = made_up_predictions()
    figures = leading_figures(evaluate(table, threshold=0.4))
    truth, probability = table["label"] > 0, table["probability"]
    called = probability >= 0.4
    expected = {
        "auroc": reference.roc_auc_score(truth, probability),
        "average_precision": reference.average_precision_score(truth, probability),
        "accuracy": reference.accuracy_score(truth, called),
        "f1_normal": reference.f1_score(truth, called, pos_label=False),
        "f1_abnormal": reference.f1_score(truth, called),
        "sensitivity": reference.recall_score(truth, called),
        "ppv": reference.precision_score(truth, called),
        "npv": reference.precision_score(truth, called, pos_label=False),
        "brier_score": reference.brier_score_loss(truth, probability),
    }
    for name, value in expected.items():
        assert figures[name]["estimate"] == pytest.approx(value), name
        if name not in ("brier_score",):
            assert figures[name]["lower"] < value < figures[name]["upper"]


def test_several_sources_are_measured_alone_and_their_unweighted_mean_leads() -> None:
    table = made_up_predictions(600, sources=3)
    table.loc[table["source"] == "hospital c", "label"] = 0  # so a pooled AUROC would reward knowing the source
    table.loc[table.index[table["source"] == "hospital c"][:40], "label"] = 1
    metrics = evaluate(table)
    assert metrics["leads"] == "mean_over_sources"
    alone = [reference.roc_auc_score(group["label"] > 0, group["probability"]) for _, group in table.groupby("source")]
    assert leading_figures(metrics)["auroc"]["estimate"] == pytest.approx(np.mean(alone))
    for value, block in zip(alone, metrics["every_film"]["sources"].values(), strict=True):
        assert block["figures"]["auroc"]["estimate"] == pytest.approx(value)
    assert any("also reward recognising the source" in note for note in metrics["notes"])


def test_a_source_of_one_class_is_left_out_of_the_mean_and_explained() -> None:
    table = made_up_predictions(300, sources=2)
    table = table[(table["source"] == "hospital a") | (table["label"] == 1)]
    metrics = evaluate(table)
    assert metrics["every_film"]["mean_over_sources"]["sources"] == ["hospital a"]
    alone = metrics["every_film"]["sources"]["hospital a"]["figures"]["auroc"]["estimate"]
    assert leading_figures(metrics)["auroc"]["estimate"] == pytest.approx(alone)
    assert "all abnormal" in metrics["every_film"]["sources"]["hospital b"]["notes"][0]


def test_one_source_s_name_is_kept_and_its_figures_lead() -> None:
    metrics = evaluate(made_up_predictions(80))
    assert metrics["leads"] == "all"
    assert list(metrics["every_film"]["sources"]) == ["hospital a"]
    assert metrics["every_film"]["mean_over_sources"] is None


def test_figures_come_again_with_one_seeded_film_a_patient() -> None:
    table = made_up_predictions(300)
    metrics = evaluate(table)
    again = metrics["one_film_a_patient"]["all"]
    assert again["films"] == again["patients"] == table["patient_id"].nunique()
    assert evaluate(table)["one_film_a_patient"] == metrics["one_film_a_patient"]
    assert evaluate(table, seed=1)["one_film_a_patient"] != metrics["one_film_a_patient"]
    assert evaluate(table.drop_duplicates("patient_id"))["one_film_a_patient"] is None


def test_a_patient_of_two_sources_gives_a_film_to_each() -> None:
    table = made_up_predictions(100, sources=2).assign(patient_id="the same")
    assert evaluate(table)["one_film_a_patient"]["all"]["films"] == 2


def test_the_order_of_rows_does_not_matter() -> None:
    table = made_up_predictions(200)
    shuffled = table.sample(frac=1, random_state=1)
    assert evaluate(shuffled)["every_film"]["all"]["figures"]["auroc"] == pytest.approx(
        evaluate(table)["every_film"]["all"]["figures"]["auroc"]
    )


def test_intervals_are_over_patients() -> None:
    table = made_up_predictions(200).assign(patient_id=range(200))
    ten_times = pd.concat([table] * 10, ignore_index=True)
    once, again = (leading_figures(evaluate(each))["auroc"] for each in (table, ten_times))
    assert again == pytest.approx(once, abs=0.01)


def test_a_prevalence_shifts_probabilities_and_weighs_what_depends_on_it() -> None:
    table = made_up_predictions(4000).assign(patient_id=range(4000))
    metrics = evaluate(table, prevalence=0.1)
    figures, own = leading_figures(metrics), leading_figures(evaluate(table))
    own_prevalence = float(table["label"].mean())
    assert metrics["settings"]["calibrated_at"] == pytest.approx(own_prevalence)
    for name in ("auroc", "calibration_slope"):  # neither depends on how many are abnormal
        assert figures[name]["estimate"] == pytest.approx(own[name]["estimate"], abs=0.1)
    found, cleared = figures["sensitivity"]["estimate"], figures["specificity"]["estimate"]
    assert figures["ppv"]["estimate"] == pytest.approx(0.1 * found / (0.1 * found + 0.9 * (1 - cleared)))
    assert figures["npv"]["estimate"] == pytest.approx(0.9 * cleared / (0.9 * cleared + 0.1 * (1 - found)))
    # The same films thinned to that prevalence, their probabilities shifted by hand, say the same.
    normal, abnormal = table[table["label"] == 0], table[table["label"] == 1]
    thinned = pd.concat([normal, abnormal.sample(len(normal) // 9, random_state=0)])
    thinned["probability"] = shift_prevalence(thinned["probability"].to_numpy(), own_prevalence, 0.1)
    expected = leading_figures(evaluate(thinned))
    for name in ("brier_score", "calibration_slope", "calibration_intercept", "average_precision", "ppv"):
        assert expected[name]["estimate"] == pytest.approx(figures[name]["estimate"], rel=0.2, abs=0.1), name


def test_a_prevalence_moves_operating_points_along_so_that_the_same_films_are_flagged() -> None:
    table = made_up_predictions(300)
    choice = choose_operating_points(table["label"], table["probability"], table["patient_id"])
    settings = {"operating_points": choice.points, "decision": choice.decision}
    here = evaluate(table, **settings)
    there = evaluate(table, prevalence=0.02, calibrated_at=0.4, **settings)
    assert there["every_film"]["all"]["confusion"] == here["every_film"]["all"]["confusion"]
    assert there["settings"]["threshold"] < here["settings"]["threshold"]
    assert (measured_films(table, there)["decision"] == measured_films(table, here)["decision"]).all()
    assert evaluate(table, prevalence=0.02)["every_film"]["all"]["confusion"] != here["every_film"]["all"]["confusion"]


def test_a_prevalence_needs_both_classes_or_to_be_told_where_the_model_was_calibrated() -> None:
    table = pd.DataFrame({"label": [1, 1], "probability": [0.2, 0.9]})
    with pytest.raises(SourceError, match="all of one class"):
        evaluate(table, prevalence=0.3)
    metrics = evaluate(table, prevalence=0.3, calibrated_at=0.5)
    assert metrics["every_film"]["all"]["prevalence"] == 0.3
    with pytest.raises(ConfigError, match="prevalence is 1, expected a share between 0 and 1"):
        evaluate(study_predictions(), prevalence=1.0)


def test_operating_points_are_applied_and_the_one_that_decides_gives_the_matrix() -> None:
    table = made_up_predictions(400)
    choice = choose_operating_points(table["label"], table["probability"], table["patient_id"])
    metrics = evaluate(table, operating_points=choice.points, decision="youden")
    block = metrics["every_film"]["all"]
    for point, chosen in zip(block["operating_points"], choice.points, strict=True):
        assert point["sensitivity"]["estimate"] == pytest.approx(chosen.sensitivity[0])
        assert point["specificity"]["estimate"] == pytest.approx(chosen.specificity[0])
    youden = block["operating_points"][1]
    assert youden["name"] == metrics["settings"]["decision"] == "youden"
    assert block["figures"]["sensitivity"] == youden["sensitivity"]
    assert evaluate(table, decision="0.5")["settings"] | {"operating_points": 0} == evaluate(table)["settings"] | {
        "operating_points": 0
    }


def test_three_classes_give_a_matrix_of_nine_and_emergent_against_the_rest() -> None:
    table = made_up_predictions(400, emergent=True)
    block = evaluate(table)["every_film"]["all"]
    nine = np.array(block["three_classes"]["confusion"])
    assert nine.sum(axis=1).tolist() == [(table["label"] == label).sum() for label in range(3)]
    called = table["probability"] >= 0.5
    assert nine[:, 0].tolist() == [((table["label"] == label) & ~called).sum() for label in range(3)]
    expected = reference.roc_auc_score(table["label"] == 2, table["p_emergent"])
    assert block["figures"]["emergent_auroc"]["estimate"] == pytest.approx(expected)
    flagged = called[table["label"] == 2].mean()
    assert block["figures"]["emergent_sensitivity"]["estimate"] == pytest.approx(flagged)


def test_emergent_films_count_as_abnormal_where_the_model_has_two_classes() -> None:
    table = made_up_predictions(200, emergent=True).drop(columns="p_emergent")
    block = evaluate(table)["every_film"]["all"]
    assert block["three_classes"] is None
    assert "emergent_auroc" not in block["figures"]
    assert block["abnormal"] == (table["label"] > 0).sum()
    assert block["emergent"] == (table["label"] == 2).sum()
    assert "emergent_sensitivity" in block["figures"]


@pytest.mark.parametrize(
    ("labels", "probabilities", "note"),
    [
        (
            [1, 1, 1],
            [0.2, 0.6, 0.9],
            "These films are all abnormal: AUROC, average precision and calibration slope need",
        ),
        ([0, 0, 0], [0.2, 0.6, 0.9], "sensitivity, PPV and NPV need abnormal films"),
        ([0, 1, 1], [0.2, 0.6, 0.9], "the probabilities separate the classes without error"),
        ([0, 1, 1], [0.5, 0.5, 0.5], "the probabilities are all equal"),
        ([0, 1, 1], [0.0, 1.0, 0.0], r"exactly 0 or 1 \(3 of 3 films\)"),
        ([0, 1, 1], [0.2, 0.6, 0.1], "resamples held one class only"),
        ([0, 0, 1], [0.6, 0.7, 0.9], "100 of 100 normal films are flagged as well"),
        ([1], [0.2], "All films are of one patient, so there are no intervals"),
    ],
)
def test_sets_that_are_hardly_any_have_defined_and_explained_results(
    labels: list[int], probabilities: list[float], note: str
) -> None:
    table = pd.DataFrame({"label": labels, "probability": probabilities})
    metrics = evaluate(table)
    assert any(re.search(note, each) for each in metrics["every_film"]["all"]["notes"])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_a_perfect_small_set_does_not_claim_certainty() -> None:
    table = pd.DataFrame({"label": [0] * 4 + [1] * 5, "probability": [0.1] * 4 + [0.9] * 5})
    figures = leading_figures(evaluate(table))
    assert figures["sensitivity"] == pytest.approx({"estimate": 1.0, "lower": 0.025 ** (1 / 5), "upper": 1.0})
    assert figures["auroc"] == pytest.approx({"estimate": 1.0, "lower": 0.025 ** (1 / 4), "upper": 1.0})
    assert figures["f1_abnormal"] == {"estimate": 1.0, "lower": None, "upper": None}


def test_missing_patients_are_told_once() -> None:
    assert sum("no patient_id" in note for note in evaluate(study_predictions())["notes"]) == 1
    assert not any("no patient_id" in note for note in evaluate(made_up_predictions(60))["notes"])


def test_notes_given_are_told_along() -> None:
    assert evaluate(study_predictions(), notes=["", "Said before."])["notes"][0] == "Said before."


def test_what_is_written_can_be_read_and_evaluated_again(tmp_path: Path) -> None:
    table = made_up_predictions(120, sources=2, emergent=True)
    metrics = evaluate(table, threshold=0.37, prevalence=0.2) | {"made_from": {"model": "1234"}}
    write_evaluation(table, metrics, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    written = pd.read_csv(tmp_path / "predictions.csv")
    assert list(written.columns[:4]) == ["path", "label", "probability", "decision"]
    assert set(table.columns) <= set(written.columns)
    assert ((written["probability"] >= 0.37) == (written["decision"] == "abnormal")).all()
    again = evaluate(written, threshold=0.37)
    assert again["every_film"]["all"]["confusion"] == metrics["every_film"]["all"]["confusion"]
    for name in ("confusion", "roc", "calibration", "scores"):
        assert (tmp_path / f"{name}.svg").exists()
        assert (tmp_path / f"{name}.png").exists()


def test_nothing_in_the_figures_is_nan() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        else:
            assert not (isinstance(value, float) and math.isnan(value))

    check(evaluate(pd.DataFrame({"label": [0, 0], "probability": [0.0, 1.0]})))
