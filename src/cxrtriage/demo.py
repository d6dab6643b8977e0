"""The demo: phantoms in, a fitted, measured and explained network out, in minutes on any machine.

It is the ordinary `fit` on synthetic films, then the ordinary `score` on DICOM files of full size, and then the
ordinary `serve` with films sent to it, so what it shows is what a user's own films go through.
"""

import logging
from functools import partial
from pathlib import Path

from cxrtriage.data.film.source import find_films
from cxrtriage.data.labels.manifest import read_manifest, save_manifest
from cxrtriage.data.labels.split import split_manifest
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.digest import sha256_of
from cxrtriage.model.bundle import load_model
from cxrtriage.pipeline import FitResult, fit
from cxrtriage.score import score_films
from cxrtriage.scores import write_scores

logger = logging.getLogger("cxrtriage")

SIZE = 144
DICOM_FILMS = 10
DICOM_SIZE = 3000
EPOCHS = 24  # enough on phantoms, and done in minutes on two cores
NODE_STUDIES = 20
EXPLAIN_FILMS = 16  # a third less time than with what `fit` takes


def run_demo(out: Path, *, films: int = 360, seed: int = 0) -> FitResult:
    """Make phantoms, fit GoogLeNet on them, test and explain it on others, score DICOM films, run a node.

    Parameters
    ----------
    out : folder for phantoms, DICOM films, the fit with its report, `scores.csv`, and the node's reading list
    films : phantoms for training and validation; half as many again are kept for the test
    seed : seed of phantoms, split and training

    Returns
    -------
    FitResult
        As from `fit`.
    """
    test_films = round(films / 2)
    logger.info("1/4 making %d phantoms, and ten of them again as 3000-pixel DICOM", films + test_films)
    labels = make_phantoms(out / "phantoms", films + test_films, 512, seed=seed)
    dicom = make_phantoms(out / "dicom", DICOM_FILMS, DICOM_SIZE, format="dicom", seed=seed)
    manifest = split_manifest(read_manifest(labels), test=test_films / (films + test_films), validation=0.15, seed=seed)
    save_manifest(manifest, out / "manifest.csv")

    logger.info("2/4 fitting GoogLeNet")
    result = fit(
        labels.parent,
        out / "manifest.csv",
        out / "fitted",
        net="googlenet",
        size=SIZE,
        epochs=EPOCHS,
        explain_films=EXPLAIN_FILMS,
        seed=seed,
    )

    logger.info("3/4 scoring the DICOM films")
    dicom_films = find_films([dicom.parent / "images"])
    score = partial(score_films, load_model(result.model))
    write_scores(dicom_films, out / "scores.csv", score, made_from=sha256_of(result.model))

    logger.info("4/4 sending %d studies through a triage node", NODE_STUDIES)
    try:
        from cxrtriage.demo_node import run_node_demo
    except ImportError:
        logger.info("left out, the node needs more packages: pip install 'cxrtriage[serve]'")
        return result
    shown = run_node_demo(result.model, out, studies=NODE_STUDIES, seed=seed)
    logger.info("%d studies on the reading list: %s", shown.studies, shown.picture or shown.page)
    return result
