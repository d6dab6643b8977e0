"""The page in a real browser: on phone, tablet and desk, light and dark, and on paper."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from cxrtriage.report import write_report
from report.runs import make_fit

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_fit(tmp_path_factory.mktemp("browser") / "fit", sources=3, emergent=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def open_page(browser: Browser, report: Path, width: int, scheme: str) -> tuple[Page, list[str]]:
    """Return the loaded page and what went wrong: messages on the console, and requests to anywhere."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: request.url.startswith("data:") or faults.append(request.url))
    page.goto(report.as_uri())
    assert faults.pop(0) == report.as_uri()  # the only request is for the page itself
    return page, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_its_window_and_asks_for_nothing(browser: Browser, report: Path, width: int, scheme: str) -> None:
    page, faults = open_page(browser, report, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) > 380) == (scheme == "light")
    assert not faults
    page.close()


def test_every_picture_is_there_and_says_what_it_shows(browser: Browser, report: Path) -> None:
    page, _ = open_page(browser, report, 1280, "light")
    images = page.evaluate("[...document.images].map(i => ({alt: i.alt, loaded: i.complete && i.naturalWidth > 0}))")
    assert len(images) == 12 + 16  # two films of each class before and after, and the cases
    assert all(image["loaded"] and image["alt"] for image in images)
    charts = page.evaluate(
        "[...document.querySelectorAll('svg:not([aria-hidden])')].map(s => s.getAttribute('aria-label'))"
    )
    assert len(charts) > 10
    assert all(charts)
    page.close()


def test_headings_are_in_order_and_links_lead_somewhere(browser: Browser, report: Path) -> None:
    page, _ = open_page(browser, report, 1280, "light")
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert page.evaluate(
        "[...document.querySelectorAll('a')].every(a => document.querySelector(a.getAttribute('href')))"
    )
    page.close()


def test_wide_tables_scroll_inside_themselves_on_a_phone(browser: Browser, report: Path) -> None:
    page, _ = open_page(browser, report, 360, "light")
    boxes = page.evaluate("[...document.querySelectorAll('table')].map(t => t.parentElement.className)")
    assert set(boxes) == {"table"}
    assert page.evaluate("[...document.querySelectorAll('.table')].some(t => t.scrollWidth > t.clientWidth)")
    page.close()


def test_nothing_stands_outside_the_page_and_no_words_of_a_chart_collide_with_its_edge(
    browser: Browser, report: Path
) -> None:
    page, _ = open_page(browser, report, 1280, "light")
    outside = page.evaluate(
        """[...document.querySelectorAll('svg.chart')].flatMap(chart => {
             const box = chart.getBoundingClientRect();
             return [...chart.querySelectorAll('text')].filter(text => {
               const at = text.getBoundingClientRect();
               const across = at.left < box.left - 1 || at.right > box.right + 1;
               return across || at.top < box.top - 1 || at.bottom > box.bottom + 1;
             }).map(text => text.textContent);
           })"""
    )
    assert outside == []
    page.close()


def test_it_prints_in_light_colours_on_paper_even_from_a_dark_screen(browser: Browser, report: Path) -> None:
    page, faults = open_page(browser, report, 1280, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    paper = page.pdf(prefer_css_page_size=True)
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 30
    assert not faults
    page.close()
