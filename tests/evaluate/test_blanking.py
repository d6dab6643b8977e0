"""Films without lungs, and with nothing but the border."""

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrtriage.evaluate.blanking import blank_lungs, keep_border, lung_template
from films import REAL_FILMS

SHENZHEN = REAL_FILMS / "shenzhen"


def noise(films: int = 3, size: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (films, size, size), dtype=np.uint8)


def test_the_template_is_symmetric_and_leaves_the_border() -> None:
    template = lung_template(224)
    assert (template == template[:, ::-1]).all()
    assert not template[0].any()
    assert not template[-1].any()
    assert not template[:, 0].any()
    assert 0.5 < template.mean() < 0.7


def test_the_same_template_comes_at_every_size() -> None:
    large = cv2.resize(lung_template(100).astype(np.uint8), (300, 300), interpolation=cv2.INTER_NEAREST) > 0
    assert (large == lung_template(300)).mean() > 0.97


def test_blanked_films_hold_their_median_where_the_lungs_were_and_themselves_elsewhere() -> None:
    films = noise()
    before = films.copy()
    blanked, template = blank_lungs(films), lung_template(80)
    assert (films == before).all()
    for film, result in zip(films, blanked, strict=True):
        assert (result[template] == np.uint8(np.median(film))).all()
        assert (result[~template] == film[~template]).all()


def test_drawn_lungs_are_blanked_where_they_reach_beyond_the_template_and_leave_no_outline_within() -> None:
    films, masks = noise(), np.full((3, 80, 80), 255, dtype=np.uint8)
    masks[0] = 0
    masks[0, 70:78, 30:50] = 1
    masks[1] = 0
    masks[1, 20:50, 15:30] = 1
    blanked, without = blank_lungs(films, masks), blank_lungs(films)
    assert (blanked[0, 70:78, 30:50] == np.uint8(np.median(films[0]))).all()
    assert (blanked[1:] == without[1:]).all()


def test_keeping_the_border_keeps_a_tenth_of_each_side() -> None:
    films = noise()
    kept = keep_border(films)
    assert (kept[:, :8] == films[:, :8]).all()
    assert (kept[:, :, -8:] == films[:, :, -8:]).all()
    assert (kept[:, 8:-8, 8:-8] == np.median(films, axis=(1, 2)).astype(np.uint8)[:, None, None]).all()


@pytest.mark.skipif(not SHENZHEN.exists(), reason="the Shenzhen films are not here")
def test_the_template_holds_the_lungs_drawn_on_real_films() -> None:
    masks = pd.read_csv(SHENZHEN / "labels.csv")["lung_mask"].dropna()[::8]
    template = lung_template(128)
    inside = []
    for name in masks:
        mask = cv2.resize(cv2.imread(str(SHENZHEN / name), cv2.IMREAD_GRAYSCALE), (128, 128)) > 127
        inside.append((mask & template).sum() / mask.sum())
    assert np.mean(inside) > 0.99
    assert np.min(inside) > 0.85
