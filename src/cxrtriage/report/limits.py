"""The last sections: what this cannot tell, and everything needed to make it again.

In comes a `Run`, out goes what `templates/limits.html.j2` and `templates/record.html.j2` show.
"""

import math
import platform
from pathlib import Path
from typing import Any

from cxrtriage import __version__
from cxrtriage.data.prepared.build import MOST_REJECTED
from cxrtriage.report.head import network_name
from cxrtriage.report.reading import Run
from cxrtriage.report.words import count, listed

FEW_PATIENTS = 100  # of a class; below, one patient more or less moves a rate by more than a point


def limits(run: Run) -> dict[str, Any]:
    """Return the sentences a reader must not overlook."""
    sentences = [*_scope(run), *_test(run)]
    if run.is_fit:
        sentences.append(
            "This is one training on one division of the films. Another seed would give another network and other "
            "figures; the intervals tell of other patients, not of that."
        )
    sentences.append(
        "The labels are taken as they are: a film labelled wrongly counts as an error of the model, and a habit in "
        "labelling that training and test share goes unseen."
    )
    return {"sentences": sentences, "notes": notes(run)}


def notes(run: Run) -> list[str]:
    """Return what the figures' own notes say, and what could not be determined, each once."""
    metrics = run.metrics
    found = list(metrics["notes"])
    for name, block in metrics["every_film"]["sources"].items():
        found += block["notes"] if metrics["leads"] == "all" else [f"{name}: {note}" for note in block["notes"]]
    validation = run.card.get("validation", {})
    found += [validation.get("not_calibrated", ""), *validation.get("undetermined", {}).values()]
    return list(dict.fromkeys(note for note in found if note))


def record(run: Run) -> dict[str, Any]:
    """Return settings, versions, hashes and commands."""
    made_from = run.metrics.get("made_from", {})
    changed = bool(run.model_hash and made_from and run.model_hash != made_from.get("model"))
    hashes = {
        "model file (SHA-256)": made_from.get("model") or run.model_hash,
        "manifest of the set": made_from.get("set") or run.config.get("data", {}).get("hash"),
        "model trained on the manifest": run.card.get("data_hash"),
    }
    versions = {"cxrtriage, this page": __version__, "python, this page": platform.python_version()}
    if run.card:
        versions |= {"cxrtriage, training": run.card["version"]}
    if made_from.get("version"):
        versions |= {"cxrtriage, measuring": made_from["version"]}
    versions |= {f"{name}, preparing": version for name, version in run.versions.items()}
    return {
        "settings": _settings(run),
        "versions": versions,
        "hashes": {name: value for name, value in hashes.items() if value},
        "changed": changed,
        "commands": _commands(run),
    }


def _scope(run: Run) -> list[str]:
    """Say on what films the model was trained."""
    if not run.card:
        return []
    scope = run.card["scope"]
    views = f"views {listed(list(scope['views']))}" if scope.get("views") else "views not known"
    ages = "ages not known"
    if scope.get("age_years"):
        low, high = scope["age_years"]
        ages = f"ages {low:.0f} to {high:.0f}"
    known = listed(run.card["sources"]) or "one unnamed source"
    sentence = (
        f"The model knows films of {known} alone ({views}; {ages}). Of films of other hospitals, machines, views and "
        "ages nothing is known until they are measured; the command for that is below."
    )
    return [sentence]


def _test(run: Run) -> list[str]:
    """Say what the number and the origin of the measured films allow."""
    truth = run.predictions["label"] > 0
    patients = {
        "abnormal": run.predictions.loc[truth, "patient_id"].nunique(),
        "normal": run.predictions.loc[~truth, "patient_id"].nunique(),
    }
    sentences = []
    for name, number in patients.items():
        if 0 < number < FEW_PATIENTS:
            rate = "sensitivity" if name == "abnormal" else "specificity"
            sentences.append(
                f"Only {count(number, 'patient')} with {name} films were measured: one of them more or less moves the "
                f"{rate} by {100 / number:.0f} in 100."
            )
    if run.is_fit:
        sentences.append(
            "The test films come from where the training films come from, so whatever marks that place, in film or "
            "label, helps in both. Only films of another place can tell how it does there."
        )
    return sentences


def _settings(run: Run) -> list[tuple[str, str]]:
    """Return the settings as resolved, without any path of the machine."""
    rows = {}
    if run.card:
        rows["network"] = network_name(run.card)
    for part in ("settings", "resolved"):
        for name, setting in run.config.get(part, {}).items():
            if name in ("net", "remarks"):
                continue
            rows[name.replace("_", " ")] = Path(setting).name if name == "init" else str(setting)
    for name, setting in run.config.get("recipe", {}).items():
        rows[f"preparation: {name.replace('_', ' ')}"] = str(setting)
    if calibration := run.card.get("calibration"):
        rows["calibration"] = f"temperature {calibration['temperature']:.4g}, intercept {calibration['intercept']:.4g}"
    measured = run.metrics["settings"]
    rows["intervals"] = (
        f"{100 * measured['confidence']:.0f} %, bootstrap over patients, {count(measured['resamples'])} resamples, "
        f"seed {measured['seed']}"
    )
    return list(rows.items())


def _commands(run: Run) -> list[str]:
    """Return the commands that made this, with words in capitals for the reader's own folders."""
    if not run.is_fit:
        how = "MANIFEST --model MODEL" if run.prepared else "--predictions predictions.csv"
        return [f"cxrtriage evaluate {how} --out FOLDER", "cxrtriage report FOLDER"]
    settings, recipe = run.config.get("settings", {}), run.config.get("recipe", {})
    words = ["cxrtriage fit IMAGES LABELS --out FOLDER"]
    words += [f"--{name} {settings[name]}" for name in ("net", "recipe", "epochs", "batch", "seed") if name in settings]
    words += [f"--size {recipe['size']}"] if recipe else []
    words += [f"--contrast {recipe['contrast']}"] if recipe.get("contrast", "equalise") != "equalise" else []
    words += [f"--{name.replace('_', '-')}" for name in ("crop_edges", "mask_border") if recipe.get(name)]
    for name, default in (("class_weight", "none"), ("classes", "auto"), ("devices", 1), ("nodes", 1)):
        if settings.get(name, default) != default:
            words.append(f"--{name.replace('_', '-')} {settings[name]}")
    words += [f"--init {Path(settings['init']).name}"] if settings.get("init") else []
    words += [f"--budget {run.budget['budget_s']:.0f}s"] if run.budget else []
    words += ["--split-by image"] if _split_by_image(run) else []
    words += _more_rejected(run)
    return [
        " ".join(words),
        "cxrtriage report FOLDER",
        "cxrtriage evaluate OTHER.csv --model FOLDER/run/model.safetensors --images OTHER --out ELSEWHERE",
    ]


def _split_by_image(run: Run) -> bool:
    return run.manifest is not None and "split_by" in run.manifest and bool((run.manifest["split_by"] == "image").all())


def _more_rejected(run: Run) -> list[str]:
    """Return the option without which a fit stops at as many unreadable films."""
    if run.rejects is None or run.manifest is None or len(run.rejects) <= MOST_REJECTED * len(run.manifest):
        return []
    return [f"--max-rejected {math.ceil(100 * len(run.rejects) / len(run.manifest)) / 100:g}"]
