"""The scoring process: films from the queue in, results into the database; started by `supervise`.

It takes one film at a time and is expendable. A decoder that crashes takes the process with it, one that
hangs is ended by a watchdog that needs no cooperation from Python; either way the parent starts another
process and the film has used up one of its attempts. On SIGTERM it finishes the film in hand.
"""

import faulthandler
import logging
import math
import os
import threading
import time
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from threadpoolctl import threadpool_limits

from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.errors import CxrTriageError, ModelError, SourceError
from cxrtriage.model.bundle import Model, load_model
from cxrtriage.predict import abnormal_logit, calibrate, emergent_share, predict_logits
from cxrtriage.serve import gate, models, node_state, process
from cxrtriage.serve.database import open_database, reading
from cxrtriage.serve.queue import LeasedFilm, Queue, Score
from cxrtriage.serve.results import plan
from cxrtriage.serve.settings import load_settings
from cxrtriage.serve.worklist import priority

LOGGER = logging.getLogger(__name__)
POLL_S = 0.2  # between looks at an empty queue
FOLLOW_S = 2.0  # between looks at which models are to run
DATABASE_DOWN_S = 5.0


class Scorer:
    """The node's models, ready to assess films under `home`; follows the database when they change."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.home = home
        self.engine = engine
        self.models: dict[str, Model] = {}
        self._looked_at = -math.inf

    def running(self) -> list[str]:
        """Return the hashes of the models to run, that whose results are shown first; load what is new."""
        if time.monotonic() - self._looked_at > FOLLOW_S:
            with reading(self.engine) as connection:
                versions = models.models_to_run(connection)
            self.models = {
                version.sha256: self.models.get(version.sha256) or self._load(version) for version in versions
            }
            self._looked_at = time.monotonic()
        return list(self.models)

    def _load(self, version: models.ModelVersion) -> Model:
        LOGGER.info("scoring with %s model %s", version.role, version.sha256[:12])
        return load_model(self.home / version.path)

    def assess(self, film: LeasedFilm) -> Score | str:
        """Return a model's score of a film, or why it is not assessed.

        Raises
        ------
        SourceError
            If the disk or the memory failed, so that another attempt may succeed.
        ModelError
            If the network gives no number.
        """
        started = time.monotonic()
        model = self.models[film.model_sha256]
        card = model.card
        try:
            source = read_film(self.home / film.path)
        except SourceError as error:
            if gate.may_pass(error):
                raise
            return gate.reason_unreadable(error)
        prepared = prepare_film(source, card.recipe)
        reason = gate.reason_against(source, prepared, card, film.age_years)
        if reason:
            return reason
        logits = predict_logits(model, prepared[np.newaxis])
        probability = float(calibrate(abnormal_logit(logits), card.calibration)[0])
        if not math.isfinite(probability):
            raise ModelError("the network gave no number for this film. Check the model file.")
        return Score(
            model_sha256=film.model_sha256,
            probability=probability,
            threshold=card.threshold,
            decision=_decision(logits, probability, card.threshold),
            seconds=time.monotonic() - started,
        )


def work(scorer: Scorer, queue: Queue, owner: str, stopping: threading.Event) -> None:
    """Assess films until told to stop.

    Parameters
    ----------
    owner : name of this process in leases
    stopping : looked at between films
    """
    while not stopping.is_set():
        try:
            film = queue.take(owner, scorer.running())
            if film is None:
                stopping.wait(POLL_S)
            else:
                _work_on(film, scorer, queue)
        except SQLAlchemyError as error:  # a film in hand comes back when its lease ends
            LOGGER.error("the database does not answer (%s); trying again", type(error).__name__)
            stopping.wait(DATABASE_DOWN_S)


def _work_on(film: LeasedFilm, scorer: Scorer, queue: Queue) -> None:
    faulthandler.dump_traceback_later(queue.settings.film_limit_s, exit=True)
    try:
        outcome = scorer.assess(film)
    except SQLAlchemyError:
        raise
    except Exception as error:  # whatever it is, the film must not vanish; only our own messages are safe to show
        told = str(error) if isinstance(error, CxrTriageError) else f"scoring failed ({type(error).__name__})"
        LOGGER.error("instance %s, attempt %d: %s", film.sop_instance_uid, film.attempt, told)
        queue.fail(film, told)
        return
    finally:
        faulthandler.cancel_dump_traceback_later()
    if isinstance(outcome, str):
        counted = queue.set_aside(film, outcome)
        LOGGER.info("instance %s not assessed: %s", film.sop_instance_uid, outcome)
    else:
        counted = queue.finish(film, outcome)
        LOGGER.info("instance %s %s in %.2f s", film.sop_instance_uid, outcome.decision, outcome.seconds)
    if not counted:
        LOGGER.warning(
            "instance %s was meanwhile given to another worker; this result is dropped", film.sop_instance_uid
        )


def _decision(logits: np.ndarray, probability: float, threshold: float) -> str:
    """Return what a film is called: flagged ones are emergent if a network of three classes holds that likelier."""
    if probability < threshold:
        return "normal"
    return "emergent" if logits.shape[1] == 3 and emergent_share(logits)[0] > 0.5 else "abnormal"


def main(home: str, owner: str) -> None:
    """Score the films of the node at `home` until told to stop; `owner` is this process' name in leases."""
    stopping = process.begin("worker")
    try:
        settings = load_settings(Path(home))
        engine = open_database(settings.database.url)
        scorer = Scorer(Path(home), engine)
        scorer.running()
    except (CxrTriageError, SQLAlchemyError) as error:
        LOGGER.error("%s", error if isinstance(error, CxrTriageError) else "the database does not answer")
        os._exit(process.CANNOT_START)

    def follow(connection: Connection, study_id: int, result_id: int) -> None:
        priority.refresh(connection, study_id)
        plan.result_ready(connection, settings, result_id, Path(home))

    _use_threads(settings.worker.threads)
    node_state.keep_beating(engine, "worker", stopping)
    work(scorer, Queue(engine, settings.worker, on_result=follow), owner, stopping)


def _use_threads(threads: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    threadpool_limits(threads)
