"""Score films with a model: paths in, one `Prediction` a film out; `scores` writes them, the node reads them.

A film that cannot be read is a row too ("not assessed" and why), never a missing one. A film outside the
model's scope is scored all the same and carries a warning.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.data.remote.address import Address, is_url, shown
from cxrtriage.data.remote.fetch import AT_A_TIME, Copy, fetched
from cxrtriage.engines import FEWEST_FOR_OPENVINO, Engine, EngineName, choose_engine
from cxrtriage.errors import ModelError, SourceError
from cxrtriage.machine import cpu_count
from cxrtriage.metrics import shift_prevalence
from cxrtriage.model.card import ModelCard
from cxrtriage.predict import abnormal_logit, calibrate
from cxrtriage.records import Prediction, SourceImage

if TYPE_CHECKING:
    from cxrtriage.model.bundle import Model

BATCH = 32
FRONTAL_VIEWS = ("PA", "AP")
Attempt = tuple[Address, np.ndarray | None, str]  # a path or URL, its prepared film or none, and a remark on it
FEWEST_LEVELS = 16  # a radiograph has more even at 8 bits


def score_films(
    model: "Model | ModelCard",
    paths: Iterable[Address],
    *,
    prevalence: float | None = None,
    engine: EngineName | Engine = "auto",
    advance: Callable[[int], None] | None = None,
) -> Iterator[Prediction]:
    """Score films, a batch at a time, in the order given; the next ones are prepared while the network works.

    Parameters
    ----------
    model : from `load_model`; or only its card, where an engine is given
    paths : files or URLs of any format that `read_film` takes
    prevalence : share of abnormal films where the model is used, in (0, 1); the probabilities are shifted
        from the share it was calibrated on. The decision stays that of the operating point
    engine : what runs the network, see `choose_engine`; or an engine made before, which saves converting it again
    advance : called with the number of films done, for a progress bar

    Yields
    ------
    Prediction
        One a path. Unreadable and blank films come as "not assessed" with the reason.

    Examples
    --------
    >>> from cxrtriage import find_films, load_model, score_films
    >>> model = load_model(Path("fitted/run/model.safetensors"))  # doctest: +SKIP
    >>> for row in score_films(model, find_films([Path("films")])):  # doctest: +SKIP
    ...     print(row.path, row.probability, row.decision)
    """
    card = model if isinstance(model, ModelCard) else model.card
    check_prevalence(card, prevalence)
    remaining = iter(paths)
    first = list(islice(remaining, FEWEST_FOR_OPENVINO))
    if callable(engine):
        run = engine
    elif isinstance(model, ModelCard):
        raise ValueError("a card alone cannot be run, expected a model or an engine")
    else:
        run = choose_engine(model, engine, len(first))
    for batch in _prepared_ahead(chain(first, remaining), card):
        yield from rows_of(batch, card, run, prevalence)
        if advance is not None:
            advance(len(batch))


def check_prevalence(card: ModelCard, prevalence: float | None) -> None:
    """Raise ModelError where a prevalence is asked for that probabilities cannot be shifted to."""
    if prevalence is not None and card.calibrated_at is None:
        raise ModelError(
            "the model does not say at which share of abnormal films it was calibrated, so its probabilities cannot be "
            "shifted. Leave --prevalence out, or run 'cxrtriage recalibrate' first."
        )


def packaged_model() -> Path:
    """Return the model file that comes with the package; see `docs/model-card.md`."""
    return Path(str(files("cxrtriage"))) / "default.safetensors"


def scope_warning(source: SourceImage, film: np.ndarray, card: ModelCard) -> str:
    """Say in a sentence what puts a film outside the model's scope; empty where nothing is known to.

    Parameters
    ----------
    source : the film as read
    film : (S, S) uint8, the same film prepared
    card : of the model
    """
    facts = source.provenance
    findings = []
    levels = np.count_nonzero(np.bincount(film.ravel()))
    if levels < FEWEST_LEVELS:
        findings.append(f"{levels} grey levels, which is a mask or a drawing rather than a radiograph")
    modality = facts.get("modality")
    if modality and modality not in ("CR", "DX"):
        findings.append(f"modality {modality}, expected CR or DX")
    if facts.get("presentation_intent") == "FOR PROCESSING":
        findings.append("raw film for processing, expected one for presentation")
    body_part = facts.get("body_part")
    if body_part and "CHEST" not in body_part.upper() and "THORAX" not in body_part.upper():
        findings.append(f"body part {body_part}, expected CHEST")
    view = source.view_position
    views = card.scope.views or FRONTAL_VIEWS
    if view and view not in views:
        findings.append(f"view {view}, the model was trained on {' and '.join(views)}")
    age, ages = facts.get("patient_age_years"), card.scope.age_years
    if age is not None and ages is not None and not ages[0] <= age <= ages[1]:
        findings.append(f"age {age:.0f}, the model was trained on {ages[0]:.0f} to {ages[1]:.0f}")
    return "out of scope: " + "; ".join(findings) if findings else ""


def attempts(paths: Sequence[Address], card: ModelCard) -> list[Attempt]:
    """Read and prepare films one after the other; those of a store are fetched side by side.

    Returns
    -------
    Each path with the prepared film and its warning, or with None and why there is no film.

    Raises
    ------
    ConfigError
        If a store cannot be reached or gives no access, which would otherwise look like missing films.
    """
    with fetched(paths) as here:
        return [_attempt(path, here[path], card) for path in paths]


def _attempt(path: Address, place: Path | Copy, card: ModelCard) -> Attempt:
    try:
        source = read_film(place)
    except SourceError as error:
        return path, None, str(error)
    film = prepare_film(source, card.recipe)
    return path, film, scope_warning(source, film, card)


def rows_of(batch: Sequence[Attempt], card: ModelCard, run: Engine, prevalence: float | None) -> Iterator[Prediction]:
    """Run the network over the films of a batch and yield a row for each attempt."""
    arrays = [film for _, film, _ in batch if film is not None]
    scores = iter(calibrate(abnormal_logit(run(np.stack(arrays))), card.calibration).tolist() if arrays else [])
    for path, film, remark in batch:
        if film is None:
            yield Prediction(shown(path), None, "not assessed", reason=remark)
            continue
        probability = next(scores)
        decision = "abnormal" if probability >= card.threshold else "normal"
        if prevalence is not None and card.calibrated_at is not None:
            probability = float(shift_prevalence(probability, card.calibrated_at, prevalence))
        yield Prediction(shown(path), probability, decision, warning=remark)


def _prepared_ahead(paths: Iterator[Address], card: ModelCard) -> Iterator[list[Attempt]]:
    """Yield films in batches while threads prepare at most two batches more."""
    waiting: deque[Future[list[Attempt]]] = deque()
    first = list(islice(paths, 2 * BATCH))
    # a thread that fetches a film from a store mostly waits for it
    threads = ThreadPoolExecutor(cpu_count() + (AT_A_TIME if any(map(is_url, first)) else 0))
    try:
        waiting.extend(threads.submit(attempts, [path], card) for path in first)
        while waiting:
            batch = [waiting.popleft().result()[0] for _ in range(min(BATCH, len(waiting)))]
            waiting.extend(threads.submit(attempts, [path], card) for path in islice(paths, BATCH))
            yield batch
    finally:
        threads.shutdown(cancel_futures=True)  # whoever stops early does not wait for films that nobody will see
