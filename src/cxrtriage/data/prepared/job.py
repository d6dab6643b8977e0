"""One film of a manifest -> its rows of a prepared set; what a worker process does.

In comes a `FilmJob`; out goes what `unfinished.py` appends to the set, or why the film was rejected. This
file and what it imports load neither torch nor pandas, which keeps a worker small.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.prepared.prepare import prepare_draws, prepare_mask
from cxrtriage.data.remote.address import Address, shown
from cxrtriage.data.remote.fetch import Copy, at_hand, fetched
from cxrtriage.errors import ConfigError, CxrTriageError, SourceError
from cxrtriage.records import SourceImage

MOST_LABELS = 31  # grey levels of a mask up to which it holds labels rather than black and white
INSIDE, OUTSIDE, UNKNOWN = 1, 0, 255  # values of a prepared mask


@dataclass(frozen=True, slots=True)
class FilmJob:
    """What to make of one film: `draws` picks, and those of its masks (manifest column -> path) that exist.

    Paths may be URLs.
    """

    path: str
    draws: int
    masks: dict[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """The film and its masks."""
        return self.path, *self.masks.values()


@dataclass(frozen=True, slots=True)
class PreparedFilm:
    """The rows of one film: images (D, S, S) uint8, masks (S, S) uint8 by manifest column, facts of the film."""

    images: np.ndarray
    masks: dict[str, np.ndarray]
    facts: dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class RejectedFilm:
    """Why a film is left out: one sentence."""

    reason: str


def prepare_job(recipe: Recipe, job: FilmJob) -> PreparedFilm | RejectedFilm:
    """Read and prepare one film; whatever is wrong with it becomes a reason, not an error.

    Raises
    ------
    ConfigError
        If a store cannot be reached or gives no access, which would otherwise look like missing films.
    """
    return prepare_jobs(recipe, [job])[0]


def prepare_jobs(recipe: Recipe, jobs: Sequence[FilmJob]) -> list[PreparedFilm | RejectedFilm]:
    """Prepare several films one after the other, as `prepare_job` does; those of a store are fetched side by side."""
    with fetched(file for job in jobs for file in job.files) as here:
        return [_prepared(recipe, job, here) for job in jobs]


def _prepared(recipe: Recipe, job: FilmJob, here: Mapping[Address, Path | Copy]) -> PreparedFilm | RejectedFilm:
    try:
        source = read_film(here[job.path], mapped=True)  # this process may die: see `workers`
        images = prepare_draws(source, recipe, range(job.draws))
        masks = {column: prepared_mask(here[path], source, recipe) for column, path in job.masks.items()}
    except ConfigError:
        raise
    except CxrTriageError as error:
        return RejectedFilm(str(error))
    except Exception as error:  # one strange film must not end a run of thousands
        return RejectedFilm(f"cannot prepare {shown(job.path)}: {type(error).__name__}: {error}")
    return PreparedFilm(images, masks, film_facts(source))


def prepared_mask(place: Address | Copy, source: SourceImage, recipe: Recipe) -> np.ndarray:
    """Read a mask, whose size may differ from its film's, and prepare it; (S, S) uint8, INSIDE or OUTSIDE."""
    height, width = source.pixels.shape
    with at_hand(place) as path:
        mask = read_mask(path)
    if mask.shape != (height, width):
        mask = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).view(bool)
    return np.where(prepare_mask(mask, source, recipe), INSIDE, OUTSIDE).astype(np.uint8)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask image (PNG, TIFF or JPEG).

    Returns
    -------
    (H, W) bool: True where the value is above half of the largest that occurs; where that is below 32, which is a label
    (left and right lung, say), above 0.

    Raises
    ------
    SourceError
        If the file is missing or no image.
    """
    as_stored = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION  # as films are read
    values = cv2.imread(str(path), as_stored) if path.is_file() else None
    if values is None:
        found = "it is no image that can be decoded" if path.exists() else "there is no such file"
        raise SourceError(f"cannot read the mask {path}: {found}. Mend it or leave its cell in the manifest empty.")
    # Masks that were resized or went through JPEG have soft edges, hence half. All 0 (no lesion) stays all 0.
    labels = values.dtype.kind in "iu" and values.max() <= MOST_LABELS
    return np.asarray(values > (0 if labels else values.max() / 2))


def film_facts(source: SourceImage) -> dict[str, str | int | float | bool | None]:
    """Return what reading a film told for nothing; view, age and sex are None where the file does not tell."""
    age = source.provenance.get("patient_age_years")
    return {
        "film_height": source.pixels.shape[0],
        "film_width": source.pixels.shape[1],
        "film_bits": source.bits,
        "polarity_inverted": source.polarity_inverted,
        "view_position": source.view_position,
        "age": None if age is None or math.isnan(age) else float(age),
        "sex": source.provenance.get("patient_sex"),
    }
