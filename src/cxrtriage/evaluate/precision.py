"""What a network of reduced precision changes: the check without which it is not used.

In come a model and films that it was not trained on; out go the `PrecisionCheck` of bf16 and of int8, and the network
in int8, which `recalibrate` writes into the model file and `engines` asks for.
"""

import logging
from dataclasses import replace

import numpy as np

from cxrtriage.engines import Engine, computes_in_bf16, openvino_engine
from cxrtriage.metrics import auroc
from cxrtriage.model.bundle import Model
from cxrtriage.model.card import ModelCard, PrecisionCheck
from cxrtriage.model.quantised import Quantised, can_quantise, quantise
from cxrtriage.predict import abnormal_logit, calibrate, predict_logits

logger = logging.getLogger("cxrtriage")


def check_precisions(
    model: Model, card: ModelCard, images: np.ndarray, y_true: np.ndarray, logit: np.ndarray, ranges_from: np.ndarray
) -> tuple[ModelCard, Quantised | None]:
    """Check what is faster than fp32: bf16 where the processor computes in it, int8 where NNCF is installed.

    Without NNCF a network in int8 that the model has from before is checked again.

    Parameters
    ----------
    model, card, images, y_true, logit : see `check_precision`
    ranges_from : (M, S, S) uint8, films that the ranges of int8 are taken from

    Returns
    -------
    ModelCard
        With both checks in `precision`.
    Quantised or None
        The network in int8, where it passed.
    """
    if computes_in_bf16():
        check = check_precision(model, card, images, y_true, logit, openvino_engine(model, "bf16"))
        card = card.model_copy(update={"precision": {"bf16": check}})
    int8 = quantise(model, ranges_from) if can_quantise() else model.int8
    if int8 is None:
        logger.info("int8 is not tried: NNCF is not installed (pip install 'cxrtriage[quantise]')")
        return card, None
    # with the new card: what it allows in bf16 stays in bf16 between the layers
    engine = openvino_engine(replace(model, card=card, int8=int8), "int8")
    check = check_precision(model, card, images, y_true, logit, engine)
    return card.model_copy(update={"precision": card.precision | {"int8": check}}), int8 if check.passed else None


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
