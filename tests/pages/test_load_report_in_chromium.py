"""The report of a load run in a browser: no script, no network, nothing wider than a phone, readable by pointing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from loadtests.compare import compare
from loadtests.recorder.run import write_run
from loadtests.report.compared import write_compared
from loadtests.report.files import write_reports
from loadtests.report.trends import write_trend
from loadtests.trend import read_trend
from tests.support.load_runs import Shape, made_run

pytestmark = pytest.mark.chromium

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=path, args=arguments)
        except Error as exc:
            pytest.skip(f"{path} does not start: {str(exc).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("load")
    before = made_run(Shape(seconds=40, outage=(20, 30), stall=(32, 33)))
    after = made_run(Shape(seconds=40, noise=2))
    write_reports(before, folder)
    write_compared(compare(before, after, draws=50), folder / "compared.html")
    write_run(before, folder / "one")
    write_run(after, folder / "two")
    write_trend(read_trend(folder), folder / "trend.html")
    return folder


@pytest.mark.parametrize("name", ["report.html", "compared.html", "trend.html"])
@pytest.mark.parametrize("width", [320, 390, 820, 1366])
def test_a_page_asks_for_nothing_complains_of_nothing_and_fits_its_screen(browser, folder, name, width):
    with browser.new_page(viewport={"width": width, "height": 800}) as page:
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto((folder / name).as_uri())
        assert [url for url in asked if not url.startswith("file:")] == []
        assert len(asked) == 1
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown, hidden = ("narrow", "wide") if width <= 600 else ("wide", "narrow")
        assert page.locator(f"svg.{shown}").first.is_visible()
        assert not page.locator(f"svg.{hidden}").first.is_visible()


def test_its_style_is_allowed_by_its_own_policy(browser, folder):
    with browser.new_page() as page:
        page.goto((folder / "report.html").as_uri())
        assert page.evaluate("getComputedStyle(document.querySelector('h1')).fontSize") == "30px"


def test_text_in_drawings_is_as_large_on_a_phone_as_on_a_desk(browser, folder):
    def size_px(width: int) -> float:
        with browser.new_page(viewport={"width": width, "height": 800}) as page:
            page.goto((folder / "report.html").as_uri())
            heights: list[float] = page.eval_on_selector_all(
                "svg[role=img] text.tick",
                "all => all.map(each => each.getBoundingClientRect().height).filter(height => height > 0)",
            )
            return min(heights)

    assert size_px(390) >= 11
    assert size_px(1366) >= 11


def test_pointing_at_a_second_says_what_was_measured_in_it(browser, folder):
    with browser.new_page(viewport={"width": 1366, "height": 900}) as page:
        page.goto((folder / "report.html").as_uri())
        column = page.locator("#hit-ratio-over-time svg.wide .at").nth(12)
        assert not _visible(page, column.locator("text"))
        column.locator("rect").hover()
        assert _visible(page, column.locator("text"))
        assert "all edges" in column.locator("text").text_content()


def _visible(page: Page, locator) -> bool:
    found: bool = locator.evaluate("each => getComputedStyle(each).visibility === 'visible'")
    return found


def test_it_prints_light_without_its_navigation_and_without_folded_tables(browser, folder):
    with browser.new_page(color_scheme="dark") as page:
        page.goto((folder / "report.html").as_uri())
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 27)"
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator("nav").is_visible()
        assert page.locator("details:visible").count() == 0
        assert page.pdf(format="A4").startswith(b"%PDF-")
