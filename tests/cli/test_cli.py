"""The command line as a user meets it: real processes, exit status, one sentence on an error."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.store import open_prepared
from films import film_pixels, write_tiff


def cxrtriage(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cxrtriage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=280)


def test_help_does_not_load_torch() -> None:
    code = "import sys, cxrtriage.cli; print([m for m in ('torch', 'pandas', 'cv2', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_version_is_printed() -> None:
    assert cxrtriage("--version").stdout.startswith("cxrtriage ")


def test_wrong_usage_ends_with_status_2() -> None:
    assert cxrtriage("phantom").returncode == 2
    assert cxrtriage("no-such-command").returncode == 2


def test_a_user_error_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    done = cxrtriage("score", tmp_path / "missing.dcm", "--model", tmp_path / "missing.safetensors")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "missing.safetensors" in done.stderr


def test_scoring_a_folder_without_films_says_so(tmp_path: Path) -> None:
    done = cxrtriage("score", tmp_path, "--out", tmp_path / "scores.csv")
    assert done.returncode == 1
    assert "there is no film in" in done.stderr
    assert not (tmp_path / "scores.csv").exists()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """Root may write everywhere but below a file."""
    (tmp_path / "films").mkdir()
    write_tiff(tmp_path / "films" / "film.tif", film_pixels(150, 140))
    (tmp_path / "file").touch()
    done = cxrtriage("score", tmp_path / "films", "--out", tmp_path / "file" / "scores.csv")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"FileExistsError: cannot use {tmp_path / 'file'}: File exists. Check"
    )
    assert "Traceback" not in done.stderr


def test_the_study_is_printed_to_three_decimals(tmp_path: Path) -> None:
    """138 / 55 / 88 / 430: accuracy 0.799, F1 0.659 (normal) and 0.857 (abnormal)."""
    labels = [0] * 193 + [1] * 518
    scores = [0.2] * 138 + [0.8] * 55 + [0.2] * 88 + [0.8] * 430
    pd.DataFrame({"label": labels, "probability": scores}).to_csv(tmp_path / "study.csv", index=False)
    done = cxrtriage("evaluate", "--predictions", tmp_path / "study.csv", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for figure in ("138", "55", "88", "430", "0.799", "0.659", "0.857"):
        assert figure in done.stdout
    assert done.stdout.strip().endswith("out")


@pytest.mark.parametrize(
    ("option", "value"), [("--budget", "soon"), ("--class-weight", "heavy")], ids=["budget", "class-weight"]
)
def test_a_malformed_option_value_is_named(tmp_path: Path, option: str, value: str) -> None:
    done = cxrtriage("fit", tmp_path, option, value)
    assert done.returncode == 1
    assert option in done.stderr
    assert value in done.stderr


def test_manifest_prepare_and_phantom_meet_in_files(tmp_path: Path) -> None:
    assert cxrtriage("phantom", tmp_path / "p", "--films", 20, "--size", 128).returncode == 0
    done = cxrtriage("manifest", tmp_path / "p" / "labels.csv", "--out", tmp_path / "manifest.csv")
    assert done.returncode == 0, done.stderr
    done = cxrtriage(
        "prepare", tmp_path / "manifest.csv", "--out", tmp_path / "prepared", "--size", 64, "--contrast", "none"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "prepared")
    assert open_prepared(tmp_path / "prepared").recipe == Recipe(size=64, contrast="none")


def test_a_value_out_of_range_ends_in_one_sentence(tmp_path: Path) -> None:
    done = cxrtriage("prepare", "films.csv", "--size", 0, "--out", tmp_path / "prepared")
    assert done.returncode == 1
    assert done.stderr == "ConfigError: --size cannot be 0: input should be greater than or equal to 32.\n"
