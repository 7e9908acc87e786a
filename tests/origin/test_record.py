"""The origin's access log: a line for each request, its own account of what edges fetched."""

from __future__ import annotations

import json
import os

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cache_policies.feed import FEED_PATH
from cache_policies.fields import EDGE_KEY_FIELD
from origin.app import EdgeKey, Faults
from origin.metrics import Metrics
from origin.record import AccessLog, Recorded, Records

KEY = "0123456789abcdef"


async def home(request: Request) -> Response:
    request.state.source = "replica-0"
    return PlainTextResponse("hello")


async def parts(request: Request) -> Response:
    async def body():
        yield b"one"
        yield b"three"

    return StreamingResponse(body(), 203)


async def search(request: Request) -> Response:
    return PlainTextResponse("found")


async def ask(request: Request) -> Response:
    return PlainTextResponse("answer")


async def broken(request: Request) -> Response:
    raise ConnectionResetError


@pytest.fixture
async def logged(tmp_path):
    """A client, and what reads the lines that were written since the last time."""
    path = tmp_path / "logs" / "origin.log"
    log = AccessLog(str(path))
    records = Records(Metrics(), log)
    routes = [
        Route("/{market}/", home, name="home"),
        Route("/parts", parts, name="parts"),
        Route("/console/search", search, name="search"),
        Route("/broken", broken, name="broken"),
        Route(FEED_PATH, ask, methods=["POST"], name="edge-feed"),
    ]
    records.learn(routes)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Recorded, records=records), Middleware(Faults), Middleware(EdgeKey, key=KEY)],
    )
    read = 0

    def lines() -> list[dict]:
        nonlocal read
        found = [json.loads(line) for line in path.read_text().splitlines()]
        new, read = found[read:], len(found)
        return new

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://origin.test") as client:
        yield client, lines
    log.close()


async def test_a_line_says_who_asked_for_what_and_where_it_came_from(logged):
    client, lines = logged
    edge = {EDGE_KEY_FIELD: KEY, "x-forwarded-host": "shop.example:8082"}
    await client.get("/eu-eur/?page=2", headers=edge)
    [line] = lines()
    assert line.pop("time") > 1.7e9
    assert 0 <= line.pop("ms") < 10_000
    assert line == {
        "worker": os.getpid(),
        "edge_key": True,
        "host": "shop.example:8082",
        "method": "GET",
        "route": "home",
        "path": "/eu-eur/",
        "query": "page=2",
        "status": 200,
        "bytes": 5,
        "source": "replica-0",
    }


async def test_who_is_no_edge_has_its_own_host_and_whatever_it_says_of_others_counts_for_nothing(logged):
    client, lines = logged
    await client.get("/parts", headers={"x-forwarded-host": "shop.example"})
    [line] = lines()
    assert (line["edge_key"], line["host"], line["status"], line["bytes"], line["source"]) == (
        *(False, "origin.test", 203, 8, None),
    )
    await client.get("/parts", headers={EDGE_KEY_FIELD: "wrong"})
    [line] = lines()
    assert (line["edge_key"], line["status"], line["route"]) == (False, 403, "none")


async def test_what_staff_look_for_is_nobody_s_business(logged):
    client, lines = logged
    await client.get("/console/search?q=secret")
    [line] = lines()
    assert (line["route"], line["query"]) == ("console", "")


async def test_a_request_that_failed_has_its_line(logged):
    client, lines = logged
    await client.get("/broken")
    [line] = lines()
    assert (line["route"], line["status"]) == ("broken", 500)


async def test_questions_of_edges_are_counted_and_not_logged(logged):
    client, lines = logged
    await client.post(FEED_PATH, headers={EDGE_KEY_FIELD: KEY})
    assert lines() == []


async def test_a_path_with_a_line_break_stays_one_line(logged):
    client, lines = logged
    await client.get("/a%0Ab%22/")
    [line] = lines()
    assert line["path"] == '/a\nb"/'


def test_a_full_disk_loses_lines_and_nothing_else():
    log = AccessLog("/dev/full")
    log.write({"a": 1})
    log.close()
