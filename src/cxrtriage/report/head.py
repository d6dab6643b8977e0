"""The head of the page: what this is, how good it is, whether it reads anatomy, and what a flag means.

In comes a `Run`, out goes what `templates/head.html.j2` shows.
"""

from typing import Any

from cxrtriage.evaluate.evaluation import leading_figures
from cxrtriage.evaluate.measures import FEWEST_CLEARED
from cxrtriage.report.charts import hundred_films
from cxrtriage.report.reading import Run
from cxrtriage.report.words import complement, count, listed, of_100

CLEAR = "better than without anatomy"
NETWORKS = {
    "googlenet": "GoogLeNet",
    "inception_v3": "Inception v3",
    "resnet152": "ResNet-152",
    "lung_lite": "EfficientNet-Lite0 on the lungs",
}


def head(run: Run) -> dict[str, Any]:
    """Return the head's words and figures."""
    figures = leading_figures(run.metrics)
    block = run.metrics["every_film"]["all"]
    audit = run.metrics.get("audit")
    audited = leading_audit(audit) if audit else {}
    found, alarms = figures["sensitivity"], complement(figures["specificity"])
    decision = run.metrics["settings"]["decision"]
    several = run.metrics["leads"] != "all"
    sources = list(run.metrics["every_film"]["sources"])
    return {
        "sentence": what_it_is(run),
        "measured": f"Measured on {count(block['films'], 'film')} of {count(block['patients'], 'patient')}"
        f"{' that it never saw in training' if run.is_fit else ''}: {count(block['abnormal'])} abnormal, "
        f"{count(block['normal'])} normal"
        + (f"; figures are the mean over {len(sources)} sources, {listed(sources)}." if several else "."),
        "auroc": figures["auroc"],
        "in_words": _pairs_in_words(figures["auroc"]),
        "baseline": audited.get("baseline"),
        "verdict": audit["verdict"] if audit else None,
        "shown": audit_in_words(audited),
        "doubt": audit_in_words(audited) != CLEAR,
        "found": of_100(found),
        "alarms": of_100(alarms),
        "found_dots": None if found["estimate"] is None else hundred_films(found["estimate"], "abnormal"),
        "alarms_dots": None if alarms["estimate"] is None else hundred_films(alarms["estimate"], "normal"),
        "threshold": run.metrics["settings"]["threshold"],
        "decision": decision_in_words(decision) if decision else None,
        "useless": figures["specificity"]["estimate"] is not None
        and figures["specificity"]["estimate"] < FEWEST_CLEARED,
    }


def what_it_is(run: Run) -> str:
    """Say in one or two sentences what was measured."""
    if not run.card:
        return "Probabilities that chest films are abnormal, measured against their labels."
    card, scope = run.card, run.card["scope"]
    of = f" of {count(scope['patients'], 'patient')}" if scope.get("patients") else ""
    size = card["recipe"]["size"]
    emergent = ", and that it is emergent" if len(card["classes"]) == 3 else ""
    return (
        f"{network_name(card)}, trained on {count(scope['films'], 'chest film')}{of} "
        f"from {listed(card['sources']) or 'one set'}. Given one film, reduced to {size} × {size} pixels, it returns "
        f"the probability that the film is abnormal{emergent}."
    )


def network_name(card: dict[str, Any]) -> str:
    """Return the architecture as its authors write it."""
    return NETWORKS.get(card["architecture"], str(card["architecture"]))


def leading_audit(audit: dict[str, Any]) -> dict[str, Any]:
    """Return the block of the audit that leads: the mean over sources, or the only source."""
    block: dict[str, Any] = audit["mean_over_sources"] or next(iter(audit["sources"].values()))
    return block


def audit_in_words(block: dict[str, Any]) -> str:
    """Say in a few words what the audit found.

    Parameters
    ----------
    block : that leads, from `leading_audit`; empty where there was no audit
    """
    can_show = block.get("can_show_anatomy")
    if can_show is None:
        return "not determined"
    if not can_show:
        return "not shown to read anatomy"
    border = block["border_only"]["lower"]
    if border is not None and border > 0.5:
        return "better than without anatomy, but the border of the film alone tells something too"
    return CLEAR


def decision_in_words(name: str) -> str:
    """Say what a threshold was chosen for.

    Examples
    --------
    >>> decision_in_words("sensitivity 0.95")
    'chosen to flag at least 95 of 100 abnormal films'
    """
    kind, _, level = name.partition(" ")
    if kind == "sensitivity":
        return f"chosen to flag at least {100 * float(level):.0f} of 100 abnormal films"
    if kind == "cost":
        return f"chosen as if a miss cost as much as {level.partition(':')[0]} false alarms"
    return "chosen where sensitivity and specificity together are highest" if kind == "youden" else f"chosen for {name}"


def _pairs_in_words(auroc: dict[str, float | None]) -> str:
    """Say what an AUROC means."""
    if auroc["estimate"] is None:
        return "It needs films of both classes."
    pairs = 100 * auroc["estimate"]
    of = "more than 99" if 99.5 <= pairs < 100 else f"{pairs:.0f}"
    return (
        f"Shown one abnormal and one normal film, it gives the abnormal one the higher probability {of} times in 100; "
        "guessing would be right 50 times."
    )
