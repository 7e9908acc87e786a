"""The explorer of a running site in a browser: without JavaScript, live with it, by keyboard, in light and dark."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.support.scripted_origin import Reply, ScriptedOrigin
from tests.support.site import RunningSite

pytestmark = pytest.mark.chromium

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EVIL = "/<img src=x onerror=alert(1)>"


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


class InAThread:
    """The site and its origin, on a loop of their own: Playwright's calls keep this thread."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._origin = ScriptedOrigin()
        self._site = RunningSite(folder, "--name", "shopfront", workers=2)

    def __enter__(self) -> InAThread:
        self._thread.start()
        self._run(self._origin.start())
        fields = {"cache-control": "max-age=600", "cache-tag": "lamp, products, category-lamps", "etag": '"1"'}
        for path in ("/products/lamp", "/products/sofa"):
            self._origin.on(path, Reply(b"<h1>hello</h1>" * 40, headers=fields))
        self._site.arguments = (*self._site.arguments, "--origin", self._origin.url)
        self._run(self._site.__aenter__())
        self.url, self.admin, self.token = self._site.url, self._site.admin, self._site.token
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._site.__aexit__())
        self._run(self._origin.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(100)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InAThread]:
    with ExitStack() as stack:
        running = stack.enter_context(InAThread(tmp_path_factory.mktemp("site")))
        for path in ("/products/lamp", "/products/sofa", "/products/lamp"):
            running.get(path)
        yield running


def visit(browser: Browser, site: InAThread, **options: object) -> Page:
    credentials = {"username": "anybody", "password": site.token}
    page = browser.new_context(http_credentials=credentials, **options).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(15_000)
    return page


def test_it_works_without_javascript(browser, site):
    page = visit(browser, site, java_script_enabled=False)
    page.goto(site.admin)
    assert page.get_by_role("heading", level=1).inner_text() == "shopfront"
    assert page.locator("#requests tr").count() >= 2
    page.get_by_label("Tag", exact=True).fill("lamp")
    page.get_by_role("button", name="Show").click()
    assert page.locator("#entries tbody tr").count() == 2
    page.get_by_role("link", name="/products/sofa", exact=True).click()
    assert page.get_by_role("heading", level=2).first.inner_text() == "Stored response"
    page.locator("summary").click()
    assert "max-age=600" in page.locator("details").inner_text()
    page.get_by_role("button", name="Purge products").click()
    assert page.locator(".done").inner_text().startswith("Purged (hard) products at ")
    assert "2 of 2 workers" in page.locator(".done").inner_text()
    page.context.close()


def test_requests_appear_as_they_happen_and_stay_text(browser, site):
    page = visit(browser, site)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(site.admin) else None)
    page.goto(site.admin)
    page.locator(".live.on").wait_for()
    site.get(EVIL)
    page.locator("#requests .path", has_text="img").first.wait_for()
    assert page.locator("#requests img").count() == 0
    page.get_by_role("button", name="Pause").click()
    rows = page.locator("#requests tr").count()
    site.get("/products/lamp?paused")
    page.get_by_role("button", name="Go on").wait_for()
    assert page.locator("#requests tr").count() == rows
    assert faults == []
    page.context.close()


@pytest.mark.parametrize("path", ["/", "/entry?url=/products/lamp"])
def test_it_is_readable_in_light_and_dark_and_overflows_nowhere(browser, site, path):
    contrast = """() => {
        const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92
            : ((v + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
        const parts = text => text.match(/[\\d.]+/g).map(Number);
        const behind = element => { for (let at = element; at; at = at.parentElement) {
            const found = parts(getComputedStyle(at).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found; } return [255, 255, 255]; };
        return [...document.querySelectorAll('main *, header *')]
            .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
            .filter(element => element.checkVisibility())
            .map(element => { const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))]
                .sort((x, y) => y - x); return [element.outerHTML.slice(0, 90), (a + .05) / (b + .05)]; })
            .filter(([, ratio]) => ratio < 4.5); }"""
    site.get("/products/lamp")
    grounds = set()
    for scheme in ("light", "dark"):
        page = visit(browser, site, color_scheme=scheme, viewport={"width": 320, "height": 800})
        page.goto(site.admin + path)
        assert page.evaluate(contrast) == [], scheme
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.context.close()
    assert len(grounds) == 2


def test_everything_can_be_reached_by_keyboard(browser, site):
    page = visit(browser, site)
    page.goto(site.admin)
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the entries"
    assert page.locator(":focus").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("(document.activeElement.name || document.activeElement.innerText || '').slice(0, 20)"))
    assert {"key", "tag", "older", "state", "Show", "what", "name", "soft", "Purge"} <= seen
    page.context.close()


def test_tables_fit_a_desktop_and_show_what_matters_first_on_a_phone(browser, site):
    for _ in range(12):
        site.get("/products/lamp")
        site.get("/products/sofa")
    page = visit(browser, site, viewport={"width": 1280, "height": 900})
    page.goto(site.admin)
    for table in page.locator(".scroll").all():
        assert table.evaluate("each => each.scrollWidth - each.clientWidth") <= 0
    page.set_viewport_size({"width": 390, "height": 844})
    for column in (".path", ".number >> nth=0", ".pill"):
        box = page.locator("#requests tr").first.locator(column).first.bounding_box()
        assert box is not None
        assert 0 <= box["x"] < box["x"] + box["width"] <= 370
    page.context.close()
