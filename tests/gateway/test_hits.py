"""The short way of a hit: it says what the long way says, and only as long as that would say it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.feed import LEASE_S
from edge.core.http import Request
from edge.core.key import BadTarget, cache_key
from edge.core.policy import CachePolicy, Match
from edge.gateway import hits
from edge.gateway.counters import Tally
from edge.gateway.hits import Known, Site
from tests.support.edge_shop import EdgeShop
from tests.support.raw_http import RawResponse
from tests.support.scripted_origin import page

PATH = "/eu-eur/products/boot"
LONG_WAY = "X-Any: field"
"""A field that is not plain sends a request the long way."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path) as shop:
        yield shop


@pytest.fixture
def short(monkeypatch) -> list[bytes]:
    """What was answered the short way."""
    answered: list[bytes] = []
    join = hits.Hits.quick

    def noted(self, data, now, *more):
        answer = join(self, data, now, *more)
        if answer is True:
            answered.append(data)
        return answer

    monkeypatch.setattr(hits.Hits, "quick", noted)
    return answered


def said(answer: RawResponse) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    return answer.status, tuple(sorted(answer.pairs)), answer.body


@pytest.mark.parametrize("coding", ["identity", "gzip", "br"])
async def test_both_ways_say_the_same_second_by_second(short, shop, coding):
    shop.origin.on(PATH, page(b"<p>a plain lamp</p>" * 100, cdn="max-age=5, stale-while-revalidate=0"))
    await shop.get(PATH)
    before = len(short)
    for _ in range(12):
        shop.later(0.4)
        quick = await shop.get(PATH, f"Accept-Encoding: {coding}")
        again = await shop.get(PATH, f"Accept-Encoding: {coding}")
        at_length = await shop.get(PATH, f"Accept-Encoding: {coding}", LONG_WAY)
        assert quick.is_hit
        assert said(quick) == said(again) == said(at_length)
    assert len(short) - before == 24
    shop.later(0.4)
    assert not (await shop.get(PATH)).is_hit


async def test_parameters_that_do_not_count_change_nothing_and_those_that_do_are_told_apart(short, shop):
    shop.origin.on(PATH, lambda seen: page(seen.target.rpartition("=")[2].encode()))
    for query in ("?variant=red", "?variant=blue", ""):
        await shop.get(PATH + query)
    none = PATH.encode()
    before = len(short)
    for query, body in (
        ("?variant=red&utm_source=a", b"red"),
        ("?gclid=1&variant=red", b"red"),
        ("?gclid=1&variant=blue&x", b"blue"),
        ("?utm_campaign=variant", none),
        ("?", none),
    ):
        answer = await shop.get(PATH + query)
        assert answer.is_hit, query
        assert answer.body == body
    assert len(short) - before == 5
    for query, body in (
        # Read with care: another spelling of the name, a name that begins alike, a value that is encoded.
        ("?v%61riant=red", b"red"),
        ("?variants=1", none),
        ("?variant=r%65d", b"red"),
        ("?gclid=a%20b", none),
    ):
        answer = await shop.get(PATH + query)
        assert answer.is_hit, query
        assert answer.body == body
    assert len(short) - before == 5
    assert (await shop.get(f"{PATH}?variant=red&variant=blue")).status == 400


async def test_a_purge_is_seen_by_the_next_hit(short, shop):
    shop.origin.on(PATH, page(b"old"))
    await shop.get(PATH)
    assert (await shop.get(PATH)).is_hit
    shop.origin.on(PATH, page(b"new", position="1.6"))
    shop.purge("p:eu-eur:other")
    assert (await shop.get(PATH)).body == b"old"
    shop.purge("p:eu-eur:sku-1")
    shop.origin.on(PATH, page(b"new", position="1.7"))
    answer = await shop.get(PATH)
    assert (answer.body, answer.is_hit) == (b"new", False)
    assert len(short) == 2


async def test_nothing_is_fresh_without_a_lease(short, shop):
    shop.origin.on(PATH, page(b"one", cdn="max-age=600"))
    await shop.get(PATH)
    assert (await shop.get(PATH)).is_hit
    shop.later(LEASE_S, lease=False)
    assert not (await shop.get(PATH)).is_hit
    assert len(short) == 1


async def test_what_is_stale_goes_the_short_way_while_it_is_refreshed(short, shop):
    shop.origin.on(PATH, page(b"old", cdn="max-age=1, stale-while-revalidate=100"))
    await shop.get(PATH)
    shop.later(1.5)
    with shop.origin.holding(PATH) as held:
        first = await shop.get(PATH)
        await held.arrived()
        more = [await shop.get(PATH) for _ in range(3)]
        assert len(short) == 3
        at_length = await shop.get(PATH, LONG_WAY)
        assert {said(answer) for answer in more} == {said(first)} == {said(at_length)}
        assert (first.detail, first.body) == ("stale-while-revalidate", b"old")
        shop.later(1.1)
        later = await shop.get(PATH)
        assert len(short) == 3
        assert said(later) != said(first)
        assert shop.origin.count(PATH) == 2
        held.answer(page(b"new", cdn="max-age=50"))
    await shop.until(lambda: shop.gateway.status()["flights"] == 0)
    fresh = await shop.get(PATH)
    assert (fresh.body, fresh.detail) == (b"new", "")
    shop.gateway._log.flush()
    lines = [json.loads(line) for line in shop.log_path.read_text().splitlines()]
    assert [line["cache"] for line in lines] == ["miss", *["stale"] * 6, "hit"]
    assert {line["reason"] for line in lines if line["cache"] == "stale"} == {"stale-while-revalidate"}


async def test_hits_are_logged_and_counted(short, shop):
    shop.origin.on(PATH, page(b"one"))
    await shop.get(PATH)
    shop.later(3)
    answer = await shop.get(f"{PATH}?utm_source=x")
    assert len(short) == 1
    shop.gateway._log.flush()
    line = json.loads(shop.log_path.read_text().splitlines()[-1])
    assert (line["cache"], line["status"], line["ttl"], line["age"]) == ("hit", 200, 57, 3)
    assert (line["path"], "query" in line) == (PATH, False)
    assert line["bytes"] > len(answer.body)
    assert shop.gateway.status()["cache"]["hit"] == 1


async def test_other_policies_are_asked_anew(short, shop):
    shop.origin.on(PATH, page(b"one"))
    await shop.get(PATH)
    await shop.get(PATH)
    assert len(short) == 1
    shop.gateway._use(shop.gateway.policies)
    assert (await shop.get(PATH)).is_hit
    assert len(short) == 1


def known_at(site: Site, target: str, policy: CachePolicy) -> Known | None:
    """As the long way remembers it; None where it refuses the target."""
    path, _, query = target.partition("?")
    try:
        key = cache_key(Request("GET", "shop.example", path, query), Match(policy, path, ""))
    except BadTarget:
        return None
    known = Known(key, policy, b"", Tally())
    site.remember(target.encode(), known)
    return known


QUERIES = st.text(alphabet="ab&=%+61?-", max_size=12)


@given(
    st.lists(QUERIES, min_size=1, max_size=6), QUERIES, st.sampled_from([(), ("a",), ("b", "a"), ("aa", "a"), ("*",)])
)
def test_an_address_is_never_taken_for_another(seen, asked, counted):
    policy = CachePolicy("page", "/{rest...}", query=counted)
    site = Site("shop.example")
    for query in seen:
        known_at(site, f"/a?{query}", policy)
    found = site.known(f"/a?{asked}".encode())
    meant = known_at(Site("shop.example"), f"/a?{asked}", policy)
    assert found is None or (meant is not None and found.key == meant.key)


def test_no_more_addresses_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(hits, "MAX_KNOWN_ADDRESSES", 3)
    policy = CachePolicy("page", "/{rest...}", query=("a",))
    site = Site("shop.example")
    for number in range(10):
        known_at(site, f"/{number}", policy)
        assert site.known(f"/{number}".encode()) is not None
        assert sum([site.known(f"/{earlier}".encode()) is not None for earlier in range(10)]) <= 3
    known_at(site, "/" + "x" * 600, policy)
    assert site.known(b"/" + b"x" * 600) is None
