"""What a network of reduced precision changes: the check without which it is not used.

In come a model and films that it was not trained on; out goes the `PrecisionCheck` that `recalibrate` writes into the
model file and `engines` asks for.
"""

import numpy as np

from cxrtriage.engines import Engine
from cxrtriage.metrics import auroc
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard, PrecisionCheck
from cxrtriage.predict import abnormal_logit, calibrate, predict_logits


def check_precision(
    model: Model, card: ModelCard, images: np.ndarray, y_true: np.ndarray, logit: np.ndarray, engine: Engine
) -> PrecisionCheck:
    """Compare an engine with what PyTorch says in fp32.

    Parameters
    ----------
    model : from `load_model`
    card : whose calibration and threshold decide
    images : (N, S, S) uint8, prepared
    y_true : (N,) int, above 0 is abnormal
    logit : (N,) float, abnormal logits in fp32
    engine : of reduced precision, see `engines.openvino_engine`
    """
    reduced = abnormal_logit(predict_logits(model, images, engine=engine))
    was, now = (calibrate(values, card.calibration) >= card.threshold for values in (logit, reduced))
    return PrecisionCheck(
        films=len(images),
        auroc_fall=float(auroc(y_true, logit) - auroc(y_true, reduced)),
        decisions_changed=float(np.mean(was != now)),
    )
