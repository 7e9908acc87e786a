"""The explorer of one worker, as JSON and as pages; purges through it; and who may look."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cache_policies.feed import LEASE_S, PURGE_PATH, PurgeWish
from edge.gateway import recent as recent_module
from edge.gateway.explorer.html import join, tag
from edge.gateway.purges import BadOrder, order_of
from tests.support.edge_shop import EdgeShop
from tests.support.html_page import read_page
from tests.support.scripted_origin import Reply, Seen, page

LAMP = "/eu-eur/products/lamp"
SOFA = "/eu-eur/products/sofa"
BEARER = {"authorization": "Bearer the-token"}
EVIL = "<script>alert(1)</script>\"'&"


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path) as shop:
        shop.origin.on(LAMP, page(tags="p:eu-eur:lamp"))
        shop.origin.on(SOFA, page(tags="p:eu-eur:sofa, c:eu-eur:living"))
        yield shop


@pytest_asyncio.fixture
async def admin(shop: EdgeShop) -> AsyncIterator[httpx.AsyncClient]:
    host, port = shop.gateway.admin_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, headers=BEARER) as client:
        yield client


async def entries(admin: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await admin.get("/entries", params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


# --- entries ---


async def test_entries_tell_key_state_tags_and_position(shop, admin):
    await shop.get(SOFA)
    for lines in ((), (), ('If-None-Match: "v1"',)):
        await shop.get(SOFA, *lines)
    shop.later(7.0)
    (entry,) = await entries(admin)
    assert entry["target"] == SOFA
    assert (entry["authority"], entry["market"], entry["status"]) == (shop.host, "eu-eur", 200)
    assert (entry["state"], entry["age_s"], entry["ttl_s"], entry["variants"]) == ("fresh", 7, 53, 1)
    assert {"p:eu-eur:sofa", "c:eu-eur:living", f"path:{SOFA}"} <= set(entry["tags"])
    assert (entry["position"], entry["hits"]) == ("1.5", 3)
    assert entry["size_bytes"] > entry["body_bytes"] == len(b"<p>hello</p>")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"key": "LAMP"}, {LAMP}),
        ({"key": "127.0.0.1"}, {LAMP, SOFA}),
        ({"tag": "c:eu-eur:living"}, {SOFA}),
        ({"tag": "c:eu-eur"}, set()),
        ({"older": "10"}, {LAMP}),
        ({"state": "fresh"}, {LAMP, SOFA}),
        ({"state": "purged"}, set()),
        ({"limit": "1"}, {LAMP}),
    ],
)
async def test_entries_are_found_by_key_tag_age_and_state(shop, admin, asked, expected):
    await shop.get(LAMP)
    shop.later(10.0)
    await shop.get(SOFA)
    assert {entry["target"] for entry in await entries(admin, **asked)} == expected


async def test_the_state_follows_time_purges_and_the_lease(shop, admin):
    await shop.get(LAMP)
    assert [(entry["state"], entry["why"]) for entry in await entries(admin)] == [("fresh", "")]
    shop.purge("p:eu-eur:lamp", soft=True)
    assert (await entries(admin))[0]["why"] == "purged-soft"
    shop.purge("p:eu-eur:lamp")
    assert [(entry["state"], entry["why"]) for entry in await entries(admin)] == [("purged", "purged-hard")]
    shop.later(LEASE_S, lease=False)
    await shop.get(SOFA)
    assert {entry["why"] for entry in await entries(admin, key="sofa")} <= {"lease-lapsed"}


@pytest.mark.parametrize(
    ("cdn", "state", "shown"),
    [
        pytest.param("max-age=60, stale-while-revalidate=30", "stale", "hit; ttl=", id="may be shown stale"),
        pytest.param("max-age=60, stale-while-revalidate=0", "kept", "fwd=stale", id="may not"),
    ],
)
async def test_what_is_below_a_soft_floor_is_called_what_it_is_good_for(shop, admin, cdn, state, shown):
    shop.origin.on(LAMP, page(tags="p:eu-eur:lamp", cdn=cdn))
    await shop.get(LAMP)
    shop.purge("p:eu-eur:lamp", soft=True)
    assert [(entry["state"], entry["why"]) for entry in await entries(admin)] == [(state, "purged-soft")]
    assert shown in (await shop.get(LAMP)).headers["cache-status"]


@pytest.mark.parametrize(
    "asked", ["older=x", "older=-1", "older=inf", "limit=0", "limit=100000", "limit=a", "state=odd"]
)
async def test_a_filter_that_cannot_be_read_is_refused(admin, asked):
    refused = await admin.get(f"/entries?{asked}")
    assert (refused.status_code, "error" in refused.json()) == (400, True)


async def test_one_entry_is_told_with_its_fields_and_what_would_be_decided(shop, admin):
    await shop.get(LAMP)
    found = (await admin.get("/entries/one", params={"url": f"http://{shop.host}{LAMP}"})).json()
    assert found["decision"]["outcome"]["cache"] == "miss"
    assert ["content-type", "text/html; charset=utf-8"] in found["stored"][0]["fields"]
    assert (await admin.get("/entries/one", params={"url": "lamp"})).status_code == 400


# --- requests ---


async def test_requests_are_told_with_their_reasons(shop, admin):
    await shop.get(LAMP)
    await shop.get(LAMP)
    before = (await admin.get("/requests")).json()["requests"]
    assert [(each["path"], each["cache"], each.get("reason")) for each in before] == [(LAMP, "miss", "cold")]
    await shop.get(LAMP)
    await shop.get(SOFA)
    now = (await admin.get("/requests")).json()["requests"]
    assert [(each["path"], each["cache"]) for each in now] == [(SOFA, "miss"), (LAMP, "hit"), (LAMP, "miss")]
    assert len((await admin.get("/requests?limit=1")).json()["requests"]) == 1


async def test_looking_leaves_the_access_log_whole(shop, admin):
    await shop.get(LAMP)
    await admin.get("/requests")
    await shop.get(LAMP)
    assert [line["cache"] for line in shop.log_lines()] == ["miss", "hit"]


async def test_hits_are_not_gathered_while_nobody_looks(shop, admin, monkeypatch):
    monkeypatch.setattr(recent_module, "LOOKING_S", 0.0)
    await admin.get("/requests")
    await shop.until(lambda: shop.gateway.book.log is shop.gateway._log)
    await shop.get(LAMP)
    await shop.get(LAMP)
    assert list(shop.gateway._recent._lines) == []


async def test_the_live_stream_tells_requests_as_they_happen(shop, admin):
    async with admin.stream("GET", "/requests/live") as stream:
        lines = stream.aiter_lines()
        told = json.loads((await _data(lines)).removeprefix("data: "))
        assert told == {"requests": [], "skipped": 0}
        await shop.get(LAMP)
        async with asyncio.timeout(5):
            while not told["requests"]:
                told = json.loads((await _data(lines)).removeprefix("data: "))
    assert [each["path"] for each in told["requests"]] == [LAMP]


async def _data(lines: AsyncIterator[str]) -> str:
    async with asyncio.timeout(5):
        while True:
            line = await anext(lines)
            if line:
                return line


# --- purges ---


def keeper(done: Mapping[str, Any] | None = None, status: int = 200) -> tuple[list[PurgeWish], Any]:
    """The origin's answer to purges, and what it was asked."""
    asked: list[PurgeWish] = []

    def answer(seen: Seen) -> Reply:
        assert seen.headers["nearshelf-edge-key"] == "the-key"
        wish = PurgeWish.from_json(seen.body)
        asked.append(wish)
        found = done or {
            "position": "1.6", "id": "x", "kind": wish.kind.value, "tags": list(wish.tags), "live": True,
            "seconds": 0.01, "workers": [{"edge": "eu", "worker": "w", "outcome": "acknowledged", "ms": 3.0}],
        }  # fmt: skip
        return Reply(json.dumps(found).encode(), status, {"content-type": "application/json"})

    return asked, answer


async def test_a_purge_goes_to_whoever_keeps_the_log_and_tells_what_was_done(shop, admin):
    asked, answer = keeper()
    shop.origin.on(PURGE_PATH, answer)
    await shop.get(LAMP)
    done = await admin.post(
        "/purge",
        json={"tags": ["P:eu-eur:Lamp"], "paths": ["/eu-eur/products/caf%c3%a9?x=1"], "soft": True, "reason": "r"},
    )
    assert done.status_code == 200, done.text
    assert done.json() | {"seconds": 0} == {
        "position": "1.6", "id": "x", "kind": "soft", "live": True, "seconds": 0, "objects": 1,
        "tags": ["p:eu-eur:lamp", "path:/eu-eur/products/caf%c3%a9"],
        "workers": [{"edge": "eu", "worker": "w", "outcome": "acknowledged", "ms": 3.0}],
    }  # fmt: skip
    assert [(wish.edge, wish.kind.value, wish.reason) for wish in asked] == [("eu", "soft", "r ordered from 127.0.0.1")]


@pytest.mark.parametrize(
    ("reply", "status", "said"),
    [
        (Reply(b'{"detail": "not a tag"}', 422), 400, "nothing was purged: not a tag"),
        (Reply(b"oops", 500), 503, "nothing was purged: status 500"),
        (Reply(reset=True), 504, "purged or not, order it again"),
    ],
)
async def test_a_purge_that_did_not_get_through_is_said_so(shop, admin, reply, status, said):
    shop.origin.on(PURGE_PATH, reply)
    failed = await admin.post("/purge", json={"tags": ["a"]})
    assert failed.status_code == status
    assert said in failed.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "{}", '{"tags": []}', '{"tags": "a"}', '{"tags": [1]}', '{"all": 1}', '{"tags": ["a"], "all": true}',
        '{"tags": ["a"], "soft": "yes"}', '{"tags": ["a"], "wildcard": true}', '{"tags": [""]}', '{"tags": ["*", "a"]}',
        '{"paths": ["relative"]}', '{"paths": ["/a/../b"]}', '{"tags": ["a"], "reason": 1}',
        json.dumps({"tags": [f"t{number}" for number in range(1_001)]}), json.dumps({"tags": ["x" * 257]}),
        json.dumps({"tags": ["x" * 70_000]}),
    ],
)  # fmt: skip
async def test_an_order_that_cannot_be_read_is_refused_before_anybody_hears_of_it(shop, admin, body):
    refused = await admin.post("/purge", content=body)
    assert refused.status_code == 400
    assert refused.json()["error"]
    assert shop.origin.count(PURGE_PATH) == 0


async def test_the_viewers_side_knows_no_purge(shop):
    assert (await shop.get(LAMP, method="PURGE")).status == 405


async def test_too_many_purges_are_put_off(shop, admin):
    shop.origin.on(PURGE_PATH, keeper()[1])
    statuses = [(await admin.post("/purge", json={"tags": ["a"]})).status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]
    shop.later(1.0)
    assert (await admin.post("/purge", json={"tags": ["a"]})).status_code == 200


def test_everything_and_tags_as_the_origin_spells_them():
    assert order_of({"all": True}).tags == ("*",)
    assert order_of({"tags": ["*"]}).tags == ("*",)
    assert order_of({"tags": [" Post%2012 ", "post%2012", "path:/A"]}).tags == ("post%2012", "path:/a")
    assert order_of({"paths": ["http://any.example/a?b#c"]}).tags == ("path:/a",)
    with pytest.raises(BadOrder, match="is not part of an order"):
        order_of({"tags": ["a"], "\n": 1})


# --- who may look ---


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


GUARDED = ("/", "/entry", "/status", "/overview", "/explain", "/entries", "/entries/one", "/requests", "/requests/live")


@pytest.mark.parametrize("path", GUARDED)
async def test_nothing_is_shown_without_the_token(shop, path):
    host, port = shop.gateway.admin_address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        for header in ({}, {"authorization": "Bearer x"}, {"authorization": basic("x")}, {"authorization": "Basic !"}):
            refused = await client.get(path, headers=header)
            assert refused.status_code == 401
            assert "Basic" in refused.headers["www-authenticate"]
        assert (await client.post("/purge", json={"tags": ["a"]})).status_code == 401


async def test_a_browser_may_purge_from_the_listeners_own_page_only(shop, admin):
    shop.origin.on(PURGE_PATH, keeper()[1])
    here = str(admin.base_url).rstrip("/")
    for fields, status in (
        ({"origin": here}, 303),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": here}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
    ):
        answer = await admin.post(
            "/purge", data={"what": "tag", "name": "a"}, headers={"authorization": basic("the-token"), **fields}
        )
        assert answer.status_code == status, fields
    assert (await admin.get("/", headers={"authorization": basic("the-token")})).status_code == 200


async def test_many_wrong_tokens_are_put_off_and_the_right_one_is_not(shop, admin):
    wrong = {"authorization": "Bearer wrong"}
    statuses = [(await admin.get("/status", headers=wrong)).status_code for _ in range(31)]
    assert statuses == [401] * 30 + [429]
    right = await admin.get("/status")
    assert (right.status_code, right.json()["admin_refused"]) == (200, 31)
    shop.later(60.0)
    assert (await admin.get("/status", headers=wrong)).status_code == 401


# --- pages ---


async def test_the_front_page_shows_requests_and_entries_without_javascript(shop, admin):
    await shop.get(LAMP)
    answer = await admin.get("/")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    for text in (LAMP, "cold", "p:eu-eur:lamp", "fresh", "1.5", "Answered from here"):
        assert text in answer.text
    assert " style=" not in answer.text
    assert "http" not in answer.text.replace(f"http%3A%2F%2F{shop.host.replace(':', '%3A')}", "")
    read_page(answer.text)
    entry = await admin.get("/entry", params={"url": f"http://{shop.host}{LAMP}"})
    assert entry.status_code == 200
    assert "Stored response" in entry.text
    for name in ("explorer.css", "explorer.js", "favicon.svg"):
        assert (await admin.get(f"/{name}", headers={"authorization": ""})).status_code == 200


async def test_whatever_an_origin_or_a_viewer_says_stays_text(shop, admin):
    shop.origin.on(LAMP, page(tags="p:eu-eur:lamp", etag='"<script>alert(1)</script>"'))
    await shop.get(LAMP)
    await shop.get(f"/eu-eur/{EVIL.replace(' ', '')}".replace("<", "%3C").replace(">", "%3E"))
    asked = {"key": EVIL, "tag": EVIL, "done": EVIL}
    for path, params in (
        ("/", asked),
        ("/", {}),
        ("/entry", {"url": f"http://{shop.host}{LAMP}"}),
        ("/entry", {"url": EVIL}),
        ("/", {"state": EVIL}),
    ):
        text = (await admin.get(path, params=params)).text
        assert "<script>alert" not in text
        assert "<script" in text


async def test_a_form_that_cannot_be_carried_out_is_answered_with_a_page(shop, admin):
    fields = {"authorization": basic("the-token"), "sec-fetch-site": "same-origin"}
    refused = await admin.post("/purge", data={"what": "tag", "name": ""}, headers=fields)
    assert (refused.status_code, refused.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "write the tag or the path" in refused.text


def test_html_escapes_what_is_not_html():
    made = tag("a", "<b>", tag("i", 1), None, href='"x"', aria_label="&", hidden=False, disabled=True)
    assert made == '<a href="&quot;x&quot;" aria-label="&amp;" disabled>&lt;b&gt;<i>1</i></a>'
    assert join(["<", tag("br")], "&") == "&lt;&amp;<br>"
