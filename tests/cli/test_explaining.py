"""The command `explain` on files: a picture, arrays and a row a film, whatever the film."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from cxrtriage import load_model, read_film
from cxrtriage.cli import app
from cxrtriage.config import Recipe
from cxrtriage.errors import ConfigError, ModelError, SourceError
from cxrtriage.explain import explain
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import probabilities
from films import film_pixels, make_dicom, write_png, write_tiff


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained GoogLeNet."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, build_network("googlenet", 2, 128), ModelCard(architecture="googlenet", recipe=Recipe(size=128)))
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of four formats, two of one name, and one that is damaged."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "a").mkdir()
    make_dicom(folder / "film.dcm", film_pixels(150, 140))
    write_tiff(folder / "a" / "film.tif", film_pixels(150, 140, seed=1))
    write_png(folder / "a" / "film.png", film_pixels(150, 140, bits=8, seed=2))
    (folder / "broken.tif").write_bytes(b"II*\x00")
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["explain", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def arrays_beside(picture: Path) -> dict[str, np.ndarray]:
    with np.load(picture.with_suffix(".npz")) as arrays:
        return dict(arrays)


def test_opposite_writes_picture_arrays_and_row_and_says_what_it_could_not_read(
    model: Path, films: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(films, "--model", model, "--out", out, "--steps", 3, "--noise", 1)
    assert result.stdout.strip().splitlines()[-1] == str(out)
    assert "1 of 4 films could not be explained" in result.stderr
    rows = pd.read_csv(out / "explanations.csv", keep_default_na=False)
    assert len(rows) == 4 + 2
    broken = rows[rows["path"].str.endswith("broken.tif")].iloc[0]
    assert "broken.tif" in broken["reason"]
    assert broken["picture"] == ""
    explained = rows[rows["picture"] != ""]
    assert explained["picture"].is_unique
    assert explained["driven_to"].isin(["normal", "abnormal"]).all()
    assert rows["path"].iloc[-2:].tolist() == ["noise 1", "noise 1"]
    assert rows["driven_to"].iloc[-2:].tolist() == ["normal", "abnormal"]
    network = load_model(model)
    for row in explained.to_dict("records"):
        with Image.open(out / row["picture"]) as picture:
            assert picture.format == "PNG"
        arrays = arrays_beside(out / row["picture"])
        assert set(arrays) == {"before", "after", "difference", "probability"}
        assert (arrays["after"].astype(int) - arrays["before"] == arrays["difference"]).all()
        assert len(arrays["probability"]) == int(row["steps"]) + 1
        after = probabilities(network, arrays["after"][None])[0]
        assert float(row["probability_after"]) == pytest.approx(after, abs=2e-4)


@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients"])
def test_saliency_writes_evidence_and_no_target(model: Path, films: Path, tmp_path: Path, method: str) -> None:
    run(films / "film.dcm", "--model", model, "--method", method, "--out", tmp_path)
    (row,) = pd.read_csv(tmp_path / "explanations.csv", keep_default_na=False).to_dict("records")
    assert (row["method"], row["driven_to"], row["steps"], row["reached"]) == (method, "", "", "")
    arrays = arrays_beside(tmp_path / row["picture"])
    assert arrays["evidence"].shape == arrays["heat"].shape == (128, 128)


def test_python_gives_the_same_for_paths_films_and_prepared_arrays(model: Path, films: Path) -> None:
    network, path = load_model(model), films / "film.dcm"
    by_path = explain(network, [path], method="grad-cam")
    np.testing.assert_array_equal(explain(network, [read_film(path)], method="grad-cam").heat, by_path.heat)
    np.testing.assert_array_equal(explain(network, by_path.films, method="grad-cam").heat, by_path.heat)
    assert by_path.opposite is None


def test_python_drives_to_the_opposite_of_the_call_unless_told(model: Path, films: Path) -> None:
    network = load_model(model)
    explained = explain(network, [films / "film.dcm"], steps=1)
    assert explained.opposite is not None
    assert explained.opposite.target[0] == (explained.probability[0] < network.card.threshold)
    told = explain(network, explained.films, target=1 - explained.opposite.target, steps=1)
    assert told.opposite is not None
    assert told.opposite.target[0] != explained.opposite.target[0]


def test_user_errors_are_one_sentence(model: Path, films: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        run(films, "--model", tmp_path / "none.safetensors")
    with pytest.raises(SourceError, match="no such file or folder"):
        run(tmp_path / "none", "--model", model)
    with pytest.raises(ConfigError, match="--film-like and --noise are for --method opposite, not for occlusion"):
        run(films, "--model", model, "--method", "occlusion", "--noise", 2)
    assert run(films, "--model", model, "--method", "lime").exit_code == 2


def test_neither_films_nor_something_to_score_is_one_sentence(model: Path, films: Path) -> None:
    for arguments in ((), (films, "--score", films)):
        with pytest.raises(ConfigError, match="explain takes either films, or --score"):
            run(*arguments, "--model", model)
