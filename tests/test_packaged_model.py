"""The model that comes with the package: there, small, honest about its scope, and able to read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from cxrtriage.cli import app
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.metrics import auroc
from cxrtriage.model.bundle import Model, load_model
from cxrtriage.score import packaged_model, score_films

SHENZHEN = Path(__file__).parents[2] / "shared" / "data" / "shenzhen"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(packaged_model())


def test_it_is_small_enough_to_come_along() -> None:
    assert packaged_model().stat().st_size <= 15e6


def test_its_card_says_what_it_is_for(model: Model) -> None:
    card = model.card
    assert card.architecture == "lung_lite"
    assert card.sources == ["guangzhou", "nih", "nih128", "shenzhen"]
    assert card.scope.views == ("AP", "PA")
    assert card.scope.age_years is not None
    assert card.scope.age_years[0] == 18
    assert [point.name for point in card.operating_points]
    assert card.calibrated_at is not None


def test_a_dicom_film_is_scored_without_naming_a_model(tmp_path: Path) -> None:
    make_phantoms(tmp_path / "phantoms", 1, 512, format="dicom", workers=1)
    (film,) = (tmp_path / "phantoms" / "images").iterdir()
    result = CliRunner().invoke(app, ["score", str(film), "--out", str(tmp_path / "scores.csv")])
    assert result.exit_code == 0, result.output
    (row,) = pd.read_csv(tmp_path / "scores.csv").to_dict("records")
    assert 0 < row["probability"] < 1


def test_what_stands_around_the_lungs_does_not_decide(model: Model, tmp_path: Path) -> None:
    labels = pd.read_csv(make_phantoms(tmp_path, 6, 512, workers=1))
    films = [tmp_path / path for path in labels["path"]]
    plain = [row.probability for row in score_films(model, films)]
    assert np.ptp(plain) > 0.1  # it does not say the same of every film
    marked = []
    for film in films:
        pixels = tifffile.imread(film)
        pixels[8:40, 8:60] = pixels.max()  # a marker in the corner
        marked.append(film.with_name(f"marked-{film.name}"))
        tifffile.imwrite(marked[-1], pixels, photometric="minisblack")
    assert np.abs(np.array(plain) - [row.probability for row in score_films(model, marked)]).max() < 0.1


@pytest.mark.skipif(not SHENZHEN.is_dir(), reason="the real films are not part of the project")
def test_it_puts_real_films_in_order(model: Model) -> None:
    """Most of them were trained on, so this only shows that the whole way from file to probability is whole."""
    labels = pd.read_csv(SHENZHEN / "labels.csv").groupby("label").sample(30, random_state=0)
    scores = [row.probability for row in score_films(model, [SHENZHEN / path for path in labels["path"]])]
    assert auroc(labels["label"].to_numpy() > 0, np.array(scores)) > 0.7
