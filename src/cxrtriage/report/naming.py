"""What a film is called on the page: "test film 12" unless file names are asked for.

A file name or a patient's number can identify a patient; the row of `predictions.csv` tells whoever holds that file.
"""

from collections.abc import Iterable
from pathlib import Path


class Naming:
    """Names for films.

    Parameters
    ----------
    paths : of the measured films, in the order of `predictions.csv`
    what : "test film" in a fit, "film" otherwise
    identify : whether file names are added

    Examples
    --------
    >>> Naming(["/films/smith.png"], "test film").film("/films/smith.png")
    'test film 1'
    >>> Naming(["/films/smith.png"], "test film", identify=True).film("/films/smith.png")
    'test film 1 (smith.png)'
    """

    def __init__(self, paths: Iterable[str], what: str, *, identify: bool = False) -> None:
        self.identify, self._what = identify, what
        self._row_of: dict[str, int] = {}
        for row, path in enumerate(paths, start=1):
            self._row_of.setdefault(path, row)

    def film(self, path: str) -> str:
        """Return what to call the film of a path."""
        row = self._row_of.get(path)
        name = f"{self._what} {row}" if row else "a film"
        return f"{name} ({Path(path).name})" if self.identify else name
