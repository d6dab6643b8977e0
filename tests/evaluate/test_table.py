"""What the terminal shows: three decimals, plain words, 80 columns."""

import re
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from cxrtriage.evaluate.evaluation import evaluate_predictions
from cxrtriage.evaluate.operating import choose_operating_points
from cxrtriage.evaluate.table import metrics_table
from prediction_tables import made_up_predictions, study_predictions


def printed(metrics: dict[str, Any]) -> str:
    console = Console(width=80, file=StringIO(), force_terminal=False)
    console.print(metrics_table(metrics))
    return console.file.getvalue()


def figure(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "lower": estimate - 0.03, "upper": estimate + 0.03}


def audit(*sources: str) -> dict[str, Any]:
    kinds = {"network": 0.84, "baseline": 0.62, "telling_fact": 0.58, "lungs_blanked": 0.7, "border_only": 0.55}
    block = {kind: figure(value) for kind, value in kinds.items()}
    return {
        "split": "test",
        "films": 200,
        "facts": 75,
        "telling_fact": "bytes per pixel",
        "sources": dict.fromkeys(sources, block),
        "mean_over_sources": block if len(sources) > 1 else None,
        "verdict": "This set cannot show that the model reads anatomy.",
    }


def test_the_study_s_predictions_print_the_study_s_figures() -> None:
    text = printed(evaluate_predictions(study_predictions()))
    assert re.search(r"accuracy +0\.799", text)
    assert re.search(r"always the commoner +0\.729", text)
    assert re.search(r"F1 of normal +0\.659", text)
    assert re.search(r"F1 of abnormal +0\.857", text)
    assert re.search(r"truth normal +138 +55\s+truth abnormal +88 +430", text)


def test_every_line_fits_80_columns_whatever_there_is_to_show() -> None:
    table = made_up_predictions(400, sources=3, emergent=True)
    points = choose_operating_points(table["label"], table["probability"], table["patient_id"])
    metrics = evaluate_predictions(table, operating_points=points.points, decision=points.decision, resamples=100)
    metrics["audit"] = audit("hospital a", "hospital b", "hospital c")
    text = printed(metrics)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"hospital a +\d+ +\d+% +0\.\d{3} \(0\.\d{3}–0\.\d{3}\) +0\.620 ", text)


def test_names_are_shown_as_they_are() -> None:
    table = made_up_predictions(200, sources=2)
    table["source"] = table["source"].replace("hospital a", "[bold]A[/]")
    table["sex"] = table["sex"].replace("F", "[f]")
    text = printed(evaluate_predictions(table, resamples=50))
    assert "[bold]A[/]" in text
    assert "[f]" in text


def test_operating_points_are_told_in_plain_words() -> None:
    table = made_up_predictions(400)
    points = choose_operating_points(table["label"], table["probability"], table["patient_id"])
    text = " ".join(printed(evaluate_predictions(table, operating_points=points.points, decision="youden")).split())
    for point in points.points:
        found, alarms = round(100 * point.sensitivity[0]), round(100 * (1 - point.specificity[0]))
        assert re.search(
            rf"abnormal from {point.threshold:.3f}: of 100 abnormal films {found} \(\d+–\d+\) are flagged, "
            rf"of 100 normal ones {alarms} \(\d+–\d+\) too\.",
            text,
        )
    assert "youden (decides)" in text


def test_with_several_sources_the_mean_leads_and_the_pooled_auroc_is_not_shown() -> None:
    metrics = evaluate_predictions(made_up_predictions(400, sources=2), resamples=100)
    text = printed(metrics)
    assert text.index("By source") < text.index("Mean of 2 sources")
    pooled = metrics["every_film"]["all"]["figures"]["auroc"]
    assert f"{pooled['estimate']:.3f} ({pooled['lower']:.3f}" not in text


def test_the_baseline_stands_beneath_the_auroc() -> None:
    metrics = evaluate_predictions(made_up_predictions(100), resamples=100) | {"audit": audit("hospital a")}
    assert re.search(r"AUROC +0\.\d+ .*\n +baseline, no anatomy +0\.620 ", printed(metrics))
    assert "This set cannot show that the model reads anatomy." in printed(metrics)
    assert re.search(r"network, lungs blanked +0\.700 +0\.670–0\.730", printed(metrics))


def test_an_audit_without_baseline_prints_too() -> None:
    without = audit("hospital a")
    without["sources"] = {
        "hospital a": {"network": figure(0.8), "lungs_blanked": figure(0.7), "border_only": figure(0.5)}
    }
    assert "network, lungs blanked" in printed(evaluate_predictions(made_up_predictions(60)) | {"audit": without})


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 1], [0, 0, 0]])
def test_three_films_print_with_dashes_and_an_explanation(labels: list[int]) -> None:
    text = printed(evaluate_predictions(pd.DataFrame({"label": labels, "probability": [0.2, 0.7, 0.9]})))
    assert text.startswith("3 films of 3 patients")
    assert re.search(r"calibration slope \(best 1\) +– +–", text)
    assert "nan" not in text
    assert "None" not in text


def test_too_few_is_said_of_a_small_subgroup() -> None:
    assert "too few patients" in printed(evaluate_predictions(made_up_predictions(30)))


def test_ppv_names_the_prevalence_it_assumes() -> None:
    assert "PPV at prevalence 0.050" in printed(evaluate_predictions(made_up_predictions(100), prevalence=0.05))
    assert "PPV at own prevalence" in printed(evaluate_predictions(made_up_predictions(100, sources=2)))
