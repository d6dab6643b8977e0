"""A manifest in, a prepared set in an object store out: made on this machine by `build`, then put there whole.

`prepared.json` is put last, so a set without it in the store is unfinished there, as it is in a folder.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from cxrtriage.config import Recipe
from cxrtriage.data.labels.manifest import manifest_hash
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.data.prepared.store import CARD, SetOrder, other_order, read_card
from cxrtriage.data.remote.address import shown
from cxrtriage.data.remote.fetch import at_hand, stamp
from cxrtriage.data.remote.put import finish, put, working_folder


def prepare_into_store(manifest: pd.DataFrame, url: str, recipe: Recipe, *, draws: int = 1, **options: Any) -> None:
    """Prepare all films of a manifest into a set in a store; see `build.prepare_set`.

    Interrupted at any moment and called again on the same machine by the same user, it goes on where it was; called
    again on a finished set of the same manifest and recipe, it does nothing.

    Parameters
    ----------
    manifest, recipe, draws : as in `prepare_set`
    url : of what would be the set's folder
    options : `workers`, `cluster` and `max_rejected` of `prepare_set`

    Raises
    ------
    ConfigError
        If the store cannot be written to, or holds a set of another recipe or manifest there.
    SourceError
        As `prepare_set` does.
    """
    place = url.rstrip("/")
    folder = working_folder(place)
    order = SetOrder(recipe=recipe, draws=draws, source_hash=manifest_hash(manifest))
    found = _order_there(place)
    if found is not None and found != order:
        raise other_order(shown(place), "a set", found, order)
    if found is None:
        prepare_set(manifest, folder, recipe, draws=draws, **options)
        files = sorted(folder.iterdir(), key=lambda file: (file.name == CARD, file.name))
        put({file: f"{place}/{file.name}" for file in files})
    finish(folder)


def _order_there(url: str) -> SetOrder | None:
    """Return what a set in the store was made to be, None where there is none."""
    if stamp(f"{url}/{CARD}") is None:
        return None
    with tempfile.TemporaryDirectory() as folder, at_hand(f"{url}/{CARD}") as card:
        shutil.copyfile(card, Path(folder, CARD))
        return read_card(Path(folder)).order
