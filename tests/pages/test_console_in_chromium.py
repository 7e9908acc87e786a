"""The console in a real browser: a price watched until it is live, after a reload too, and without JavaScript."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

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
def sku(stack: Stack) -> str:
    listed = httpx.get(f"{stack.origin}/api/v1/eu-eur/products", trust_env=False).json()
    return listed["products"][1]["sku"]


def signed_in(browser: Browser, stack: Stack, address: str, **options: object) -> Page:
    """A page at `address` of the console, reached through the login."""
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]  # any of Playwright's options
    page.set_default_timeout(20_000)
    page.goto(stack.origin + address)
    page.get_by_label("E-mail").fill(stack.staff_email)
    page.get_by_label("Password").fill(stack.staff_password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(stack.origin + address)
    return page


def save(page: Page, amount: str) -> None:
    """Change the price in Europe."""
    europe = page.get_by_role("article", name="Europe")
    europe.get_by_text("Change the price").click()
    europe.get_by_label("New price in EUR").fill(amount)
    europe.get_by_role("button", name="Save and watch").click()
    page.wait_for_url(re.compile(r".*/console/changes/[0-9.]+$"))


@pytest.mark.parametrize("script", [True, False], ids=["with the script", "without JavaScript"])
def test_a_changed_price_is_watched_until_it_is_live_and_read_back(browser, stack, sku, script):
    page = signed_in(browser, stack, f"/console/products/{sku}", java_script_enabled=script)
    amount = "31.41" if script else "27.18"
    save(page, amount)
    expect(page.locator(".banner.live .big")).to_have_text(re.compile(r"Live after [0-9,]+ ms"), timeout=20_000)
    expect(page.locator(".worker.acknowledged")).to_have_count(6)
    expect(page.locator(".reads li.right")).to_have_count(3)
    for edge in ("us", "eu", "ap"):
        expect(page.locator(".reads")).to_contain_text(f"{edge} shows €{amount}")
    if script:
        expect(page.locator("#said")).to_contain_text("6 of 6 workers")
        expect(page).to_have_title(re.compile("^live in"))
    page.reload()
    expect(page.locator(".banner.live")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("article", name="Europe")).to_contain_text(f"€{amount}")
    page.context.close()


def test_an_edge_that_is_cut_off_is_named_and_its_lease_waited_out(browser, faults, sku):
    page = signed_in(browser, faults, f"/console/products/{sku}")
    faults.ask("cut", edge="eu", channel="questions")
    save(page, "16.18")
    expect(page.locator(".banner.live")).to_be_visible(timeout=20_000)
    late = page.get_by_role("article").filter(has_text="Edge eu").locator(".worker.lease-ran-out")
    expect(late).to_have_count(2)
    expect(late.first).to_contain_text("its lease ran out")
    expect(page.locator(".reads")).to_contain_text("eu shows €16.18")
    page.context.close()


def test_every_page_fits_a_phone_and_can_be_worked_by_keyboard(browser, stack, sku):
    page = signed_in(browser, stack, f"/console/products/{sku}", viewport={"width": 320, "height": 640})
    for address in ("/console", f"/console/products/{sku}", "/console/purge", "/console/audit", "/console?q=a"):
        page.goto(stack.origin + address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, address
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
            ".filter(field => !field.labels.length || !field.labels[0].textContent.trim()).length"
        )
        assert unnamed == 0, address
    page.goto(f"{stack.origin}/console/purge")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.context.close()
