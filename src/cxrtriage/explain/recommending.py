"""Which explanation to show, and why: a rule applied to the figures of `measuring`."""

from collections.abc import Mapping
from typing import Any

from cxrtriage.explain.averages import Figure


def recommend(methods: Mapping[str, Mapping[str, Any]], fixed_map: str) -> tuple[str, str]:
    """Choose the method to show, by the rule of `measure_explanations`.

    Parameters
    ----------
    methods : name -> figures
    fixed_map : what the fixed map is called in the reason

    Returns
    -------
    The method, and the reason in a few sentences with numbers.
    """
    sound = [name for name, figures in methods.items() if not figures["exposed"]]
    exposed = [name for name in methods if name not in sound]
    lesions = all(figures["peak_in_lesion"] is not None for figures in methods.values())
    measures = ("peak_in_lesion", "mass_in_lesion") if lesions else ("insertion_less_deletion",)

    def merit(name: str) -> tuple[float, ...]:
        return tuple(methods[name][measure]["estimate"] for measure in measures)

    best = max(sound or exposed, key=merit)
    figures = methods[best]
    if lesions:
        reason = f"The peak of {best} lies in the lesion on {_say(figures['peak_in_lesion'])} of the films"
        over, rival = figures["peak_over_centre"], fixed_map
    else:
        of = " of those that are not exposed" if sound and exposed else ""
        reason = f"Insertion less deletion of {best} is {_say(figures['insertion_less_deletion'])}, the largest{of}"
        over, rival = figures["over_random"], "a random order"
    reason += f", {_say(over, '+.2f')} beside {rival}."
    if over["lower"] is None or over["lower"] <= 0:
        reason += f" That is not clearly better than {rival}, so take its pictures as hints at most."
    if not sound:
        reason += " Every method is exposed: its maps stay much the same when all weights are random."
    elif exposed:
        left = ", ".join(f"{name} ({methods[name]['randomisation']['estimate']:.2f})" for name in exposed)
        reason += f" Exposed, since their maps stay much the same when all weights are random: {left}."
    return best, reason


def _say(figure: Figure, form: str = ".2f") -> str:
    """Return "0.78 (0.70–0.85)"."""
    if figure["estimate"] is None:
        return "an unknown share"
    ends = (figure["lower"], figure["upper"])
    interval = "" if None in ends else f" ({' to '.join(format(end, form) for end in ends)})"
    return f"{format(figure['estimate'], form)}{interval}".replace("-", "−")
