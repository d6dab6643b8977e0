"""Charts as inline SVG that takes its colours from the page, so that one drawing serves light, dark and paper.

In come numbers, out goes markup; `charts` draws with it. Matplotlib's SVG would carry fixed colours and text that
shrinks with the picture on a phone. Colours are the classes `s0`–`s5` of style.css; series also differ by dash and
label.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

RIGHT, TOP, BOTTOM = 12, 26, 42  # margins around the axes, in the units of the view box


class Panel:
    """One pair of axes to draw on.

    Parameters
    ----------
    x_label, y_label : what the axes show; the second stands above its axis, where it is read without turning the head
    x, y : range of each axis
    width, height : of the whole picture, in pixels where it is shown at full size
    ticks : how many to aim for on x and y; 0 for none
    percent : whether y is written in percent
    """

    def __init__(
        self,
        x_label: str,
        y_label: str,
        x: tuple[float, float] = (0.0, 1.0),
        y: tuple[float, float] = (0.0, 1.0),
        *,
        width: int = 380,
        height: int = 320,
        ticks: tuple[int, int] = (5, 5),
        percent: bool = False,
    ) -> None:
        self.range_x, self.range_y, self.width, self.height = x, y, width, height
        self.left = 44 if ticks[1] else RIGHT
        self.parts: list[str] = []
        self._frame(x_label, y_label, ticks, percent)

    def x(self, value: float) -> float:
        """Return where a value lies, in pixels from the left."""
        low, high = self.range_x
        return self.left + (value - low) / (high - low) * (self.width - self.left - RIGHT)

    def y(self, value: float) -> float:
        """Return where a value lies, in pixels from the top."""
        low, high = self.range_y
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def line(self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, series: str) -> None:
        """Draw a line; points that are not numbers interrupt it."""
        self.parts.append(f'<path class="line {series}" d="{self._path(xs, ys)}"/>')

    def steps(self, edges: np.ndarray, heights: np.ndarray, series: str) -> None:
        """Draw the outline of a histogram and fill it."""
        xs = np.repeat(edges, 2)
        ys = np.concatenate([[self.range_y[0]], np.repeat(heights, 2), [self.range_y[0]]])
        path = self._path(xs, ys)
        self.parts.append(f'<path class="area {series}" d="{path}Z"/><path class="line {series}" d="{path}"/>')

    def band(self, xs: np.ndarray, low: np.ndarray, high: np.ndarray, series: str) -> None:
        """Fill between two curves."""
        back = self._path(xs[::-1], high[::-1])
        self.parts.append(f'<path class="area {series}" d="{self._path(xs, low)}L{back[1:]}Z"/>')

    def intervals(self, xs: np.ndarray, low: np.ndarray, high: np.ndarray, series: str) -> None:
        """Draw an upright interval at each x."""
        lines = "".join(
            f"M{self.x(x):.1f} {self.y(lower):.1f}V{self.y(upper):.1f}"
            for x, lower, upper in zip(xs, low, high, strict=True)
        )
        self.parts.append(f'<path class="line whisker {series}" d="{lines}"/>')

    def dots(self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, series: str) -> None:
        """Draw filled dots."""
        for x, y in zip(xs, ys, strict=True):
            if np.isfinite(y):
                self.parts.append(f'<circle class="dot {series}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3"/>')

    def ring(self, x: float, y: float, series: str) -> None:
        """Mark a point on a curve."""
        self.parts.append(f'<circle class="ring {series}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="5"/>')

    def rule(self, *, x: float | None = None, y: float | None = None, series: str = "") -> None:
        """Draw a thin dashed line across, at an x or at a y."""
        left, top = (
            (self.x(self.range_x[0]), self.y(self.range_y[1])) if x is None else (self.x(x), self.y(self.range_y[1]))
        )
        path = f"M{left:.1f} {top:.1f}V{self.y(self.range_y[0]):.1f}"
        if y is not None:
            path = f"M{left:.1f} {self.y(y):.1f}H{self.x(self.range_x[1]):.1f}"
        self.parts.append(f'<path class="rule {series}" d="{path}"/>')

    def text(self, x: float, y: float, words: str, series: str = "", anchor: str = "start", above: float = 0.0) -> None:
        """Write beside a point; `above` lifts it by pixels."""
        self.parts.append(
            f'<text class="{series}" x="{self.x(x):.1f}" y="{self.y(y) - above:.1f}" '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )

    def svg(self, description: str) -> Markup:
        """Return the picture; the description is what a screen reader says of it."""
        return Markup(
            f'<svg class="chart" role="img" aria-label="{escape(description)}" '
            f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}">'
            f"{''.join(self.parts)}</svg>"
        )

    def _path(self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray) -> str:
        path, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if np.isfinite(y):
                path.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen = "L" if np.isfinite(y) else "M"
        return "".join(path)

    def _frame(self, x_label: str, y_label: str, ticks: tuple[int, int], percent: bool) -> None:
        """Draw grid, ticks and labels."""
        (low_x, high_x), (low_y, high_y) = self.range_x, self.range_y
        left, right, base = self.x(low_x), self.x(high_x), self.y(low_y)
        whole = high_x - low_x >= ticks[0] and float(low_x).is_integer()  # epochs, grey levels
        for tick in _ticks(low_y, high_y, ticks[1]):
            at, words = self.y(tick), f"{100 * tick:.3g} %" if percent else f"{tick:.3g}"
            self.parts.append(f'<path class="grid" d="M{left:.1f} {at:.1f}H{right:.1f}"/>')
            self.parts.append(
                f'<text class="tick" x="{left - 7:.1f}" y="{at + 4:.1f}" text-anchor="end">{words}</text>'
            )
        for tick in _ticks(low_x, high_x, ticks[0], whole):
            at, words = self.x(tick), f"{tick:,.0f}" if whole else f"{tick:.3g}"
            self.parts.append(f'<path class="axis" d="M{at:.1f} {base:.1f}v4"/>')
            inside = min(at, self.width - 3.7 * len(words))  # half a digit is 3.7 wide
            self.parts.append(
                f'<text class="tick" x="{inside:.1f}" y="{base + 17:.1f}" text-anchor="middle">{words}</text>'
            )
        self.parts.append(f'<path class="axis" d="M{left:.1f} {base:.1f}H{right:.1f}"/>')
        middle = (left + right) / 2
        self.parts.append(f'<text x="{middle:.1f}" y="{self.height - 6}" text-anchor="middle">{escape(x_label)}</text>')
        self.parts.append(f'<text x="4" y="13">{escape(y_label)}</text>')


def range_mark(
    estimate: float,
    lower: float | None,
    upper: float | None,
    low: float,
    high: float,
    reference: float | None,
    series: str,
) -> Markup:
    """Return an interval as a line with a dot on a scale from `low` to `high`, for a table's cell of any width.

    It is hidden from screen readers: the numbers stand in the same row.
    """

    def at(number: float) -> str:
        return f"{100 * (min(max(number, low), high) - low) / (high - low):.2f}%"

    parts = []
    if reference is not None:
        parts.append(f'<line class="rule" x1="{at(reference)}" x2="{at(reference)}" y1="0" y2="100%"/>')
    if lower is not None and upper is not None:
        parts.append(f'<line class="line {series}" x1="{at(lower)}" x2="{at(upper)}" y1="50%" y2="50%"/>')
    parts.append(f'<circle class="dot {series}" cx="{at(estimate)}" cy="50%" r="4.5"/>')
    return Markup(f'<svg class="range" aria-hidden="true">{"".join(parts)}</svg>')


def _ticks(low: float, high: float, wanted: int, whole: bool = False) -> list[float]:
    """Return round numbers inside a range."""
    if not wanted:
        return []
    slack = 1e-9 * (high - low)
    found = MaxNLocator(wanted, integer=whole).tick_values(low, high)
    return [0.0 if abs(tick) < slack else float(tick) for tick in found if low - slack <= tick <= high + slack]
