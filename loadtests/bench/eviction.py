"""What our store keeps when it is full: `python -m loadtests.bench eviction`.

Hit ratios beside LRU, LFU and SIEVE on traces of keys of one size: Zipf with exponents from 0.6 to 1.1; one through
which crawlers go; one whose favourites change. Then the store itself, in a process of its own: ten million keys that
are never asked for again go in while a hot set is asked for, and what counts is the hot set's hits and the memory.

In this process, against the rule that benches are strangers to what they measure: at the pace of HTTP ten million keys
would take an hour, and what other policies would have kept can only be computed.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cache_policies.positions import Position
from edge.core.floors import Floors
from edge.core.http import Headers
from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.memory import MemoryStore
from edge.store.s3fifo import S3Fifo
from loadtests.bench import measuring
from loadtests.bench.measuring import BenchError, Verdict
from loadtests.bench.rivals import RIVALS, Maker, OfCachetools

SEED = 4
OURS = "S3-FIFO, ours"
POLICIES: dict[str, Maker] = {**RIVALS, OURS: lambda room: OfCachetools(S3Fifo(room))}
EXPONENTS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
ROOMS = (0.01, 0.1)
"""Of the objects: what there is room for."""

BODY_BYTES = 2_048
HOT_SHARE = 0.25
"""Of the store's budget, for the hot set."""
HOT_EVERY = 8
"""Keys that are never asked for again between two requests of the hot set."""
MAX_MEMORY, MIN_HITS = 1.1, 0.95


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench eviction", description=__doc__.partition("\n")[0])
    parser.add_argument("--objects", type=int, default=50_000, help="different keys of a trace (default 50000)")
    parser.add_argument("--requests", type=int, default=250_000, help="requests of a trace (default 250000)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys into the store (default 1000000)")
    parser.add_argument("--long", action="store_true", help="ten million keys, and traces five times as long")
    parser.add_argument("--store-mb", type=int, default=256, help="the store's budget (default 256)")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `eviction` marks")
    parser.add_argument("--crawl", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.long:
        options.objects, options.requests, options.keys = 5 * options.objects, 5 * options.requests, 10_000_000
    if options.crawl:
        crawl(options.keys, options.store_mb * 1_000_000)
        return 0
    table = ratios(options.objects, options.requests)
    about, verdicts = crawled(options.keys, options.store_mb)
    text = f"{measuring.today()}: {table}\n\n{about}\n\n{measuring.told(verdicts)}"
    print(text)
    if options.write is not None:
        measuring.write_between_marks(options.write, "eviction", text)
    return int(not all(verdict.met for verdict in verdicts))


# -- hit ratios --------------------------------------------------------------------------------------------------------


def ratios(objects: int, requests: int) -> str:
    """The table of hit ratios, in per cent of the requests."""
    lines = [
        f"{objects:,} objects, {requests:,} requests; hits, per cent. The best of each row is marked.",
        "",
        f"| trace | room for | {' | '.join(POLICIES)} |",
        "|---|---|" + "---|" * len(POLICIES),
    ]
    for name, trace in traces(objects, requests).items():
        keys = trace()
        for share in ROOMS:
            hits = [
                sum(map(make(int(share * objects)).ask, keys)) / len(keys) * 100 for make in POLICIES.values()
            ]  # fmt: skip
            cells = [f"**{ratio:.1f}**" if ratio == max(hits) else f"{ratio:.1f}" for ratio in hits]
            lines.append(f"| {name} | {share:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def traces(objects: int, requests: int) -> dict[str, Callable[[], list[int]]]:
    """Makers of traces, by name."""

    def zipf(exponent: float) -> list[int]:
        weights = [rank**-exponent for rank in range(1, objects + 1)]
        return random.Random(SEED).choices(range(objects), weights, k=requests)

    def crawled_through() -> list[int]:
        """After every 20,000 requests of shoppers a crawler takes 10,000 addresses that nobody else asks for."""
        keys: list[int] = []
        for start in range(0, requests, 20_000):
            keys += shoppers[start : start + 20_000]
            keys += range(objects + start, objects + start + 10_000)
        return keys

    def changing() -> list[int]:
        """Ten times in the trace other objects become the favourites."""
        return [(key + number * 10 // requests * (objects // 20)) % objects for number, key in enumerate(shoppers)]

    shoppers = zipf(0.9)
    made: dict[str, Callable[[], list[int]]] = {
        f"Zipf {exponent}": lambda exponent=exponent: zipf(exponent)  # type: ignore[misc]
        for exponent in EXPONENTS
    }
    return {**made, "Zipf 0.9, crawlers": crawled_through, "Zipf 0.9, changing favourites": changing}


# -- the store itself --------------------------------------------------------------------------------------------------


def crawled(keys: int, store_mb: int) -> tuple[str, list[Verdict]]:
    """What became of the hot set and of the memory, in words and held against the aims.

    Raises BenchError when the store's process fails.
    """
    command = [sys.executable, "-m", "loadtests.bench.eviction", "--crawl"]
    run = subprocess.run(
        [*command, "--keys", str(keys), "--store-mb", str(store_mb)], stdout=subprocess.PIPE, text=True, check=False
    )
    if run.returncode:
        raise BenchError(f"the store's process ended with status {run.returncode}")
    hits, memory, took_s, held = map(float, run.stdout.split())
    about = (
        f"{keys:,} keys into a store of {store_mb} MB: {held:,.0f} responses of {BODY_BYTES:,} B in it at the end, "
        f"{took_s / keys * 1e6:.1f} us each"
    )
    return about, [
        Verdict("hits of the hot set that are kept", hits, MIN_HITS, at_least=True),
        Verdict("memory that the store took, to its budget", memory, MAX_MEMORY),
    ]


def crawl(keys: int, budget: int) -> None:
    """In a process of its own: print the share of hits, memory to budget, seconds, and responses held at the end."""
    responses, began = Responses(), _anonymous_bytes()
    store = MemoryStore(budget, Floors(), lambda: 1_000.0)
    hot = int(budget * HOT_SHARE) // responses.make(0).size
    order = random.Random(SEED)
    for number in range(hot):
        store.put(responses.make(number))
        store.get(responses.key(number))
    asked = found = 0
    started = time.perf_counter()
    for number in range(hot, hot + keys):
        store.put(responses.make(number))
        if number % HOT_EVERY == 0:
            wanted = order.randrange(hot)
            asked += 1
            if store.get(responses.key(wanted)):
                found += 1
            else:
                store.put(responses.make(wanted))
    took_s = time.perf_counter() - started
    print(found / asked, (_anonymous_bytes() - began) / budget, took_s, store.stats().responses)


class Responses:
    """Stored responses as the gateway makes them of the shop's pages: no text of theirs is shared by chance."""

    def key(self, number: int) -> CacheKey:
        return CacheKey("shop.example", f"/eu-eur/products/lamp-{number:09d}", (), "eu-eur")

    def make(self, number: int) -> StoredResponse:
        name, moment = f"lamp-{number:09d}", 1_000.0 + number * 1e-9
        fields = (
            ("content-type", "text/html; charset=utf-8"),
            ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
            ("content-length", str(BODY_BYTES)),
            ("catalog-version", "1.1"),
            ("cache-tag", f"p:eu-eur:{name}, c:eu-eur:lamps, h:eu-eur"),
            ("cdn-cache-control", "max-age=86400"),
            ("cache-control", "public, max-age=86400"),
            ("etag", f'"{name}"'),
            ("content-security-policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
        )
        return StoredResponse(
            key=self.key(number),
            policy_version="0123456789abcdef",
            status=200,
            # Anew for each, as a parser gives them.
            headers=Headers([(field, "".join(list(value))) for field, value in fields]),
            body=name.encode().ljust(BODY_BYTES, b"."),
            vary=(),
            etag=f'"{name}"',
            position=Position(1, 1),
            tags=(f"p:eu-eur:{name}", "c:eu-eur:lamps", "h:eu-eur", f"path:/eu-eur/products/{name}"),
            stored_at=moment,
            initial_age_s=moment / 1e6,
            no_cache=False,
            fresh_until=moment + 300.0,
            revalidate_until=moment + 600.0,
            error_until=moment + 86_400.0,
            keep_until=moment + 172_800.0,
        )


def _anonymous_bytes() -> int:
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
