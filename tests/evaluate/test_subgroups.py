"""Subgroups: who is in them, what is too few, and that sources are kept apart."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxrtriage.evaluate.predictions import check_predictions
from cxrtriage.evaluate.subgroups import subgroup_figures
from prediction_tables import made_up_predictions


def rows(table: pd.DataFrame) -> dict[tuple[str, str, str], dict]:
    found = subgroup_figures(check_predictions(table), resamples=100)
    return {(row["source"], row["column"], row["value"]): row for row in found}


def test_the_auroc_of_a_subgroup_is_that_of_its_films_alone() -> None:
    table = made_up_predictions(400)
    found = rows(table)
    women = table[table["sex"] == "F"]
    row = found["hospital a", "sex", "F"]
    assert (row["films"], row["abnormal"]) == (len(women), women["label"].sum())
    assert row["auroc"]["estimate"] == pytest.approx(roc_auc_score(women["label"], women["probability"]))
    assert row["auroc"]["lower"] < row["auroc"]["estimate"] < row["auroc"]["upper"]


def test_age_is_cut_into_bands_that_hold_every_film_once() -> None:
    table = made_up_predictions(400).assign(age=np.tile([17, 18, 39, 40, 64, 65, 94, 3], 50))
    bands = {value: row["films"] for (_, column, value), row in rows(table).items() if column == "age"}
    assert bands == {"0-17": 100, "18-39": 100, "40-64": 100, "65+": 100}


def test_a_finding_is_set_against_all_normal_films() -> None:
    table = made_up_predictions(400)
    row = rows(table)["hospital a", "finding", "Effusion"]
    has = table["finding"].str.contains("Effusion")
    assert row["abnormal"] == has.sum()
    assert row["films"] == has.sum() + (table["label"] == 0).sum()
    assert not any(value == "No Finding" for _, _, value in rows(table))


def test_a_subgroup_of_fewer_than_ten_patients_of_a_class_is_too_few() -> None:
    table = made_up_predictions(200)
    table.loc[:30, "sex"] = "other"
    table.loc[:30, "patient_id"] = "always the same"
    assert rows(table)["hospital a", "sex", "other"]["auroc"] is None
    assert rows(table)["hospital a", "sex", "F"]["auroc"] is not None


def test_subgroups_are_looked_at_within_each_source() -> None:
    found = rows(made_up_predictions(600, sources=2))
    assert {source for source, _, _ in found} == {"hospital a", "hospital b"}


def test_a_column_with_one_value_or_with_as_many_as_films_is_no_grouping() -> None:
    table = made_up_predictions(200)
    table = table.assign(sex="F", view_position=[f"view {number}" for number in range(200)], finding="Mass", age=30)
    assert rows(table) == {}


def test_missing_values_belong_to_no_subgroup() -> None:
    table = made_up_predictions(300)
    table.loc[::2, ["sex", "age", "finding"]] = None
    found = rows(table)
    assert sum(row["films"] for (_, column, _), row in found.items() if column == "sex") == 150
