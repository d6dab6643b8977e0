"""Read a label table as text: a CSV or Parquet file comes in, a frame of strings goes out.

Everything of a CSV stays text, so that a patient `007` keeps the zeros; the manifest and the adapters of
the public sets turn into numbers what has to be one.
"""

import difflib
import gzip
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from cxrtriage.errors import SourceError

SEPARATORS = ",;\t|"
NO_NAME = re.compile(r"\^|^\d+$|\.(png|jpe?g|tiff?|dcm)$", re.IGNORECASE)  # what no column is called
FIRST_ROW = 2  # the number that a spreadsheet shows beside the first row under the header


def read_table(path: Path) -> pd.DataFrame:
    """Read a table whose first row names the columns.

    Parameters
    ----------
    path : CSV in UTF-8 (with commas, semicolons, tabs or bars; `.gz` too), or Parquet

    Returns
    -------
    DataFrame
        Its index counts the rows from 0 and keeps the gaps of blank rows, so that index + `FIRST_ROW` is the
        number that a spreadsheet shows. Columns of a CSV are str, surrounding blanks removed, empty as missing.

    Raises
    ------
    SourceError
        If there is no such file, it is no such table, it is empty, or two columns have one name.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if not magic:
            raise SourceError(f"{path} is empty, expected a table with a header row. Export it again.")
        if magic in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
            raise SourceError(f"{path} is a spreadsheet file. Save it as CSV (UTF-8) and give that file.")
        table = pd.read_parquet(path).reset_index(drop=True) if magic == b"PAR1" else _read_csv(path)
    except IsADirectoryError as error:
        raise SourceError(f"{path} is a folder, expected a table. Give the CSV or Parquet file in it.") from error
    except FileNotFoundError as error:
        raise SourceError(f"there is neither a table nor a folder {path}. Check the path.") from error
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise SourceError(f"{path} is not UTF-8 text (byte 0x{byte:02X}). Save it as 'CSV UTF-8'.") from error
    except (OSError, EOFError, ValueError) as error:  # those of pandas and pyarrow are ValueErrors or OSErrors
        raise SourceError(f"cannot read the table {path}: {str(error).strip()}. Export it again.") from error
    if table.empty:
        raise SourceError(f"{path} has a header but no rows. Export it again, with one row a film.")
    return table


def require_columns(table: pd.DataFrame, columns: Iterable[str], name: str) -> None:
    """Raise a `SourceError` for the first of `columns` that `table` lacks, with those found and the nearest name."""
    found = [str(column) for column in table.columns]
    for column in columns:
        if column not in found:
            folded = {other.lower(): other for other in found}
            near = difflib.get_close_matches(column.lower(), folded, n=1)
            if any(map(NO_NAME.search, found)):  # a film's row, which may hold a patient's name
                raise SourceError(
                    f"{name} has no column '{column}': its first row looks like one of a film. Put the names of the "
                    "columns above it."
                )
            remedy = f"Rename '{folded[near[0]]}' to '{column}'" if near else f"Add or rename a column to '{column}'"
            raise SourceError(f"{name} has no column '{column}'; it has {', '.join(found)}. {remedy}.")


def _read_csv(path: Path) -> pd.DataFrame:
    # blank rows are kept while reading, so that the numbers of the others stay a spreadsheet's
    table = pd.read_csv(path, sep=_separator(path), dtype=str, encoding="utf-8-sig", skip_blank_lines=False)
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the surplus first column as the index
        raise SourceError(f"{path} has rows with more fields than the header has names. Quote text that holds commas.")
    table.columns = table.columns.str.strip()
    unnamed = [column for column in table.columns if column.startswith("Unnamed: ") and table[column].isna().all()]
    table = table.drop(columns=unnamed)  # a separator at the end of each line makes one
    for column in table.columns:
        text = table[column].str.strip()
        table[column] = text.mask(text == "")
    return table.dropna(how="all")


def _separator(path: Path) -> str:
    """Return the separator that the header uses most, after checking that no two columns have one name."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as lines:
        header = lines.readline()
    separator = max(SEPARATORS, key=header.count)
    names = [name.strip().strip('"') for name in header.split(separator)]
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:  # pandas would rename one of them in silence
        raise SourceError(f"{path} has two columns named '{twice[0]}'. Rename or remove one.")
    return separator
