"""Find the films and masks that the rows of a table name: rows come in, a manifest with absolute paths goes out.

A name is looked up relative to each folder in turn, then by its file name anywhere below the first one. Tables in
the manifest's columns and the adapters of the public sets both end here. A store is listed once; a URL in a table, or
below a web server, is taken at its word.
"""

# A table may name 400,000 films, and pathlib takes more than twice the time.
# ruff: noqa: PTH100, PTH113, PTH118, PTH119, PTH120, PTH122

import logging
import os
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cxrtriage.data.film.source import FILM_SUFFIXES
from cxrtriage.data.labels.manifest_rules import MASKS, PATHS, as_text, check_manifest, refuse
from cxrtriage.data.labels.table import require_columns
from cxrtriage.data.remote.address import WEB, Address, is_url, protocol, shown
from cxrtriage.data.remote.fetch import objects_below
from cxrtriage.errors import SourceError

logger = logging.getLogger("cxrtriage")


def manifest_from_rows(
    rows: pd.DataFrame, table: Address, images: Address | None = None, *, keep_missing: bool = True
) -> pd.DataFrame:
    """Find the films and masks that the rows of a table name, and check the rest.

    Parameters
    ----------
    rows : with the manifest's columns and an index as `read_table` gives it
    table : the file or folder that the rows come from
    images : folder of the films; default: the table's own folder
    keep_missing : whether a film that is not there keeps its row

    Returns
    -------
    DataFrame
        As `check_manifest` returns it.

    Raises
    ------
    SourceError
        If none of the films is there, one is found twice, or a rule of the manifest is broken.
    """
    name = shown(table)
    require_columns(rows, ("path", "label"), name)
    if images is not None and not is_url(images) and not Path(images).is_dir():
        raise SourceError(f"there is no folder of films {images}. Check the path.")
    if is_url(table):
        own_folder: Address = table.rpartition("/")[0]
    else:
        own_folder = Path(table) if Path(table).is_dir() else Path(table).parent
    folders = [own_folder] if images is None else [images, own_folder]
    rows = as_text(rows, PATHS)
    refuse(rows["path"].isna(), rows, "path", "the path of a film", name)

    masks = {name for column in set(MASKS) & set(rows.columns) for name in rows[column].dropna()}
    paths, found = locate(rows["path"], folders, name, others=masks)
    if not found.any():
        raise SourceError(
            f"none of the {len(paths)} films that {name} names exists, e.g. '{rows['path'].iloc[0]}', "
            f"looked for below {' and '.join(map(shown, folders))}. Give the folder that holds the films."
        )
    rows["path"] = paths
    if keep_missing:
        _tell_missing(paths[~found], "films", len(rows), name)
    else:
        rows = rows[found]
    for mask in set(MASKS) & set(rows.columns):
        paths, found = locate(rows[mask].dropna(), folders, name)
        found &= ~paths.isin(rows["path"])  # a mask named like its film is not the film found by that name
        _tell_missing(paths[~found], f"files in column {mask}", len(paths), name)
        rows[mask] = paths[found].reindex(rows.index)
    return check_manifest(rows, name)


def locate(
    names: pd.Series, folders: Sequence[Address], table: str, others: Iterable[str] = ()
) -> tuple[pd.Series, pd.Series]:
    """Find files by the names that a table gives them.

    Parameters
    ----------
    names : text, paths as written in the table, absolute or relative, with slashes of either kind; or URLs
    folders : where relative names are looked up, in this order; below the first one also by file name alone
        and, since sets are often handed on converted, by file name with another film's suffix
    table : what the table is called in messages
    others : names that the table gives other files; those are not taken for one that is not there, and no more is a
        file that another row names

    Returns
    -------
    paths : text, absolute or a URL, with the index of `names`; of a file that is not there, where it was looked for
        first
    found : bool, whether it is there

    Raises
    ------
    SourceError
        If a file is found by its name only, and more than once.
    """
    roots = [folder.rstrip("/") if is_url(folder) else os.path.abspath(folder) for folder in folders]
    tidy = [_tidy(name) for name in names]
    listed = {root: _listed(root) for root in roots if is_url(root)} if not all(map(is_url, tidy)) else {}
    paths = [name if is_url(name) else _relative(name, roots, listed) for name in tidy]
    wanted = {name for name, path in zip(tidy, paths, strict=True) if path is None}
    taken = set(paths)
    taken |= {_relative(_tidy(name), roots, listed) for name in others if not is_url(name)} if wanted else set()
    by_name = _below(roots[0], wanted, listed, taken) if wanted else {}
    found = [path is not None or name in by_name for name, path in zip(tidy, paths, strict=True)]
    for row, name in enumerate(tidy):
        if paths[row] is None:
            candidates = by_name.get(name) or [_joined(roots[0], name)]
            if len(candidates) > 1:
                first, second = map(shown, candidates[:2])
                raise SourceError(
                    f"{table} names '{names.iloc[row]}', and {shown(roots[0])} holds more than one file of that name: "
                    f"{first} and {second}. Write paths relative to that folder into the table."
                )
            paths[row] = candidates[0]
    return pd.Series(paths, index=names.index, dtype="str"), pd.Series(found, index=names.index, dtype=bool)


def _tidy(name: str) -> str:
    return name if os.sep == "\\" or is_url(name) else name.replace("\\", "/")


def _listed(root: str) -> set[str] | None:
    """Return the URLs of the objects below one, or None of a web server, which does not tell."""
    return None if protocol(root) in WEB else set(objects_below(root))


def _joined(root: str, name: str) -> str:
    return f"{root}/{posixpath.normpath(name)}" if is_url(root) else os.path.normpath(os.path.join(root, name))


def _relative(name: str, roots: Iterable[str], listed: dict[str, set[str] | None]) -> str | None:
    """Return the first root + name that is a file or object; an absolute name is its own."""
    for root in roots:
        path = _joined(root, name)
        if is_url(root):
            objects = listed[root]
            if objects is None or path in objects:
                return path
        elif os.path.isfile(path):
            return path
    return None


def _below(
    root: str, wanted: set[str], listed: dict[str, set[str] | None], taken: set[str | None]
) -> dict[str, list[str]]:
    """Return, for each wanted name, the files below `root` with its file name, or else with its stem, but for `taken`.

    Of several those that also lie in a folder of the name's last folder's name.
    """
    by_base: dict[str, list[str]] = {os.path.basename(name): [] for name in wanted}
    by_stem: dict[str, list[str]] = {os.path.splitext(base)[0]: [] for base in by_base}
    if is_url(root):
        found: Iterable[tuple[str, str]] = (path.rsplit("/", 1) for path in listed[root] or ())  # type: ignore[misc]
    else:
        found = ((folder, file) for folder, _, files in os.walk(root) for file in files)
    for folder, file in found:
        stem, suffix = os.path.splitext(file)
        if file in by_base:
            by_base[file].append(os.path.join(folder, file))
        elif stem in by_stem and suffix.lower() in FILM_SUFFIXES:
            by_stem[stem].append(os.path.join(folder, file))
    candidates = {}
    for name in wanted:
        base = os.path.basename(name)
        hits = [path for path in by_base[base] or by_stem[os.path.splitext(base)[0]] if path not in taken]
        folder = os.path.basename(os.path.dirname(name))
        alike = [path for path in hits if os.path.basename(os.path.dirname(path)) == folder]
        if hits:
            candidates[name] = sorted(alike if folder and alike else hits)
    return candidates


def _tell_missing(missing: pd.Series, what: str, named: int, name: str) -> None:
    if len(missing):
        example = shown(missing.iloc[0])
        logger.warning("%d of the %d %s that %s names do not exist, e.g. %s", len(missing), named, what, name, example)
