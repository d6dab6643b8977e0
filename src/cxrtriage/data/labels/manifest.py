"""Make, save and hash manifests: tables and class folders come in, checked frames go out.

What a manifest is stands in `manifest_rules.py`; `split`, `prepare` and all stages after them read it. Public
sets with label files of their own come in through `adapters/`.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from cxrtriage.atomic import replacing
from cxrtriage.data.film.source import find_films
from cxrtriage.data.labels.adapters import ADAPTERS
from cxrtriage.data.labels.lookup import manifest_from_rows
from cxrtriage.data.labels.manifest_rules import NUMBERS, PATHS, TEXTS, check_manifest, common_folder
from cxrtriage.data.labels.table import read_table
from cxrtriage.data.remote.address import Address, address, is_url
from cxrtriage.data.remote.fetch import at_hand
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.records import LABEL_NAMES

__all__ = [
    "check_manifest",
    "manifest_from_folders",
    "manifest_hash",
    "read_labelled",
    "read_manifest",
    "save_manifest",
]


def read_labelled(source: Address, images: Address | None = None, public_set: str | None = None) -> pd.DataFrame:
    """Read a labelled set in whichever form it comes.

    Parameters
    ----------
    source : a table (see `read_manifest`), a folder of class folders (see `manifest_from_folders`), or with
        `public_set` the label file or folder of that set as published
    images : folder of the films of a table or public set
    public_set : a key of `ADAPTERS`

    Returns
    -------
    DataFrame
        The manifest; of a public set, `attrs["left_out"]` tells how many films were left out for which reason.

    Raises
    ------
    ConfigError
        If there is no such public set.
    SourceError
        If the set cannot be read.
    """
    if public_set is not None:
        if public_set not in ADAPTERS:
            raise ConfigError(f"there is no public set '{public_set}', expected one of {', '.join(ADAPTERS)}.")
        if is_url(images) or is_url(source):
            raise ConfigError("public sets are read from folders only. Copy the label files and films to a disk.")
        return ADAPTERS[public_set](Path(source), None if images is None else Path(images))
    if not is_url(source) and Path(source).is_dir():
        return manifest_from_folders(Path(source))
    return read_manifest(source, images)


def read_manifest(table: Address, images: Address | None = None) -> pd.DataFrame:
    r"""Read a manifest from a CSV or Parquet table.

    Parameters
    ----------
    table : with columns `path` and `label` and any others of the manifest; a file or its URL
    images : folder of the films. A row's path is looked up relative to it, then to the table's own folder,
        then by unique file name anywhere below it. Default: the table's own folder. May be a URL, as a row's path

    Returns
    -------
    DataFrame
        The manifest, one row a film, as `check_manifest` returns it. A film that is not there keeps the path
        where it was looked for first, so that preparing rejects it with a reason; a mask that is not there is
        missing. Both are told in a warning. Whether there is anything at a URL in the table itself, preparing finds
        out.

    Raises
    ------
    SourceError
        If the table cannot be read, breaks a rule of the manifest (row and value are named), names a film of
        which there are two, or names no film that exists.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "labels.csv").write_text("path;label;patient_id\na.png;normal;007\n")
    >>> (folder / "a.png").touch()
    >>> read_manifest(folder / "labels.csv")[["label", "patient_id"]]
       label patient_id
    0      0        007
    """
    table = address(table)
    with at_hand(table) as file:
        rows = read_table(file)
    return manifest_from_rows(rows, table, images)


def manifest_from_folders(root: Path) -> pd.DataFrame:
    """Make a manifest of the films in the folders `normal`, `abnormal` and `emergent` (in any case) of `root`.

    Films may lie in folders within those; tables, notes and hidden files are passed over.

    Raises
    ------
    SourceError
        If there is another folder, none of the three, or no film.
    """
    root = Path(root)
    if not root.is_dir():
        raise SourceError(f"there is no folder {root}. Check the path.")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    strange = [folder.name for folder in folders if folder.name.lower() not in LABEL_NAMES]
    if strange or not folders:
        found = f"the folders {', '.join(strange)}" if strange else "no folders"
        raise SourceError(
            f"{root} holds {found}, expected {', '.join(LABEL_NAMES)} and no others. "
            "Rename or move them, or give a table of labels."
        )
    films = [(str(Path(film).absolute()), folder.name) for folder in folders for film in find_films([folder])]
    for film, _ in films:
        try:
            film.encode()
        except UnicodeEncodeError:
            raise SourceError(f"the name of the film {film!r} is not UTF-8: no table can hold it. Rename it.") from None
    if not films:
        raise SourceError(f"the folders {', '.join(folder.name for folder in folders)} in {root} hold no films.")
    return check_manifest(pd.DataFrame(films, columns=["path", "label"]), str(root))


def manifest_hash(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of what a manifest says, as 64 hexadecimal digits.

    It covers the manifest's own columns, not those carried along, and does not depend on the order of rows or
    columns. Paths count relative to the folder that all films and masks share: a set keeps its hash when it is
    moved, and exchanging films for others of the same names does not change it.

    Parameters
    ----------
    frame : as `check_manifest` returns it
    """
    root = common_folder(frame)
    digest = hashlib.sha256()
    ordered = frame.sort_values("path")
    for column in sorted({"label", *PATHS, *TEXTS, *NUMBERS} & set(frame.columns)):
        values = ordered[column]
        if values.isna().all():  # a column without a value says the same as no column
            continue
        digest.update(f"\n{column}\n".encode())
        if column in NUMBERS:
            digest.update(values.to_numpy("<f8", na_value=np.nan).tobytes())
        else:
            text = values.str.removeprefix(root) if column in PATHS else values.astype("str")
            digest.update("\0".join(text.where(values.notna(), "")).encode())
    return digest.hexdigest()


def save_manifest(frame: pd.DataFrame, path: Path) -> str:
    """Write a manifest whole or not at all, as CSV or Parquet by the suffix of `path`, and return its hash.

    Raises
    ------
    ConfigError
        If the suffix is neither `.csv` nor `.parquet`.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"cannot save the manifest as {path}: the name must end in .csv or .parquet.")
    with replacing(path) as temporary:
        if path.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)
    return manifest_hash(frame)
