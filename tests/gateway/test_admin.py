"""The admin listener of a running worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from cache_policies.feed import LEASE_S, PURGE_PATH
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Reply, page

PAGE = "/eu-eur/products/lamp"


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path) as shop:
        yield shop


@pytest_asyncio.fixture
async def admin(shop: EdgeShop) -> AsyncIterator[httpx.AsyncClient]:
    host, port = shop.gateway.admin_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield client


async def test_a_worker_is_ready_when_it_has_applied_the_log_and_degraded_past_its_lease(shop, admin):
    assert (await admin.get("/livez")).status_code == 200
    assert (await admin.get("/readyz")).json() == {"status": "ready"}
    shop.later(LEASE_S, lease=False)
    degraded = await admin.get("/readyz")
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    shop.gateway.follower.caught_up = False
    starting = await admin.get("/readyz")
    assert (starting.status_code, starting.json()["status"]) == (503, "starting")


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "the-token"}])
async def test_the_status_wants_the_token(admin, header):
    refused = await admin.get("/status", headers=header)
    assert refused.status_code == 401
    assert "applied" not in refused.text


async def test_the_status_says_what_was_applied_and_how_requests_ended(shop, admin):
    shop.origin.on(PAGE, page())
    for lines in ((), (), ('If-None-Match: "v1"',)):
        await shop.get(PAGE, *lines)
    shop.purge("p:eu-eur:other")
    status = (await admin.get("/status", headers={"authorization": "Bearer the-token"})).json()
    assert (status["applied"], status["lease_held"]) == ("1.6", True)
    assert status["cache"] == {"hit": 2, "miss:cold": 1}
    assert status["store"]["responses"] == 1
    assert status["viewers_accepted"] == 3


async def test_nothing_but_get_is_answered_and_nothing_of_it_on_the_viewers_side(shop, admin):
    assert (await admin.post("/status")).status_code == 405
    assert (await shop.get("/readyz")).status == 404


@pytest.mark.parametrize("body", [b"thanks", b"[]", b'{"position": "1.6"}'])
async def test_a_log_whose_answer_cannot_be_read_is_said(shop, admin, body):
    shop.origin.on(PURGE_PATH, Reply(body))
    answer = await admin.post("/purge", json={"all": True}, headers={"authorization": "Bearer the-token"})
    assert answer.status_code == 502
    assert "cannot be read" in answer.json()["error"]
