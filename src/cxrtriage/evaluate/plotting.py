"""How all figures look, and how they are written: light, colour-blind safe, as SVG for print and PNG for a glance.

Matplotlib's objects are used directly, without the global state of pyplot, so figures can be drawn anywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrtriage.atomic import replacing

# Okabe and Ito's colours, told apart with any colour vision: https://jfly.uni-koeln.de/color/
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
INK, GREY, PALE = "#222222", "#767676", "#D9D9D9"
CLASS_COLOURS = {"normal": BLUE, "abnormal": VERMILION, "emergent": PURPLE}
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)

STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "cxrtriage",  # the same figure gives the same file
}
PNG_DPI = 160


@contextmanager
def figure_written_to(out: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure to draw on, then write it as `out`.svg and `out`.png.

    Parameters
    ----------
    out : path without suffix
    width, height : in inches

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with figure_written_to(folder / "line", 3, 2) as figure:
    ...     _ = figure.subplots().plot([0, 1])
    >>> sorted(path.name for path in folder.iterdir())
    ['line.png', 'line.svg']
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(out.with_name(out.name + ".svg")) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
        with replacing(out.with_name(out.name + ".png")) as temporary:
            figure.savefig(temporary, format="png", dpi=PNG_DPI, metadata={"Software": None})


def grid(axes: Axes) -> None:
    """Lay a faint grid behind the data."""
    axes.grid(color=PALE, linewidth=0.5)


def unit_square(axes: Axes) -> None:
    """Make both axes run from 0 to 1 at the same scale."""
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    grid(axes)
