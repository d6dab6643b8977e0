"""Nobody is trained on and tested on, shares are kept, and the same seed gives the same split."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrtriage.data.labels.manifest import check_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.errors import ConfigError


def films(
    patients: int, per_patient: int = 1, seed: int = 0, shares: tuple[float, ...] = (0.6, 0.35, 0.05)
) -> pd.DataFrame:
    """Return a manifest of patients with up to `per_patient` films each, from two sources."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), random.integers(1, per_patient + 1, patients))
    return pd.DataFrame(
        {
            "path": [f"/films/{number}.png" for number in range(len(patient))],
            "label": random.choice(len(shares), len(patient), p=shares),
            "patient_id": [f"p{number}" for number in patient],
            "source": np.where(patient % 4 == 0, "north", "south"),
        }
    )


manifests = st.builds(films, patients=st.integers(40, 120), per_patient=st.integers(1, 6), seed=st.integers(0, 10_000))
several = settings(deadline=None, max_examples=40)


@several
@given(manifest=manifests, seed=st.integers(0, 100))
def test_no_patient_is_in_two_splits(manifest: pd.DataFrame, seed: int) -> None:
    split = split_manifest(manifest, seed=seed)
    assert split.groupby("patient_id")["split"].nunique().max() == 1
    check_manifest(split)  # which refuses torn patients


@several
@given(manifest=manifests, seed=st.integers(0, 100))
def test_each_label_has_its_share_of_patients_in_each_split(manifest: pd.DataFrame, seed: int) -> None:
    patients = (
        split_manifest(manifest, seed=seed).groupby("patient_id").agg(label=("label", "max"), split=("split", "first"))
    )
    for _, group in patients.groupby("label"):
        count = group["split"].value_counts()
        if len(group) >= 3:
            assert set(count.index) == {"train", "validation", "test"}
        assert abs(count.get("test", 0) - 0.1 * len(group)) <= 1
        assert abs(count.get("validation", 0) - 0.09 * len(group)) <= 1.1  # one tenth of nine tenths, each rounded


@several
@given(manifest=manifests, seed=st.integers(0, 100), data=st.data())
def test_the_split_does_not_depend_on_the_order_of_rows_or_on_other_columns(
    manifest: pd.DataFrame, seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(manifest))))
    split = split_manifest(manifest, seed=seed)
    other = split_manifest(manifest.iloc[order].assign(age=50.0, note="carried"), seed=seed)
    pd.testing.assert_series_equal(other["split"].sort_index(), split["split"])


def test_another_seed_gives_another_split() -> None:
    manifest = films(200)
    assert not split_manifest(manifest, seed=0)["split"].equals(split_manifest(manifest, seed=1)["split"])


def test_each_source_has_its_share() -> None:
    split = split_manifest(films(2000, per_patient=3))
    test = split[split["split"] == "test"].drop_duplicates("patient_id")
    assert (test["source"] == "north").mean() == pytest.approx(0.25, abs=0.02)


def test_patients_with_many_films_are_spread_so_that_films_have_their_shares_too() -> None:
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(1000), np.minimum(random.pareto(1.0, 1000).astype(int) + 1, 137))
    manifest = pd.DataFrame(
        {"path": [f"/{n}.png" for n in range(len(patient))], "label": patient % 2, "patient_id": patient.astype(str)}
    )
    films = np.bincount(patient)
    dealt, drawn = [], []
    for seed in range(20):
        dealt.append((split_manifest(manifest, seed=seed)["split"] == "test").mean())
        drawn.append(np.random.default_rng(seed).choice(films, 100, replace=False).sum() / len(patient))
    assert np.std(dealt) < 0.75 * np.std(drawn)
    assert np.mean(dealt) == pytest.approx(0.1, abs=0.01)


def test_rows_stay_in_order_and_the_callers_frame_as_it_was() -> None:
    manifest = films(50)
    before = manifest.copy()
    split = split_manifest(manifest)
    pd.testing.assert_frame_equal(manifest, before)
    pd.testing.assert_frame_equal(split.drop(columns="split"), before)


def test_a_given_split_is_kept() -> None:
    manifest = films(30).assign(split=["train", "validation", "test"] * 10)
    pd.testing.assert_frame_equal(split_manifest(manifest), manifest)


def test_a_missing_validation_share_is_taken_out_of_training() -> None:
    manifest = films(300, per_patient=3)
    given_test = manifest["patient_id"].isin(manifest["patient_id"].unique()[:60])
    split = split_manifest(manifest.assign(split=np.where(given_test, "test", "train")))
    assert (split["split"] == "test").equals(given_test)
    validation = split.loc[split["split"] == "validation", "patient_id"].nunique()
    assert validation == pytest.approx(24, abs=2)  # a tenth of the 240 patients to train on
    assert split.groupby("patient_id")["split"].nunique().max() == 1


def test_a_given_split_without_test_films_is_told(caplog: pytest.LogCaptureFixture) -> None:
    split = split_manifest(films(50).assign(split="train"))
    assert set(split["split"]) == {"train", "validation"}
    assert "no test films" in caplog.text


def test_a_set_that_is_only_for_testing_stays_whole() -> None:
    assert set(split_manifest(films(20).assign(split="test"))["split"]) == {"test"}


def test_a_share_of_zero_leaves_a_split_out() -> None:
    assert set(split_manifest(films(50), validation=0)["split"]) == {"train", "test"}
    assert set(split_manifest(films(50), test=0)["split"]) == {"train", "validation"}


def test_splitting_by_image_warns_and_is_marked(caplog: pytest.LogCaptureFixture) -> None:
    manifest = films(40, per_patient=5)
    split = split_manifest(manifest, by="image")
    assert split.groupby("patient_id")["split"].nunique().max() > 1
    assert "split by image" in caplog.text
    several_films = manifest["patient_id"].duplicated(keep=False).sum()
    assert f"{several_films} of the {len(manifest)} films" in caplog.text
    check_manifest(split)  # takes torn patients, since the split says what it is


def test_three_patients_of_one_class_fill_three_splits() -> None:
    split = split_manifest(pd.DataFrame({"path": ["/a", "/b", "/c"], "label": 0, "patient_id": ["a", "b", "c"]}))
    assert sorted(split["split"]) == ["test", "train", "validation"]


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0, 1]])
def test_too_few_patients_are_refused(labels: list[int]) -> None:
    manifest = pd.DataFrame(
        {"path": [f"/{n}" for n in range(len(labels))], "label": labels, "patient_id": list("abc")[: len(labels)]}
    )
    with pytest.raises(ConfigError, match=r"come from too few patients: none is left for (test|validation)"):
        split_manifest(manifest)


def test_a_class_that_does_not_reach_every_split_is_told(caplog: pytest.LogCaptureFixture) -> None:
    labels = [0] * 30 + [1, 1]
    split_manifest(
        pd.DataFrame({"path": [f"/{n}" for n in range(32)], "label": labels, "patient_id": [str(n) for n in range(32)]})
    )
    assert "no abnormal films are left for validation" in caplog.text
    assert "test" not in caplog.text


@pytest.mark.parametrize("shares", [{"test": 1.0}, {"test": -0.1}, {"validation": 10}])
def test_a_share_that_is_none_is_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"share is .* expected a number from 0 to below 1"):
        split_manifest(films(20), **shares)  # type: ignore[arg-type]
