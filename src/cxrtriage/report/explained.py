"""The section on explanations: cases with pictures, how the methods score, and symmetry.

In comes a `Run`, out goes what `templates/explained.html.j2` shows.
"""

from typing import Any

import pandas as pd

from cxrtriage.report.naming import Naming
from cxrtriage.report.pictures import show_picture
from cxrtriage.report.reading import Run
from cxrtriage.report.words import count, number, percent, value, with_interval

METHODS = {
    "opposite": "opposite label",
    "grad-cam": "Grad-CAM",
    "integrated-gradients": "integrated gradients",
    "occlusion": "occlusion",
    "chance": "chance",
    "centre": "the centre of the film, always",
}
# column -> heading, digits
MEASURES = {
    "peak_in_lesion": ("peak in the lesion", 2),
    "mass_in_lesion": ("heat in the lesion", 2),
    "mass_ratio": ("heat there, times chance", 1),
    "deletion": ("deletion (low is good)", 2),
    "insertion": ("insertion (high is good)", 2),
    "randomisation": ("left after randomising (near 0 is good)", 2),
    "noise_stability": ("stable under noise (1 is best)", 2),
}
CASES = {
    "most_sure_abnormal": "Best cases: surest and right, abnormal",
    "most_sure_normal": "Best cases: surest and right, normal",
    "missed": "Worst cases: missed",
    "false_alarm": "Worst cases: false alarms",
    "opposite_from_abnormal": "From abnormal towards normal",
    "opposite_from_normal": "From normal towards abnormal",
    "opposite_from_noise_to_abnormal": "From random noise towards abnormal",
    "opposite_from_noise_to_normal": "From random noise towards normal",
}
REGIONS = {"whole": "whole film", "lungs": "lungs"}
CLASSES = {"difference": "normal less abnormal"}


def explained(run: Run, naming: Naming, side: int) -> dict[str, Any] | None:
    """Return the section, or None where there are no explanations.

    Parameters
    ----------
    run : the files
    naming : what films are called on the page
    side : of pictures, in pixels
    """
    found = run.explanations
    if found is None:
        return None
    cases = [] if run.cases is None else _cases(run, run.cases, naming, side)
    lesions = found.get("lesions")
    return {
        "films": count(found["films"], f"{found['split']} film"),
        "recommended": METHODS.get(found["recommended"], found["recommended"]),
        "reason": found["reason"],
        "lesions": lesions
        and f"The place of the lesion is known in {count(lesions['films'], 'film')}; half of them cover less than "
        f"{percent(lesions['median_area_share'])} of the film.",
        **_methods(found),
        "cases": [group for group in cases if not group["kind"].startswith("opposite")],
        "opposite": [group for group in cases if group["kind"].startswith("opposite")],
        "symmetry": _symmetry(found.get("symmetry")),
        "notes": found.get("notes", []),
    }


def _methods(found: dict[str, Any]) -> dict[str, Any]:
    """Return the table of methods and references, with the columns that any of them fills."""
    rows = found["methods"] | found.get("references", {})
    shown = {
        key: how
        for key, how in MEASURES.items()
        if any((row.get(key) or {}).get("estimate") is not None for row in rows.values())
    }
    return {
        "columns": [heading for heading, _ in shown.values()],
        "methods": [
            {
                "name": f"always the same place: {row['map']}" if "map" in row else METHODS.get(name, name),
                "remark": _remark(name, row, found["recommended"]),
                "reference": name not in found["methods"],
                "cells": [with_interval(row.get(key), digits) for key, (_, digits) in shown.items()],
                "seconds": number(row.get("seconds_a_film"), 2),
            }
            for name, row in rows.items()
        ],
    }


def _remark(name: str, row: dict[str, Any], recommended: str) -> str:
    if row.get("exposed"):
        return "exposed: survives random weights"
    return "recommended" if name == recommended else ""


def _cases(run: Run, cases: pd.DataFrame, naming: Naming, side: int) -> list[dict[str, Any]]:
    """Return the cases of each kind with picture and words."""
    groups = []
    for kind, title in CASES.items():
        of_kind = cases[cases["kind"] == kind]
        if len(of_kind):
            shown = [_case(run, dict(row), naming, side) for _, row in of_kind.iterrows()]
            groups.append({"kind": kind, "title": title, "cases": shown})
    return groups


def _case(run: Run, row: dict[str, Any], naming: Naming, side: int) -> dict[str, Any]:
    name = "random noise" if pd.isna(row["path"]) else naming.film(row["path"])
    words = [METHODS.get(row["method"], str(row["method"]))]
    if not pd.isna(row.get("label")):
        words.append(f"truth {_label(row['label'])}")
    if not pd.isna(row.get("before")) and not pd.isna(row.get("after")):
        reached = str(row.get("reached")).lower() in ("true", "1", "1.0")
        words.append(f"probability {row['before']:.2f} → {row['after']:.2f}{'' if reached else ', goal not reached'}")
    elif not pd.isna(row.get("probability")):
        words.append(f"probability {row['probability']:.2f}, called {row['decision']}")
    sentence = "" if pd.isna(row.get("sentence")) else str(row["sentence"])
    return {
        "name": name[0].upper() + name[1:],
        "picture": show_picture(run.explained / "cases" / str(row["picture"]), side),
        "facts": "; ".join(words),
        "sentence": sentence,
        "alt": f"{name}: {'; '.join(words)}. {sentence}",
    }


def _label(label: Any) -> str:
    """Return a label's name; the CSV may hold it as number or as word."""
    names = {"0": "normal", "1": "abnormal", "2": "emergent"}
    written = str(label).removesuffix(".0")
    return names.get(written, written)


def _symmetry(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what was found of left and right."""
    if not found:
        return None
    return {
        "sentence": found.get("sentence", ""),
        "untouched": [
            {
                "of": f"{CLASSES.get(row['class'], row['class'])}, {REGIONS.get(row['region'], row['region'])}",
                "films": count(row["films"]),
                "symmetry": with_interval(row["symmetry"]),
            }
            for row in found.get("untouched", [])
        ],
        "steps": [
            {
                "of": f"from {row['from']}, {row['form']}, {REGIONS.get(row['region'], row['region'])}",
                "films": count(row["films"]),
                "before": value(row["before"]),
                "after": value(row["after"]),
                "excess": with_interval(row["excess"]),
            }
            for row in found.get("step", [])
        ],
    }
