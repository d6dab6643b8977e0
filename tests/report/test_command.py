"""`cxrtriage report` writes where it is told and prints that path last."""

from pathlib import Path

import typer
from typer.testing import CliRunner

from cxrtriage.cli.reporting import add_commands
from prediction_tables import made_up_predictions
from report.runs import make_evaluation


def run(*words: str) -> str:
    app = typer.Typer()
    app.callback()(lambda: None)  # so that the only command keeps its name
    add_commands(app)
    result = CliRunner().invoke(app, ["report", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout.splitlines()[-1]


def test_the_page_lies_in_the_folder_or_where_out_says(tmp_path: Path) -> None:
    make_evaluation(tmp_path / "evaluation", made_up_predictions(60).assign(path="/films/SMITH.png"))
    assert run(str(tmp_path / "evaluation")) == str(tmp_path / "evaluation" / "report.html")
    elsewhere = tmp_path / "new" / "page.html"
    assert run(str(tmp_path / "evaluation"), "--out", str(elsewhere), "--identify") == str(elsewhere)
    assert "This page names files" in elsewhere.read_text(encoding="utf-8")
