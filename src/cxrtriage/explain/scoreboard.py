"""The table of explanation methods in words, for a terminal of 80 columns.

In comes the dict of `measuring.measure_explanations`, or `explanations.json` read back; out goes what `rich` prints.
"""

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cxrtriage.explain.averages import Figure

LOCALISATION = {"peak_in_lesion": "peak in lesion", "mass_in_lesion": "mass in lesion", "mass_ratio": "mass / area"}
CURVES = {"deletion": "deletion (low)", "insertion": "insertion (high)", "over_random": "beyond random order"}
SANITY = {"randomisation": "kept, random weights", "noise_stability": "kept, noise"}


def scoreboard(explanations: dict[str, Any]) -> RenderableType:
    """Lay the figures of the explanation methods out for the terminal.

    Parameters
    ----------
    explanations : from `measuring.measure_explanations`, or read from `explanations.json`
    """
    methods, references = explanations["methods"], explanations["references"]
    maps = {**methods, "fixed map": references["centre"], "chance": references["chance"]}
    parts: list[RenderableType] = []
    if lesions := explanations["lesions"]:
        title = (
            f"Where the heat lies: {lesions['films']} films, lesions of {lesions['median_area_share']:.1%} of the film"
        )
        parts.append(_by_map(title, LOCALISATION, maps))
    parts.append(_by_map(f"What the network needs: areas under curves, {explanations['films']} films", CURVES, maps))
    sanity = _table("What maps keep: rank correlation", "", *SANITY.values(), "", "s a film")
    for name, figures in methods.items():
        kept = [_with_interval(figures[measure]) for measure in SANITY]
        sanity.add_row(name, *kept, "exposed" if figures["exposed"] else "", f"{figures['seconds_a_film']:.2f}")
    parts.append(sanity)
    recommended = Text(f"Recommended: {explanations['recommended']}", style="bold")
    parts.append(Group(recommended, Text(explanations["reason"])))
    symmetry = explanations["symmetry"]
    parts.append(Group(_symmetry(symmetry), Text(symmetry["sentence"])))
    parts.append(Group(*(Text(f"- {note}") for note in explanations["notes"])))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _by_map(title: str, measures: dict[str, str], maps: dict[str, dict[str, Any]]) -> Table:
    """Return a row a map, a column a measure."""
    table = _table(title, "", *measures.values())
    for name, figures in maps.items():
        table.add_row(name, *(_with_interval(figures.get(measure)) for measure in measures))
    return table


def _symmetry(symmetry: dict[str, Any]) -> Table:
    """Return the symmetry of untouched films, then what the step does to it, beside a random change."""
    table = _table("Left-right symmetry", "", "region", "films", "symmetry", "beyond random")
    for row in symmetry["untouched"]:
        name = "normal less abnormal" if row["class"] == "difference" else row["class"]
        table.add_row(name, row["region"], str(row["films"]), _with_interval(row["symmetry"]), "")
    for row in symmetry["step"]:
        name = f"to {'normal' if row['from'] == 'abnormal' else 'abnormal'}, {row['form']}"
        figures = [_value(row["after"]), _with_interval(row["excess"], 3)]
        table.add_row(name, row["region"], str(row["films"]), *figures)
    return table


def _table(title: str, *columns: str) -> Table:
    """Return an empty table, words to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", header_style="dim")
    return table


def _value(figure: Figure | None, digits: int = 2) -> str:
    """Return a figure, a dash where not defined."""
    return "–" if not figure or figure["estimate"] is None else f"{figure['estimate']:z.{digits}f}".replace("-", "−")


def _with_interval(figure: Figure | None, digits: int = 2) -> str:
    """Return "0.84 (0.83–0.85)", or "(−0.20 to 0.10)" where a sign would be lost; a dash where not defined."""
    if not figure or figure["lower"] is None or figure["upper"] is None:
        return _value(figure, digits)
    between = " to " if figure["lower"] < 0 else "–"
    interval = f"{figure['lower']:z.{digits}f}{between}{figure['upper']:z.{digits}f}".replace("-", "−")
    return f"{_value(figure, digits)} ({interval})"
