"""Find films that a set holds twice: prepared films come in, pairs go out; `fit` reports them.

A film that is trained on and tested on under two names makes every figure too good, and splitting by patient
does not help when the two names have two patients. Two prepared films are compared by their thumbnails, each
brought to mean 0 and length 1: the product of two such is their correlation.

Measured on ChestX-ray14, prepared at 128 pixels, with correlations of thumbnails of 24 x 24: 408 films, each
as 512-pixel PNG and as 128-pixel JPEG, 0.9971 or more; different films of one patient up to 0.990, of two
patients up to 0.982 (7,445 films). A film is recognised after another size, JPEG, or another grey-level curve;
not when it was cropped by 2 % or more, mirrored, or had a large marker put on.
"""

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxrtriage.data.prepared.neighbours import close_pairs

THUMBNAIL = 24  # pixels a side; 16 and 32 tell the films apart less well
NEAR = 0.994  # correlation from which on two thumbnails are of one film
DIRECTIONS = 24  # in which thumbnails are first compared; fewer let pairs through that all pixels then tell apart
CHUNK = 16_384  # thumbnails that are held as floats at a time


def find_duplicates(images: np.ndarray, manifest: pd.DataFrame) -> pd.DataFrame:
    """Find pairs of films that are the same film.

    Parameters
    ----------
    images : (N, S, S) uint8, prepared films; a memory map is read through once
    manifest : the N rows that belong to them; with a column `draw` only the rows of draw 0 are compared

    Returns
    -------
    DataFrame
        One row a pair: `path_a`, `path_b`, `kind` ("exact": the prepared films are equal to the bit; "near": their
        thumbnails correlate with `NEAR` or more), `split_a`, `split_b`, `label_a`, `label_b`. Of films with equal
        thumbnails each is paired with the first of them only. Splits are missing where the manifest has none.

    Raises
    ------
    ValueError
        If images and manifest differ in number.

    Notes
    -----
    No pair is missed for speed. Thumbnails are unit vectors, so a correlation of `NEAR` is a distance of at most
    sqrt(2 - 2 NEAR), and seen along fewer directions two points only come closer. So the points that are close in
    the `DIRECTIONS` in which the set varies most are all the candidates.

    Examples
    --------
    >>> films = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    >>> films[2] = films[0]
    >>> rows = pd.DataFrame({"path": ["a", "b", "c"], "label": [0, 0, 1], "split": ["train", "train", "test"]})
    >>> find_duplicates(films, rows)[["path_a", "path_b", "kind"]].values.tolist()
    [['a', 'c', 'exact']]
    """
    if len(images) != len(manifest):
        raise ValueError(f"got {len(images)} images and {len(manifest)} manifest rows, expected as many of each")
    rows = np.flatnonzero(manifest["draw"] == 0) if "draw" in manifest else np.arange(len(manifest))
    thumbnails = np.empty((len(rows), THUMBNAIL**2), dtype=np.uint8)
    seen: dict[bytes, int] = {}
    first = np.empty(len(rows), dtype=int)  # the first film with the same thumbnail
    for film, row in enumerate(rows):
        thumbnail = cv2.resize(np.asarray(images[row]), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        thumbnails[film] = thumbnail.ravel()
        first[film] = seen.setdefault(thumbnail.tobytes(), film)
    distinct = np.flatnonzero(first == np.arange(len(rows)))
    repeated = np.flatnonzero(first != np.arange(len(rows)))

    similar = distinct[_similar_pairs(thumbnails[distinct])]
    pairs = rows[np.concatenate((np.column_stack((first[repeated], repeated)), np.sort(similar, axis=1)))]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    kind = ["exact" if np.array_equal(images[a], images[b]) else "near" for a, b in pairs]
    sides = {side: manifest.iloc[pairs[:, place]] for place, side in enumerate("ab")}
    found = pd.DataFrame({f"path_{side}": sides[side]["path"].to_numpy() for side in "ab"})
    found["kind"] = pd.Series(kind, dtype="str")
    for column in ("split", "label"):
        for side in "ab":
            found[f"{column}_{side}"] = sides[side][column].to_numpy() if column in manifest else None
    return found


def duplicates_sentence(found: pd.DataFrame) -> str:
    """Return what `find_duplicates` found, in one or two sentences.

    Examples
    --------
    >>> duplicates_sentence(find_duplicates(np.empty((0, 32, 32), np.uint8), pd.DataFrame(columns=["path", "label"])))
    'No film is in the set twice.'
    """
    if found.empty:
        return "No film is in the set twice."
    sides = [
        found[[f"path_{side}", f"split_{side}", f"label_{side}"]].set_axis(["path", "split", "label"], axis=1)
        for side in "ab"
    ]
    files = pd.concat(sides)
    code, paths = pd.factorize(files["path"])
    links = coo_array((np.ones(len(found)), (code[: len(found)], code[len(found) :])), shape=(len(paths), len(paths)))
    films, film = connected_components(links, directed=False)
    files["film"] = film[code]
    torn, disputed = (_with_several(files, column) for column in ("split", "label"))
    several = "film is" if films == 1 else "films are"
    sentence = f"{films} {several} in the set more than once, as {len(paths)} files"
    sentence += f"; {torn} in more than one split" if torn else ""
    sentence += f"; {disputed} with different labels" if disputed else ""
    remedy = " Remove the copies or give them one patient_id: as it is, the figures are too good." if torn else ""
    return f"{sentence}.{remedy}"


def _with_several(files: pd.DataFrame, column: str) -> int:
    """Return how many films have files with different values in a column."""
    film = files.drop_duplicates(["film", column])["film"]
    return int(film[film.duplicated()].nunique())


def _similar_pairs(thumbnails: np.ndarray) -> np.ndarray:
    """Return the (M, 2) pairs of thumbnails that correlate with `NEAR` or more."""
    if len(thumbnails) < 2:
        return np.empty((0, 2), dtype=int)
    sample = _units(thumbnails[:: 1 + len(thumbnails) // CHUNK])
    directions = np.linalg.eigh(np.cov(sample, rowvar=False))[1][:, : -DIRECTIONS - 1 : -1].astype(np.float32)
    points = np.concatenate([_units(chunk) @ directions for chunk in _chunks(thumbnails)])
    distance = np.sqrt(2 - 2 * NEAR) + 1e-4  # and a little for rounding
    near = [np.empty((0, 2), dtype=int)]
    for candidates in close_pairs(points, distance):
        a, b = (_units(thumbnails[candidates[:, side]]) for side in (0, 1))
        near.append(candidates[(a * b).sum(axis=1) >= NEAR])
    return np.concatenate(near)


def _units(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails as vectors of mean 0 and length 1; a constant one, which is like no other, as zeros."""
    vectors = thumbnails - thumbnails.mean(axis=1, keepdims=True, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = vectors / np.maximum(lengths, 1)  # the shortest that is not constant is 1 long
    return units


def _chunks(array: np.ndarray) -> list[np.ndarray]:
    return [array[start : start + CHUNK] for start in range(0, max(1, len(array)), CHUNK)]
