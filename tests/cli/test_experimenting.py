"""The command `experiment`: its options, its refusals, and all of it on phantoms."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cxrtriage.cli import app
from cxrtriage.data.labels.manifest import read_manifest, save_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.errors import ConfigError
from cxrtriage.experiments import KINDS


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    labels = make_phantoms(folder, 80, 128, ratio=(50, 50, 0), workers=1)
    save_manifest(split_manifest(read_manifest(labels), test=0.25, validation=0.2), folder / "manifest.csv")
    return folder / "manifest.csv"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["experiment", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("volume",), "experiment volume needs a manifest. Make one: cxrtriage manifest"),
        (("volume", "m.csv", "--sizes", "224,512"), "--sizes is for experiment resolution, not for volume"),
        (("split", "m.csv", "--init", "w.pth"), "--init is for experiment recipe, not for split"),
        (("resolution", "m.csv", "--sizes", "224;512"), "--sizes is '224;512', expected values separated by commas"),
        (("resolution", "m.csv", "--sizes", "224"), r"--sizes cannot be \(224,\): tuple should have at least 2 items"),
        (("architecture", "m.csv", "--nets", "googlenet,vgg"), "--nets cannot be 'vgg': input should be 'googlenet'"),
        (("volume", "m.csv", "--budget", "soon"), "--budget is 'soon', expected a time such as 90s"),
        (("volume", "m.csv", "--volumes", "0,1"), "--volumes cannot be 0.0: input should be greater than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*arguments)


def test_an_experiment_runs_on_phantoms_and_its_pages_can_be_made_again(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("split", manifest, "--out", out, "--quick", "--films", 32, "--seeds", 1, "--workers", 1)
    assert result.stdout.strip().splitlines()[-1] == str(out / "README.md")
    results = json.loads((out / "split" / "results.json").read_text())
    assert [row["training_films"] for row in results["table"]] == [32, 32]
    assert results["differences"][0]["verdict"] == "cannot be told with this much data"  # one seed tells nothing
    assert "one run each" in results["differences"][0]["sentence"]
    page = (out / "README.md").read_text()
    (out / "README.md").unlink()
    assert run("again", "--out", out).stdout.strip() == str(out / "README.md")
    assert (out / "README.md").read_text() == page


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_experiments_end_on_phantoms_in_minutes(manifest: Path, tmp_path: Path) -> None:
    run("all", manifest, "--out", tmp_path, "--quick")
    for kind in KINDS:
        assert (tmp_path / kind / "results.md").exists()
