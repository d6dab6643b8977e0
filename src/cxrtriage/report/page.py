"""The page itself: sections in the order a reader needs them, in one file that asks for nothing from anywhere.

In comes the folder of a run, out goes report.html.
"""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cxrtriage.atomic import replacing
from cxrtriage.errors import CxrTriageError
from cxrtriage.report import words
from cxrtriage.report.audit import audit
from cxrtriage.report.explained import explained
from cxrtriage.report.films import films
from cxrtriage.report.head import head
from cxrtriage.report.limits import limits, record
from cxrtriage.report.naming import Naming
from cxrtriage.report.reading import Run, read_run
from cxrtriage.report.results import results
from cxrtriage.report.training import training

MOST_BYTES = 5_000_000
SIDES = (400, 280, 180, 100)  # of pictures in pixels; the first at which the page is small enough is taken
HERE = Path(__file__).parent
# id, title, file without which it is left out
SECTIONS = (
    ("films", "Films", ""),
    ("training", "Training", "run/history.csv"),
    ("results", "Results", ""),
    ("audit", "Does it read anatomy?", "the audit in metrics.json"),
    ("explained", "Why it says so", "explanations/explanations.json"),
    ("limits", "What this cannot tell", ""),
    ("record", "Record", ""),
)


def write_report(run: Path, out: Path | None = None, *, identify: bool = False) -> Path:
    """Write one self-contained HTML page about a fit or an evaluation.

    Parameters
    ----------
    run : folder that `cxrtriage fit` or `cxrtriage evaluate` wrote
    out : file to write; None for `report.html` in that folder
    identify : add file names; without it no file name and no patient's number is on the page. Text that is burned into
        a film stays in its picture either way

    Returns
    -------
    Path
        The page, under 5 MB, which loads nothing and runs no script.

    Raises
    ------
    SourceError
        If the folder holds no figures, or a damaged file.
    CxrTriageError
        If the page would be too large even with small pictures.

    Examples
    --------
    >>> from cxrtriage.report import write_report
    >>> write_report(Path("fitted"))  # doctest: +SKIP
    PosixPath('fitted/report.html')
    """
    found = read_run(Path(run))
    out = Path(out) if out is not None else found.folder / "report.html"
    html = render_small_enough(found, identify=identify)
    with replacing(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out


def render_small_enough(run: Run, *, identify: bool = False, most_bytes: int = MOST_BYTES) -> str:
    """Return the page with pictures as large as its size allows."""
    size = 0
    for side in SIDES:
        html = render(run, identify=identify, side=side)
        size = len(html.encode())
        if size <= most_bytes:
            return html
    raise CxrTriageError(
        f"cannot write the report of {run.folder}: it would have {size / 1e6:.1f} MB even with pictures of {SIDES[-1]} "
        f"pixels, expected at most {most_bytes / 1e6:g} MB. Explain fewer cases."
    )


def render(run: Run, *, identify: bool, side: int) -> str:
    """Return the page with pictures of `side` pixels."""
    paths: list[str] = list(run.predictions["path"]) if "path" in run.predictions.columns else []
    naming = Naming(paths, "test film" if run.is_fit else "film", identify=identify)
    content = {
        "films": films(run, naming, side),
        "training": training(run),
        "results": results(run),
        "audit": audit(run),
        "explained": explained(run, naming, side),
        "limits": limits(run),
        "record": record(run),
    }
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment.get_template("page.html.j2").render(
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        head=head(run),
        content=content,
        sections=[(name, title) for name, title, _ in SECTIONS if content[name]],
        absent=[f"{title} ({missing})" for name, title, missing in SECTIONS if not content[name]],
        identify=identify,
        is_fit=run.is_fit,
        words=words,
    )


def unbroken(text: str) -> Markup:
    """Mark up intervals in brackets so that no line ends inside one.

    Examples
    --------
    >>> unbroken("AUROC 0.8 (0.7–0.9)")
    Markup('AUROC 0.8 <span class="n">(0.7–0.9)</span>')
    """
    return Markup(re.sub(r"\(\S+(?:–| to )\S+\)", r'<span class="n">\g<0></span>', str(escape(text))))
