"""A million inputs, by mutation and by grammar, on everything that reads what somebody else wrote.

`python -m tests.security fuzz --inputs 1000000 --seed 1`. The same seed gives the same inputs. A target may refuse an
input in the ways that it documents; any other exception, a broken property or a slow input is a failure.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cache_policies.feed import Answer
from cache_policies.positions import Position, WireError
from edge.core.directives import parse_cache_control, parse_targeted
from edge.core.hops import TrustedHops, client_address
from edge.core.http import Headers, Request, Response
from edge.core.key import BadTarget, CacheKey, cache_key, forward_target, normalise_path, normalise_query
from edge.core.policy import Match
from edge.core.ranges import partial, wanted_parts
from edge.core.request_rules import forward_request, refusal
from edge.core.storing import Store, may_store
from edge.core.structured import parse_dictionary, parse_strings
from edge.core.variants import PREFERENCES, preferences, vary_names
from edge.gateway.counters import Tally
from edge.gateway.hits import Known, Site
from edge.gateway.origin import Caps, Deadlines, OriginError, OriginPool
from edge.gateway.origin.plain_head import read_plain_head
from edge.gateway.plain import read_plain
from edge.gateway.server import REFUSALS, GatewayServer, Limits, Parsed, Quick, Refusal, ViewerConnection
from edge.store.codec import Unreadable, decode, encode, key_record, key_recorded
from tests.security import seeds
from tests.security.edges import RFC9111_EDGE, SHOP_EDGE
from tests.security.origin import Origin, Say
from tests.security.routes import policies_of
from tests.security.strict import Fault, read_answer, read_request

SLOW_S = 0.25
"""No input may take longer. Processor time: what other programs take does not count."""

_BYTES = [bytes((number,)) for number in range(256)]
_TRICKS = (
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b";", b",", b'"', b"\\", b"%00", b"%2f", b"%2e", b"..", b"//",
    b"%", b"?", b"#",
    b"&", b"=", b"+", b"\xff", b"\xc3\xa9", b"0x", b"-1", b"99999999999999999999", b"chunked",
    b"Content-Length: 3\r\n", b"\x7f",
    b"Transfer-Encoding: chunked\r\n", b"Host: other\r\n", b"HTTP/1.1", b"\r\n\r\n", b"a" * 300, b"{", b"[", b"null",
    b"1e999", b"*",
)  # fmt: skip


def mutated(rng: random.Random, seed: bytes, others: tuple[bytes, ...]) -> bytes:
    """`seed` with a few things changed, lost, doubled, put in, or another one's end."""
    data = seed
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:at] + rng.choice(_BYTES) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.choice(_TRICKS) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + rng.randrange(1, 9) :]
        elif kind == 3:
            end = at + rng.randrange(1, 30)
            data = data[:end] + data[at:end] * rng.choice((1, 1, 2, 20)) + data[end:]
        elif kind == 4:
            other = rng.choice(others)
            data = data[:at] + other[rng.randrange(len(other) + 1) :]
        elif kind == 5:
            data = data[:at]
        else:
            data = data[:at] + bytes(rng.choices(range(256), k=rng.randrange(1, 12))) + data[at:]
        data = data[:20_000]
    return data


def grown(rng: random.Random, pieces: tuple[bytes, ...]) -> bytes:
    """A few pieces of a grammar in any order."""
    return b"".join(rng.choices(pieces, k=rng.randrange(1, 14)))


@dataclass(frozen=True, slots=True)
class Target:
    """`feed(input, rng)` says whether the input was taken, and raises for anything that must not happen."""

    name: str
    weight: int
    feed: Callable[[bytes, random.Random], bool]
    seeds: tuple[bytes, ...]
    pieces: tuple[bytes, ...]


@dataclass
class Counts:
    inputs: int = 0
    taken: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)


def must(statement: bool, text: str) -> None:
    if not statement:
        raise AssertionError(text)


# -- keys --------------------------------------------------------------------------------------------------------------

_POLICIES = (policies_of(SHOP_EDGE), policies_of(RFC9111_EDGE))
_ALLOWED = [("page",), ("sort", "page"), ("*",), (), ("page[]", "a b", "variant")]


def _feed_path(data: bytes, rng: random.Random) -> bool:
    path = data.decode("latin-1")
    try:
        normal = normalise_path(path)
    except BadTarget:
        return False
    must(normalise_path(normal) == normal, "a normal form has another normal form")
    must(normal.isascii() and normal.startswith("/"), "a normal form that is no path")
    must("//" not in normal and "\\" not in normal, "a normal form with an empty segment or a backslash")
    must(not any(part in {".", ".."} for part in normal.split("/")), "a normal form with a dot segment")
    return True


def _feed_query(data: bytes, rng: random.Random) -> bool:
    query, allowed = data.decode("latin-1"), rng.choice(_ALLOWED)
    try:
        found = normalise_query(query, allowed)
    except BadTarget:
        return False
    key = CacheKey("shop.example", "/a", found, "")
    path, _, again = forward_target(key).partition("?")
    must(path == "/a" and normalise_query(again, allowed) == found, "what is forwarded reads as another query")
    return True


def _feed_target(data: bytes, rng: random.Random) -> bool:
    path, _, query = data.decode("latin-1").partition("?")
    policies = rng.choice(_POLICIES)
    try:
        match = policies.match(normalise_path(path))
        key = cache_key(Request("GET", "shop.example", path, query), match)
    except BadTarget:
        return False
    target = forward_target(key)
    must(not set(target) & set(" \r\n\t\0") and target.isascii(), f"a target that ends a request line: {target!r}")
    path, _, query = target.partition("?")
    again = policies.match(normalise_path(path))
    must(cache_key(Request("GET", "shop.example", path, query), again) == key, "what is forwarded has another key")
    must(again.policy is match.policy, "what is forwarded is another route")
    must(key_recorded(key_record(key)) == key, "a recorded key is another")
    # The short way of a hit takes an address for the same as the long way, or leaves it alone.
    site = Site("shop.example")
    site.remember(data, Known(key, match.policy, b"", Tally()))
    other = mutated(rng, data, (data,))
    for each in (data, other):
        known = site.known(each)
        if known is not None:
            path, _, query = each.decode("latin-1").partition("?")
            try:
                theirs = cache_key(Request("GET", "shop.example", path, query), policies.match(normalise_path(path)))
            except BadTarget:
                continue  # refused before by the reader of request lines, which the short way reads as well
            must(theirs == known.key, f"the short way takes {each!r} for {data!r}")
    return True


def _feed_forwarding(data: bytes, rng: random.Random) -> bool:
    """Fields by the allow-lists of a route: nothing of the edge's own is a viewer's, nothing splits a line."""
    policies = rng.choice(_POLICIES)
    route = rng.choice(policies.policies)
    pairs = [line.partition(":") for line in data.decode("latin-1").splitlines()]
    headers = Headers([(name.strip().lower(), value.strip()) for name, _, value in pairs if name.strip()])
    market = policies.markets.all[0].id if policies.markets.all else ""
    match = Match(route, "/a", market)
    request = Request(rng.choice(("GET", "HEAD", "POST", "OPTIONS")), "shop.example", "/a", "", headers)
    if refusal(request, match) is not None:
        return False
    key = cache_key(request, match)
    sent = forward_request(request, match, key, minimum=Position(1, 7), country="DE").headers
    must(sent.lines("min-catalog-version") == ["1.7"], "a viewer's Min-Catalog-Version was forwarded")
    must(sent.lines("x-forwarded-host") == ["shop.example"], "a viewer's X-Forwarded-Host was forwarded")
    must(len(sent.lines("via")) == 1 and "host" not in sent, "Via twice, or a viewer's Host")
    must(
        "nearshelf-edge-key" not in sent and "transfer-encoding" not in sent, "a field of the edge's own was forwarded"
    )
    return True


# -- fields ------------------------------------------------------------------------------------------------------------


def _feed_directives(data: bytes, rng: random.Random) -> bool:
    text = data.decode("latin-1")
    found = parse_cache_control([text])
    for lifetime in (found.max_age_s, found.s_maxage_s, found.stale_if_error_s, found.stale_while_revalidate_s):
        must(lifetime is None or 0 <= lifetime <= 2**31, "a lifetime out of bounds")
    targeted = parse_targeted(text)
    dictionary, strings = parse_dictionary(text), parse_strings(text)
    must(targeted is None or bool(dictionary), "a targeted field that is no dictionary")
    return bool(dictionary or strings or found != parse_cache_control([]))


def _feed_lists(data: bytes, rng: random.Random) -> bool:
    text = data.decode("latin-1")
    names = vary_names(Headers([("vary", text)]))
    for ordered in (False, True):
        once = preferences(text, ordered=ordered)
        must(preferences(once, ordered=ordered) == once, "a spelling has another spelling")
    address = client_address("127.0.0.2", [text], TrustedHops.parse(["127.0.0.2"]))
    must(address is None or not set(address) - set("0123456789abcdef.:"), f"an address of odd letters: {address!r}")
    return "*" not in names and bool(PREFERENCES)


_WHOLE = bytes(range(256)) * 4


def _feed_ranges(data: bytes, rng: random.Random) -> bool:
    parts = wanted_parts(data.decode("latin-1"), len(_WHOLE))
    if not parts:
        return False
    must(sum(end - first for first, end in parts) <= len(_WHOLE), "parts longer than the whole")
    _, body = partial(Headers(()), _WHOLE, parts)
    must(len(body) <= len(_WHOLE) + 500 * len(parts), "an answer longer than what it is of")
    return True


# -- messages ----------------------------------------------------------------------------------------------------------


class _NoTransport(asyncio.Transport):
    """Takes what is written; nothing is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 1) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


_TAKEN = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class _Application:
    """Answers everything at once, and keeps what it understood."""

    def __init__(self) -> None:
        self.parsed: list[Parsed] = []
        self.quickly = 0

    def quick(self, data: bytes, now: float, viewer: ViewerConnection) -> Quick:
        if read_plain(data) is None:
            return None
        # What the short way takes is one request to a strict reader as well, to its last byte.
        try:
            found = read_request(data)
        except Fault as exc:
            must(data.lower().count(b"\nhost:") == 0, f"the short way takes what a strict reader refuses: {exc}")
            return None
        must(found is not None and found[1] == len(data), "the short way takes more than one request, or less")
        must(found is not None and found[0].method == "GET" and not found[0].body, "the short way takes no GET")
        self.quickly += 1
        return None

    def at_once(self, parsed: Parsed, now: float) -> bytes | Callable[[], Awaitable[None]] | asyncio.Future[None]:
        self.parsed.append(parsed)
        return _TAKEN

    def refuse(self, refusal: Refusal, parsed: Parsed | None, now: float) -> bytes:
        return b"HTTP/1.1 %d No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % REFUSALS[refusal][0]


def _feed_viewer(data: bytes, rng: random.Random) -> bool:
    application = _Application()
    server = GatewayServer(application, lambda: 1.0, Limits(body_bytes=5_000))
    viewer, transport = ViewerConnection(server), _NoTransport()
    viewer.connection_made(transport)
    at = 0
    step = rng.choice((1 << 16, 1 << 16, 1 << 16, 1, 7, 40))
    while at < len(data) and not transport.closing:
        viewer.received(data[at : at + step])
        at += step
    if not transport.closing:
        viewer.eof_received()
    viewer.connection_lost(None)
    # Every head that was taken: bytes that no further reader could cut otherwise.
    for parsed in application.parsed:
        must(
            not set(parsed.target) & set(b" \r\n\0") and bool(parsed.target),
            f"a target with a blank: {parsed.target!r}",
        )
        for name, value in parsed.fields:
            must(not set(value) & set(b"\r\n\0") and bool(name), f"a field that splits: {name!r}: {value!r}")
            must(not set(name) & set(b" \t:\r\n\0"), f"a name that is none: {name!r}")
        names = [name.lower() for name, _ in parsed.fields]
        must(names.count(b"host") == 1 and names.count(b"content-length") < 2, "two Hosts, or two lengths")
        framings = names.count(b"content-length") + names.count(b"transfer-encoding")
        must(framings < 2, "two framings were taken")
        must(parsed.body is None or parsed.method not in {b"GET", b"HEAD"}, "a GET with a body was taken")
    written = b"".join(transport.written).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    refused = written.replace(_TAKEN, b"")
    must(refused.count(b"HTTP/1.1 ") <= 1, "refused twice")
    return bool(application.parsed)


def _origin_pieces(data: bytes) -> bool:
    """The short reader of origins' heads takes nothing that a strict reader refuses or reads otherwise."""
    plain = read_plain_head(data)
    if plain is None:
        return False
    try:
        found = read_answer(data[: plain.end] + b"x" * plain.length, "GET") if plain.length < 100_000 else None
    except Fault as exc:
        raise AssertionError(f"the short way takes what a strict reader refuses: {exc}") from exc
    if found is not None:
        answer, end = found
        must(answer.status == plain.status and end == plain.end + plain.length, "another status, or another end")
        must([(name, value) for name, value, _ in plain.lines] == list(answer.fields), "other fields")
    return True


def _feed_origin_head(data: bytes, rng: random.Random) -> bool:
    return _origin_pieces(data)


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_PRODUCT = next(policy for policy in _POLICIES[0].policies if policy.id == "product-page")
_EVERYTHING = _POLICIES[1].policies[0]


def _feed_storing(data: bytes, rng: random.Random) -> bool:
    """Fields of an origin's answer, held against the rules of what is stored."""
    lines = data.decode("latin-1").split("\n")
    pairs = [line.partition(":") for line in lines]
    # What the readers of origins' answers let through.
    headers = Headers([(name.lower(), value.strip(" \t")) for name, _, value in pairs if _NAME(name) and _VALUE(value)])
    status = rng.choice((200, 200, 200, 301, 304, 404, 416, 431, 400, 206, 599))
    policy = rng.choice((_PRODUCT, _EVERYTHING))
    counter = None if policy is _PRODUCT else Position(1, 5)
    match = Match(policy, "/a", "eu-eur")
    key = CacheKey("shop.example", "/a", (), "eu-eur")
    response = Response(status, headers, b"body")
    found = may_store(
        Request("GET", "shop.example", "/a", ""), response, match, key,
        counter=counter, sent_at=10.0, received_at=11.0, wall_now=1.8e9,
    )  # fmt: skip
    if not isinstance(found, Store):
        return False
    stored = found.stored
    said = parse_cache_control(headers.lines("cache-control"))
    targeted = "cdn-cache-control" in headers or "nearshelf-cache-control" in headers
    must("set-cookie" not in headers, "a response with Set-Cookie was stored")
    must(status not in {206, 304, 416}, f"a {status} was stored")
    must(targeted or not said.private, "a private response was stored")
    must(policy is _EVERYTHING or status not in {400, 405, 413, 414, 431}, f"a {status} was stored")
    must("*" not in vary_names(headers), "a response that varies on everything was stored")
    must(stored.fresh_until <= 11.0 + 2**31, "fresh for longer than can be")
    again = decode(encode(stored))
    must(
        again.key == stored.key and again.headers == stored.headers and again.body == stored.body, "a record is another"
    )
    return True


def _feed_record(data: bytes, rng: random.Random) -> bool:
    try:
        stored = decode(data)
    except Unreadable:
        try:
            key_recorded(data)
        except Unreadable:
            return False
        return True
    must(200 <= stored.status <= 599, "a record with a status that is none")
    for name, value in stored.headers:
        must(
            not set(value) & set("\r\n\0") and not set(name) & set(" \r\n:\0"),
            f"a record with a field that splits: {name!r}",
        )
    must(decode(encode(stored)).headers == stored.headers, "a record is another when read again")
    return True


def _feed_answer(data: bytes, rng: random.Random) -> bool:
    try:
        answer = Answer.from_json(data)
    except WireError:
        return False
    must(Answer.from_json(answer.to_json()) == answer, "an answer is another when read again")
    return True


TARGETS = (
    Target("viewers' requests", 30, _feed_viewer, seeds.REQUEST_SEEDS, seeds.REQUEST_PIECES),
    Target("keys of targets", 20, _feed_target, seeds.TARGETS, (*seeds.PATHS, *seeds.QUERIES, b"?")),
    Target("paths", 10, _feed_path, seeds.PATHS, (*seeds.PATHS, *_TRICKS)),
    Target("queries", 10, _feed_query, seeds.QUERIES, (*seeds.QUERIES, b"&", b"=", b"%", b";", b"page", b"sort")),
    Target(
        "forwarded fields",
        4,
        _feed_forwarding,
        seeds.FORWARD_SEEDS,
        tuple(seed + b"\n" for seed in seeds.FORWARD_SEEDS),
    ),
    Target(
        "directives",
        8,
        _feed_directives,
        seeds.FIELD_SEEDS,
        (*seeds.FIELD_SEEDS, b", ", b"=", b'"', b";", b"max-age", b"private"),
    ),
    Target("lists", 4, _feed_lists, seeds.LIST_SEEDS, (*seeds.LIST_SEEDS, b", ", b";q=", b"*")),
    Target("ranges", 3, _feed_ranges, seeds.RANGE_SEEDS, (b"bytes=", b"0-", b"-", b"5", b",", b" ", b"1-2", b"999")),
    Target("origins' heads", 4, _feed_origin_head, seeds.ANSWER_SEEDS, seeds.ANSWER_PIECES),
    Target(
        "what is stored", 2, _feed_storing, seeds.STORING_SEEDS, tuple(seed + b"\n" for seed in seeds.STORING_SEEDS)
    ),
    Target("records", 3, _feed_record, seeds.RECORD_SEEDS, seeds.RECORD_PIECES),
    Target("feed answers", 2, _feed_answer, seeds.FEED_SEEDS, seeds.FEED_PIECES),
)


def fuzz(inputs: int, seed: int) -> dict[str, Counts]:
    """So many inputs over all targets in this process, by their weights. Origins' whole answers: `fuzz_origin`."""
    counts = {target.name: Counts() for target in TARGETS}
    total = sum(target.weight for target in TARGETS)
    # Nothing of an event loop runs in here; futures of a body that nobody awaits want one to exist.
    with asyncio.Runner() as runner:
        runner.run(_fuzz_all(inputs, seed, counts, total))
    return counts


async def _fuzz_all(inputs: int, seed: int, counts: dict[str, Counts], total: int) -> None:
    left = inputs
    for target in TARGETS:
        share = left if target is TARGETS[-1] else inputs * target.weight // total
        left -= share
        feed_all(target, share, seed, counts[target.name])


def feed_all(target: Target, inputs: int, seed: int, counts: Counts) -> None:
    rng = random.Random(f"{seed}/{target.name}")
    for _ in range(inputs):
        grammar = rng.random() < 0.25
        data = grown(rng, target.pieces) if grammar else mutated(rng, rng.choice(target.seeds), target.seeds)
        began = time.process_time()
        try:
            counts.taken += target.feed(data, rng)
        except Exception as exc:
            counts.failures.append(f"{type(exc).__name__}: {exc} for {data[:300]!r}")
        took = time.process_time() - began
        counts.inputs += 1
        counts.slowest_s = max(counts.slowest_s, took)
        if took > SLOW_S:
            counts.failures.append(f"took {took:.2f} s: {data[:300]!r}")


async def fuzz_origin(inputs: int, seed: int) -> Counts:
    """What an origin may say, on real connections: an answer or an OriginError, and nothing else ever."""
    rng = random.Random(f"{seed}/origin")
    count = Counts()
    said = b""

    def script(request: object) -> Say:
        return Say(said, then_close=True)

    begins = (
        *seeds.ANSWER_SEEDS,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
    )  # fmt: skip
    async with Origin(script) as origin:
        # A clock that runs fast, so that an origin which fails time after time is asked nevertheless.
        ticks = itertools.count(0, 1_000)
        pool = OriginPool((origin.url,), lambda: float(next(ticks)), deadlines=Deadlines(2, 2, 2, 2), caps=Caps(8))
        headers = Headers((("host", "shop.example"),))
        for _ in range(inputs):
            grammar = rng.random() < 0.25
            said = grown(rng, seeds.ANSWER_PIECES) if grammar else mutated(rng, rng.choice(begins), begins)
            count.inputs += 1
            try:
                response = await pool.send(rng.choice(("GET", "HEAD", "POST")), "/a", headers)
                if await response.read(1_000_000) is None:
                    response.abandon()
                count.taken += 1
                for name, value in response.headers:
                    must(
                        not set(value) & set("\r\n\0") and not set(name) & set(" \r\n:\0"),
                        f"a field that splits: {name!r}",
                    )
            except OriginError:
                pass
            except Exception as exc:
                count.failures.append(f"{type(exc).__name__}: {exc} for {said[:300]!r}")
        pool.close()
    return count


def in_words(counts: dict[str, Counts], took_s: float) -> str:
    lines = [f"{'target':20} {'inputs':>10} {'taken':>9} {'slowest':>9} {'failures':>9}"]
    lines += [
        f"{name:20} {count.inputs:10,} {count.taken:9,} {count.slowest_s * 1000:6.1f} ms {len(count.failures):9,}"
        for name, count in counts.items()
    ]
    for name, count in counts.items():
        lines += [f"{name}: {failure}" for failure in count.failures[:10]]
    inputs = sum(count.inputs for count in counts.values())
    failures = sum(len(count.failures) for count in counts.values())
    lines.append(f"{inputs:,} fuzzed inputs, {failures} crashes or broken properties; {took_s:.0f} s")
    return "\n".join(lines)
