"""The storefront in a real browser, through an edge: without JavaScript, narrow, dark, and back again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.support.servers import Stack

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(180)]

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
def shop(stack: Stack) -> str:
    return stack.edges["us"]


@pytest.fixture(scope="module")
def addresses(browser: Browser, shop: str) -> dict[str, str]:
    """A page of each kind; the product is one with variants."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{shop}/eu-eur/c/table/mugs-and-cups/mugs")
    products = [link.get_attribute("href") or "" for link in page.locator(".card a").all()]
    chosen = ""
    for product in products:
        page.goto(shop + product)
        if page.locator(".variants a").count() > 1:
            chosen = product
            break
    context.close()
    assert chosen, "no mug has variants"
    return {"home": "/eu-eur/", "category": "/eu-eur/c/kitchen", "product": chosen, "lost": "/eu-eur/products/nope"}


def visit(browser: Browser, **options: object) -> Page:
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]  # any of Playwright's options
    page.set_default_timeout(15_000)
    return page


def wait_for_pictures(page: Page) -> None:
    page.evaluate("() => Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode(); }))")


def test_the_shop_works_without_javascript(browser: Browser, shop: str, addresses: dict[str, str]):
    page = visit(browser, java_script_enabled=False)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("response", lambda answer: faults.append(answer.url) if answer.status >= 400 else None)
    page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(shop) else None)
    page.goto(shop + addresses["home"])
    page.get_by_role("navigation", name="Departments").get_by_role("link", name="Kitchen").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Kitchen"
    page.get_by_role("link", name="Price, low to high").click()
    values = [int(price.get_attribute("value") or "") for price in page.locator(".price").all()]
    assert values == sorted(values)
    page.get_by_role("link", name="Next").click()
    assert page.url.endswith("?page=2&sort=price-up")
    page.goto(shop + addresses["product"])
    choice = page.locator(".variants a").nth(1)
    price, target = choice.locator(".price").inner_text(), choice.get_attribute("href")
    choice.click()
    assert page.url == shop + (target or "")
    assert page.locator(".offer .price").inner_text() == price
    assert page.locator(".variants a[aria-current]").count() == 1
    assert faults == []


def test_the_switcher_keeps_the_page_and_is_remembered(browser: Browser, shop: str, addresses: dict[str, str]):
    page = visit(browser, java_script_enabled=False)
    page.goto(f"{shop}{addresses['category']}?sort=name")
    assert page.locator(".price").first.inner_text().startswith("€")
    page.locator(".market summary").click()
    page.get_by_role("button", name="United Kingdom").click()
    assert page.url == f"{shop}/gb-gbp/c/kitchen?sort=name"
    assert page.locator(".price").first.inner_text().startswith("£")
    [cookie] = [each for each in page.context.cookies() if each.get("name") == "ns_market"]
    assert (cookie.get("value"), cookie.get("httpOnly")) == ("gb-gbp", True)


@pytest.mark.parametrize("kind", ["home", "category", "product", "lost"])
def test_nothing_moves_and_nothing_overflows(browser: Browser, shop: str, addresses: dict[str, str], kind: str):
    for width in (320, 375, 768, 1280):
        page = visit(browser, viewport={"width": width, "height": 800})
        page.add_init_script(
            "window.shift = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())"
            " window.shift += entry.value; }).observe({type: 'layout-shift', buffered: true});"
        )
        page.goto(shop + addresses[kind])
        wait_for_pictures(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("window.shift") == 0
        page.context.close()


@pytest.mark.parametrize("kind", ["home", "category", "product", "lost"])
def test_targets_are_large_enough_and_focus_is_seen(browser: Browser, shop: str, addresses: dict[str, str], kind: str):
    page = visit(browser, viewport={"width": 375, "height": 800})
    page.goto(shop + addresses[kind])
    small = page.evaluate(
        """() => [...document.querySelectorAll('a, button, summary, input:not([type=hidden])')]
            .filter(element => element.checkVisibility() && !element.matches('.skip'))
            .map(element => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
            .filter(([, box]) => box.width < 24 || box.height < 24).map(([text]) => text)"""
    )
    assert small == []
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the page"
    assert skip.evaluate("element => element.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.locator(":focus").evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


def test_dark_is_dark_and_readable(browser: Browser, shop: str, addresses: dict[str, str]):
    # WCAG 2.2: 4.5 to 1 for text, against the nearest background that is not see-through.
    contrast = """() => {
        const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92
            : ((v + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
        const parts = text => text.match(/[\\d.]+/g).map(Number);
        const behind = element => { for (let at = element; at; at = at.parentElement) {
            const found = parts(getComputedStyle(at).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found; } return [255, 255, 255]; };
        return [...document.querySelectorAll('main *, header *, footer *')]
            .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
            .filter(element => element.checkVisibility() && !element.closest('.vh'))
            .map(element => { const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))]
                .sort((x, y) => y - x); return [element.outerHTML.slice(0, 90), (a + .05) / (b + .05)]; })
            .filter(([, ratio]) => ratio < 4.5); }"""
    grounds = {}
    for scheme in ("light", "dark"):
        page = visit(browser, color_scheme=scheme)
        for address in addresses.values():
            page.goto(shop + address)
            assert page.evaluate(contrast) == [], (scheme, address)
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds == {"light": "rgb(251, 248, 243)", "dark": "rgb(22, 21, 19)"}


def test_reduced_motion_and_print(browser: Browser, shop: str, addresses: dict[str, str]):
    page = visit(browser, reduced_motion="reduce")
    page.goto(shop + addresses["category"])
    assert page.locator(".card img").first.evaluate("element => getComputedStyle(element).transitionDuration") == "0s"
    page.emulate_media(media="print")
    assert not page.locator(".departments").is_visible()
    assert page.locator(".price").first.is_visible()


def test_a_page_that_the_browser_kept_alive_is_asked_for_anew(browser: Browser, shop: str, addresses: dict[str, str]):
    page = visit(browser)
    page.goto(shop + addresses["product"])
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert not page.locator(".offer .price").is_visible()
    with page.expect_navigation():
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    assert page.locator(".offer .price").is_visible()


def test_reload_and_back_show_the_new_price(browser: Browser, stack: Stack, shop: str, addresses: dict[str, str]):
    page = visit(browser, java_script_enabled=False)
    page.goto(shop + addresses["product"])
    offer = page.locator(".offer .price")
    sku, before = offer.get_attribute("data-sku") or "", int(offer.get_attribute("value") or "")
    listing = page.locator(".crumbs a").last
    listing.click()
    assert urlsplit(page.url).path.startswith("/eu-eur/c/")
    after = before + 100
    stack.nearshelf("price", "set", sku, "--market", "eu-eur", f"{after // 100}.{after % 100:02d}", "--wait")
    page.go_back()
    assert int(offer.get_attribute("value") or "") == after
    page.reload()
    assert int(offer.get_attribute("value") or "") == after
    listing.click()
    assert int(page.locator(f".price[data-sku='{sku}']").get_attribute("value") or "") == after
