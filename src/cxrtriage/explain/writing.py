"""Explanations of files as files: a picture and arrays a film, and one table.

    OUT/
      explanations.csv       a row a film, unreadable ones with the reason
      0001-STEM.png          the picture; the number keeps films of equal name apart
      0001-STEM.npz          before, after, difference, probability; or film, evidence, heat
      noise-1-to-normal.png  ... with `noise`

The command `explain` calls it.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from cxrtriage.atomic import replacing
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_film
from cxrtriage.errors import SourceError
from cxrtriage.explain.explaining import Explanation, explain
from cxrtriage.explain.opposite import CONFIDENCE, PLAIN, STEPS, Form, noise_films
from cxrtriage.explain.overlay import draw_opposite, draw_saliency
from cxrtriage.machine import cpu_count
from cxrtriage.model.bundle import Model
from cxrtriage.records import LABEL_NAMES
from cxrtriage.score import scope_warning

FILMS_AT_ONCE = 16
SAFE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `explanations.csv`; "" where a column does not apply.

    Parameters
    ----------
    path : the film, or "noise 1" and so on
    method : one of `attribution.METHODS`; "" where the film could not be explained
    driven_to : "normal" or "abnormal", for the method "opposite"
    probability_before, probability_after : calibrated, of abnormal; after only for "opposite"
    steps : steps taken, for "opposite"
    reached : whether the network came to be as sure as asked for, for "opposite"
    picture : file name; the arrays have the same name and the suffix .npz
    reason : why a film could not be explained
    warning : what puts a film outside the model's scope
    """

    path: str
    method: str
    driven_to: str = ""
    probability_before: float | str = ""
    probability_after: float | str = ""
    steps: int | str = ""
    reached: bool | str = ""
    picture: str = ""
    reason: str = ""
    warning: str = ""


def write_explanations(
    model: Model,
    paths: Sequence[Path],
    out: Path,
    *,
    method: str = "opposite",
    confidence: float = CONFIDENCE,
    steps: int = STEPS,
    form: Form = PLAIN,
    noise: int = 0,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Explain films and write picture, arrays and a row for each.

    Parameters
    ----------
    model : from `load_model`
    paths : films of any format that `read_film` takes
    out : folder, see above
    method, confidence, steps, form, seed : see `explaining.explain`
    noise : so many films of noise are driven to normal and to abnormal too, with method "opposite"
    advance : called with the number of films done, for a progress bar

    Returns
    -------
    int
        How many films could not be explained; their rows say why.
    """
    explaining = partial(explain, model, method=method, confidence=confidence, steps=steps, form=form, seed=seed)
    rows = _explain_files(explaining, model, paths, out, advance)
    if noise:
        images = noise_films(noise, model.card.recipe.size, form, seed)
        rows = chain(rows, _explain_noise(explaining, images, out, advance))
    not_explained = 0
    with replacing(out / "explanations.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)])
        writer.writeheader()
        for row in rows:
            not_explained += row.picture == ""
            writer.writerow(asdict(row))
    return not_explained


def _explain_files(
    explaining: Callable[..., Explanation],
    model: Model,
    paths: Sequence[Path],
    out: Path,
    advance: Callable[[int], None],
) -> Iterator[Row]:
    """Write what explains each film, a batch at a time; yield a row each, in the order given."""
    with ThreadPoolExecutor(cpu_count()) as threads:
        for start in range(0, len(paths), FILMS_AT_ONCE):
            batch = paths[start : start + FILMS_AT_ONCE]
            films = list(threads.map(lambda path: _read(path, model), batch))
            readable = [film for film, _ in films if film is not None]
            explained = explaining(np.stack(readable)) if readable else None
            done = 0
            for number, (path, (film, remark)) in enumerate(zip(batch, films, strict=True), start + 1):
                if film is None or explained is None:
                    yield Row(str(path), "", reason=remark)
                    continue
                file = out / f"{number:04d}-{SAFE_NAME.sub('_', path.stem)[:60]}"
                yield _write_film(explained, done, file, str(path), warning=remark)
                done += 1
            advance(len(batch))


def _explain_noise(
    explaining: Callable[..., Explanation],
    images: np.ndarray,
    out: Path,
    advance: Callable[[int], None],
) -> Iterator[Row]:
    """Drive films of noise to normal, and the same ones to abnormal; yield a row each."""
    for target in (0, 1):
        explained = explaining(images, target=np.full(len(images), target))
        for index in range(len(images)):
            file = out / f"noise-{index + 1}-to-{LABEL_NAMES[target]}"
            yield _write_film(explained, index, file, f"noise {index + 1}")
        advance(len(images))


def _write_film(explained: Explanation, index: int, file: Path, path: str, warning: str = "") -> Row:
    """Write picture and arrays of one film as `file`.png and `file`.npz; return its row."""
    picture = file.with_name(f"{file.name}.png")
    probability = round(float(explained.probability[index]), 4)
    heading = f"probability of abnormal {probability:.2f}"
    changed = explained.opposite
    if changed is None:
        film, evidence = explained.films[index], explained.evidence[index]
        draw_saliency(film, evidence, explained.method, picture, heading=heading)
        arrays = {"film": film, "evidence": evidence, "heat": explained.heat[index]}
        row = Row(path, explained.method, probability_before=probability, picture=picture.name, warning=warning)
    else:
        draw_opposite(changed, index, picture, heading=heading)
        steps = int(changed.steps[index])
        arrays = {name: getattr(changed, name)[index] for name in ("before", "after", "difference")}
        arrays["probability"] = changed.probability[index, : steps + 1]
        row = Row(
            path,
            explained.method,
            driven_to=LABEL_NAMES[changed.target[index]],
            probability_before=probability,
            probability_after=round(float(changed.probability_after[index]), 4),
            steps=steps,
            reached=bool(changed.reached[index]),
            picture=picture.name,
            warning=warning,
        )
    with replacing(file.with_name(f"{file.name}.npz")) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return row


def _read(path: Path, model: Model) -> tuple[np.ndarray | None, str]:
    """Return the prepared film and its warning, or None and why there is no film."""
    try:
        source = read_film(path)
    except SourceError as error:
        return None, str(error)
    film = prepare_film(source, model.card.recipe)
    return film, scope_warning(source, film, model.card)
