"""The demo, as small as it goes."""

import shutil
from pathlib import Path

import pandas as pd
from PIL import Image

from cxrtriage import demo
from cxrtriage.demo import run_demo
from cxrtriage.demo_node import BROWSERS
from cxrtriage.explain import attribution, cases, claim


def test_the_demo_fits_tests_and_scores_dicom(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(demo, "SIZE", 128)
    monkeypatch.setattr(demo, "DICOM_SIZE", 512)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "EXPLAIN_FILMS", 1)
    monkeypatch.setattr(demo, "NODE_STUDIES", 3)
    for module in (attribution, cases, claim):
        monkeypatch.setattr(module, "STEPS", 3)
    result = run_demo(tmp_path / "demo", films=40)
    scores = pd.read_csv(tmp_path / "demo" / "scores.csv")
    assert len(scores) == 10
    assert scores["decision"].isin(["normal", "abnormal"]).all()
    assert result.metrics["audit"]["verdict"]
    assert result.report.exists()
    page = (tmp_path / "demo" / "reading-list.html").read_text()
    assert page.count('href="/studies/') == 3
    assert "<script" not in page
    if any(map(shutil.which, BROWSERS)):
        with Image.open(tmp_path / "demo" / "reading-list.png") as picture:
            assert picture.size == (1440, 1000)
