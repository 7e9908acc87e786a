"""Rows 15 to 20 and 24 to 26: amplification, the purge endpoint, logs, other addresses, floods, negatives, versions."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.security.edges import RFC9111_EDGE, SHOP, SHOP_EDGE, TOKEN, Pair
from tests.security.lab import Lab
from tests.security.oracle import AGENT, Attack, Tally, judge
from tests.security.origin import Origin, Say, answer_bytes, storable
from tests.security.routes import Route
from tests.security.strict import Request
from tests.security.viewer import Viewers, request_bytes

# -- row 6, the other way round: what an origin says -------------------------------------------------------------------

_STOLEN = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncache-control: public, max-age=60\r\n\r\nstolen"


def malicious() -> Iterator[tuple[str, bytes]]:
    ok, length, chunked = b"HTTP/1.1 200 OK\r\n", b"content-length: 2\r\n", b"transfer-encoding: chunked\r\n"
    body, chunks = b"ab", b"2\r\nab\r\n0\r\n\r\n"
    yield "extra bytes after a length", ok + length + b"\r\n" + body + _STOLEN
    yield "extra bytes after chunks", ok + chunked + b"\r\n" + chunks + _STOLEN
    yield "a line break, then another answer", ok + length + b"\r\n" + body + b"\r\n" + _STOLEN
    for both in (length + chunked, chunked + length):
        yield f"both framings {both!r}", ok + both + b"\r\n" + chunks + _STOLEN
    for lengths in (
        b"2\r\ncontent-length: 2",
        b"2\r\ncontent-length: 60",
        b"2, 60",
        b"+2",
        b"0x2",
        b"2 2",
        b"-1",
        b"",
        b"1_0",
        b"9" * 30,
    ):
        yield f"length {lengths!r}", ok + b"content-length: " + lengths + b"\r\n\r\n" + body + _STOLEN
    for coding in (
        b"gzip, chunked",
        b"chunked, chunked",
        b"xchunked",
        b"identity",
        b"",
        b"chunked\r\ntransfer-encoding: chunked",
    ):
        yield f"coding {coding!r}", ok + b"transfer-encoding: " + coding + b"\r\n\r\n" + chunks + _STOLEN
    for size in (b"2;a\nb", b"-2", b"0x2", b"+2", b" 2", b"2\n", b"ffffffffffffffffff", b"2 2", b""):
        yield f"chunk size {size!r}", ok + chunked + b"\r\n" + size + b"\r\nab\r\n0\r\n\r\n" + _STOLEN
    for status in (b"204 No Content", b"304 Not Modified"):
        yield f"a body with {status!r}", b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n" + _STOLEN
        yield f"chunks with {status!r}", b"HTTP/1.1 " + status + b"\r\n" + chunked + b"\r\n" + chunks + _STOLEN
    yield "101", b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n" + _STOLEN
    yield "a flood of 100", b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000 + ok + length + b"\r\n" + body + _STOLEN
    yield (
        "a flood of 103",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 2_000 + ok + length + b"\r\n" + body + _STOLEN,
    )
    yield (
        "103 with a length",
        b"HTTP/1.1 103 Early Hints\r\ncontent-length: 40\r\n\r\n" + ok + length + b"\r\n" + body + _STOLEN,
    )
    yield "status 099", b"HTTP/1.1 099 No\r\n" + length + b"\r\n" + body + _STOLEN
    yield "status 2000", b"HTTP/1.1 2000 OK\r\n" + length + b"\r\n" + body + _STOLEN
    yield "HTTP/0.9", body + _STOLEN
    yield "HTTP/2", b"HTTP/2 200\r\n" + length + b"\r\n" + body + _STOLEN
    yield "bare LF", b"HTTP/1.1 200 OK\ncontent-length: 2\n\nab" + _STOLEN
    yield "obs-fold", ok + b"x: a\r\n b\r\n" + length + b"\r\n" + body + _STOLEN
    yield "two heads in one", ok + length + ok + length + b"\r\n" + body + _STOLEN
    yield "a head without end", ok + b"x: " + b"a" * 100_000
    yield "a split head", ok + length + b"x: y\r\n\r\n<script>injected</script>" + _STOLEN
    yield "closes, and goes on", ok + length + b"connection: close\r\n\r\n" + body + _STOLEN


async def desync(lab: Lab) -> list[Tally]:
    """Two viewers on connections that an origin does not leave alone: each gets its own answer, or an error."""
    tally = Tally("6b", "malicious answers of an origin")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        routes = [route for route in lab.of(kind) if route.is_forwarded]
        cases = [
            (route, says, data, method) for route in routes for says, data in malicious() for method in ("GET", "HEAD")
        ]
        await play_desync(tally, pair, lab.some(cases))
        await _until_well(pair)
    return [tally]


async def play_desync(tally: Tally, pair: Pair, cases: list[tuple[Route, str, bytes, str]]) -> None:
    """The origin says each of them to one viewer; what do the next two get?"""
    for route, says, data, method in cases:
        place = route.fresh()

        def script(request: Request, data: bytes = data, target: str = place.target) -> Say | None:
            return Say(data) if request.target.startswith(target) else None

        pair.origin.script = script
        await pair.attacked.attacker.get(place.target, place.host, (AGENT,), method)
        pair.origin.script = None
        tally.attacks += 1
        tally.requests += 1
        tally.routes.add(route.id)
        for _ in range(2):
            after = route.fresh()
            answer = await pair.attacked.clean.get(after.target, after.host, (AGENT,))
            mine = answer.status == 200 and answer.body.startswith(f"GET {after.target}".encode())
            # An origin that failed many times in a row is left alone for a moment.
            well = mine or answer.status in {502, 503, 504}
            tally.hold(well, f"{route.id}: after {says}: {answer.status} {answer.body[:80]!r}")
            tally.hold(b"stolen" not in answer.body, f"{route.id}: after {says} somebody got another one's answer")
            tally.requests += 1


async def _until_well(pair: Pair) -> None:
    """Until the origin is no longer left alone."""
    async with asyncio.timeout(30):
        while (await pair.attacked.clean.get("/anything-well", SHOP)).status != 200:
            await asyncio.sleep(0.1)


# -- row 15 ------------------------------------------------------------------------------------------------------------

_OBJECT = random.Random(15).randbytes(1_000_000)


async def amplification(lab: Lab) -> list[Tally]:
    """Small questions for parts of a large body: what the origin sends is counted."""
    tally = Tally("15", "range amplification")

    def script(request: Request) -> Say:
        fields = storable(_OBJECT, content_type="application/octet-stream")
        return Say(answer_bytes(200, fields, _OBJECT, request.method))

    overlapping = "bytes=" + ",".join("0-" for _ in range(1_000))
    asked = (
        "bytes=0-0",
        "bytes=-1",
        overlapping,
        "bytes=0-0,2-2,4-4,6-6,8-8,10-10",
        "bytes=0-9,5-14",
        "bytes=999999999-",
    )
    for pair, route in ((lab.shop, lab.route("static")), (lab.rfc9111, lab.route("everything", RFC9111_EDGE))):
        pair.origin.script = script
        place = route.fresh()
        before, answered = pair.origin.bytes_sent, 0
        for wanted in asked:
            answer = await pair.attacked.attacker.get(place.target, place.host, (AGENT, ("Range", wanted)))
            answered += len(answer.body)
            tally.requests += 1
            tally.hold(
                len(answer.body) <= 1.1 * len(_OBJECT), f"{wanted[:30]} was answered with {len(answer.body):,} bytes"
            )
        fetched = pair.origin.bytes_sent - before
        pair.origin.script = None
        tally.attacks += len(asked)
        tally.routes.add(route.id)
        tally.hold(fetched <= 1.1 * len(_OBJECT), f"{route.id}: {fetched:,} bytes were fetched of {len(_OBJECT):,}")
        tally.notes.append(
            f"{pair.kind.name}: fetched {fetched / len(_OBJECT):.3f} of the object once for {len(asked)} questions"
        )
    return [tally]


# -- row 16 ------------------------------------------------------------------------------------------------------------


async def purge_endpoint(lab: Lab) -> list[Tally]:
    """Who may purge, how much at once, and how often; and that the viewers' listener knows nothing of it."""
    tally = Tally("16", "the purge endpoint")
    pair = lab.shop
    assert pair.edge is not None
    for route in lab.of(SHOP_EDGE):
        for method in ("PURGE", "BAN", "PURGEALL"):
            place = route.fresh()
            before = pair.origin.count
            answer = await pair.attacked.attacker.get(
                place.target, place.host, (("Authorization", f"Bearer {TOKEN}"),), method
            )
            tally.hold(answer.status in {405, 501}, f"{route.id}: {method} was answered {answer.status}")
            tally.hold(pair.origin.count == before, f"{route.id}: {method} reached the origin")
            tally.requests += 1
            tally.routes.add(route.id)
    for path in ("/purge", "/status", "/explain", "/entries", "/requests"):
        answer = await pair.attacked.attacker.get(path, SHOP, (("Authorization", f"Bearer {TOKEN}"),))
        tally.hold(b"applied" not in answer.body, f"{path} of the admin listener is answered to viewers")
        tally.requests += 1
    good = {"authorization": f"Bearer {TOKEN}"}
    many = json.dumps({"tags": [f"t{n}" for n in range(1_000_000)]}).encode()
    orders: list[tuple[str, dict[str, str], bytes, set[int]]] = [
        ("no token", {}, b'{"all": true}', {401}),
        ("a wrong token", {"authorization": "Bearer wrong"}, b'{"all": true}', {401}),
        ("an empty token", {"authorization": "Bearer"}, b'{"all": true}', {401}),
        ("the edge's key", {"nearshelf-edge-key": "key-of-the-security-tests"}, b'{"all": true}', {401}),
        ("the token in a cookie", {"cookie": f"token={TOKEN}"}, b'{"all": true}', {401}),
        ("a million tags", good, many, {400, 413}),
        ("a wildcard", good, b'{"tags": ["p:*"]}', {400}),
        ("a tag with a line break", good, b'{"tags": ["a\\r\\nb"]}', {400}),
        ("an order", good, b'{"all": true}', {400}),
        ("no order", good, b"[]", {400}),
        ("not JSON", good, b"\xff", {400}),
        ("nested", good, b"[" * 100_000, {400}),
    ]
    async with httpx.AsyncClient(base_url=pair.edge.admin_url, trust_env=False, timeout=30) as client:
        for says, fields, body, expected in orders:
            answered = await client.post("/purge", content=body, headers={"content-type": "application/json", **fields})
            tally.hold(
                answered.status_code in expected, f"{says} was answered {answered.status_code} {answered.text[:100]}"
            )
            tally.requests += 1
        basic = await client.post(
            "/purge", data={"what": "all"}, auth=("any", TOKEN), headers={"sec-fetch-site": "cross-site"}
        )
        tally.hold(basic.status_code == 403, f"a form of another site was answered {basic.status_code}")
        statuses = [
            (await client.post("/purge", content=b"{}", headers={"authorization": f"Bearer guess{n}"})).status_code
            for n in range(40)
        ]
        tally.hold(set(statuses) <= {401, 429} and 429 in statuses, f"forty wrong tokens were answered {set(statuses)}")
        tally.requests += 41
    # The wildcard and the line break are refused before: no field can carry them.
    tally.hold(pair.log.wishes == 1, f"{pair.log.wishes} orders reached the purge log, and one could be carried out")
    tally.attacks = tally.requests
    return [tally]


# -- row 19 ------------------------------------------------------------------------------------------------------------

_LOGGED = frozenset(
    {
        "time", "edge", "worker", "method", "route", "path", "query", "status", "bytes", "cache", "reason", "fwd",
        "fwd_status",
        "stored", "collapsed", "ttl", "age", "ms", "origin_ms",
        "position", "size", "aged", "said", "vary", "variant", "floor",
    }
)  # fmt: skip
_PERSONAL = "person-4711"


async def logs(lab: Lab) -> list[Tally]:
    """What is written down of requests with personal data in every part of them."""
    tally = Tally("19", "personal data in the access log")
    pair = lab.shop
    assert pair.edge is not None
    for route in lab.of(SHOP_EDGE):
        place = route.fresh()
        tail = _PERSONAL if route.is_personal and "..." in route.policy.path else ""
        lines = (
            ("Cookie", f"a={_PERSONAL}"), ("Authorization", f"Bearer {_PERSONAL}"),
            ("Referer", f"http://x/{_PERSONAL}"),
            ("User-Agent", _PERSONAL), ("X-Forwarded-For", "133.1.1.77"), ("X-Personal", _PERSONAL),
        )  # fmt: skip
        query = f"?utm_email={_PERSONAL}" if route.policy.query != ("*",) or route.is_personal else ""
        await pair.attacked.clean.get(f"{place.target}{tail}{query}", place.host, lines)
        tally.requests += 1
        tally.attacks += 1
        tally.routes.add(route.id)
    await asyncio.sleep(0.5)  # lines are written together, at most 0.2 s later
    text = await asyncio.to_thread(pair.edge.log.read_text, encoding="utf-8")
    for line in text.splitlines():
        if set(json.loads(line)) - _LOGGED:
            tally.differs(f"a line of the log has {set(json.loads(line)) - _LOGGED}")
            break
    tally.hold(bool(text), "nothing was logged")
    for word in (
        _PERSONAL,
        "133.1.1.77",
        "secret-of-the-victim",
        "of-the-clean-one",
        TOKEN,
        "key-of-the-security-tests",
    ):
        found = [line for line in text.splitlines() if word in line]
        tally.hold(not found, f"{word} stands in the log: {found[:1]}")
    tally.notes.append(f"{text.count(chr(10)):,} lines of the attacked edge's log were read")
    return [tally]


# -- row 20 ------------------------------------------------------------------------------------------------------------


async def other_addresses(lab: Lab) -> list[Tally]:
    """Nobody but the origins of the policies is ever connected to, whatever a viewer or an origin names."""
    tally = Tally("20", "SSRF")
    async with Origin() as trap:
        inside = f"127.0.0.1:{trap.port}"
        for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):

            def redirects(request: Request) -> Say:
                fields = {
                    "location": f"http://{inside}/redirected",
                    "content-location": f"http://{inside}/x",
                    "refresh": f"0;{inside}",
                }
                return Say(answer_bytes(307, fields, b"", request.method))

            for route in lab.of(kind):
                place = route.fresh()
                for target in (
                    f"http://{inside}{place.target}",
                    f"//{inside}{place.target}",
                    f"http://{place.host}@{inside}/",
                    f"@{inside}/",
                ):
                    await pair.attacked.attacker.ask(request_bytes("GET", target, place.host))
                for host in (
                    inside,
                    f"{place.host}@{inside}",
                    f"{inside}#{place.host}",
                    "unix:/var/run/docker.sock",
                    "169.254.169.254",
                ):
                    await pair.attacked.attacker.ask(request_bytes("GET", place.target, host))
                for name in (
                    "X-Forwarded-Host",
                    "Forwarded",
                    "X-Original-URL",
                    "X-Backend",
                    "Via",
                    "Referer",
                    "Destination",
                    "Origin",
                ):
                    await pair.attacked.attacker.get(place.target, place.host, ((name, f"http://{inside}/"),))
                await pair.attacked.attacker.ask(request_bytes("CONNECT", inside, inside), "CONNECT")
                pair.origin.script = redirects
                after = route.fresh()
                answer = await pair.attacked.attacker.get(after.target, after.host)
                pair.origin.script = None
                tally.hold(answer.status != 200 or not route.is_forwarded, f"{route.id}: a redirect was followed")
                tally.requests += 19
                tally.attacks += 19
                tally.routes.add(route.id)
        tally.hold(
            trap.connections == 0, f"{trap.connections} connections to an address that a viewer or an origin named"
        )
    return [tally]


# -- row 24 ------------------------------------------------------------------------------------------------------------


async def floods(lab: Lab) -> list[Tally]:
    """Slow, idle and many: others go on being answered, memory stays bounded, and the slow are hung up on."""
    tally = Tally("24", "slow clients, floods, bombs")
    for pair in lab.pairs:
        count = 300 if lab.is_whole else 40
        slow = Viewers(pair.attacked.attacker.address)
        connections = [await slow.connect() for _ in range(count)]
        for number, connection in enumerate(connections):
            # A third says nothing, a third dribbles a head, a third a body.
            if number % 3 == 1:
                connection.transport.write(f"GET / HTTP/1.1\r\nHost: {SHOP}\r\nX-Slow: ".encode())
            elif number % 3 == 2:
                connection.transport.write(
                    f"POST /slow HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: 100000\r\n\r\na".encode()
                )
        takers = [await slow.connect() for _ in range(10)]
        for taker in takers:
            taker.transport.pause_reading()
            taker.transport.write(request_bytes("GET", "/large-and-slow", SHOP) * 20)
        before = _resident_kb(pair)
        rng = random.Random(lab.seed)
        questions = 20_000 if lab.is_whole else 100
        began = asyncio.get_running_loop().time()
        await _flood(pair, tally, rng, questions)
        tally.notes.append(
            f"{pair.kind.name}: beside {count} slow connections {questions:,} distinct addresses took "
            f"{asyncio.get_running_loop().time() - began:.0f} s, and {(_resident_kb(pair) - before) / 1024:.0f} MB"
        )
        tally.hold(_resident_kb(pair) - before < 320 * 1024, "memory grew beyond the store's budget")
        if lab.is_whole:
            # The deadline of a head is ten seconds.
            async with asyncio.timeout(30):
                while any(not connection.ended for number, connection in enumerate(connections) if number % 3 == 1):
                    await asyncio.sleep(0.1)
        for connection in (*connections, *takers):
            connection.transport.abort()
        await _bombs(tally, pair)
        tally.attacks += count
    return [tally]


async def _flood(pair: Pair, tally: Tally, rng: random.Random, questions: int) -> None:
    rest = iter(range(questions))

    async def work() -> None:
        for _ in rest:
            target = f"/eu-eur/products/{rng.getrandbits(64):x}?variant={rng.getrandbits(64):x}"
            answer = await pair.attacked.attacker.get(target, SHOP)
            tally.requests += 1
            tally.hold(answer.status == 200, f"beside slow connections a request was answered {answer.status}")

    await asyncio.gather(*(work() for _ in range(16)))


def _resident_kb(pair: Pair) -> int:
    assert pair.edge is not None
    text = Path(f"/proc/{pair.edge.process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


async def _bombs(tally: Tally, pair: Pair) -> None:
    """Heads without end, and bodies that unfold to a thousand times their size: the edge unfolds none."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    before = _resident_kb(pair)
    field = b"X-" + b"a" * 50 + b": b\r\n"
    head = b"GET / HTTP/1.1\r\nHost: " + SHOP.encode() + b"\r\n" + field * 4_000 + b"\r\n"
    talk = await pair.attacked.attacker.talk(head, half_close=False)
    tally.hold([each.status for each in talk.answers] == [431] and talk.closed, f"a head of 200 KB: {talk}"[:200])
    lines = (("Content-Encoding", "gzip"), ("Content-Type", "application/json"), ("Content-Length", str(len(bomb))))
    answer = await pair.attacked.attacker.ask(request_bytes("POST", "/bomb", SHOP, lines, bomb), "POST")
    tally.hold(
        answer.status == 200 and bomb in answer.body, f"a coded body was not passed on as it is: {answer.status}"
    )

    def script(request: Request) -> Say:
        return Say(answer_bytes(200, storable(bomb, content_encoding="gzip"), bomb, request.method))

    pair.origin.script = script
    answer = await pair.attacked.attacker.get("/eu-eur/products/bomb", SHOP, (("Accept-Encoding", "gzip"),))
    pair.origin.script = None
    tally.hold(answer.body == bomb, "a coded answer was not passed on as it is")
    tally.hold(_resident_kb(pair) - before < 40 * 1024, "a bomb was unfolded")
    tally.requests += 3


# -- row 25 ------------------------------------------------------------------------------------------------------------


async def negatives(lab: Lab) -> list[Tally]:
    """What is not there yet is there as soon as it is made: a purge reaches a stored 404 as well."""
    tally = Tally("25", "negative answers")
    pair = lab.shop
    missing = True

    def script(request: Request) -> Say:
        body = b"missing" if missing else b"made"
        version = str(pair.log.head)
        fields = storable(body, cache_tag="t:negative", catalog_version=version, cdn_cache_control="max-age=60")
        return Say(answer_bytes(404 if missing else 200, fields, body, request.method))

    stored = [route for route in lab.of(SHOP_EDGE) if route.is_stored]
    places = [(route, route.fresh()) for route in stored]
    pair.origin.script = script
    try:
        for route, place in places:
            await pair.attacked.attacker.get(place.target, place.host)
            again = await pair.attacked.attacker.get(place.target, place.host)
            tally.hold(
                again.status == 404 and again.is_hit, f"{route.id}: a 404 was not stored, so that nothing is shown here"
            )
        missing = False
        await pair.log.until_applied(pair.log.purge("t:negative"))
        for route, place in places:
            answer = await pair.attacked.clean.get(place.target, place.host)
            tally.hold(
                answer.body == b"made", f"{route.id}: after the purge still {answer.status} {answer.body[:40]!r}"
            )
            tally.requests += 3
            tally.attacks += 1
            tally.routes.add(route.id)
    finally:
        pair.origin.script = None
    return [tally]


# -- row 26 ------------------------------------------------------------------------------------------------------------

_TLS_HELLO = bytes.fromhex("160301002f0100002b0303") + bytes(32) + bytes.fromhex("0000040035002f0100")


async def versions(lab: Lab) -> list[Tally]:
    """Other versions, other protocols, and offers to speak them."""
    tally = Tally("26", "other protocols and versions")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        for route in lab.of(kind):
            place = route.fresh()
            head = f"Host: {place.host}\r\n"
            refused = {
                "HTTP/1.0": f"GET {place.target} HTTP/1.0\r\n{head}\r\n",
                "HTTP/1.0 kept alive": f"GET {place.target} HTTP/1.0\r\n{head}Connection: keep-alive\r\n\r\n",
                "HTTP/0.9": f"GET {place.target}\r\n\r\n",
                "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                "HTTP/1.2": f"GET {place.target} HTTP/1.2\r\n{head}\r\n",
                "HTTP/3.0": f"GET {place.target} HTTP/3.0\r\n{head}\r\n",
                "TLS": _TLS_HELLO.decode("latin-1"),
                "PROXY": f"PROXY TCP4 133.1.1.1 127.0.0.1 1 2\r\nGET {place.target} HTTP/1.1\r\n{head}\r\n",
                "FTP": "USER anonymous\r\n",
            }
            for says, data in refused.items():
                before = pair.origin.count
                talk = await pair.attacked.attacker.talk(
                    data.encode("latin-1"), half_close=says in {"TLS", "HTTP/0.9", "FTP"}
                )
                statuses = [answer.status for answer in talk.answers]
                tally.hold(
                    len(statuses) <= 1 and set(statuses) <= {400, 501, 505},
                    f"{route.id}: {says} was answered {statuses}",
                )
                tally.hold(talk.closed, f"{route.id}: {says}: the connection stays open")
                tally.hold(pair.origin.count == before, f"{route.id}: {says} reached the origin")
            for protocol, more in (
                ("h2c", ("HTTP2-Settings", "AAMAAABkAAQAAP__")),
                ("websocket", ("Sec-WebSocket-Key", "AAAA")),
            ):
                after = route.fresh()
                lines = (AGENT, ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", protocol), more)
                await judge(
                    tally,
                    pair,
                    Attack(
                        f"Upgrade: {protocol}",
                        route,
                        after,
                        ((request_bytes("GET", after.target, after.host, lines), "GET"),),
                    ),
                )
                passed = [
                    each
                    for each in pair.origin.about(after.target)
                    if each.get("upgrade") or each.get("http2-settings")
                ]
                tally.hold(not passed, f"{route.id}: Upgrade: {protocol} was forwarded")
            tally.requests += len(refused)
            tally.attacks += len(refused)
            tally.routes.add(route.id)
    return [tally]


ROWS = {
    "6b": desync,
    "15": amplification,
    "16": purge_endpoint,
    "20": other_addresses,
    "24": floods,
    "25": negatives,
    "26": versions,
    "19": logs,
}
