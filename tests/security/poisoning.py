"""Rows 1 to 4, 7, 9 and 10 of the attacks on shared caches: what is odd about one request must not reach the next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.security import corpora
from tests.security.edges import RFC9111_EDGE, SHOP, SHOP_EDGE, Pair
from tests.security.lab import Lab
from tests.security.oracle import Attack, Tally, attack, judge, judge_all
from tests.security.origin import GROUPS, Say, answer_bytes, storable, told
from tests.security.routes import Place, Route
from tests.security.strict import Request
from tests.security.viewer import request_bytes

CANARY = "canary.attacker.example"
VALUES = (CANARY, "http", "99999", '"><script>canary()</script>', "203.0.113.66", "c" * 16_384)
"""What an attacker writes into a field: a host, a scheme, a port, markup, an address, 16 KB."""

_FRAMING = frozenset({"content-length", "transfer-encoding", "host"})
"""Names with rows of their own."""


# -- row 1 -------------------------------------------------------------------------------------------------------------


async def unkeyed_fields(lab: Lab) -> list[Tally]:
    names = [name for name in corpora.own("header-names") if name not in _FRAMING]
    return [
        await _fields(lab, "1", "unkeyed fields, our own list", names, lab.of(SHOP_EDGE), VALUES),
        await _shared_fields(lab),
        await _varying_origin(lab, names),
    ]


async def _shared_fields(lab: Lab) -> Tally:
    names = corpora.shared("header-names")
    what = "unkeyed fields, the shared word list"
    if names is None:
        return Tally("1", what, notes=["skipped: the word list is not there (shared/data/corpora beside the project)"])
    return await _fields(lab, "1", what, [name for name in names if name not in _FRAMING], lab.of(SHOP_EDGE), VALUES)


async def _fields(
    lab: Lab, row: str, what: str, names: list[str], routes: list[Route], values: tuple[str, ...]
) -> Tally:
    cases = lab.some(list(_each(routes, names, values)))
    attacks = (
        attack(f"{name}: {value[:40]}", route, lines=((name, value),), method="GET") for route, name, value in cases
    )
    return await judge_all(Tally(row, what), lab.shop, attacks)


def _each(routes: list[Route], names: list[str], ways: tuple[str, ...]) -> Iterator[tuple[Route, str, str]]:
    """Each name in every way where answers are kept; elsewhere in one way after the other."""
    for route in routes:
        for number, name in enumerate(names):
            for way in ways if route.is_stored else (ways[number % len(ways)],):
                yield route, name, way


async def _varying_origin(lab: Lab, names: list[str]) -> Tally:
    """Where every field is forwarded, an origin that says in Vary what it looks at is not poisoned either."""
    of_ten = [tuple(names[start : start + 10]) for start in range(0, len(names), 10)]
    GROUPS.update({str(number): group for number, group in enumerate(of_ten)})
    route = lab.of(RFC9111_EDGE)[0]
    cases = lab.some(
        [(name, value, f"?look={number}") for number, group in enumerate(of_ten) for name in group for value in VALUES]
    )
    attacks = (
        attack(f"{name}: {value[:40]}", route, lines=((name, value),), suffix=look, clean_suffix=look)
        for name, value, look in cases
    )
    return await judge_all(Tally("1", "fields to an origin that says Vary (rfc9111)"), lab.rfc9111, attacks)


# -- row 2 -------------------------------------------------------------------------------------------------------------

_FORMS = ("?{n}=c4n4ry", "?{n}=1&{n}=c4n4ry", "?x=1;{n}=c4n4ry", "?utm_content=x;{n}=c4n4ry", "?%26{n}=c4n4ry", "?{n}")
_CLOAKED = (
    "?{n}=2&{n}=9", "?{n}=2;{n}=9", "?utm_content=x;{n}=9&{n}=2", "?{n}=2&utm_source=a%26{n}=9", "?{n}=2&%26{n}=9",
    "?{n}=2%26{n}%3D9", "?{n}=2&{N}=9", "?{n}[]=9&{n}=2", "?{n}=2&{n}[]=9", "?{n}=2&=9", "?&&{n}=2&&", "?{n}=2#{n}=9",
    "?{n}=2&{e}=9", "?{e}=2", "?{n}=%32", "?{n}=2?{n}=9", "?{n}=2&a={n}=9", "?{n}=2%00&{n}=9", "?{n}=2%0a", "?{n}==2",
    "?{n}=2&jsonp=1&callback=evil", "?{n}=2/../9", "?{n}=%2e%2e%2f", "?{n}=\t2", "?{n}=2&\xe9=1", "?{n}=2%c0%af",
    "??{n}=2",
)  # fmt: skip
"""Ways to say 9 to one reader and 2 to another; `{e}` is the name with its first letter encoded."""


async def unkeyed_parameters(lab: Lab) -> list[Tally]:
    names = corpora.own("parameter-names")
    cases = lab.some(list(_each(lab.of(SHOP_EDGE), names, _FORMS)))
    attacks = (attack(form.format(n=n), route, suffix=form.format(n=n)) for route, n, form in cases)
    return [
        await judge_all(Tally("2", "unkeyed parameters, our own list"), lab.shop, attacks),
        await _cloaked(lab),
        await _shared_parameters(lab),
    ]


async def _shared_parameters(lab: Lab) -> Tally:
    tally = Tally("2", "unkeyed parameters, the shared word list")
    names = corpora.shared("parameter-names")
    if names is None:
        tally.notes.append("skipped: the word list is not there (shared/data/corpora beside the project)")
        return tally
    cases = lab.some(
        list(itertools.product(lab.of(SHOP_EDGE), [name for name in names if name.isascii() and " " not in name]))
    )
    attacks = (attack(f"?{name}=c4n4ry", route, suffix=f"?{name}=c4n4ry") for route, name in cases)
    return await judge_all(tally, lab.shop, attacks)


async def _cloaked(lab: Lab) -> Tally:
    """Parameters that count, said in two ways: what is asked for afterwards is what the key says."""
    tally = Tally("2", "cloaked parameters")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        attacks = []
        for route in lab.of(kind):
            listed = [name for name in route.policy.query if name != "*"] or ["page"]
            for name, form in itertools.product(listed, _CLOAKED):
                text = form.format(n=name, N=name.upper(), e=f"%{ord(name[0]):02x}{name[1:]}")
                attacks.append(attack(text, route, suffix=text, clean_suffix=f"?{name}=2"))
                attacks.append(attack(text, route, suffix=text))
        await judge_all(tally, pair, lab.some(attacks))
    return tally


# -- row 3 -------------------------------------------------------------------------------------------------------------

_OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method", "Method-Override")


async def fat_requests(lab: Lab) -> list[Tally]:
    """Bodies with GET, and methods that are not what they say."""
    tally = Tally("3", "fat GET, method overrides")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        before = pair.origin.count
        attacks = list(_fat(lab.of(kind)))
        chosen = lab.some(attacks)
        await judge_all(tally, pair, chosen)
        fat = [each for each in pair.origin.received if each.request.method in {"GET", "HEAD"} and each.request.body]
        tally.hold(not fat, f"the origin got a GET with a body: {[each.request.target for each in fat][:5]}")
        tally.hold(pair.origin.count > before, "the origin was not asked at all")
    return [tally]


def _fat(routes: list[Route]) -> Iterator[Attack]:
    body = b"page=9&currency=c4n4ry"
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    length, coding = ("Content-Length", str(len(body))), ("Transfer-Encoding", "chunked")
    form = ("Content-Type", "application/x-www-form-urlencoded")
    for route in routes:
        for method in ("GET", "HEAD"):
            yield attack(f"{method} with a length", route, method=method, lines=(form, length), body=body)
            yield attack(f"{method} with chunks", route, method=method, lines=(form, coding), body=chunked)
            yield attack(f"{method} with Expect", route, method=method, lines=(length, ("Expect", "100-continue")))
        for name in _OVERRIDES:
            for method in ("POST", "PUT", "DELETE", "HEAD", "PATCH", "NONSENSE"):
                yield attack(f"{name}: {method}", route, lines=((name, method),))
                yield attack(f"?{name}={method}", route, suffix=f"?{name}={method}")
        for method in (
            "OPTIONS",
            "TRACE",
            "CONNECT",
            "PURGE",
            "BAN",
            "DEBUG",
            "TRACK",
            "PROPFIND",
            "get",
            "Get",
            "HEAD",
        ):
            yield attack(f"the method {method}", route, method=method)


# -- row 4 -------------------------------------------------------------------------------------------------------------

_SPELLINGS = (
    "{p}%2f", "{p}%2F..", "{p}%00", "{p}//", "{p}/./", "{p}/../{l}", "{p}%2e%2e", "{p};a=b", "{p}|x", "{p}%7Cx",
    "{p}\\x",
    "{p}%5Cx", "{p}::x", "{p}#x", "{p}%23x", "{p}%3Fpage=9", "{p}%26page=9", "{p}%20", "{p}%09", "{p}%0d%0aX:y", "{p}.",
    "{p}%2E", "{U}", "//{h}{p}", "/.{p}", "/%2e{p}", "/%2f{p}", "{p}%252f", "{p}%c0%af", "{p}%u002f", "{p}\xe9",
    "{p}%C3%A9",
    "{p}%ef%bc%8f", "{p}%e2%80%ae", "{p}?", "{p}?&", "{p}?%", "{p}%", "{p}%4", "{p}%zz", "{p}', '{h}", "{p}~~x",
    "{p}%1fx",
    "{p}\x1fx", "{p},eu-eur", "{p}\x7f", "{p}%7f", "{p}/%20/", "{p}%0a", "{p}@{h}", "{p}:80", "{p}%3a80",
)  # fmt: skip
"""Spellings that one reader takes for the clean address and another does not; delimiters that keys are joined by."""

_HOSTS = (
    "{H}",
    "{h}:80",
    "{h}.",
    "{h}%2f",
    "{h}|",
    "{h}, {h}",
    "x@{h}",
    "{h}:",
    "{h}:080",
    "{h}\\",
    "[{h}]",
    "xn--{h}",
)


async def key_injection(lab: Lab) -> list[Tally]:
    tally = Tally("4", "key injection, normalisation")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        await judge_all(tally, pair, lab.some(list(_spelt(lab.of(kind)))))
    return [tally]


def _spelt(routes: list[Route]) -> Iterator[Attack]:
    for route in routes:
        for form in _SPELLINGS:
            clean = route.fresh()
            path = clean.target
            target = form.format(p=path, l=path.rpartition("/")[2], U=path.upper(), h=clean.host)
            yield Attack(f"target {form}", route, clean, ((request_bytes("GET", target, clean.host), "GET"),))
        for form in _HOSTS:
            clean = route.fresh()
            host = form.format(h=clean.host, H=clean.host.upper())
            yield Attack(f"Host {form}", route, clean, ((request_bytes("GET", clean.target, host), "GET"),))


# -- row 7 -------------------------------------------------------------------------------------------------------------

_NOMINATED = (
    "X-Forwarded-For", "Authorization", "Cookie", "Nearshelf-Edge-Key", "Min-Catalog-Version", "Host", "Via",
    "X-Forwarded-Host", "X-Forwarded-Proto", "Nearshelf-Country", "Content-Length", "Transfer-Encoding",
    "Cache-Control",
    "Accept-Encoding", "User-Agent", "Traceparent", "If-None-Match", "Range", "Age", "Date", "Connection", "Close",
)  # fmt: skip
_BETWEEN_HOPS = ("te", "trailer", "upgrade", "keep-alive", "proxy-connection", "proxy-authorization")
OWN_FIELDS = ("via", "host", "x-forwarded-host", "x-forwarded-proto")
"""What the edge says of itself in every forwarded request."""


async def hop_by_hop(lab: Lab) -> list[Tally]:
    tally = Tally("7", "hop-by-hop abuse")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        pair.origin.received.clear()
        attacks = []
        for route in lab.of(kind):
            for name in _NOMINATED:
                lines = (("Connection", f"close, {name}"), ("Cookie", "a=nominated"), ("X-Custom", "nominated"))
                attacks.append(attack(f"Connection: close, {name}", route, lines=lines))
                attacks.append(attack(f"Connection: {name}", route, lines=(("Connection", name.lower()),)))
            listed = ", ".join(_NOMINATED)
            attacks.append(attack("Connection: all of them", route, lines=(("Connection", listed),)))
            attacks += [attack(f"{name}: x", route, lines=((name, "trailers, c4n4ry"),)) for name in _BETWEEN_HOPS]
        await judge_all(tally, pair, lab.some(attacks))
        for each in pair.origin.received:
            request = each.request
            expected = (*OWN_FIELDS, *(("nearshelf-edge-key", "min-catalog-version") if kind is SHOP_EDGE else ()))
            missing = [name for name in expected if len(request.all(name)) != 1 and name != "min-catalog-version"]
            tally.hold(not missing, f"nominated away or said twice: {missing} in {request.target}")
            passed = [name for name in _BETWEEN_HOPS if request.get(name)]
            tally.hold(not passed, f"hop-by-hop fields were forwarded: {passed} in {request.target}")
    return [tally]


# -- row 9 -------------------------------------------------------------------------------------------------------------

_FOREIGN = (
    CANARY, "127.0.0.1", "127.0.0.1:1", "localhost", "169.254.169.254", "[::1]", "0.0.0.0", "2130706433", "unix:/tmp/x",
    f"{SHOP}.{CANARY}", f"{SHOP}:99999", f"{SHOP}@{CANARY}", f"{CANARY}@{SHOP}", f"user:pass@{SHOP}",
    f"{SHOP} {CANARY}",
    f"{SHOP},{CANARY}", f"{SHOP}/x", f"{SHOP}?x", f"{SHOP}#x", f"{SHOP}\\x", "", ".", "*", f"http://{SHOP}", f"{SHOP}.",
    f"{SHOP}\t{CANARY}", "sh\xf6p.example", "xn--shp-fka.example", f"{SHOP}%00", f"-{SHOP}", "h0.example",
    f"{SHOP}:443",
)  # fmt: skip
_TARGETS = (
    "http://" + CANARY + "{t}", "http://user@{h}{t}", "http://{h}:1{t}", "https://" + CANARY + "{t}",
    "//" + CANARY + "{t}",
    "http://{h}@" + CANARY + "{t}", "ftp://{h}{t}", "http:{t}", "http://" + CANARY + "#{h}{t}",
    "http://" + CANARY + "\\{h}{t}",
    "http://127.0.0.1:22{t}", "http://169.254.169.254{t}", "http://{h}.{t}", "http://{h}%00{t}", "file://{t}",
    "*", "{h}:443",
)  # fmt: skip


async def hosts(lab: Lab) -> list[Tally]:
    """A Host that is not served, two of them, and targets that name another: answered by the edge, and forgotten."""
    tally = Tally("9", "Host attacks")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        cases = [(route, host, "") for route in lab.of(kind) for host in _FOREIGN]
        cases += [(route, "", target) for route in lab.of(kind) for target in _TARGETS]
        cases += [(route, "two", "") for route in lab.of(kind)]
        for route, host, form in lab.some(cases):
            await _host(tally, pair, route, host, form)
        fields = ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL")
        attacks = [
            attack(f"{name}: {value}", route, lines=((name, value),))
            for route in lab.of(kind)
            if kind is SHOP_EDGE
            for name in fields
            for value in (CANARY, f"host={CANARY}", f"{SHOP}:1", "/admin")
        ]
        await judge_all(tally, pair, lab.some(attacks))
    return [tally]


async def _host(tally: Tally, pair: Pair, route: Route, host: str, form: str) -> None:
    clean = route.fresh()
    if host == "two":
        data = request_bytes("GET", clean.target, clean.host, (("Host", CANARY),))
        says = "two Hosts"
    elif form:
        target = form.format(t=clean.target, h=clean.host)
        data = request_bytes("GET", target, clean.host)
        says = f"target {target}"
    else:
        data = request_bytes("GET", clean.target, host)
        says = f"Host {host!r}"
    before = pair.origin.count
    answer = await pair.attacked.attacker.ask(data)
    tally.requests += 1
    refused = answer.status in {400, 404, 405, 421, 501}
    tally.hold(refused, f"{route.id}: {says} was answered {answer.status}")
    tally.hold(pair.origin.count == before, f"{route.id}: {says} reached the origin")
    await judge(tally, pair, Attack(says, route, clean, ()))


# -- row 10 ------------------------------------------------------------------------------------------------------------

ORIGIN_LIMIT = 32_768
"""Of the careless origin's head, as that of the servers which origins run on: twice the edge's."""
_DENIED = (400, 405, 413, 414, 416, 431)


def _touchy(request: Request) -> Say | None:
    """An origin that answers what is odd with errors, and lets everybody keep them."""
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.fields)
    status = 0
    if size > 8_000:
        status = 431
    elif len(request.target) > 2_000:
        status = 414
    elif request.method not in {"GET", "HEAD"} or request.get("x-http-method-override"):
        status = 405
    elif request.get("range"):
        status = 416
    elif any(ord(letter) < 32 or ord(letter) > 126 for _, value in request.fields for letter in value):
        status = 400
    elif (request.get("accept-encoding") or "").strip() not in {"", "gzip", "br", "identity", "zstd"}:
        status = 406
    if not status:
        return None
    body = b"denied: " + told(request)[:200]
    return Say(answer_bytes(status, storable(body), body, request.method))


async def denial(lab: Lab) -> list[Tally]:
    tally = Tally("10", "cache-poisoned denial of service")
    for pair, kind in zip(lab.pairs, (SHOP_EDGE, RFC9111_EDGE), strict=True):
        # Where every field is forwarded and errors may be stored, only an origin that says Vary is to be believed.
        pair.origin.script = _touchy if kind is SHOP_EDGE else None
        try:
            await judge_all(tally, pair, lab.some(list(_denials(lab.of(kind)))))
        finally:
            pair.origin.script = None
        await _errors_kept(tally, pair, lab.of(kind), stated=kind is SHOP_EDGE)
    return [tally]


def _denials(routes: list[Route]) -> Iterator[Attack]:
    sizes = [*(2**power for power in range(17)), 7_000, 8_100, 15_900, 16_300, 16_383, 16_385, 20_000, 32_700, 33_000]
    for route in routes:
        for size in sizes:
            yield attack(f"a field of {size} bytes", route, lines=(("X-Oversized", "a" * size),))
            yield attack(f"a cookie of {size} bytes", route, lines=(("Cookie", "a=" + "b" * size),))
            yield attack(f"an agent of {size} bytes", route, lines=(("User-Agent", "a" * size),))
            yield attack(f"{size // 20} fields", route, lines=tuple((f"X-Field-{n}", "a") for n in range(size // 20)))
        for size in (1_000, 2_100, 4_000, 8_100, 8_193, 9_000):
            yield attack(f"a query of {size} bytes", route, suffix=f"?q={'a' * size}")
        for octet in (*range(32), 127, 128, 255):
            yield attack(f"octet {octet} in a field", route, lines=(("X-Metachar", f"a{chr(octet)}b"),))
            yield attack(f"octet {octet} in User-Agent", route, lines=(("User-Agent", f"a{chr(octet)}b"),))
        for value in ("bytes=0-0", "bytes=99999-", "bytes=5-1", "cows=1-2", "bytes=" + "0-0," * 1_000, "bytes=-0", "x"):
            yield attack(f"Range: {value[:20]}", route, lines=(("Range", value),))
        for name, value in (
            ("Accept-Encoding", "evil"),
            ("Accept", "evil/evil"),
            ("Accept-Language", "xx;q=9"),
            ("Accept-Charset", "evil"),
            ("Expect", "evil"),
            ("If-Match", '"evil"'),
            ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("If-None-Match", "*"),
            ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),
            ("Upgrade", "h2c"),
            ("Max-Forwards", "0"),
            ("Content-Type", "evil"),
            ("Authorization", "evil"),
            ("X-HTTP-Method-Override", "POST"),
            ("Cache-Control", "only-if-cached"),
            ("Cache-Control", "no-store"),
        ):
            yield attack(f"{name}: {value}", route, lines=((name, value),))


async def _errors_kept(tally: Tally, pair: Pair, routes: list[Route], *, stated: bool) -> None:
    """An error about one request is asked for anew by the next, whatever the origin says it is worth. `stated`: even
    if the origin states its freshness; with `statuses: any` only without that, but for 416."""
    broken: set[str] = set()

    for route in [route for route in routes if route.is_stored]:
        for status in _DENIED:
            place = route.fresh()
            fields = storable(b"denied") if stated or status == 416 else {"content-type": "text/plain"}
            broken.add(place.target + place.host)

            def script(request: Request, status: int = status, fields: dict[str, str] = fields) -> Say:
                return Say(answer_bytes(status, fields, b"denied", request.method))

            pair.origin.script = script
            try:
                first = await pair.attacked.attacker.get(place.target, place.host)
            finally:
                pair.origin.script = None
            tally.requests += 1
            tally.hold(first.status == status, f"{route.id}: {status} was answered as {first.status}")
            await judge(tally, pair, Attack(f"the origin's {status}", route, Place(place.host, place.target), ()))


ROWS = {
    "1": unkeyed_fields,
    "2": unkeyed_parameters,
    "3": fat_requests,
    "4": key_injection,
    "7": hop_by_hop,
    "9": hosts,
    "10": denial,
}
