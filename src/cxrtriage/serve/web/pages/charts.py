"""Shares by week as points of a line: numbers in, what the template draws as SVG out."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, EDGE = 360, 120, 8


@dataclass(frozen=True, slots=True)
class Chart:
    """A line from 0 to 100 %.

    Parameters
    ----------
    title : what it shows
    pieces : points as "x,y x,y" of each unbroken piece
    dots : (x, y) of every week that has a share
    """

    title: str
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    width: int = WIDTH
    height: int = HEIGHT
    edge: int = EDGE


def weekly_chart(title: str, shares: Sequence[float | None]) -> Chart:
    """Return a chart; a week without a share interrupts the line.

    Examples
    --------
    >>> weekly_chart("share", [0.0, None, 1.0]).dots
    ((8.0, 112.0), (352.0, 8.0))
    """
    across = (WIDTH - 2 * EDGE) / max(1, len(shares) - 1)
    pieces: list[list[tuple[float, float]]] = [[]]
    for number, share in enumerate(shares):
        if share is None:
            pieces.append([])
        else:
            pieces[-1].append((round(EDGE + number * across, 1), round(HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE), 1)))
    drawn = tuple(" ".join(f"{x},{y}" for x, y in piece) for piece in pieces if piece)
    return Chart(title, drawn, tuple(dot for piece in pieces for dot in piece))
