"""Colours of the page: text is read by WCAG AA, lines are told from the ground, and series from each other in grey."""

import re
from itertools import combinations
from pathlib import Path

import pytest

import cxrtriage.report

STYLE = (Path(cxrtriage.report.__file__).parent / "style.css").read_text()
THEMES = {"light": STYLE.split(":root {")[1].split("}")[0], "dark": STYLE.split(":root {")[2].split("}")[0]}


def colours(theme: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", THEMES[theme]))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("text", ["ink", "quiet", "link"])
@pytest.mark.parametrize("ground", ["page", "raised"])
def test_text_reaches_aa(theme: str, text: str, ground: str) -> None:
    assert contrast(colours(theme)[text], colours(theme)[ground]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("line", ["s0", "s1", "s2", "s3", "s4", "s5", "fine", "doubt"])
def test_lines_stand_out_from_the_page(theme: str, line: str) -> None:
    assert contrast(colours(theme)[line], colours(theme)["page"]) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_text_on_the_deepest_cell_of_the_confusion_matrix_reaches_aa(theme: str) -> None:
    shade = [int(part) for part in re.search(r"--shade-rgb: ([\d, ]+);", THEMES[theme])[1].split(",")]
    page = [int(colours(theme)["page"][at : at + 2], 16) for at in (1, 3, 5)]
    mixed = "#" + "".join(f"{round(0.38 * top + 0.62 * below):02x}" for top, below in zip(shade, page, strict=True))
    assert contrast(colours(theme)["ink"], mixed) >= 4.5


def test_every_series_has_a_dash_of_its_own() -> None:
    """The first is solid; colour is never the only difference."""
    dashes = dict(re.findall(r"\.line\.(s\d)[^{]*\{ stroke-dasharray: ([^;]+); \}", STYLE))
    assert set(dashes) == {"s1", "s2", "s3", "s4", "s5"}
    assert all(one != other for one, other in combinations(dashes.values(), 2))


def test_paper_takes_the_light_colours() -> None:
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    assert STYLE.count("prefers-color-scheme") == 1
