"""How explanations look: the film in grey, evidence for abnormal in orange, for normal in sky blue.

In come films and evidence; out go pictures, as arrays and as figures on a dark ground, PNG or WebP. The two colours are
told apart with any colour vision (Okabe and Ito). `explaining` and `cases` write these pictures.
"""

from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from cxrtriage.atomic import replacing
from cxrtriage.evaluate.plotting import ORANGE, SKY, STYLE
from cxrtriage.explain.attribution import FINE_METHODS, smooth_evidence
from cxrtriage.explain.opposite import OppositeImages

GROUND, TEXT = "#141414", "#D9D9D9"  # dark, so that the eye stays with the dark film
STRONGEST = 99.5  # percentile of the evidence that gets the full colour; a single pixel must not set the scale
DIMMED = 0.8  # of a film's brightness under evidence, so that white bone does not wash the colours out
OPACITY = 0.65  # of the full colour, so that the film shows through
PANEL = 2.3  # inches a side
DPI = 110
MOST_BYTES = 60_000  # of a WebP; a report holds some twenty of them
QUALITIES = (80, 60, 40, 20, 10, 5)
TITLES = {"grad-cam": "Grad-CAM", "integrated-gradients": "integrated gradients", "occlusion": "occlusion"}
TITLES |= {"opposite": "size of the change"}
NOT_FOR_DIAGNOSIS = "not for diagnosis"
DARK = STYLE | {
    "figure.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "axes.titlesize": 8.5,
    "axes.titleweight": "normal",
    "axes.titlepad": 4,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
}
BESIDE_A_FILM = LinearSegmentedColormap.from_list("evidence", [SKY, GROUND, ORANGE])


def colour_overlay(film: np.ndarray, evidence: np.ndarray, strongest: float) -> np.ndarray:
    """Lay evidence over a film.

    Parameters
    ----------
    film : (S, S) uint8
    evidence : (S, S) float, positive for abnormal
    strongest : evidence of this size and above gets the full colour

    Returns
    -------
    (S, S, 3) uint8 RGB: orange where the evidence speaks for abnormal, sky blue where for normal, the film's grey, a
    little dimmed, where there is none

    Examples
    --------
    >>> colour_overlay(np.zeros((1, 3), np.uint8), np.array([[-1.0, 0.0, 1.0]]), strongest=1.0)[0].tolist()
    [[56, 117, 151], [0, 0, 0], [150, 103, 0]]
    """
    grey = np.repeat(DIMMED * film[..., None], 3, axis=-1)
    warm, cool = (255 * np.array(mpl.colors.to_rgb(colour)) for colour in (ORANGE, SKY))
    colour = np.where(evidence[..., None] > 0, warm, cool)
    opacity = OPACITY * np.clip(np.abs(evidence) / strongest, 0, 1)[..., None]
    overlay: np.ndarray = np.rint(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    return overlay


def strongest_of(evidence: np.ndarray) -> float:
    """Return the size of evidence that gets the full colour on a film; a tiny positive number where there is none."""
    return max(float(np.percentile(np.abs(evidence), STRONGEST)), float(np.finfo(np.float32).tiny))


def draw_saliency(film: np.ndarray, evidence: np.ndarray, method: str, out: Path, *, heading: str = "") -> None:
    """Write the film and, beside it, the film with the evidence on it.

    Parameters
    ----------
    film : (S, S) uint8
    evidence : (S, S) float32, from `attribute`; evidence of single pixels is smoothed, since no eye can read it
    method : where it came from
    out : file to write, .png or .webp
    heading : a line above, say the probability
    """
    if method in FINE_METHODS:
        evidence = smooth_evidence(evidence[None])[0]
    strongest = strongest_of(evidence)
    with mpl.rc_context(DARK):
        figure = Figure(figsize=(2 * PANEL + 0.75, PANEL + 0.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _show(left, film, heading or "film")
        _show(right, colour_overlay(film, evidence, strongest), TITLES[method])
        bar = figure.colorbar(
            ScalarMappable(Normalize(-strongest, strongest), BESIDE_A_FILM), ax=right, fraction=0.05, pad=0.03
        )
        bar.set_ticks([-strongest, 0, strongest], labels=["normal", "0", "abnormal"])
        _finish(figure, out)


def draw_opposite(changed: OppositeImages, row: int, out: Path, *, heading: str = "") -> None:
    """Write a film before and after, the signed difference, and the probability along the way.

    Parameters
    ----------
    changed : from `opposite_images`
    row : which of its films
    out : file to write, .png or .webp
    heading : a line above the film, say where it came from
    """
    target = int(changed.target[row])
    difference = changed.difference[row].astype(np.float64)
    scale = max(1.0, float(np.percentile(np.abs(difference), STRONGEST)))
    word = ("normal", "abnormal")[target]
    with mpl.rc_context(DARK):
        figure = Figure(figsize=(4 * PANEL + 0.9, PANEL + 0.4), layout="constrained")
        before, after, change, way = figure.subplots(1, 4)
        _show(before, changed.before[row], heading or "before")
        _show(after, changed.after[row], f"driven to {word}" + ("" if changed.reached[row] else ": not reached"))
        drawn = _show(change, difference, "difference (grey levels of 255)", -scale, scale)
        bar = figure.colorbar(drawn, ax=change, fraction=0.05, pad=0.03)
        bar.set_ticks([-scale, 0, scale], labels=[f"−{scale:.0f}", "0", f"+{scale:.0f}"])
        _draw_way(way, changed.probability[row], target, float(changed.goal[row]))
        _finish(figure, out)


def _draw_way(axes: Axes, probability: np.ndarray, target: int, goal: float) -> None:
    known = probability[~np.isnan(probability)]
    axes.axhline(goal, color=TEXT, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.plot(known, color=ORANGE if target else SKY, marker="o", markersize=2.5 if len(known) > 20 else 4)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(-0.3, max(1, len(known) - 1) + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("step")
    axes.set_title("probability of abnormal")
    axes.set_box_aspect(0.75)


def _show(axes: Axes, picture: np.ndarray, title: str, low: float = 0, high: float = 255) -> mpl.image.AxesImage:
    axes.set_title(title)
    axes.set_axis_off()
    return axes.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def _finish(figure: Figure, out: Path) -> None:
    figure.supxlabel(NOT_FOR_DIAGNOSIS, fontsize=7, x=0.995, ha="right")
    with replacing(out) as temporary:
        if out.suffix == ".webp":
            temporary.write_bytes(_small_webp(figure))
        else:
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _small_webp(figure: Figure) -> bytes:
    """Return the figure as WebP, in the best quality within `MOST_BYTES`: noise takes three times what films take."""
    drawn, content = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB")
    for quality in QUALITIES:
        content = BytesIO()
        picture.save(content, format="webp", quality=quality)
        if content.tell() <= MOST_BYTES:
            break
    return content.getvalue()
