"""A network of the study learns, and its model file knows what it learnt."""

from pathlib import Path

import pandas as pd

from cxrtriage.config import TrainSettings
from cxrtriage.metrics import auroc
from cxrtriage.model.bundle import load_model
from cxrtriage.predict import abnormal_logit, predict_logits
from cxrtriage.train import train
from prepared_sets import make_prepared


def test_eight_films_are_learnt_by_heart(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "set")
    settings = TrainSettings(net="googlenet", recipe="study", epochs=10, patience=0, accelerator="cpu")
    model = load_model(train(prepared, settings, tmp_path / "run"))
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["train_loss"].iloc[-1] < 0.2 < 0.5 < history["train_loss"].iloc[0]
    assert history["train_accuracy"].iloc[-1] == 1
    logit = abnormal_logit(predict_logits(model, prepared.images[:8]))
    assert auroc(prepared.manifest["label"].to_numpy()[:8], logit) == 1
