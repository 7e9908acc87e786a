"""Hits on one core beside nginx, Varnish and HAProxy, in interleaved runs: `python -m loadtests.bench hits`.

Thousands of objects, and thousands of different requests for them: each with a cookie, a session's address and
advertising parameters of its own, the parameters that count in any order. Everybody has the shop's routing and keys
(`peers.py`). The server has one core and wrk the other. CPU microseconds a request are utime and stime of the server's
processes over the requests that wrk counted.
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import brotli  # type: ignore[import-untyped]

from loadtests.bench import measuring, ours, peers
from loadtests.bench.measuring import BenchError, Row, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running

SEED = 4
BROTLI_QUALITY = 5
"""What our edge compresses with, so that the peers get the same bytes from the origin."""
NGINX_STOCK, NGINX_TUNED = "nginx, stock", "nginx, tmpfs + open_file_cache"
VARNISH, HAPROXY = "Varnish", "HAProxy"
BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5",
)
_ASKS_FOR_BROTLI = re.compile(r"(?im)^accept-encoding:.*\bbr\b").search
LANGUAGES = ("de-DE,de;q=0.9,en;q=0.8", "en-GB,en;q=0.9", "fr-FR,fr;q=0.9,en;q=0.7", "en-US,en;q=0.5")


class Series(NamedTuple):
    """One table: which bytes are served, and what is aimed at beside whom."""

    mark: str
    about: str
    octets: int
    accept_encoding: str
    aims: tuple[tuple[str, float], ...]


SERIES = (
    Series("hits-8k", "8 KB, uncompressed", 8_192, "identity", ((NGINX_TUNED, 0.85), (VARNISH, 0.75))),
    Series("hits-60k", "60 KB of HTML, served in Brotli", 61_440, "gzip, deflate, br, zstd", ((NGINX_TUNED, 1.0),)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench hits", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the interleaved run (default 7)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run (default 3)")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--objects", type=int, default=4_000)
    parser.add_argument("--requests", type=int, default=8_000, help="different requests (default 8000)")
    parser.add_argument("--tries", type=int, default=6, help="repetitions of a run that was disturbed (default 6)")
    parser.add_argument("--series", default="", help=f"comma list of {', '.join(each.mark for each in SERIES)}")
    parser.add_argument("--only", default="", help="comma list of rows, by the start of their names")
    parser.add_argument("--logs", action="store_true", help="with an access log, everybody")
    parser.add_argument("--loop", default="", help="comma list of event loops of the gateway; default: its own choice")
    parser.add_argument("--write", type=Path, help="put the tables into this file, between the marks of each series")
    options = parser.parse_args(argv)
    reason = measuring.cannot_run(["wrk", "taskset"])
    if reason is not None:
        return measuring.complain(reason)
    lacking = measuring.missing(["nginx", "varnishd", "haproxy"])
    if lacking:
        print(f"without some peers: {measuring.how_to_get(lacking)}", file=sys.stderr)
    missed = False
    for series in SERIES:
        if options.series and series.mark not in options.series.split(","):
            continue
        text, verdicts = run_series(series, options, lacking)
        print(f"\n{text}\n", flush=True)
        missed = missed or not all(verdict.met for verdict in verdicts)
        if options.write is not None:
            mark = f"{series.mark}-logs" if options.logs else series.mark
            measuring.write_between_marks(options.write, mark, text)
    return int(missed)


def run_series(series: Series, options: argparse.Namespace, lacking: Sequence[str]) -> tuple[str, list[Verdict]]:
    """The table of one series with its verdicts."""
    shop = Shop(options.objects, series.octets, pages="br" in series.accept_encoding)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        memory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-", dir="/dev/shm")))
        origin = stack.enter_context(running(BenchOrigin(shop.page_for)))
        makers = _makers(stack, origin.url, scratch, memory, options, series)
        wanted = [start.strip() for start in options.only.split(",") if start.strip()]
        rows: list[Row] = []
        digests: set[int] = set()
        for name, (command, make) in makers.items():
            if command in lacking or (wanted and not any(name.startswith(start) for start in wanted)):
                continue
            server = make()
            requests = shop.requests(options.requests, f"127.0.0.1:{server.port}", series.accept_encoding)
            digests.add(warm(server, shop, series.accept_encoding))
            if len(digests) > 1:
                raise BenchError(f"{name} serves other bytes than the rows before it")
            script = measuring.wrk_script(scratch / f"{server.port}.lua", requests)
            once = partial(
                measuring.wrk, server, script, seconds=options.seconds, connections=options.connections
            )  # fmt: skip
            rows.append(Row(name, once))
        measuring.take_turns(rows, options.rounds, options.tries, heading=f"{series.mark}, ")
    verdicts = [
        Verdict(f"CPU of {row.name} to {peer.name}, {series.about}", measuring.cpu_ratio(row, peer), aim)
        for row in rows
        if row.name.startswith("nearshelf")
        for peer_name, aim in series.aims
        for peer in rows
        if peer.name == peer_name
    ]
    about = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: {series.about}; {options.objects:,} objects, "
        f"{options.requests:,} different requests, {options.rounds} rounds of {options.seconds} s, "
        f"{options.connections} connections, access logs {'on' if options.logs else 'off'}; {versions(lacking)}"
    )
    against = [name for name, _ in series.aims]
    return f"{about}\n\n{measuring.table(rows, against)}\n\n{measuring.told(verdicts)}", verdicts


def _makers(
    stack: ExitStack, origin: str, scratch: Path, memory: Path, options: argparse.Namespace, series: Series
) -> dict[str, tuple[str, Callable[[], Server]]]:
    """By the name of its row: the command that it needs, and what starts it."""

    def log(name: str) -> Path | None:
        return memory / f"{name}.log" if options.logs else None

    policies = ours.lasting_policies(scratch / "policies")
    accepts = "br" if "br" in series.accept_encoding else ""
    makers: dict[str, tuple[str, Callable[[], Server]]] = {}
    for loop in options.loop.split(","):
        name = f"nearshelf, {loop}" if loop else "nearshelf"
        own = log(f"nearshelf-{loop}")
        makers[name] = (
            "",
            partial(
                ours.start_gateway,
                stack,
                name,
                origin,
                scratch,
                log="" if own is None else str(own),
                loop=loop,
                policies=policies,
                settings={"NEARSHELF_STORE_BYTES": str(peers.STORE_MB << 20)},
            ),
        )
    for name, folder, tuned in ((NGINX_STOCK, scratch, False), (NGINX_TUNED, memory, True)):
        nginx = partial(peers.start_nginx, stack, name, origin, folder, tuned=tuned, accept_encoding=accepts)
        makers[name] = ("nginx", partial(nginx, log=log(f"nginx-{tuned}")))
    makers[VARNISH] = ("varnishd", partial(peers.start_varnish, stack, VARNISH, origin, memory, log=log("varnish")))
    makers[HAPROXY] = ("haproxy", partial(peers.start_haproxy, stack, HAPROXY, origin, memory, log=log("haproxy")))
    return makers


def versions(lacking: Sequence[str]) -> str:
    """What was measured."""
    told = [f"Python {sys.version.split()[0]}"]
    for command, flag in (("nginx", "-v"), ("varnishd", "-V"), ("haproxy", "-v")):
        if command not in lacking:
            run = subprocess.run([measuring.path_of(command), flag], capture_output=True, text=True, check=True)
            first = (run.stderr or run.stdout).partition("\n")[0]
            found = next((word for word in first.replace("/", " ").replace("-", " ").split() if word[0].isdigit()), "")
            told.append(f"{command} {found}")
    return ", ".join(told)


# -- what is asked for -------------------------------------------------------------------------------------------------


class Object(NamedTuple):
    """One thing that is stored, and the parameters that name it."""

    path: str
    query: tuple[tuple[str, str], ...]


class Shop:
    """`count` objects over the shop's routes, each with a body of `octets` of its own, and requests for them.
    `pages`: none but pages, which are what is compressed."""

    def __init__(self, count: int, octets: int, *, pages: bool = False) -> None:
        self._random = random.Random(SEED)
        self._octets = octets
        self._kinds = 15 if pages else 20
        self._words = [self._word() for _ in range(4_000)]
        self.objects = [self._object(number) for number in range(count)]
        self._text = self._sentences(2 * octets)

    def page_for(self, target: str, head: str) -> Page:
        """What the origin answers: by the key's part of the target alone. Compressed where it is asked for Brotli."""
        path, _, query = target.partition("?")
        counted = "&".join(sorted(pair for pair in query.split("&") if pair.startswith(("page=", "sort=", "variant="))))
        name = f"{path}?{counted}"
        chosen = random.Random(name)
        begin = f"<!doctype html><title>{name}</title>".encode()
        start = chosen.randrange(self._octets)
        body = (begin + self._text[start : start + self._octets])[: self._octets]
        fields = labelled(f"p:{chosen.getrandbits(48):x}")
        if _ASKS_FOR_BROTLI(head):
            return Page(brotli.compress(body, quality=BROTLI_QUALITY), fields=(*fields, "content-encoding: br"))
        return Page(body, fields=fields)

    def requests(self, count: int, host: str, accept_encoding: str) -> list[bytes]:
        """Whole requests, no two alike; every object is asked for, some more often than others."""
        chosen = random.Random(SEED + 1)
        wanted = [*self.objects, *chosen.choices(self.objects, k=max(0, count - len(self.objects)))][:count]
        chosen.shuffle(wanted)
        return [self._request(chosen, each, host, accept_encoding) for each in wanted]

    @staticmethod
    def _request(chosen: random.Random, wanted: Object, host: str, accept_encoding: str) -> bytes:
        pairs = [
            *wanted.query,
            ("utm_source", chosen.choice(("newsletter", "search", "partner"))),
            ("utm_campaign", f"{chosen.getrandbits(32):x}"),
            ("gclid", f"{chosen.getrandbits(96):x}"),
        ]
        chosen.shuffle(pairs)
        target = f"{wanted.path}?{'&'.join(f'{name}={value}' for name, value in pairs)}"
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {chosen.choice(BROWSERS)}",
            "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            f"Accept-Language: {chosen.choice(LANGUAGES)}",
            f"Accept-Encoding: {accept_encoding}",
            f"Referer: https://shop.example/eu-eur/c/{chosen.getrandbits(20):x}",
            f"Cookie: session={chosen.getrandbits(128):x}; cart={chosen.getrandbits(64):x}; consent=1",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _object(self, number: int) -> Object:
        market = peers.MARKETS[number % len(peers.MARKETS)]
        kind = number % self._kinds
        if kind < 10:
            return Object(f"/{market}/products/lamp-{number}", (("variant", f"v{number % 7}"),))
        if kind < 15:
            query = (("sort", ("price", "name", "new")[number % 3]), ("page", str(1 + number % 9)))
            return Object(f"/{market}/c/lighting/range-{number}", query)
        return Object(f"/api/v1/{market}/prices/SKU-{number}", ())

    def _word(self) -> str:
        return "".join(self._random.choices("abcdefghijklmnoprstuvw", k=self._random.randint(2, 9)))

    def _sentences(self, octets: int) -> bytes:
        """Text that compresses about as pages do: words from a vocabulary, with the tags around them repeating."""
        parts: list[str] = []
        size = 0
        while size < octets:
            words = " ".join(self._random.choices(self._words, k=self._random.randint(4, 9)))
            price = f"{self._random.randint(1, 999)}.{self._random.randint(0, 99):02}"
            parts.append(f'<li class="product"><a href="/products/{words[:9]}">{words}</a><span>{price}</span></li>\n')
            size += len(parts[-1])
        return "".join(parts).encode()


def warm(server: Server, shop: Shop, accept_encoding: str) -> int:
    """Ask for every object until it is a hit; a digest of all bodies. Raises BenchError when one never is."""
    requests = shop.requests(len(shop.objects), f"127.0.0.1:{server.port}", accept_encoding)
    connection = _connected(server)
    with connection:
        for request in requests:
            _ask(server, connection, request)
        bodies: list[bytes] = []
        for request in requests:
            for _ in range(50):
                hit, body = _ask(server, connection, request)
                if hit:
                    break
                time.sleep(0.02)
            else:
                raise BenchError(f"{server.name} gives no hit for {request.split()[1].decode()}")
            bodies.append(body)
    return zlib.crc32(b"".join(sorted(bodies)))


def _connected(server: Server) -> socket.socket:
    """A connection to a server that has begun to listen. Raises BenchError when it does not within ten seconds."""
    for _ in range(100):
        server.check_alive()
        try:
            return socket.create_connection(("127.0.0.1", server.port), timeout=10)
        except OSError:
            time.sleep(0.1)
    raise BenchError(f"{server.name} does not listen")


def _ask(server: Server, connection: socket.socket, request: bytes) -> tuple[bool, bytes]:
    """Whether the answer to `request` was a hit, and its body."""
    connection.sendall(request)
    response = http.client.HTTPResponse(connection)
    response.begin()
    return server.is_hit(response.headers.get(server.hit_field, "")), response.read()


if __name__ == "__main__":
    sys.exit(main())
