"""Row 6: requests that two readers might cut differently, and answers that do not end where they say.

What a mutant means is said by a strict reader that shares no code with the edge. What that reader refuses, the edge
must refuse and hang up; of what it takes, the origin must have parsed exactly those requests, in number and in content.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.security.edges import SHOP, Pair
from tests.security.lab import Lab
from tests.security.oracle import Tally
from tests.security.strict import Fault, Request, read_request

SMUGGLED = "smuggled"
"""In the target of every request that hides in another's body."""
AT_ONCE = 12


@dataclass(frozen=True, slots=True)
class Mutant:
    says: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a strict reader makes of a stream: its requests, and whether doubt or an unfinished one follows."""

    requests: tuple[Request, ...]
    doubtful: bool
    unfinished: bool
    rest: bytes = b""
    """What is no request any more, or none yet."""

    @property
    def methods(self) -> list[str]:
        rest = self.rest.partition(b" ")[0].decode("latin-1")
        return [*(request.method for request in self.requests), rest]


_MORE_BLANKS = re.compile(rb"([!-~]+) +([!-~]+) +HTTP/")


def meaning_of(data: bytes) -> Meaning:
    """What RFC 9112 lets a server overlook changes nothing: empty lines before a request (§2.2), more than one blank
    between the parts of its first line (§3)."""
    requests: list[Request] = []
    while data := _MORE_BLANKS.sub(rb"\1 \2 HTTP/", data.lstrip(b"\r\n"), count=1) if data else b"":
        try:
            found = read_request(data)
        except Fault:
            return Meaning(tuple(requests), True, False, data)
        if found is None:
            return Meaning(tuple(requests), False, True, data)
        request, end = found
        requests.append(request)
        data = data[end:]
        if any("close" in value.lower() for value in request.all("connection")):
            break  # nothing after it is read
    return Meaning(tuple(requests), False, False)


# -- mutants -----------------------------------------------------------------------------------------------------------

_LENGTHS = (
    "Content-Length: {n}", "content-length: {n}", "Content-Length:{n}", "Content-Length: {n} ", "Content-Length:\t{n}",
    "Content-Length: +{n}", "Content-Length: -{n}", "Content-Length: 0x{n:x}", "Content-Length: {n}.0",
    "Content-Length: 0{n}",
    "Content-Length: {n}e0", "Content-Length: {n},{n}", "Content-Length: {n}, 0", 'Content-Length: "{n}"',
    "Content-Length: ",
    "Content-Length : {n}", " Content-Length: {n}", "Content-Length\t: {n}", "Content-Length: 1_0",
    "Content-Length: {n};",
    "Content_Length: {n}", "Content-Length: {n}\r\nContent-Length: {n}", "Content-Length: {n}\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: {n}", "X: y\nContent-Length: {n}", "Content-Length: {n}\x0b",
    "Content-Length: {n}\x00",
    "Content-Length: \xb2", "Content-Length: 99999999999999999999", "Content-Length: 18446744073709551616",
    "Content-Length",
    "Content-Length:\r\n {n}", "X: y\r\n\tContent-Length: {n}", "Content-Length: {n}\r", "\x00Content-Length: {n}",
    "Content-Length: {n} 0", "Content-Length: 0 {n}", "Content-Length: ٣", "CONTENT-LENGTH: {n}",
    "Content-Length;: {n}",
)  # fmt: skip
_CODINGS = (
    "Transfer-Encoding: chunked", "transfer-encoding: chunked", "Transfer-Encoding:chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: chunked ", "Transfer-Encoding:\tchunked", "Transfer-Encoding: CHUNKED",
    "TRANSFER-ENCODING: chunked",
    "Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "Transfer-Encoding\t: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding: xchunked", "Transfer-Encoding: chunkedx", "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity", "Transfer-Encoding: identity, chunked", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked;q=1", 'Transfer-Encoding: "chunked"',
    "Transfer-Encoding: ", "Transfer-Encoding", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked", "Transfer-Encoding: \x0bchunked", "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding: \x00chunked", "Transfer-Encoding: ch\xfcnked", "Transfer-Encoding: chunked\r",
    "\x0bTransfer-Encoding: chunked",
    "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,", "Transfer-Encoding:: chunked",
    "Transfer-Encoding;: chunked",
    "Transfer-Encoding: cow", "Transfer-Encoding: chunked cow", "X-A: b\rTransfer-Encoding: chunked", "TE: chunked",
    "Transfer-Encoding\x7f: chunked", "Transfer\xadEncoding: chunked", "Transfer-Encoding: chun\tked", "Trailer: a",
)  # fmt: skip
_SIZES = (
    "{n:x}", "{n:X}", "0{n:x}", "00000000{n:x}", "0x{n:x}", "+{n:x}", "-{n:x}", " {n:x}", "{n:x} ", "{n:x}\t",
    "{n:x}\r", "{n:x}\x00",
    "{n:x};a", "{n:x};a=b", '{n:x};a="b"', '{n:x};a="b\\"c"', "{n:x} ;a", "{n:x};", "{n:x};a=", "{n:x};\ta",
    "{n:x};a\nb", "{n:x};\x00",
    "{n:x};a=\"\r\n0\r\n\r\nGET /s HTTP/1.1\"", "{n:x}\n", "{n:x},", "{n:x}h", "{n:x}_", "1_{n:x}", "", "\t", "0",
    "0 ", "0;a", "00", "-0", "ffffffffffffffff{n:x}",
    "10000000000000000{n:x}", "7fffffffffffffff", "ffffffffffffffff", "{n}e0", "{n:x};" + "a" * 20_000, "\xb2", "g",
    "{n:x} {n:x}",
)  # fmt: skip
_TRAILERS = (
    "", "X-Trailer: a", "Content-Length: 5", "Transfer-Encoding: chunked", "Host: other", "no colon", " folded",
    "X : a", "X: a\x00",
    "X: a\n", "Cookie: a", "Authorization: b", "Nearshelf-Edge-Key: c", "X: " + "t" * 9_000, ": empty", "X\xe9: a",
    "X: a\rb",
)  # fmt: skip
_ENDS = ("\r\n", "\n", "\r", "\r\r\n", "\n\r\n", "\r\n\n", "\x00\r\n", " \r\n", "\x0b\r\n", "\x85")
_EXPECTS = (
    "100-continue", "100-Continue", "100-continue, 100-continue", "100-continue\r\nExpect: 100-continue", "x", "",
    "200-ok",
    "100-continue ", "\t100-continue", "100", "100-continue; a=b", "identity 100-continue",
)  # fmt: skip


def mutants(path: str, token: str, seed: int) -> list[Mutant]:
    """Several hundred for one route. Requests have `token` in their target, which may be replaced by one as long."""
    return [
        Mutant(says, text.encode("latin-1", "replace")) for says, text in _mutants(path, token, random.Random(seed))
    ]


def _mutants(path: str, token: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    hidden = f"GET {path}/{token}-{SMUGGLED} HTTP/1.1\r\nHost: {SHOP}\r\n\r\n"
    last = f"GET {path}/{token}-last HTTP/1.1\r\nHost: {SHOP}\r\nConnection: close\r\n\r\n"

    def post(fields: str, body: str, method: str = "POST", ends: str = "\r\n") -> str:
        return f"{method} {path}/{token}-first HTTP/1.1\r\nHost: {SHOP}{ends}{fields}\r\n\r\n{body}"

    def chunked(content: str) -> str:
        return f"{len(content):x}\r\n{content}\r\n0\r\n\r\n"

    # Well-formed ones: whoever refuses everything is no gateway.
    for content in ("", "a=b", hidden, "x" * 5_000):
        yield "a length", post(f"Content-Length: {len(content)}", content) + last
        yield "chunks", post("Transfer-Encoding: chunked", chunked(content) if content else "0\r\n\r\n") + last
        yield "two posts", post(f"Content-Length: {len(content)}", content) * 2 + last
    for line in _LENGTHS:
        for content in ("abc", hidden):
            text = line.format(n=len(content)) if "{" in line else line
            yield f"length {line[:40]!r}", post(text, content) + last
            yield f"length {line[:40]!r}, GET", post(text, content, "GET") + last
    for line in _CODINGS:
        for content in (chunked("abc"), "0\r\n\r\n" + hidden, chunked(hidden)):
            yield f"coding {line[:40]!r}", post(line, content) + last
        # Both framings, each way round: CL.TE, TE.CL, and with a zero on either side.
        for length in (len(chunked("abc")), 4, 0, 3):
            for order in (f"Content-Length: {length}\r\n{line}", f"{line}\r\nContent-Length: {length}"):
                yield f"both framings {line[:30]!r}/{length}", post(order, "0\r\n\r\n" + hidden) + last
    for size in _SIZES:
        text = size.format(n=3) if "{n" in size else size
        yield f"chunk size {size[:30]!r}", post("Transfer-Encoding: chunked", f"{text}\r\nabc\r\n0\r\n\r\n") + last
        yield (
            f"last chunk size {size[:30]!r}",
            post("Transfer-Encoding: chunked", f"3\r\nabc\r\n{text}\r\n\r\n{hidden}") + last,
        )
    for end in _ENDS:
        yield f"chunk line ends in {end!r}", post("Transfer-Encoding: chunked", f"3{end}abc\r\n0\r\n\r\n") + last
        yield f"chunk ends in {end!r}", post("Transfer-Encoding: chunked", f"3\r\nabc{end}0\r\n\r\n") + last
        yield f"last chunk ends in {end!r}", post("Transfer-Encoding: chunked", f"3\r\nabc\r\n0{end}\r\n") + last
        yield f"trailers end in {end!r}", post("Transfer-Encoding: chunked", f"3\r\nabc\r\n0\r\n{end}{hidden}") + last
        yield f"a field line ends in {end!r}", post("Content-Length: 3", "abc", ends=end) + last
        yield f"request line ends in {end!r}", post("Content-Length: 3", "abc").replace("\r\n", end, 1) + last
        yield (
            f"head ends in {end!r}",
            post("Content-Length: 3", "").removesuffix("\r\n\r\n") + "\r\n" + end + "abc" + last,
        )
        yield f"between requests {end!r}", post("Content-Length: 3", "abc") + end + last
        yield f"before all {end!r}", end + post("Content-Length: 3", "abc") + last
    for trailer in _TRAILERS:
        text = f"3\r\nabc\r\n0\r\n{trailer}\r\n\r\n" if trailer else "3\r\nabc\r\n0\r\n\r\n"
        yield f"trailer {trailer[:20]!r}", post("Transfer-Encoding: chunked", text) + last
    for expect in _EXPECTS:
        for method, framing, content in (
            ("POST", "Content-Length: 3", "abc"),
            ("GET", "Content-Length: 0", ""),
            ("GET", "X: y", hidden),
        ):
            yield f"Expect {expect[:30]!r}", post(f"Expect: {expect}\r\n{framing}", content, method) + last
    # Lengths that lie about pipelined tails: CL.0, 0.CL, TE.0.
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH"):
        yield f"CL.0 {method}", post(f"Content-Length: {len(hidden)}", hidden, method) + last
        yield f"0.CL {method}", post("Content-Length: 0", hidden, method) + last
        yield f"TE.0 {method}", post("Transfer-Encoding: chunked", chunked(hidden), method) + last
        yield f"nothing said {method}", post("X: y", hidden, method) + last
        yield f"long {method}", post(f"Content-Length: {len(hidden) + 500}", hidden, method)
        yield f"short {method}", post(f"Content-Length: {len(hidden) - 10}", hidden, method) + last
        yield (
            f"upgrade {method}",
            post(f"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(hidden)}", hidden, method) + last,
        )
        yield f"websocket {method}", post("Connection: Upgrade\r\nUpgrade: websocket", hidden, method) + last
        yield f"close {method}", post("Connection: close\r\nContent-Length: 0", hidden, method)
        yield f"nominated {method}", post("Connection: Content-Length\r\nContent-Length: 3", "abc", method) + last
        yield (
            f"nominated coding {method}",
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", chunked("abc"), method) + last,
        )
    for version in (
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/1.10",
        "http/1.1",
        "HTTP/1.1 ",
        " HTTP/1.1",
        "HTTP/01.1",
        "",
        "ICE/1.0",
        "RTSP/1.0",
    ):
        text = post("Transfer-Encoding: chunked", "0\r\n\r\n" + hidden) + last
        yield f"version {version!r}", text.replace("HTTP/1.1", version, 1)
    for host in (
        f"Host: {SHOP}\r\nHost: {SHOP}",
        "Host: other",
        "Host:",
        f"hOST: {SHOP}",
        f"Host : {SHOP}",
        f" Host: {SHOP}",
        "",
    ):
        yield f"host {host!r}", (post("Content-Length: 3", "abc") + last).replace(f"Host: {SHOP}", host, 1)
    # By chance: a byte changed, lost, doubled or put in, in streams that hide something.
    odd = "\r\n\t \x00\x0b\x7f\x80\xff:;,0aZ-+_"
    streams = (
        post(f"Content-Length: {len(hidden)}", hidden) + last,
        post("Transfer-Encoding: chunked", chunked(hidden)) + last,
        post("Transfer-Encoding: chunked", f"5;a=b\r\nabcde\r\n0\r\nX-Trailer: t\r\n\r\n{last}"),
    )
    for stream, number in itertools.product(streams, range(100)):
        at = rng.randrange(len(stream) - len(last))
        what = rng.choice(("changed", "lost", "doubled", "put in"))
        put = {
            "changed": rng.choice(odd),
            "lost": "",
            "doubled": stream[at] * 2,
            "put in": rng.choice(odd) + stream[at],
        }[what]
        if (mutant := stream[:at] + put + stream[at + 1 :]).count("TOKEN") == stream.count("TOKEN"):
            yield f"by chance {number}: {stream[at]!r} {what}", mutant


# -- playing -----------------------------------------------------------------------------------------------------------

_SHOP_PATHS = ("/eu-eur/cart/items", "/anything", "/console/x")
_RFC9111_PATHS = ("/anything",)


async def smuggled_requests(lab: Lab) -> list[Tally]:
    tally = Tally("6", "smuggled requests")
    served = 0
    numbers = itertools.count()
    for pair, paths in ((lab.shop, _SHOP_PATHS), (lab.rfc9111, _RFC9111_PATHS)):
        for path in paths:
            tally.routes.add(path)
            pair.origin.received.clear()
            rest = iter(lab.some(mutants(path, "TOKEN", lab.seed)))

            async def work(pair: Pair = pair, path: str = path, rest: Iterator[Mutant] = rest) -> int:
                count = 0
                for mutant in rest:
                    count += await play(tally, pair, path, f"{next(numbers):05}", mutant)
                return count

            served += sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))
        tally.differences += [f"the origin refused: {fault}" for fault in pair.origin.faults]
        pair.origin.faults.clear()
    tally.hold(served > tally.attacks // 10, f"only {served} requests were forwarded at all")
    tally.notes.append(f"{served:,} requests were meant, and the origin parsed exactly those")
    return [tally]


async def play(tally: Tally, pair: Pair, path: str, token: str, mutant: Mutant) -> int:
    """Say it, and hold what came of it against what it means. How many requests were meant and forwarded."""
    tally.attacks += 1
    tally.requests += 2
    data = mutant.data.replace(b"TOKEN", token.encode())
    meant = meaning_of(data)
    talk = await pair.attacked.attacker.talk(data, meant.methods, half_close=meant.unfinished)
    # Whoever comes next on a connection to the origin gets the answer to its own question.
    victim = f"{path}/{token}-victim"
    answer = await pair.attacked.clean.get(victim, SHOP)

    def differs(text: str) -> None:
        tally.differs(f"{path}: {mutant.says}: {text}; said {data[:300]!r}")

    if answer.status != 200 or f"GET {victim}".encode() not in answer.body:
        differs(f"the next viewer got {answer.status} {answer.body[:100]!r}")
    parsed = [request for request in pair.origin.about(token) if "-victim" not in request.target]
    got = [(_as_forwarded(request, pair), request.target, request.body) for request in parsed]
    answered = [request for request, each in zip(meant.requests, talk.answers, strict=False) if each.status == 200]
    expected = [(_as_forwarded(request, pair), request.target, request.body) for request in answered]
    statuses = [each.status for each in talk.answers]
    if got != expected:
        differs(f"the origin parsed {got}, meant and answered was {expected}")
    if talk.fault:
        differs(f"an answer could not be read: {talk.fault}")
    # 405 is about a method that the route does not take, and not about how the request is written.
    refused = [
        number
        for number, status in enumerate(statuses)
        if status != 200 and not (status == 405 and number < len(meant.requests))
    ]
    if refused and refused != [len(statuses) - 1]:
        differs(f"refused, and went on: {statuses}")
    if refused and not 400 <= statuses[-1] <= 505:
        differs(f"refused with {statuses[-1]}")
    if len(statuses) > len(meant.requests) + 1 or (len(statuses) > len(meant.requests) and not refused):
        differs(f"{len(meant.requests)} requests were meant, the answers are {statuses}")
    if meant.doubtful and not refused and 405 not in statuses:
        differs(f"not refused: {statuses}")
    if (meant.doubtful or refused) and not talk.closed:
        differs("the connection was not closed")
    return len(got)


def _as_forwarded(request: Request, pair: Pair) -> str:
    """Where answers are kept, the whole is asked for."""
    return "GET" if pair.kind.forwards_all and request.method == "HEAD" else request.method


ROWS = {"6": smuggled_requests}
