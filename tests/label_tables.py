"""Tables of labels, small and made up, and the files that they name."""

from pathlib import Path

import pandas as pd

TWO_FILMS = "path,label,patient_id\na.png,0,007\nb.png,1,008\n"


def make_set(folder: Path, text: str | bytes = TWO_FILMS, films: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """Write a table and empty files for films; reading a manifest never opens a film."""
    for film in films:
        (folder / film).parent.mkdir(parents=True, exist_ok=True)
        (folder / film).touch()
    table = folder / "labels.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return table


def films(**columns: object) -> pd.DataFrame:
    """Return the rows of a manifest as a caller might make them."""
    count = max((len(values) for values in columns.values() if isinstance(values, list)), default=2)
    rows = {
        "path": [f"/films/{number}.png" for number in range(count)],
        "label": [0] * count,
        "patient_id": list("abcdefgh")[:count],
    }
    return pd.DataFrame(rows | columns)
