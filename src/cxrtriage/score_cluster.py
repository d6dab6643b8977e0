"""Score films on a Ray cluster: `score` on many machines.

In come the address of a cluster, the file of a model and films; out comes one `Prediction` a film, in order, which
`scores` writes. Each processor of the cluster keeps the model for itself and takes a batch at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from socket import gethostname

from cxrtriage.data.prepared.cluster import Cluster
from cxrtriage.data.prepared.workers import Died
from cxrtriage.data.remote.address import Address, is_url, shown
from cxrtriage.digest import sha256_of
from cxrtriage.engines import Engine, EngineName, computes_in_bf16, engine_of_file
from cxrtriage.errors import ModelError
from cxrtriage.model.card import ModelCard, load_card
from cxrtriage.records import Prediction
from cxrtriage.score import BATCH, attempts, check_prevalence, packaged_model, rows_of


def score_on_cluster(
    address: str,
    model: Path | None,
    paths: Sequence[Address],
    *,
    prevalence: float | None = None,
    engine: EngineName = "openvino",
    advance: Callable[[int], None] | None = None,
) -> Iterator[Prediction]:
    """Score films on a Ray cluster, in the order given; a batch is prepared and scored by one processor.

    With OpenVINO, the predictions are those of `score_films` with the same engine on a processor of the same kind,
    whatever the number of machines; with PyTorch, and between kinds of processors, they agree within rounding.

    Parameters
    ----------
    address, paths : see `Cluster`
    model : file that all machines see; None for the packaged model, which each has
    prevalence, advance : as in `score_films`
    engine : what runs the network; "auto" would choose for each machine, so it is refused

    Yields
    ------
    Prediction
        One a path.
    """
    if engine == "auto":
        raise ValueError("on a cluster the engine must be named, so that it is the same on every machine")
    if not paths:
        return
    check_prevalence(load_card(model or packaged_model()), prevalence)
    score = partial(_score_batch, model, sha256_of(model or packaged_model()), engine, prevalence)
    with Cluster[Address](address, lambda path: () if is_url(path) else (str(path),)) as cluster:
        for path, row in zip(paths, cluster.map_groups(score, paths, BATCH), strict=True):
            if isinstance(row, Died):
                reason = f"cannot score {shown(path)}: the process that read it was {row.how}. Leave it out."
                yield Prediction(shown(path), None, "not assessed", reason=reason)
            else:
                yield row
            if advance is not None:
                advance(1)


def _score_batch(
    model: Path | None, digest: str, engine: EngineName, prevalence: float | None, paths: Sequence[Address]
) -> list[Prediction]:
    """Prepare and score a batch in a process of a cluster."""
    card, run = _engine_here(model, digest, engine)
    return list(rows_of(attempts(paths, card), card, run, prevalence))


@lru_cache(maxsize=1)
def _engine_here(model: Path | None, digest: str, engine: EngineName) -> tuple[ModelCard, Engine]:
    """Return the card and engine of the one model that all processes of a cluster run, on one processor."""
    file = model or packaged_model()
    if not file.is_file() or sha256_of(file) != digest:
        found = "holds another model at" if file.is_file() else "does not see the model"
        raise ModelError(
            f"{gethostname()} of the Ray cluster {found} {file}. Put the model into a folder that all machines share "
            "under the same path."
        )
    # what int8 leaves between its layers is in bf16 too, where the model and the processor may
    in_bf16 = engine == "openvino-bf16" or (engine == "openvino-int8" and "bf16" in load_card(file).precision)
    if in_bf16 and not computes_in_bf16():
        raise ModelError(
            f"{gethostname()} of the Ray cluster has a processor without bf16. Use --engine openvino, or a cluster in "
            "which all have it."
        )
    return engine_of_file(file, engine, threads=1)
