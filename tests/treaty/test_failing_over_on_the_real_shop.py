"""Reads that fail over, on the real processes: whoever answers, a price that was replaced is not shown again.

The edge worker's first origin is an address at which nobody listens any more; its second is the real one, behind
barriers.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from edge.policy_files import PACKAGED_POLICIES
from tests.support.barriers import WITHIN_S, BarrierProxy, RealEdge
from tests.support.servers import Stack
from tests.treaty.test_barriers_on_the_real_shop import STAFF, Shop, price_of

ORIGINS = """\
default: first
origins:
  first: {reads_fail_over_to: second}
  second: {}
"""


@pytest.fixture
def gone() -> str:
    """The address of an origin that has gone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
async def shop(stack: Stack, tmp_path: Path, gone: str) -> AsyncIterator[Shop]:
    folder = tmp_path / "policies"
    shutil.copytree(PACKAGED_POLICIES, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.md", "schema"))
    (folder / "origins.yaml").write_text(ORIGINS)
    async with (
        BarrierProxy(stack.origin) as second,
        RealEdge(
            gone,
            stack.origin,
            stack.env["NEARSHELF_EDGE_KEY"],
            {"NEARSHELF_POLICIES": str(folder), "NEARSHELF_ORIGINS": f"second={second.url}"},
        ) as edge,
        httpx.AsyncClient(base_url=stack.origin, trust_env=False, timeout=WITHIN_S * 2) as http,
    ):
        login = {"email": stack.staff_email, "password": stack.staff_password}
        token = (await http.post(f"{STAFF}/login", json=login)).raise_for_status().json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        shop = Shop(stack, second, edge, http)
        try:
            yield shop
        finally:
            await shop.give_back()


async def test_a_change_that_is_live_is_what_the_second_origin_is_asked_for(shop):
    product = (await shop.products())[2]
    assert price_of(await shop.edge.ask(product.price_address)) == product.price
    assert price_of(await shop.is_a_hit(product.price_address)) == product.price
    live = await shop.change_price(product.sku, product.price + 100)
    assert price_of(await shop.edge.ask(product.price_address)) == product.price + 100
    asked = shop.proxy.answers_to(product.price_address)[-1]
    assert asked.minimum is not None
    assert asked.minimum >= live


async def test_an_old_price_that_the_second_origin_read_before_the_change_is_not_shown(shop):
    product = (await shop.products())[3]
    viewer, barrier = await shop.hold(product.price_address)
    held = await barrier.held()
    assert price_of(held) == product.price
    live = await shop.change_price(product.sku, product.price + 100)
    await shop.let_go(barrier)
    again = await shop.is_asked_again(held, live)
    assert price_of(again) == product.price + 100
    assert price_of(await viewer.response()) == product.price + 100
    assert price_of(await shop.is_a_hit(product.price_address)) == product.price + 100
    assert shop.stored_nothing_below(live)
