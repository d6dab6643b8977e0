"""An experiment from a manifest to its pages: the one entrance of the room.

    out/
      README.md                    all pages together
      volume/, architecture/, ...  plan.json, results.json, table.csv, results.md and figures of an experiment
      runs/<name>/                 see `runs`
      prepared/<recipe>/           films, prepared once and shared by all runs
      no_anatomy.csv, .json        see `no_anatomy`

Interrupted at any moment and called again with the same choices, it goes on where it was.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError
from cxrtriage.experiments.figures import draw_experiment
from cxrtriage.experiments.films import Films, prepare_films, read_films, with_split
from cxrtriage.experiments.no_anatomy import score_without_anatomy
from cxrtriage.experiments.pictures import CARD, draw_pictures
from cxrtriage.experiments.plans import DESIGNS, Design, Runs, may_leak
from cxrtriage.experiments.results import compute_results
from cxrtriage.experiments.runs import RunPlan, folder_of, is_done, model_of, perform
from cxrtriage.experiments.settings import ExperimentSettings
from cxrtriage.experiments.writing import PLAN, write_overview, write_page, write_results
from cxrtriage.model.bundle import load_model

logger = logging.getLogger("cxrtriage")

KINDS = (*DESIGNS, "visualise")
SYMMETRY_FILMS, QUICK_SYMMETRY_FILMS = 24, 4  # of each class
LARGE = "prepared/\nruns/*/train/\n"  # what a repository need not hold
QUICK_MARK = "quick"


def run_experiments(
    kinds: tuple[str, ...],
    manifest: Path,
    out: Path,
    settings: ExperimentSettings,
    *,
    images: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run experiments on the films of a manifest and write their tables, figures and pages.

    Parameters
    ----------
    kinds : of `KINDS`
    manifest : split by patient; see `films.read_films`
    out : folder of all experiments on these films
    settings : see there
    images : folder that the manifest's paths are looked up in first
    workers : processes that prepare and read films

    Returns
    -------
    Path
        `out/README.md`

    Raises
    ------
    CxrTriageError
        If films or settings cannot be used, or `out` holds runs of other settings.
    """
    if settings.init is not None and not settings.init.is_file():
        raise ConfigError(f"there is no file {settings.init} to start from. Check --init.")
    films = read_films(manifest, settings, images)
    if len(kinds) > 1 and "split" in kinds and not may_leak(films):
        logger.warning("experiment split is left out: every test film is of another patient, so nothing can leak")
        kinds = tuple(kind for kind in kinds if kind != "split")
    designs = [DESIGNS[kind](films, settings) for kind in kinds if kind in DESIGNS]
    shown = Runs(films, settings)
    shown_run = shown.run(0)
    plans = {plan.name: plan for design in designs for plan in design.runs}
    if "visualise" in kinds:
        plans |= shown.made
    _start(films, plans, out, settings, workers)
    if "visualise" in kinds and not _drawn(out) and not model_of(out, shown_run).exists():
        (folder_of(out, shown_run) / "run.json").unlink(missing_ok=True)  # its small files were brought here alone
    for _ in _perform_each(list(plans.values()), films, out, workers):
        for design in [design for design in designs if all(is_done(plan, films, out) for plan in design.runs)]:
            designs.remove(design)  # written as soon as it is complete
            plan = _plan(design, command_of(design.kind, settings))
            _write_json(plan, out / design.kind / PLAN)
            _write_results(plan, out)
            write_overview(out, quick=settings.quick)
    if "visualise" in kinds:
        _visualise(films, shown.made[shown_run], out, settings, workers)
    return write_overview(out, quick=settings.quick)


def write_again(out: Path) -> Path:
    """Make all tables, figures and pages again from the small files of runs, without films or models.

    Parameters
    ----------
    out : folder of the experiments

    Returns
    -------
    Path
        `out/README.md`

    Raises
    ------
    ConfigError
        If there is no experiment in the folder.
    """
    plans = sorted(out.glob(f"*/{PLAN}"))
    if not plans:
        raise ConfigError(f"{out} holds no experiment: there is no {PLAN} in any folder of it. Check --out.")
    for path in plans:
        _write_results(json.loads(path.read_text(encoding="utf-8")), out)
    return write_overview(out, quick=(out / QUICK_MARK).exists())


def command_of(kind: str, settings: ExperimentSettings) -> str:
    """Return the command that asks for an experiment, without the names of folders.

    Examples
    --------
    >>> command_of("volume", ExperimentSettings(size=128, seeds=5))
    'cxrtriage experiment volume manifest.csv --out DIR --size 128 --seeds 5'
    """
    asked = settings.model_dump(exclude_defaults=True)
    words = [f"cxrtriage experiment {kind} manifest.csv --out DIR"]
    if asked.pop("quick", False):
        return f"{words[0]} --quick"
    for name, value in asked.items():
        if name == "budget_s":
            words.append(f"--budget {value:.0f}s")
        elif name == "init":
            words.append("--init WEIGHTS")
        elif isinstance(value, tuple):
            words.append(
                f"--{name} {','.join(f'{part:g}' if isinstance(part, float) else str(part) for part in value)}"
            )
        else:
            words.append(f"--{name} {value}")
    return " ".join(words)


def _start(
    films: Films, plans: dict[str, RunPlan], out: Path, settings: ExperimentSettings, workers: int | None
) -> None:
    """Check that the folder fits before anything long begins, and score the films without anatomy."""
    out.mkdir(parents=True, exist_ok=True)
    for plan in plans.values():
        is_done(plan, films, out)  # refuses other settings
    (out / ".gitignore").write_text(LARGE)
    if settings.quick:
        (out / QUICK_MARK).touch()
    score_without_anatomy(films, out, workers=workers)


def _perform_each(plans: list[RunPlan], films: Films, out: Path, workers: int | None) -> Iterator[None]:
    """Carry out what is not done yet and say how long the rest will take; yield at the start and after each run."""
    left = [plan for plan in plans if not is_done(plan, films, out)]
    logger.info("%d runs, %d of them done", len(plans), len(plans) - len(left))
    yield
    work, seconds = 0.0, 0.0
    for number, plan in enumerate(left):
        rest = sum(other.work for other in left[number:])
        about = f", about {_duration(rest * seconds / work)} left" if work else ""
        logger.info("run %d of %d: %s%s", len(plans) - len(left) + number + 1, len(plans), plan.name, about)
        began = time.monotonic()
        perform(plan, films, out, workers)
        work, seconds = work + plan.work, seconds + time.monotonic() - began
        yield


def _duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> _duration(40), _duration(150), _duration(9000)
    ('1 minute', '3 minutes', '2.5 hours')
    """
    minutes = max(1, round(seconds / 60 + 0.25))
    if minutes >= 90:
        return f"{seconds / 3600:.1f} hours"
    return f"{minutes} minute{'s' * (minutes > 1)}"


def _plan(design: Design, command: str) -> dict[str, Any]:
    """Return the content of `plan.json`: all that results need besides the runs' small files."""
    return {
        "kind": design.kind,
        "title": design.title,
        "method": design.method,
        "judged_on": design.judged_on,
        "arms": [asdict(arm) for arm in design.arms],
        "comparisons": [asdict(comparison) for comparison in design.comparisons],
        "command": command,
    }


def _write_results(plan: dict[str, Any], out: Path) -> None:
    results = compute_results(plan, out)
    write_results(results, draw_experiment(results, out), out)
    for row in results["differences"]:
        logger.info(row["sentence"])


def _drawn(out: Path) -> bool:
    return (out / "visualise" / CARD).exists()


def _visualise(films: Films, plan: RunPlan, out: Path, settings: ExperimentSettings, workers: int | None) -> None:
    """Draw what the shown run's network sees, unless that is done."""
    folder = out / "visualise"
    if not _drawn(out):
        shutil.rmtree(folder, ignore_errors=True)
        prepared = with_split(prepare_films(films, plan.recipe, out, workers), plan.split)
        count = QUICK_SYMMETRY_FILMS if settings.quick else SYMMETRY_FILMS
        draw_pictures(load_model(model_of(out, plan.name)), prepared, folder, films=count)
    content = json.loads((folder / CARD).read_text(encoding="utf-8"))
    sentence = content["symmetry"]["sentence"]
    logger.info(sentence)
    captions = [(name, caption) for name, caption in content["captions"]]
    write_page("visualise", "Opposite-label images", [sentence], captions, command_of("visualise", settings), out)


def _write_json(content: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
