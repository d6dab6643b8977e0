"""A manifest in, a prepared set out: many films, several processes, any number of interruptions.

In comes the manifest of `manifest.py`; each film goes through `job.prepare_job` in a worker process and
comes back in order to be appended by `unfinished.py`. Out goes the folder that `store.open_prepared` opens.
"""

import logging
import platform
from collections import Counter
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxrtriage import __version__
from cxrtriage.atomic import replacing
from cxrtriage.config import Recipe
from cxrtriage.data.labels.manifest import manifest_hash
from cxrtriage.data.prepared.cluster import ITEMS_A_GROUP, Cluster
from cxrtriage.data.prepared.job import FilmJob, RejectedFilm, prepare_job, prepare_jobs
from cxrtriage.data.prepared.store import (
    CARD,
    MANIFEST,
    MASKS,
    REJECTS,
    PreparedSet,
    SetCard,
    SetOrder,
    open_prepared,
    other_order,
    read_card,
)
from cxrtriage.data.prepared.unfinished import Outcome, UnfinishedSet
from cxrtriage.data.prepared.workers import Died, Workers
from cxrtriage.data.remote.address import is_url, shown
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.machine import cpu_count, free_bytes
from cxrtriage.progress import progress_bar

WAITING_A_PROCESSOR = 4  # processes, where films come from a store: most of them wait for it
logger = logging.getLogger("cxrtriage")

MOST_REJECTED = 0.05  # share of films that may be left out as unreadable, unless told otherwise
FILLED_IN = ("view_position", "age", "sex")  # columns of the manifest that a film's own header may complete


def prepare_set(
    manifest: pd.DataFrame,
    out: Path,
    recipe: Recipe,
    *,
    draws: int = 1,
    workers: int | None = None,
    cluster: str | None = None,
    max_rejected: float = MOST_REJECTED,
) -> PreparedSet:
    """Prepare all films of a manifest into a set on disk.

    Interrupted at any moment and called again, it goes on where it was; called again on a finished set of
    the same manifest and recipe, it opens that at once.

    Parameters
    ----------
    manifest : canonical manifest, one row a film; see `manifest.read_manifest`
    out : folder of the set; made if need be
    recipe : how each film is prepared
    draws : how many random picks of each `train` film the set holds (column `draw` from 0); others have one
    workers : number of processes; None for one per processor, or `WAITING_A_PROCESSOR` where films are URLs
    cluster : address of a Ray cluster that prepares the films in place of this machine's processes, see `Cluster`; the
        set comes out the same
    max_rejected : share of the films, in [0, 1], that may be left out as unreadable

    Returns
    -------
    PreparedSet
        Its manifest has the rows of the films that could be prepared, `draws` of each training film, in order.

    Raises
    ------
    SourceError
        If more than `max_rejected` of the films, or all, could not be prepared. `rejects.csv` is written all the same.
    ConfigError
        If `out` holds a set of another recipe or manifest, another process is writing it, or space is short; or if the
        cluster cannot be used.
    CxrTriageError
        If the disk is full; what is done is kept.
    """
    if manifest.empty:
        raise SourceError("the manifest has no rows, so there is nothing to prepare.")
    order = SetOrder(recipe=recipe, draws=draws, source_hash=manifest_hash(manifest))
    if (out / CARD).exists():
        return open_same(out, order)
    manifest = manifest.reset_index(drop=True)
    jobs = film_jobs(manifest, order)
    columns = [column for column in MASKS if any(column in job.masks for job in jobs)]
    with UnfinishedSet(out, order, jobs, columns) as unfinished:
        check_space(out, order, jobs[len(unfinished.outcomes) :], 1 + len(columns))
        prepare_rest(unfinished, recipe, jobs, workers, cluster)
        rejects = [
            (shown(job.path), film["rejected"])
            for job, film in zip(jobs, unfinished.outcomes, strict=True)
            if "rejected" in film
        ]
        with replacing(out / REJECTS) as path:
            pd.DataFrame(rejects, columns=["path", "reason"]).to_csv(path, index=False)
        check_rejects(rejects, len(jobs), max_rejected, out / REJECTS)
        if rejects:
            logger.warning("left out: %d of %d films; %s says why", len(rejects), len(jobs), out / REJECTS)
        unfinished.complete()
        write_manifest(out, manifest, jobs, unfinished.outcomes)
        write_card(out, order, jobs, unfinished)
        unfinished.remove_journal()
    return open_prepared(out)


def open_same(out: Path, order: SetOrder) -> PreparedSet:
    found = read_card(out).order
    if found != order:
        raise other_order(out, "a set", found, order)
    return open_prepared(out)


def film_jobs(manifest: pd.DataFrame, order: SetOrder) -> list[FilmJob]:
    """Turn each row into what a worker is told; check that several draws make sense."""
    if order.draws < 1:
        raise ValueError(f"draws must be at least 1, got {order.draws}")
    if order.draws > 1 and order.recipe.downsample == "area":
        raise ConfigError(
            f"draws={order.draws} with downsample=area would repeat the same picture. Use downsample=random."
        )
    if order.draws > 1 and "split" not in manifest:
        raise ConfigError(
            f"draws={order.draws} is for training films, but the manifest has no column split. Split it first."
        )
    draws = np.where(manifest["split"] == "train", order.draws, 1) if order.draws > 1 else np.ones(len(manifest), int)
    masks: list[dict[str, str]] = [{} for _ in range(len(manifest))]
    for column in MASKS:
        if column in manifest:
            for job_masks, path in zip(masks, manifest[column], strict=True):
                if pd.notna(path):
                    job_masks[column] = path
    return [FilmJob(*job) for job in zip(manifest["path"], map(int, draws), masks, strict=True)]


def check_space(out: Path, order: SetOrder, jobs: list[FilmJob], arrays: int) -> None:
    """Refuse at the start what would fail after hours."""
    needed = sum(job.draws for job in jobs) * order.recipe.size**2 * arrays
    free = free_bytes(out)
    if needed > free:
        raise ConfigError(
            f"the set needs {needed / 2**30:.2f} GiB more in {out}, {free / 2**30:.2f} GiB are free. "
            "Free some space, choose another --out or a smaller --size."
        )


def prepare_rest(
    unfinished: UnfinishedSet, recipe: Recipe, jobs: list[FilmJob], workers: int | None, cluster: str | None
) -> None:
    """Prepare the films that are not done yet, in processes here or on a cluster."""
    done = len(unfinished.outcomes)
    rest = jobs[done:]
    if not rest:
        return
    with (
        Cluster(cluster, files_here)
        if cluster
        else Workers(min(workers or processes_for(rest), len(rest))) as processes,
        progress_bar("preparing", total=len(jobs), unit="films", start=done) as advance,
    ):
        if isinstance(processes, Cluster):
            results = processes.map_groups(partial(prepare_jobs, recipe), rest, ITEMS_A_GROUP)
        else:
            results = processes.map(partial(prepare_job, recipe), rest)
        for job, result in zip(rest, results, strict=True):
            match result:
                case Died(how):
                    unfinished.reject(
                        f"cannot prepare {shown(job.path)}: the process that read it was {how}. Leave it out."
                    )
                case RejectedFilm(reason):
                    unfinished.reject(reason)
                case film:
                    unfinished.add(film)
            advance(1)
    unfinished.checkpoint()


def files_here(job: FilmJob) -> list[str]:
    """Return the files of a film that all machines must see; a store they reach by themselves."""
    return [file for file in job.files if not is_url(file)]


def processes_for(jobs: list[FilmJob]) -> int:
    return cpu_count() * (WAITING_A_PROCESSOR if any(is_url(job.path) for job in jobs) else 1)


def check_rejects(rejects: list[tuple[str, str]], films: int, max_rejected: float, listed: Path) -> None:
    """Raise SourceError when too many films were rejected, with the reason that most of them share."""
    too_many = len(rejects) > max_rejected * films
    if not too_many and len(rejects) < films:
        return
    kinds = Counter(reason.replace(path, "") for path, reason in rejects)
    kind, count = kinds.most_common(1)[0]
    example = next(reason for path, reason in rejects if reason.replace(path, "") == kind)
    limit = f", more than the share of {max_rejected:g} that may be left out (--max-rejected)" if too_many else ""
    raise SourceError(
        f"{len(rejects)} of {films} films cannot be prepared{limit}. {count} of them like this: {example} "
        f"All are listed in {listed}."
    )


def write_manifest(out: Path, manifest: pd.DataFrame, jobs: list[FilmJob], outcomes: list[Outcome]) -> None:
    """Write the manifest row for row: prepared films only, each as often as it was drawn, with its facts."""
    kept = [row for row, outcome in enumerate(outcomes) if "facts" in outcome]
    facts = pd.DataFrame([outcomes[row]["facts"] for row in kept], index=kept)
    frame = manifest.loc[kept].copy()
    for name, told in facts.items():
        if name in FILLED_IN and name in frame:
            frame[name] = frame[name].astype(object).fillna(told).infer_objects()
        elif name not in FILLED_IN or told.notna().any():
            frame[name] = told
    draws = [jobs[row].draws for row in kept]
    frame = frame.loc[np.repeat(kept, draws)].assign(draw=np.concatenate([np.arange(count) for count in draws]))
    with replacing(out / MANIFEST) as path:
        one_type_a_column(frame).to_parquet(path, index=False)


def one_type_a_column(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of mixed types, which Parquet does not hold, into text."""
    for name in frame:
        if pd.api.types.infer_dtype(frame[name], skipna=True).startswith("mixed"):
            frame[name] = frame[name].map(str, na_action="ignore")
    return frame


def write_card(out: Path, order: SetOrder, jobs: list[FilmJob], unfinished: UnfinishedSet) -> None:
    draws = [job.draws for job, outcome in zip(jobs, unfinished.outcomes, strict=True) if "facts" in outcome]
    versions = {
        "cxrtriage": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    card = SetCard(
        order=order,
        versions=versions,
        films=len(jobs),
        rows=sum(draws),
        rejected=len(jobs) - len(draws),
        seconds=round(unfinished.seconds, 3),
    )
    with replacing(out / CARD) as path:
        path.write_text(card.model_dump_json(indent=2) + "\n")
