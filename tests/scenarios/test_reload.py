"""Policies change while viewers are served: nobody is cut off, and nobody is shown what the new ones forbid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, page

MARKETS = """\
default: eu-eur
markets:
  eu-eur:
    name: Europe
    country: DE
    countries: [DE]
    currency: EUR
    language: de-DE
    tax_display: included
    jurisdiction: eu
"""
ROUTES = """\
routes:
  a:
    path: /a
    {a}
  b:
    path: /b
    fresh: 60s
  default:
    path: /{{rest...}}
    store: false
"""


def write(folder: Path, a: str = "fresh: 60s", more: str = "") -> None:
    (folder / "default.yaml").write_text(ROUTES.format(a=a) + more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "markets.yaml").write_text(MARKETS)
    write(folder)
    return folder


@pytest_asyncio.fixture
async def shop(tmp_path: Path, folder: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=folder) as shop:
        shop.origin.on("/a", page(b"a", cdn="", cache_control=""))
        shop.origin.on("/b", page(b"b", cdn="", cache_control=""))
        yield shop


async def looked(shop: EdgeShop) -> None:
    """The two looks at the files that a change needs."""
    for _ in range(2):
        await shop.gateway.reload.look()


async def test_a_changed_route_has_nothing_stored_and_the_others_have_all_they_had(shop, folder):
    for path in ("/a", "/b"):
        await shop.get(path)
        assert (await shop.get(path)).is_hit
    write(folder, "fresh: 90s")
    await looked(shop)
    assert not shop.gateway.reload.refused
    assert (await shop.get("/b")).is_hit
    again = await shop.get("/a")
    assert (again.is_hit, again.detail) == (False, "cold")
    assert "ttl=90" in (await shop.get("/a")).cache_status
    assert (shop.origin.count("/a"), shop.origin.count("/b")) == (2, 1)


async def test_a_policy_that_comes_back_finds_what_it_stored(shop, folder):
    await shop.get("/a")
    write(folder, "store: false")
    await looked(shop)
    write(folder)
    await looked(shop)
    assert (await shop.get("/a")).is_hit


async def test_the_next_request_of_a_connection_falls_under_the_new_policies(shop, folder):
    viewer = await shop.viewer()
    for number in range(2):
        viewer.get("/a", shop.host)
        assert (await viewer.response()).is_hit == (number > 0)
    write(folder, "refuse: 410\n    store: false")
    await looked(shop)
    viewer.get("/a", shop.host)
    assert (await viewer.response()).status == 410


async def test_a_request_under_way_ends_by_what_it_began_with(shop, folder):
    with shop.origin.holding("/a") as held:
        viewer = await shop.viewer()
        viewer.get("/a", shop.host)
        await held.arrived()
        write(folder, "fresh: 90s")
        await looked(shop)
        held.answer()
        response = await viewer.response()
    assert (response.status, response.body) == (200, b"a")
    assert "ttl=60" in response.cache_status
    viewer.get("/a", shop.host)
    assert not (await viewer.response()).is_hit


async def test_a_body_that_is_being_sent_goes_on_while_policies_change(shop, folder):
    shop.origin.on("/upload", Reply(b"done"))
    viewer = await shop.viewer()
    viewer.get("/upload", shop.host, "Content-Length: 10", method="POST")
    viewer.send(b"hello")
    await shop.has_waiters(1)
    write(folder, "fresh: 90s")
    await looked(shop)
    viewer.send(b"world")
    assert (await viewer.response()).body == b"done"
    assert shop.origin.last("/upload").body == b"helloworld"


async def test_nobody_takes_a_share_of_what_was_asked_for_under_the_old_policy(shop, folder):
    with shop.origin.holding("/a") as held:
        before = shop.asking("/a")
        await held.arrived()
        write(folder, "fresh: 90s")
        await looked(shop)
        after = shop.asking("/a")
        await held.arrived()
        held.answer()
        answers = [await before, await after]
    assert ["ttl=60" in answers[0].cache_status, "ttl=90" in answers[1].cache_status] == [True, True]
    assert not any("collapsed" in answer.cache_status for answer in answers)
    assert "ttl=90" in (await shop.get("/a")).cache_status


async def test_what_the_old_policy_stored_is_not_shown_when_the_origin_fails(shop, folder):
    write(folder, "fresh: 60s\n    stale_if_error: 1h")
    await looked(shop)
    await shop.get("/a")
    shop.later(70)
    shop.origin.on("/a", Reply(b"broken", 500))
    assert (await shop.get("/a")).detail == "stale-if-error"
    write(folder, "fresh: 60s\n    stale_if_error: 30m")
    await looked(shop)
    assert (await shop.get("/a")).status == 500


async def test_bad_policies_change_nothing_and_the_status_says_so(shop, folder):
    await shop.get("/a")
    good = shop.gateway.policies.digest
    write(folder, "fresh: 1 minute")
    await looked(shop)
    assert (await shop.get("/a")).is_hit
    host, port = shop.gateway.admin_address
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": "Bearer the-token"}) as client:
        said = (await client.get(f"http://{host}:{port}/status")).json()["policies"]
    assert said["digest"] == good
    assert said["refused"][0].startswith("default.yaml:4:12 ")
    assert said["refused_at"] >= said["loaded_at"]


async def test_an_origin_that_there_is_no_address_for_is_refused_until_a_restart(shop, folder):
    (folder / "origins.yaml").write_text("default: shop\norigins:\n  shop: {}\n  second: {}\n")
    good = shop.gateway.policies.digest
    await looked(shop)
    (fault,) = shop.gateway.reload.refused
    assert "origins.yaml declares the origin second" in fault
    assert "set NEARSHELF_ORIGINS=second=" in fault
    assert "read when a worker starts" in fault
    assert shop.gateway.policies.digest == good
    assert (await shop.get("/a")).status == 200


async def test_timeouts_and_the_default_origins_name_may_change(shop, folder):
    with shop.origin.holding("/a") as held:
        before = shop.asking("/a")
        await held.arrived()
        origins = "default: main\norigins:\n  main: {response_timeout: 7s, connect_timeout: 3s}\n"
        (folder / "origins.yaml").write_text(origins)
        await looked(shop)
        assert shop.gateway.reload.refused == ()
        held.answer()
        assert (await before).status == 200
    deadlines = shop.gateway.origins.default.deadlines
    assert (deadlines.connect_s, deadlines.head_s) == (3.0, 7.0)
    assert (await shop.get("/b")).status == 200
    assert list(shop.gateway.status()["origins"]) == ["main"]


async def test_a_market_that_is_added_is_served_at_once(shop, folder):

    swiss = MARKETS.partition("markets:\n")[2].replace("eu-eur", "ch-chf").replace("DE", "CH").replace("EUR", "CHF")
    (folder / "catalog.yaml").write_text("routes:\n  home:\n    path: /{market}/\n    fresh: 60s\n")
    await looked(shop)
    shop.origin.on("/ch-chf/", page(b"salut", cdn="", cache_control=""))
    assert (await shop.get("/ch-chf/")).detail == "policy-never-stores"
    (folder / "markets.yaml").write_text(MARKETS + swiss)
    await looked(shop)
    assert shop.gateway.reload.refused == ()
    assert (await shop.get("/ch-chf/")).detail == "cold"
    assert (await shop.get("/ch-chf/")).is_hit


async def test_many_changes_under_a_crowd_drop_no_connection(shop, folder):
    """Twenty viewers keep asking over one connection each while policies change ten times, good and bad by turns."""
    done = asyncio.Event()

    async def browse(path: str) -> int:
        viewer = await shop.viewer()
        asked = 0
        while not done.is_set():
            viewer.get(path, shop.host)
            response = await viewer.response()
            assert (response.status, response.body) == (200, path[1:].encode())
            asked += 1
        return asked

    crowd = [asyncio.create_task(browse("/a" if number % 2 else "/b")) for number in range(20)]
    for number in range(10):
        write(folder, "fresh: never" if number % 3 == 1 else f"fresh: {60 + number}s")
        await looked(shop)
        assert bool(shop.gateway.reload.refused) == (number % 3 == 1)
    done.set()
    assert min(await asyncio.gather(*crowd)) > 0
    assert shop.origin.count("/b") == 1
