"""A set of phantom films on disk: films, masks and a manifest.

Comes in: how many films of what kind. Goes out: a folder that `manifest.read_manifest` reads next:

    OUT/labels.csv       a manifest; its paths are relative to it, so that the folder can be moved
    OUT/images/          phantom_00001.tiff, ...
    OUT/masks/           phantom_00001_lung.png, and of abnormal films phantom_00001_lesion.png, ...
    OUT/phantoms.json    what was asked for
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
import tifffile

from cxrtriage import __version__
from cxrtriage.atomic import replacing
from cxrtriage.data.phantom.film import Phantom, generator, set_scene, take_film
from cxrtriage.data.phantom.header import dicom_object
from cxrtriage.data.phantom.plan import FilmPlan, plan_films
from cxrtriage.data.prepared.workers import Died, Workers
from cxrtriage.errors import ConfigError, CxrTriageError
from cxrtriage.machine import cpu_count
from cxrtriage.progress import progress_bar

SUFFIXES = {"tiff": ".tiff", "dicom": ".dcm"}
MM_PER_CM = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a set is to be; it lies beside the set, so that another order does not go on with it."""

    films: int
    size: int
    format: str
    seed: int
    ratio: tuple[float, float, float]


def make_phantoms(
    out: Path,
    films: int,
    size: int = 512,
    *,
    format: Literal["tiff", "dicom"] = "tiff",  # noqa: A002  (as on the command line)
    seed: int = 0,
    ratio: tuple[float, float, float] = (60, 35, 5),
    workers: int | None = None,
) -> Path:
    """Write a set of synthetic chest radiographs with labels, lung masks and lesion masks.

    Run again after an interruption, it goes on where it was. The films do not depend on the number of
    workers, and a film's patient, position and exposure do not depend on `films` or `ratio` either.

    Parameters
    ----------
    out : folder, made if need be
    films : how many, at least 1
    size : pixels along a side, at least 64
    format : "tiff" (16 bits, not compressed) or "dicom" (Digital X-Ray, for presentation)
    seed : non-negative; another seed gives other patients
    ratio : of normal, abnormal and emergent films, in any unit
    workers : processes; one per processor unless given

    Returns
    -------
    Path
        Of the manifest `labels.csv`, with the columns path, label, finding, severity, side, patient_id,
        study_id, view_position, age, sex, source, confounders, lung_mask, lesion_mask (see `film.Facts`).

    Raises
    ------
    ConfigError
        If a setting is out of range, or the folder holds another set.

    Examples
    --------
    >>> import tempfile
    >>> labels = make_phantoms(Path(tempfile.mkdtemp()), films=2, size=64, workers=1)
    >>> sorted(path.name for path in labels.parent.iterdir())
    ['images', 'labels.csv', 'masks', 'phantoms.json']
    """
    order = Order(films, size, format, seed, (float(ratio[0]), float(ratio[1]), float(ratio[2])))
    _check(order)
    out = Path(out)
    _claim(out, order)
    plans = plan_films(films, order.ratio, seed)
    with progress_bar("drawing phantoms", total=films, unit="films") as advance:
        rows = []
        for row in _map(partial(write_film, out, order), plans, min(workers or cpu_count(), films)):
            rows.append(row)
            advance(1)
    labels = out / "labels.csv"
    with replacing(labels) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return labels


def write_film(out: Path, order: Order, plan: FilmPlan) -> dict[str, Any]:
    """Write one film and its masks, unless they are there, and return its row of the manifest."""
    scene = set_scene(order.size, plan.finding, plan.severity, seed=order.seed, patient=plan.patient, film=plan.film)
    facts = scene.facts
    patient_id = f"phantom-{order.seed}-{plan.patient + 1:05}"
    name = f"phantom_{plan.film + 1:05}"
    film = Path("images") / (name + SUFFIXES[order.format])
    lung_mask, lesion_mask = (Path("masks") / f"{name}_{part}.png" for part in ("lung", "lesion"))
    if not (out / film).exists():
        phantom = take_film(scene)
        _write_mask(out / lung_mask, phantom.lung_mask)
        if facts.label > 0:
            _write_mask(out / lesion_mask, phantom.lesion_mask)
        # last, because the film stands for all that belongs to it
        if order.format == "dicom":
            _write_dicom(out / film, phantom, patient_id, generator(order.seed, "file", plan.film))
        else:
            _write_tiff(out / film, phantom)
    return {
        "path": film.as_posix(),
        "label": facts.label,
        "finding": facts.finding,
        "severity": round(facts.severity, 3),
        "side": facts.side,
        "patient_id": patient_id,
        "study_id": f"{patient_id}-{plan.film + 1:05}",
        "view_position": facts.view_position,
        "age": facts.age,
        "sex": facts.sex,
        "source": "phantom",
        "confounders": " ".join(facts.confounders),
        "lung_mask": lung_mask.as_posix(),
        "lesion_mask": lesion_mask.as_posix() if facts.label > 0 else "",
    }


def _check(order: Order) -> None:
    if order.films < 1 or order.size < 64 or order.seed < 0:
        raise ConfigError(
            f"cannot make {order.films} phantoms of {order.size} pixels with seed {order.seed}: "
            "expected at least 1 film, 64 pixels, and a seed of 0 or more."
        )
    if order.format not in SUFFIXES:
        raise ConfigError(f"cannot write phantoms as {order.format!r}: the format is one of {', '.join(SUFFIXES)}.")
    if not (min(order.ratio) >= 0 and 0 < sum(order.ratio) < float("inf")):
        shown = ":".join(f"{part:g}" for part in order.ratio)
        raise ConfigError(
            f"the ratio {shown} of normal, abnormal and emergent films cannot be met: "
            "expected no negative number, and one above 0."
        )


def _claim(out: Path, order: Order) -> None:
    """Write the order into the folder, or see that the same one is there."""
    record = out / "phantoms.json"
    text = json.dumps({**asdict(order), "version": __version__})
    try:
        found = record.read_text() if record.exists() else None
        if found is None:
            with replacing(record) as temporary:
                temporary.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot write phantoms into {out}: {error.strerror}. Choose another folder.") from error
    if found not in (None, text):
        raise ConfigError(
            f"{out} holds other phantoms, {found}; asked for were {text}. Choose another folder, or remove this one."
        )


def _map(function: partial[dict[str, Any]], plans: list[FilmPlan], workers: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each plan, in order."""
    if workers == 1:
        yield from map(function, plans)
        return
    with Workers(workers) as pool:
        for plan, row in zip(plans, pool.map(function, plans), strict=True):
            if isinstance(row, Died):
                raise CxrTriageError(
                    f"drawing phantom {plan.film + 1} failed twice: its process was {row.how}. "
                    "Free some memory and run the same command again; what is done is kept."
                )
            yield row


def _write_dicom(path: Path, phantom: Phantom, patient_id: str, rng: np.random.Generator) -> None:
    with replacing(path) as temporary:
        dicom_object(phantom, patient_id, rng).save_as(temporary, enforce_file_format=True)


def _write_tiff(path: Path, phantom: Phantom) -> None:
    per_cm = MM_PER_CM / phantom.facts.pixel_spacing_mm
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            phantom.pixels,
            photometric="minisblack",
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            metadata=None,
        )


def _write_mask(path: Path, mask: np.ndarray) -> None:
    """Write a bool mask as 8-bit PNG, 0 and 255."""
    done, png = cv2.imencode(".png", mask.view(np.uint8) * 255, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise CxrTriageError(f"cannot write {path}: its mask could not be encoded.")
    with replacing(path) as temporary:
        temporary.write_bytes(png.tobytes())
