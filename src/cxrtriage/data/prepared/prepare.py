"""One film -> the square array that the network sees. The only place where this is defined.

In comes a `SourceImage` (from `source.read_film`) and a `Recipe`; out goes (S, S) uint8. Training, scoring
and the DICOM node all call `prepare_film`, a pure function: the same film, recipe and draw give the same
bytes in each of them and on every machine. `build.prepare_set` makes a set of them.

    film -> [cut borders] -> count the levels -> equalising table -> one value a cell -> [enlarge] -> 0..255 -> [pad]

Equalisation of whole numbers is a look-up by grey level, so only the pixels that are kept are looked up. Without it
(contrast "none" and "clahe") the table stretches levels linearly; CLAHE comes before padding, which is no part of the
film.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from cxrtriage.config import Recipe
from cxrtriage.data.prepared.borders import border_and_markers, find_window
from cxrtriage.data.prepared.cells import average_cells, centres, enlarge, fitted_shape, pad_to_square, pick_positions
from cxrtriage.data.prepared.equalise import (
    codes,
    count_levels,
    equalise_locally,
    equalising_table,
    stretching_table,
)
from cxrtriage.records import SourceImage


def prepare_film(source: SourceImage, recipe: Recipe, draw: int = 0) -> np.ndarray:
    """Equalise a film, or what the recipe says in place of that, and bring it to the size of the network.

    Parameters
    ----------
    source : the film, low black
    recipe : size S, downsampling, fit, contrast and what to do with borders
    draw : int >= 0, which of the random picks of the same film; without effect when `downsample` is "area"

    Returns
    -------
    (S, S) uint8: the value in [0, 1], equalised or stretched, times 255, rounded. Padding is 0.

    Notes
    -----
    A film smaller than S in a direction is equalised first and then enlarged bilinearly in that direction.
    Any strictly increasing map of the grey levels (another bit depth, offset or window) leaves an equalised film
    as it is, random pick included, unless borders are cut or masked; a linear one leaves the others as they are. Films
    of every contrast are picked at the same pixels.

    Examples
    --------
    >>> ramp = SourceImage(np.arange(4096, dtype=np.uint16).reshape(64, 64), bits=12)
    >>> prepare_film(ramp, Recipe(size=32, downsample="area"))[[0, 16, 31], 0]
    array([  2, 130, 249], dtype=uint8)
    """
    (prepared,) = prepare_draws(source, recipe, [draw])
    return np.asarray(prepared)


def prepare_draws(source: SourceImage, recipe: Recipe, draws: Sequence[int]) -> np.ndarray:
    """Prepare several draws of one film, counting its levels once; (D, S, S) uint8, see `prepare_film`."""
    film = np.ascontiguousarray(source.pixels[kept_window(source, recipe)])
    counts = count_levels(film, left_out=border_and_markers(film) if recipe.mask_border else None)
    table = (equalising_table if recipe.contrast == "equalise" else stretching_table)(counts, film.dtype)
    fitted = fitted_shape(film.shape, recipe)
    grid = grid_of(film.shape, fitted)
    prepared = np.empty((len(draws), recipe.size, recipe.size), dtype=np.uint8)
    for number, draw in enumerate(draws):
        if recipe.downsample == "random":
            kept = pick_positions(film.shape, grid, seed_of(counts, film.shape, draw))
            values = table.take(codes(film).take(kept))
        else:
            values = average_cells(codes(film), table, grid)
        finished = np.rint(255 * enlarge(values, fitted)).astype(np.uint8)
        if recipe.contrast == "clahe":
            finished = equalise_locally(finished)
        prepared[number] = pad_to_square(finished, recipe.size)
    return prepared


def prepare_mask(mask: np.ndarray, source: SourceImage, recipe: Recipe) -> np.ndarray:
    """Bring a mask drawn on a film into the geometry of the prepared film.

    Parameters
    ----------
    mask : (H, W) bool, the film's shape
    source : the film that the mask belongs to
    recipe : as for `prepare_film`

    Returns
    -------
    (S, S) bool: the mask at the centre of each cell; False in the padding.

    Raises
    ------
    ValueError
        If the mask has another shape than the film.
    """
    if mask.shape != source.pixels.shape:
        raise ValueError(f"the mask has shape {mask.shape}, its film {source.pixels.shape}")
    mask = mask[kept_window(source, recipe)]
    fitted = fitted_shape(mask.shape, recipe)
    rows, columns = (
        centres(length, cells, size)
        for length, cells, size in zip(mask.shape, grid_of(mask.shape, fitted), fitted, strict=True)
    )
    return pad_to_square(mask[np.ix_(rows, columns)], recipe.size)


def kept_window(source: SourceImage, recipe: Recipe) -> tuple[slice, slice]:
    return find_window(source.pixels) if recipe.crop_edges else (slice(None), slice(None))


def grid_of(shape: tuple[int, ...], fitted: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of cells: those wanted, but no more than the film has pixels."""
    return min(fitted[0], shape[0]), min(fitted[1], shape[1])


def seed_of(counts: np.ndarray, shape: tuple[int, ...], draw: int) -> int:
    """Return the seed of a film's random pick, below 2**32.

    It is the CRC-32 of how many pixels each occupied level holds, from dark to bright, of the shape and of
    the draw: nearly free once the levels are counted, where a hash of an 18 MB film costs more than
    preparing it. The levels themselves stay out, so the same film at another depth or offset is picked alike.
    """
    occupied = counts[counts > 0].astype("<u4")
    return zlib.crc32(struct.pack("<QQQ", *shape, draw), zlib.crc32(occupied.tobytes()))
