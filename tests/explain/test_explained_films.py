"""Which films are explained: abnormal, called so, with a lesion where lesions are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bright_square import bright_model, bright_set
from cxrtriage.explain.explained_films import choose_explained, lesion_known, lesions_of_others, score_split
from cxrtriage.model.bundle import Model


def test_chosen_films_are_abnormal_called_so_and_have_their_own_lesion(tmp_path: Path) -> None:
    prepared = bright_set(tmp_path)
    scored = score_split(bright_model(), prepared, "test")
    chosen, lesions, notes = choose_explained(scored, prepared, 5, seed=1)
    assert len(chosen.rows) == 5
    assert chosen.abnormal.all()
    assert chosen.called.all()
    assert lesions is not None
    assert ((chosen.images == 240) == lesions).all()
    assert "8 films with a known lesion are called abnormal, 0 are missed" in notes[1]


def test_lesion_that_is_unknown_in_part_does_not_count(tmp_path: Path) -> None:
    prepared = bright_set(tmp_path)
    masks = np.array(prepared.lesion_masks)
    masks[1, 0, 0] = 255  # film 1 has a lesion, but a corner was not looked at
    known = lesion_known(replace(prepared, lesion_masks=masks), np.arange(4))
    assert known.tolist() == [False, False, False, True]


def test_model_that_calls_nothing_abnormal_is_explained_at_its_highest_scores(tmp_path: Path) -> None:
    model = bright_model()
    shy = Model(
        model.network,
        model.card.model_copy(update={"calibration": model.card.calibration.model_copy(update={"intercept": -50.0})}),
    )
    prepared = bright_set(tmp_path, lesions=False)
    chosen, lesions, notes = choose_explained(score_split(shy, prepared, "test"), prepared, 3)
    assert chosen.abnormal.all()
    assert lesions is None
    assert "calls none of the abnormal films abnormal" in notes[0]


def test_usual_place_knows_nothing_of_the_measured_patients(tmp_path: Path) -> None:
    prepared = bright_set(tmp_path)
    all_lesions = lesions_of_others(prepared, np.array([], str))
    others = lesions_of_others(prepared, np.array(["p0", "p1"]))
    assert len(all_lesions) == 12
    assert len(others) == 10
    own = np.asarray(prepared.lesion_masks)[[1, 3]] == 1
    assert not any((other == lesion).all() for other in others for lesion in own)
