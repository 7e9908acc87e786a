"""Compressed routes at a whole gateway: one copy for each stored response, made when it is asked for."""

from __future__ import annotations

import asyncio
import gzip
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cache_policies.feed import LEASE_S
from edge.core.compression import CODINGS
from edge.core.key import CacheKey
from edge.core.policy import PolicySet
from edge.core.stored import StoredResponse
from edge.gateway.coder import AT_ONCE_OCTETS, coded
from edge.gateway.flights import Flights
from edge.gateway.growing import Growing
from edge.gateway.landings import Errand, Taken
from edge.policy_files import load_policies
from edge.store.memory import MemoryStore
from tests.support.edge_shop import EdgeShop
from tests.support.scripted_origin import Pace, page

PATH = "/eu-eur/products/boot"
GZIP = "Accept-Encoding: gzip, deflate"
DECODERS = {"br": brotli.decompress, "zstd": zstandard.decompress, "gzip": gzip.decompress}
BODY = b"<p>a lamp that is as plain as the page it stands on</p><!--nearshelf:notice-->" * 100
LARGE = b"".join(b"<li>lamp %d</li>" % number for number in range(AT_ONCE_OCTETS // 15))
assert len(LARGE) > AT_ONCE_OCTETS > len(BODY)


def shipped(*, compress: bool) -> PolicySet:
    policies = load_policies()
    every = [replace(policy, compress=compress) if policy.store else policy for policy in policies.policies]
    return PolicySet(every, policies.markets, policies.origins)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[EdgeShop]:
    async with EdgeShop(tmp_path, policies=shipped(compress=True)) as shop:
        yield shop


@pytest.fixture
def codings(monkeypatch) -> list[int]:
    """The lengths of the bodies that were coded."""
    made: list[int] = []

    def counted(body: bytes, coding: str) -> bytes:
        made.append(len(body))
        return coded(body, coding)

    monkeypatch.setattr("edge.gateway.coder.coded", counted)
    return made


def kept(shop: EdgeShop, path: str = PATH) -> StoredResponse:
    store = shop.gateway.store
    assert isinstance(store, MemoryStore)
    return store.peek(CacheKey(shop.host, path, (), "eu-eur"))[0]


def has_copy(shop: EdgeShop) -> bool:
    form = kept(shop).form("gzip")
    return form is not None and form.coding == "gzip" and form.body != b""


async def test_hits_misses_and_304s_of_both_forms(shop, codings):
    shop.origin.on(PATH, page(BODY))
    miss = await shop.get(PATH, GZIP)
    assert not miss.is_hit
    hits = [await shop.get(PATH, GZIP) for _ in range(3)]
    assert all(hit.is_hit for hit in hits)
    for answer in (miss, *hits):
        assert gzip.decompress(answer.body) == BODY
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers["etag"] == 'W/"v1"'
        assert [value for name, value in answer.pairs if name == "vary"] == ["Accept-Encoding"]
    for plain in (
        await shop.get(PATH),
        await shop.get(PATH),
        await shop.get(PATH, "Accept-Encoding: deflate, gzip;q=0"),
    ):
        assert plain.is_hit
        assert plain.body == BODY
        assert "content-encoding" not in plain.headers
        assert (plain.headers["etag"], plain.headers["vary"]) == ('"v1"', "Accept-Encoding")
    for known in ('"v1"', 'W/"v1"'):
        assert (await shop.get(PATH, f"If-None-Match: {known}")).headers["etag"] == '"v1"'
        confirmed = await shop.get(PATH, GZIP, f"If-None-Match: {known}")
        assert (confirmed.status, confirmed.body, confirmed.headers["etag"]) == (304, b"", 'W/"v1"')
    assert shop.origin.count(PATH) == 1
    assert codings == [len(BODY)]


async def test_whose_turn_comes_when_a_growing_body_is_complete_is_not_told_of_a_copy_and_sent_another(
    shop, monkeypatch
):
    forward, begun, turn = Flights.forward, asyncio.Event(), asyncio.Event()

    async def late(self: Flights, errand: Errand) -> Taken:
        taken = await forward(self, errand)
        if taken.collapsed:
            assert isinstance(taken.landed, Growing)
            begun.set()
            await turn.wait()
        return taken

    monkeypatch.setattr("edge.gateway.fills.WHOLE_BYTES", len(BODY) // 2)
    monkeypatch.setattr(Flights, "forward", late)
    pace = Pace()
    shop.origin.on(PATH, replace(page(BODY), pace=pace))
    first, second = shop.asking(PATH, GZIP), shop.asking(PATH, GZIP)
    await shop.has_waiters(2)
    pace.to(len(BODY) - 1)
    await begun.wait()
    pace.to(len(BODY))
    done, late_one = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
    assert [asked.result().body for asked in done] == [BODY]
    await shop.until(lambda: has_copy(shop))
    turn.set()
    answer = await late_one.pop()
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == BODY
    assert shop.origin.count(PATH) == 1


async def test_the_origin_is_asked_for_the_plain_answer(shop):
    shop.origin.on(PATH, page(BODY))
    await shop.get(PATH, GZIP)
    assert "accept-encoding" not in shop.origin.last(PATH).headers


async def test_nothing_is_coded_until_somebody_asks_for_it(shop, codings):
    shop.origin.on(PATH, page(BODY))
    for _ in range(3):
        assert (await shop.get(PATH)).body == BODY
    assert codings == []
    assert not kept(shop).coded


@pytest.mark.parametrize(
    "lines", [("ACCEPT-ENCODING: x-gzip",), ("accept-encoding: deflate", "Accept-Encoding: gzip;q=0.1")]
)
async def test_however_the_field_is_written(shop, lines):
    shop.origin.on(PATH, page(BODY))
    for _ in range(3):
        assert gzip.decompress((await shop.get(PATH, *lines)).body) == BODY


@pytest.mark.parametrize("warm", [False, True])
async def test_head_has_the_fields_of_get(shop, warm):
    shop.origin.on(PATH, page(BODY))
    if warm:
        await shop.get(PATH, GZIP)
    head = await shop.get(PATH, GZIP, method="HEAD")
    got = await shop.get(PATH, GZIP)
    assert head.body == b""
    for name in ("content-length", "content-encoding", "etag", "vary"):
        assert head.headers[name] == got.headers[name]


async def test_an_origin_that_would_code_for_others_has_one_entry_for_all(shop, codings):
    """It says Vary: Accept-Encoding, and is never shown the field."""
    shop.origin.on(PATH, page(BODY, vary="Accept-Encoding"))
    assert gzip.decompress((await shop.get(PATH, GZIP)).body) == BODY
    plain = await shop.get(PATH)
    coded_hit = await shop.get(PATH, GZIP)
    assert plain.is_hit
    assert coded_hit.is_hit
    assert (plain.body, gzip.decompress(coded_hit.body)) == (BODY, BODY)
    for answer in (plain, coded_hit):
        assert [value for name, value in answer.pairs if name == "vary"] == ["Accept-Encoding"]
    assert (shop.origin.count(PATH), codings) == (1, [len(BODY)])
    shop.origin.on(PATH, page(b"", status=304, position="1.6", vary="Accept-Encoding"))
    shop.purge("p:eu-eur:sku-1")
    assert "fwd-status=304" in (await shop.get(PATH, GZIP)).cache_status
    assert (await shop.get(PATH)).body == BODY
    assert shop.origin.count(PATH) == 2


async def test_the_copy_counts_in_the_size_of_the_store_and_goes_with_its_response(shop):
    shop.origin.on(PATH, page(BODY))
    await shop.get(PATH)
    before = shop.gateway.store.stats().size_bytes
    answer = await shop.get(PATH, GZIP)
    assert shop.gateway.store.stats().size_bytes == before + len(answer.body)
    shop.gateway.store.drop(kept(shop).key)
    assert shop.gateway.store.stats().size_bytes == 0


async def test_a_purged_page_is_coded_anew_and_a_confirmed_one_is_not(shop, codings):
    shop.origin.on(PATH, page(BODY))
    await shop.get(PATH, GZIP)
    shop.origin.on(PATH, lambda seen: page(b"", status=304, position="1.6", cdn="max-age=50"))
    shop.purge("p:eu-eur:sku-1")
    confirmed = await shop.get(PATH, GZIP)
    assert "fwd-status=304" in confirmed.cache_status
    hit = await shop.get(PATH, GZIP)
    assert hit.is_hit
    assert gzip.decompress(confirmed.body) == gzip.decompress(hit.body) == BODY
    assert codings == [len(BODY)]
    changed = BODY.replace(b"lamp", b"boot")
    shop.origin.on(PATH, page(changed + b"!", etag='"v2"', position="1.7"))
    shop.purge("p:eu-eur:sku-1")
    fresh = await shop.get(PATH, GZIP)
    assert gzip.decompress(fresh.body) == changed + b"!"
    assert fresh.headers["etag"] == 'W/"v2"'
    assert codings == [len(BODY), len(BODY) + 1]


async def test_a_large_body_goes_out_plain_until_its_copy_is_there(shop, codings):
    shop.origin.on(PATH, page(LARGE))
    first = await shop.get(PATH, GZIP)
    assert first.body == LARGE
    assert first.headers["vary"] == "Accept-Encoding"
    await shop.until(lambda: has_copy(shop))
    assert gzip.decompress((await shop.get(PATH, GZIP)).body) == LARGE
    assert codings == [len(LARGE)]
    assert shop.gateway.store.stats().size_bytes == kept(shop).size


async def test_a_page_that_is_confirmed_while_it_is_coded_gets_the_copy(shop, monkeypatch):
    begun: list[int] = []
    go_on = threading.Event()

    def late(body: bytes, coding: str) -> bytes:
        begun.append(len(body))
        assert go_on.wait(5)
        return coded(body, coding)

    monkeypatch.setattr("edge.gateway.coder.coded", late)
    shop.origin.on(PATH, page(LARGE))
    assert (await shop.get(PATH, GZIP)).body == LARGE
    old = kept(shop)
    shop.origin.on(PATH, page(b"", status=304, position="1.6"))
    shop.purge("p:eu-eur:sku-1")
    assert "fwd-status=304" in (await shop.get(PATH, GZIP)).cache_status
    assert kept(shop) is not old
    go_on.set()
    await shop.until(lambda: has_copy(shop))
    assert gzip.decompress((await shop.get(PATH, GZIP)).body) == LARGE
    assert begun == [len(LARGE)]
    assert shop.gateway.store.stats().size_bytes == kept(shop).size


async def test_what_would_not_get_shorter_is_tried_once(shop, codings):
    noise = random.Random(7).randbytes(5_000)
    shop.origin.on(PATH, page(noise))
    for _ in range(3):
        answer = await shop.get(PATH, GZIP)
        assert answer.body == noise
        assert "content-encoding" not in answer.headers
        assert answer.headers["vary"] == "Accept-Encoding"
    assert codings == [len(noise)]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param(b"<p>short</p>", {}, id="short"),
        pytest.param(BODY, {"content_type": "image/avif"}, id="a picture"),
        pytest.param(BODY, {"cache_control": "no-transform"}, id="the origin forbids it"),
        pytest.param(BODY, {"content_encoding": "br"}, id="coded by the origin"),
    ],
)
async def test_what_has_no_coded_form_is_passed_as_it_is(shop, codings, body, fields):
    shop.origin.on(PATH, page(body, **fields))
    for _ in range(2):
        answer = await shop.get(PATH, GZIP)
        assert answer.body == body
        assert answer.headers.get("content-encoding") == fields.get("content_encoding")
        assert answer.headers["etag"] == '"v1"'
        assert "vary" not in answer.headers
    assert codings == []


async def test_an_answer_that_is_not_stored_is_passed_as_it_is(shop, codings):
    shop.origin.on(PATH, page(BODY, tags=""))
    answer = await shop.get(PATH, GZIP)
    assert (answer.body, answer.headers["etag"]) == (BODY, '"v1"')
    assert not {"content-encoding", "vary"} & set(answer.headers)
    assert codings == []


async def test_a_stale_page_is_coded_and_a_stale_marked_one_is_not(shop):
    shop.origin.on(PATH, page(BODY))
    await shop.get(PATH, GZIP)
    shop.later(61)
    await shop.origin.stop()
    stale = await shop.get(PATH, GZIP)
    assert gzip.decompress(stale.body) == BODY
    shop.later(LEASE_S + 1, lease=False)
    marked = await shop.get(PATH, GZIP)
    assert marked.detail == "stale-marked"
    assert b"Prices are being confirmed" in marked.body
    assert "content-encoding" not in marked.headers
    assert marked.headers["content-length"] == str(len(marked.body))


async def test_a_copy_that_the_store_has_no_room_for_is_given_up(shop, monkeypatch):
    shop.origin.on(PATH, page(BODY))
    await shop.get(PATH)
    monkeypatch.setattr(shop.gateway.store, "grown", lambda stored: False)
    for _ in range(2):
        assert (await shop.get(PATH, GZIP)).body == BODY
    assert not has_copy(shop)


async def test_routes_that_do_not_compress_are_as_they_were(tmp_path, codings):
    async with EdgeShop(tmp_path, policies=shipped(compress=False)) as shop:
        shop.origin.on(PATH, page(BODY))
        for _ in range(2):
            answer = await shop.get(PATH, GZIP)
            assert (answer.body, answer.headers["etag"]) == (BODY, '"v1"')
            assert not {"content-encoding", "vary"} & set(answer.headers)
    assert codings == []


@given(st.binary(max_size=200), st.integers(0, 200), st.sampled_from(CODINGS))
def test_a_coded_body_is_the_body_and_shorter_or_there_is_none(piece, times, coding):
    body = piece * times
    copy = coded(body, coding)
    assert copy == b"" or (DECODERS[coding](copy) == body and len(copy) < len(body))
    assert coded(body, coding) == copy


@pytest.mark.parametrize("coding", CODINGS)
def test_a_page_gets_shorter_and_noise_does_not(coding):
    assert 0 < len(coded(BODY, coding)) < len(BODY) / 5
    assert coded(random.Random(7).randbytes(256), coding) == b""


async def test_each_coding_has_a_copy_of_its_own_and_is_made_once(shop, codings):
    shop.origin.on(PATH, page(BODY))
    for coding in (*CODINGS, *CODINGS):
        answer = await shop.get(PATH, f"Accept-Encoding: {coding}")
        assert answer.headers["content-encoding"] == coding
        assert DECODERS[coding](answer.body) == BODY
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers["etag"] == 'W/"v1"'
    assert codings == [len(BODY)] * len(CODINGS)
    assert shop.origin.count(PATH) == 1
    assert shop.gateway.store.stats().size_bytes == kept(shop).size


async def test_a_browser_is_answered_in_brotli(shop):
    shop.origin.on(PATH, page(BODY))
    for _ in range(3):
        answer = await shop.get(PATH, "Accept-Encoding: gzip, deflate, br, zstd")
        assert answer.headers["content-encoding"] == "br"
        assert brotli.decompress(answer.body) == BODY
    assert (await shop.get(PATH, "Accept-Encoding: br;q=0.1, gzip;q=0.2")).headers["content-encoding"] == "gzip"
