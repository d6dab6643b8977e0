"""The pages in a real browser: from the keyboard alone, at three widths, in both schemes, legible."""

import itertools
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import select

from cxrtriage.serve.database import reading
from cxrtriage.serve.tables import study
from cxrtriage.serve.web.rendering import STATIC
from cxrtriage.serve.worklist import reviews
from serve.web.pages_node import PASSWORD, PagesNode, small_films
from serve.web.test_pages import EMERGENT, FLAGGED, STAT

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[tuple[PagesNode, str]]:
    folder = tmp_path_factory.mktemp("pages")
    node = PagesNode(folder / "home", model_file, small_films(folder / "films"))
    node.account("root", "admin")
    with node.served() as url:
        yield node, url
    node.engine.dispose()


@contextmanager
def signed_in(browser: Browser, url: str, width: int, scheme: str) -> Iterator[tuple[Page, list[str]]]:
    """Yield the list, reached from the keyboard alone, and what the console says."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(url) else faults.append(request.url))
    page.goto(url)
    page.keyboard.type("root")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("#list")
    yield page, faults
    page.close()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('href')"))


def test_a_study_is_found_read_and_left_from_the_keyboard_alone(
    browser: Browser, served: tuple[PagesNode, str]
) -> None:
    node, url = served
    with signed_in(browser, url, 1440, "dark") as (page, faults):
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("k")
        assert focused(page) == f"/studies/{node.uid(EMERGENT)}"
        page.keyboard.press("/")
        page.keyboard.type("nguyen")
        page.wait_for_selector("#list .studies li:only-child")
        page.keyboard.press("Enter")
        assert focused(page) == f"/studies/{node.uid(FLAGGED)}"
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/studies/{node.uid(FLAGGED)}")
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        page.keyboard.press("a")  # no key works behind a dialog
        page.keyboard.press("Escape")
        page.keyboard.press("e")
        page.keyboard.press("Escape")
        assert "root" not in page.inner_text(".history")
        page.keyboard.press("a")
        page.wait_for_selector("text=root agrees with the model")
        page.keyboard.press("2")
        page.wait_for_selector("text=read, abnormal")
        assert node.uid(FLAGGED) in page.url
        page.keyboard.press("z")
        page.wait_for_url(f"**/studies/{node.uid(FLAGGED)}")
        here = page.url
        page.keyboard.press("n")
        page.wait_for_url(lambda there: there != here)
        page.keyboard.press("u")
        page.wait_for_url(f"{url}/")
        assert not faults
    with reading(node.engine) as connection:
        assert connection.execute(select(study.c.read_at).where(study.c.read_at.is_not(None))).all() == []


def test_the_list_follows_the_node_and_keeps_focus_and_scroll(browser: Browser, served: tuple[PagesNode, str]) -> None:
    node, url = served
    with signed_in(browser, url, 390, "dark") as (page, faults):
        for _ in range(4):
            page.keyboard.press("j")
        before, scrolled = focused(page), page.evaluate("scrollY")
        page.wait_for_load_state("networkidle")
        with node.engine.begin() as connection:
            key = connection.execute(
                select(study.c.id).where(study.c.study_instance_uid == node.uid(STAT))
            ).scalar_one()
            reviews.mark_read(connection, key, "final report", None, settings=node.settings, home=node.home)
        page.wait_for_selector(f"[href='/studies/{node.uid(STAT)}']", state="detached", timeout=30000)
        assert focused(page) == before
        assert page.evaluate("scrollY") == scrolled
        with node.engine.begin() as connection:
            reviews.reopen(connection, key, "root")
        assert not faults


def test_a_node_that_does_not_answer_is_told(browser: Browser, served: tuple[PagesNode, str]) -> None:
    _, url = served
    with signed_in(browser, url, 1440, "dark") as (page, _):
        assert page.locator("#lost").is_hidden()
        page.route("**/list", lambda route: route.abort())
        page.wait_for_selector("#lost", state="visible", timeout=30000)


def test_a_film_is_windowed_zoomed_and_inverted(browser: Browser, served: tuple[PagesNode, str]) -> None:
    node, url = served
    with signed_in(browser, url, 1440, "dark") as (page, faults):
        page.goto(f"{url}/studies/{node.uid(FLAGGED)}")
        page.wait_for_load_state("networkidle")
        stage, said = page.locator(".stage").first, page.locator("output").first
        assert page.evaluate("document.querySelector('.stage img').naturalWidth") == 160
        box = stage.bounding_box()
        assert box is not None
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        plain = stage.screenshot()
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] - 100, middle[1] + 60, steps=4)
        page.mouse.up()
        assert said.inner_text() == "window 72 %, level 60 %, zoom 1.0"
        assert page.locator(".burned").first.is_visible()
        page.mouse.wheel(0, -400)
        assert "zoom 2.7" in said.inner_text()
        page.keyboard.press("0")
        assert said.inner_text() == "window 100 %, level 50 %, zoom 1.0"
        page.keyboard.press("i")
        assert page.locator("[data-do=invert]").first.get_attribute("aria-pressed") == "true"
        assert stage.screenshot() != plain
        page.keyboard.press("i")
        assert not faults


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_every_page_fits_its_window_and_breaks_no_rule(
    browser: Browser, served: tuple[PagesNode, str], width: int, scheme: str
) -> None:
    node, url = served
    with signed_in(browser, url, width, scheme) as (page, faults):
        paths = ["/", "/?tab=read", f"/studies/{node.uid(FLAGGED)}", f"/studies/{node.uid(EMERGENT)}", "/failures"]
        for path in [*paths, "/figures", "/settings", "/model", "/audit?verify=true"]:
            page.goto(url + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.evaluate("[...document.images].every(image => image.alt)"), path
            assert page.locator("h1").count() == 1, path
            unnamed = (
                "[...document.querySelectorAll('button, a')].filter(e => !(e.innerText || e.ariaLabel || '').trim())"
            )
            assert page.evaluate(f"{unnamed}.map(e => e.outerHTML)") == [], path
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) > 380) == (scheme == "light")
        assert not faults


def luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb, as WCAG defines it."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    levels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_all_text_stands_out_from_every_ground_in_grey_as_well(scheme: int) -> None:
    """Contrast is a matter of luminance alone, so what holds here holds without colour vision."""
    style = (STATIC / "style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", style.split(":root {")[1 + scheme].split("}")[0]))
    inks = ("ink", "quiet", "link", "emergent", "abnormal", "routine", "done")
    grounds = ("page", "raised", "late-page", "note-page")
    pairs = [
        *itertools.product(inks, grounds),
        *itertools.product(["ink"], [name for name in colours if "page" in name]),
    ]
    assert len(pairs) > 30
    for ink, ground in pairs:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= LEAST_CONTRAST, f"{ink} on {ground}"
