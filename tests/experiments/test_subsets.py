"""Volumes are nested and drawn by patient; a leak takes as many films away as it brings."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrtriage.errors import ConfigError
from cxrtriage.experiments.subsets import leaking_split, nested_order, resolve_volumes
from experiments.made_up import make_films


@st.composite
def manifests(draw: st.DrawFn) -> pd.DataFrame:
    patients = draw(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=4, max_size=40))
    rows = [(f"p{number}", int(ill)) for number, (films, ill) in enumerate(patients) for _ in range(films)]
    return pd.DataFrame(rows, columns=["patient_id", "label"])


@given(manifests(), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_every_beginning_holds_whole_patients_but_for_the_last(films: pd.DataFrame, seed: int) -> None:
    order = nested_order(films, seed)
    assert sorted(order) == list(range(len(films)))  # so any two beginnings are nested
    patients = films["patient_id"].to_numpy()[order]
    changes = 1 + int((patients[1:] != patients[:-1]).sum())
    assert changes == films["patient_id"].nunique()  # none comes back later


@given(manifests(), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_every_beginning_has_its_share_of_each_class_of_patients(films: pd.DataFrame, seed: int) -> None:
    ordered = films.iloc[nested_order(films, seed)].drop_duplicates("patient_id")
    abnormal = ordered["label"].to_numpy() > 0
    for count in range(1, len(ordered) + 1):
        # one patient of each class may be before or behind its turn
        assert abs(abnormal[:count].sum() - abnormal.mean() * count) <= 2


def test_another_seed_draws_other_patients_and_the_order_of_rows_does_not_matter() -> None:
    films = make_films().manifest
    assert (nested_order(films, 0) != nested_order(films, 1)).any()
    turned = films[::-1].reset_index(drop=True)
    first, second = (set(table["patient_id"].iloc[nested_order(table, 0)[:30]]) for table in (films, turned))
    assert first == second


def test_volumes_are_numbers_or_shares_and_never_more_than_there_is() -> None:
    assert resolve_volumes((0.5, 1.0), 400) == (200, 400)
    assert resolve_volumes((100, 1000), 400) == (100, 400)
    assert resolve_volumes(None, 50_000) == (3_000, 10_000, 50_000)
    assert resolve_volumes(None, 5_000) == (300, 1_000, 5_000)  # the study's shares
    assert resolve_volumes(None, 100) == (16, 20, 100)


@pytest.mark.parametrize("asked", [(1000, 2000), (0.01, 1.0)])
def test_volumes_that_leave_nothing_to_compare_are_refused(asked: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"--volumes come to .* of 400 training films, expected at least two"):
        resolve_volumes(asked, 400)


@pytest.mark.parametrize("folds", [2, 3])
def test_a_leak_keeps_the_number_of_training_films_and_tests_each_film_once(folds: int) -> None:
    films = make_films().manifest
    tested: list[int] = []
    for fold in range(folds):
        split = leaking_split(films, fold, folds, seed=fold)
        assert (split == "train").sum() == (films["split"] == "train").sum()
        assert ((split == "validation") == (films["split"] == "validation")).all()
        leaked = (split == "train") & (films["split"] == "test").to_numpy()
        patients = films["patient_id"].to_numpy()
        assert set(patients[leaked]) <= set(patients[split == "test"])
        # three films a patient: those that are not tested are trained on
        assert leaked.sum() == sum(
            3 - (patients[split == "test"] == name).sum() for name in set(patients[split == "test"])
        )
        tested += np.flatnonzero(split == "test").tolist()
    assert sorted(tested) == np.flatnonzero(films["split"] == "test").tolist()


def test_patients_with_one_film_leak_nothing() -> None:
    films = make_films(films_each=1).manifest
    split = leaking_split(films, 0, 2, seed=0)
    assert ((split == "train") == (films["split"] == "train")).all()


def test_a_leak_for_which_there_is_no_room_is_refused() -> None:
    films = make_films().manifest
    few = films.drop(films.index[films["split"] == "train"][4:]).reset_index(drop=True)
    with pytest.raises(ConfigError, match=r"take the place of training films, of which there are 4\. Take more"):
        leaking_split(few, 0, 2, seed=0)
