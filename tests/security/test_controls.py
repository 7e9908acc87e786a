"""The harness can fail: weaknesses that were put in on purpose are found, each by the row that is meant for it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable

import pytest

from edge.policy_files import PACKAGED_POLICIES
from tests.security import fuzz, handling, leaking, poisoning, smuggling
from tests.security.edges import SHOP_EDGE, Kind, Pair, running_pair
from tests.security.lab import Lab
from tests.security.oracle import Tally, attack, judge_all
from tests.security.origin import Say, answer_bytes, storable
from tests.security.routes import Route, routes_of
from tests.security.smuggling import Mutant, meaning_of, mutants
from tests.security.strict import Fault, Request, read_answer, read_request
from tests.security.weak import Weakness, weak_pair


def route_called(name: str) -> Route:
    return next(route for route in routes_of(SHOP_EDGE) if route.id == name)


async def poisoned(pair: Pair) -> Tally:
    route = route_called("product-page")
    attacks = [
        attack(name, route, lines=((name, "evil"),)) for name in ("X-Forwarded-Host", "X-Theme", "Accept-Language")
    ]
    return await judge_all(Tally("1", "fields"), pair, attacks)


async def cloaked(pair: Pair) -> Tally:
    return await judge_all(
        Tally("2", "query"), pair, [attack("?page=9", route_called("category-page"), suffix="?page=9")]
    )


async def deceived(pair: Pair) -> Tally:
    route = route_called("account-pages")
    attacks = []
    for tail in (";x.css", "/x.js"):
        place = route.fresh()
        attacks.append(leaking.of_victim(tail, route, type(place)(place.host, place.target + tail)))
    return await judge_all(Tally("5", "deception"), pair, attacks)


async def denied(pair: Pair) -> Tally:
    pair.origin.script = poisoning._touchy
    return await judge_all(
        Tally("10", "denial"), pair, [attack("Range", route_called("price"), lines=(("Range", "x"),))]
    )


async def cookies_kept(pair: Pair) -> Tally:
    numbers = iter(range(100))

    def script(request: Request) -> Say:
        return Say(answer_bytes(200, storable(b"x", set_cookie=f"mine={next(numbers)}"), b"x", request.method))

    pair.origin.script = script
    return await judge_all(Tally("12", "cookies"), pair, [attack("a cookie", route_called("price"))])


async def smuggled(pair: Pair) -> Tally:
    tally = Tally("6", "smuggling")
    kinds = (
        "TE.0 POST",
        "coding 'Transfer-Encoding: chunked'",
        "both framings 'Transfer-Encoding: chunked'/0",
        "chunks",
    )
    chosen = [each for each in mutants("/anything", "TOKEN", 1) if each.says in kinds]
    for number, mutant in enumerate(chosen[:3]):
        await smuggling.play(tally, pair, "/anything", f"{number:05}", mutant)
    return tally


async def desynced(pair: Pair) -> Tally:
    tally = Tally("6", "desync")
    cases = [
        (route_called("price"), says, data, "GET") for says, data in handling.malicious() if says.startswith("extra")
    ]
    await handling.play_desync(tally, pair, cases)
    return tally


@pytest.mark.parametrize(
    ("weakness", "row"),
    [
        pytest.param(Weakness.FORWARDS_UNKEYED, poisoned, id="fields that are in no key"),
        pytest.param(Weakness.KEYS_LESS, cloaked, id="a query that is in no key"),
        pytest.param(Weakness.BY_EXTENSION, deceived, id="what ends like a file"),
        pytest.param(Weakness.KEEPS_ERRORS, denied, id="errors kept"),
        pytest.param(Weakness.KEEPS_COOKIES, cookies_kept, id="cookies kept"),
        pytest.param(Weakness.BELIEVES_LENGTH, smuggled, id="bytes forwarded as they came"),
        pytest.param(Weakness.READS_ON, desynced, id="an origin's extra bytes believed"),
    ],
)
async def test_a_planted_weakness_is_found_and_a_plain_relay_has_none(weakness: Weakness, row: Callable):
    async with weak_pair(weakness) as pair:
        assert (await row(pair)).differences
    if row is not smuggled:  # a relay that drops what it cannot read says nothing to it
        async with weak_pair(Weakness.NONE) as pair:
            assert (await row(pair)).differences == [] or row is cookies_kept


async def test_a_policy_that_lets_a_field_through_unkeyed_starts_no_edge(tmp_path):
    folder = tmp_path / "policies"
    shutil.copytree(
        PACKAGED_POLICIES, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "profiles", "schema")
    )
    catalog = folder / "catalog.yaml"
    allowed = "    query: [variant]\n    request_fields: [x-theme]\n"
    catalog.write_text(catalog.read_text().replace("    query: [variant]\n", allowed))
    with pytest.raises(AssertionError, match="x-theme is forwarded but not in vary"):
        async with running_pair(tmp_path, Kind("unkeyed", policies=str(folder))):
            pass


FORWARDS_MORE = """
import sys
from edge.core import request_rules
allowed = request_rules.forwards
request_rules.forwards = lambda name, policy: name == "x-theme" or allowed(name, policy)
from edge.gateway.__main__ import main
sys.exit(main())
"""


async def test_a_real_edge_that_forwards_a_field_unkeyed_is_found(tmp_path):
    async with running_pair(tmp_path, Kind("forwards-more", program=("-c", FORWARDS_MORE))) as pair:
        tally = await poisoned(pair)
        assert [text for text in tally.differences if "X-Theme" in text]
        assert not [text for text in tally.differences if "X-Forwarded-Host" in text]


KEYS_LESS = """
import sys
from edge.store.memory import MemoryStore
get, put = MemoryStore.get, MemoryStore.put
MemoryStore.get = lambda self, key: get(self, key._replace(query=()))
def put_less(self, stored):
    stored.key = stored.key._replace(query=())
    return put(self, stored)
MemoryStore.put = put_less
from edge.gateway.__main__ import main
sys.exit(main())
"""


async def test_a_real_edge_that_is_told_to_key_less_is_found(tmp_path):
    async with running_pair(tmp_path, Kind("keys-less", program=("-c", KEYS_LESS))) as pair:
        assert (await cloaked(pair)).differences


async def test_an_edge_that_was_not_touched_is_not_found(tmp_path):
    async with running_pair(tmp_path) as pair:
        for row in (poisoned, cloaked, deceived, smuggled, desynced):
            assert (await row(pair)).differences == []


def test_the_fuzzer_finds_what_raises_what_is_slow_and_what_is_broken():
    def raises(data: bytes, rng: object) -> bool:
        if b"\x00" in data:
            raise IndexError
        return True

    target = fuzz.Target("planted", 1, raises, (b"a\x00b", b"abc"), (b"a", b"\x00"))
    counts = fuzz.Counts()
    fuzz.feed_all(target, 500, 1, counts)
    assert counts.inputs == 500
    assert any("IndexError" in failure for failure in counts.failures)


def test_a_short_fuzz_finds_nothing():
    counts = fuzz.fuzz(20_000, seed=3)
    counts["origins' answers"] = asyncio.run(fuzz.fuzz_origin(200, seed=3))
    assert sum(count.inputs for count in counts.values()) == 20_200
    assert not [failure for count in counts.values() for failure in count.failures], fuzz.in_words(counts, 0)
    assert all(count.taken for count in counts.values()), "a target that takes nothing reads nothing"


# -- the strict reader itself ------------------------------------------------------------------------------------------

GOOD = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    "data",
    [
        GOOD.replace(b"Length: 3", b"Length: +3"),
        GOOD.replace(b"Length: 3", b"Length : 3").replace(b"Length :", b"Length : "),
        GOOD.replace(b"\r\nHost", b"\nHost"),
        GOOD.replace(b"Host: x", b"Host: x\r\nHost: y"),
        GOOD.replace(b"Host: x", b"X: y"),
        GOOD.replace(b"Host: x", b"Host: x\r\n folded"),
        GOOD.replace(b"Content-Length: 3", b"Content-Length: 3\r\nTransfer-Encoding: chunked"),
        GOOD.replace(b"Content-Length: 3", b"Content-Length: 3\r\nContent-Length: 3"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GOOD.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked").replace(b"abc", b"3\r\nabcd\r\n0\r\n\r\n"),
        GOOD.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked").replace(b"abc", b"3\nabc\r\n0\r\n\r\n"),
        GOOD.replace(b"Content-Length: 3", b"Transfer-Encoding: xchunked"),
    ],
)
def test_the_strict_reader_refuses_what_is_doubtful(data: bytes):
    with pytest.raises(Fault):
        read_request(data)


def test_the_strict_reader_takes_what_is_plain_piece_by_piece():
    assert [read_request(GOOD[:length]) for length in range(len(GOOD))] == [None] * len(GOOD)
    found = read_request(GOOD + b"GET")
    assert found is not None
    assert (found[0].body, found[1]) == (b"abc", len(GOOD))
    answer = read_answer(
        b"HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\nz", "GET"
    )
    assert answer is not None
    assert answer[0].body == b"x"


def test_what_a_stream_means_ends_where_doubt_begins():
    assert len(meaning_of(GOOD * 2 + b"GET / HTTP/1.0\r\n\r\n").requests) == 2
    assert meaning_of(GOOD + b"\n" + GOOD).requests == meaning_of(GOOD * 2).requests
    assert meaning_of(GOOD[:-1]).unfinished
    assert len({mutant.data for mutant in mutants("/a", "TOKEN", 1)}) > 900
    assert isinstance(Mutant("", b"").data, bytes)


def test_rows_of_a_sample_are_the_same_for_the_same_seed():
    cases = list(range(1_000))
    lab, same, other = (Lab(None, None, None, most=20, seed=seed) for seed in (1, 1, 2))  # type: ignore[arg-type]
    assert lab.some(cases) == same.some(cases) != other.some(cases)
