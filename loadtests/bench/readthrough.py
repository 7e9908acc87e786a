"""The origin's read-through cache, hit and miss, beside the origin without it: `python -m loadtests.bench readthrough`.

Two shops, one after the other, the second with the cache off. Each is asked as edges ask, with the edge key and no edge
between: every address once, so that each is a miss, and then the popular ones again and again. Requests come at the
moments they were meant for, and durations count from those. Statements are those that the origin counts for public
reads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families

from loadtests.bench import measuring
from loadtests.bench.lines import Line, Options, judged
from loadtests.bench.measuring import TICKS, BenchError, Server, Verdict
from loadtests.bench.shops import BenchShop, running_shop
from loadtests.bench.volleys import Volley, believed, send, volley
from loadtests.http1 import Connection, NoAnswer
from loadtests.paced.schedule import Asked, Schedule, steady
from loadtests.people import ZIPF_EXPONENT
from loadtests.recorder.run import Phase, Run

SEED = 5
MARKET, WARM_UP_MARKET = "eu-eur", "us-usd"
ORIGIN = "origin"
COLD_PER_S, WARM_PER_S = 25, 100
HIT_MS, MISS_MS = 5.0, 50.0
KINDS = ("price", "stock", "product", "product list", "product page", "category page")
BACKGROUND_POOLS = frozenset({"log", "writes"})
"""What goes on whether or not anybody asks for a page: the purge log, the registry of edges, changes."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the origin has counted so far."""

    statements: float
    """For public reads."""
    background: float
    results: Mapping[str, float]
    """Look-ups in the cache, by what came of them."""
    writes: Mapping[float, float]
    """Upper bound in seconds -> values that were kept within it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One run against one shop."""

    run: Run
    cores: float
    """Mean processor time of the whole shop."""
    statements: float
    """For each 1,000 requests."""
    background_per_s: float
    """Statements a second that nobody's request caused."""
    hit_share: float
    """Per cent of the look-ups; 0 where there is no cache."""
    kept_ms: float
    """Within so many milliseconds 99 % of the values were kept that were kept; 0 where none was."""

    def of(self, kind: str | None = None) -> Volley:
        return volley(self.run, lambda cell: kind in {None, cell.label.route})


@dataclass(frozen=True, slots=True)
class Measured:
    """A shop, with the cache or without."""

    once: Part
    """Every address for the first time."""
    again: Part


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench readthrough", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run (default 20)")
    parser.add_argument("--products", type=int, default=1_000, help="size of the shop (default 1000)")
    parser.add_argument("--tries", type=int, default=3, help="repetitions of a run whose generator fell behind")
    parser.add_argument("--write", type=Path, help="put the tables into this file, between its `readthrough` marks")
    found = parser.parse_args(argv)
    options = Options(found.seconds, found.products, found.tries)
    with_it, without = measure(options, cache=True), measure(options, cache=False)
    line = line_of(with_it, without)
    about = (
        f"{measuring.today()}: {options.seconds:g} s each, {COLD_PER_S} a second for the first time and {WARM_PER_S} "
        f"again; a shop of {options.products:,} products; Python {sys.version.split()[0]}; shop, databases and "
        "generator share the cores"
    )
    text = f"{about}\n\n{tables(with_it, without)}\n\n{judged([line])}"
    print(f"\n{text}")
    if found.write is not None:
        measuring.write_between_marks(found.write, "readthrough", text)
    return int(not line.met)


def lines(options: Options) -> list[Line]:
    """The documents' line on the cache."""
    return [line_of(measure(options, cache=True), measure(options, cache=False))]


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(options: Options, *, cache: bool) -> Measured:
    """A shop of its own, asked for the first time and again. Raises BenchError."""
    settings = {"NEARSHELF_READTHROUGH": "on" if cache else "off"}
    name = "with the cache" if cache else "without"
    with running_shop(products=options.products, settings=settings) as shop:
        key = _edge_key(shop)
        origin = shop.listener(ORIGIN, shop.target.origin)
        warm_up = addresses(asyncio.run(_listed(shop.target.origin, WARM_UP_MARKET, 40)), WARM_UP_MARKET, key)
        asked = addresses(asyncio.run(_listed(shop.target.origin, MARKET, options.products)), MARKET, key)
        asked = random.Random(SEED).sample(asked, min(len(asked), round(COLD_PER_S * options.seconds)))
        # Connections to the databases are opened, templates read.
        _run(shop, origin, once_each({ORIGIN: origin.url}, warm_up), options, f"{name}, warm-up")
        once = _run(shop, origin, once_each({ORIGIN: origin.url}, asked), options, f"{name}, the first time")
        schedule = steady(
            {ORIGIN: origin.url},
            asked,
            rate_per_s=WARM_PER_S,
            duration_s=options.seconds,
            warmup_s=max(1.0, len(asked) / WARM_PER_S),
            seed=SEED,
            weights=[rank**-ZIPF_EXPONENT for rank in range(1, len(asked) + 1)],
        )
        return Measured(once, _run(shop, origin, schedule, options, f"{name}, again"))


def once_each(edges: Mapping[str, str], asked: Sequence[Asked]) -> Schedule:
    """Every one of `asked` once, in their order, at independent moments."""
    rng = random.Random(SEED)
    moments = array("d")
    now = 0.0
    for _ in asked:
        now += rng.expovariate(COLD_PER_S)
        moments.append(now)
    return Schedule(edges, asked, [Phase("steady", 0.0, now + 0.5, True)], moments, array("L", range(len(asked))))


def addresses(products: Sequence[Mapping[str, str]], market: str, key: str) -> list[Asked]:
    """What edges ask for of these products: JSON, pages, the listings that show them."""
    found: list[tuple[str, str]] = []
    for product in products:
        sku = quote(product["sku"], safe="")
        found += [
            ("price", f"/api/v1/{market}/prices/{sku}"),
            ("stock", f"/api/v1/{market}/stock/{sku}"),
            ("product", f"/api/v1/{market}/products/{sku}"),
            ("product page", product["url"]),
        ]
    categories = dict.fromkeys(product["category"] for product in products if product["category"])
    found += [("category page", f"/{market}/c/{quote(path)}") for path in categories]
    found += [
        ("product list", f"/api/v1/{market}/products?page={number}") for number in range(1, len(products) // 24 + 2)
    ]
    fields = (("Nearshelf-Edge-Key", key),)
    return [Asked(ORIGIN, kind, market, target, fields) for kind, target in found]


async def _listed(origin: str, market: str, count: int) -> list[dict[str, str]]:
    """The first products of the list. Nothing of what is asked for here is kept: it is not asked as an edge asks."""
    found: list[dict[str, str]] = []
    async with Connection(origin) as connection:
        try:
            for page in range(1, -(-count // 24) + 1):
                answer = await connection.request("GET", f"/api/v1/{market}/products?page={page}")
                found += json.loads(answer.body).get("products", []) if answer.status == 200 else []
        except (NoAnswer, ValueError) as exc:
            raise BenchError(f"the shop's product list: {exc}") from exc
    if not found:
        raise BenchError("the shop lists no products")
    return found[:count]


def _run(shop: BenchShop, origin: Server, schedule: Schedule, options: Options, heading: str) -> Part:
    """The run; repeated only where that makes sense: what was asked once is not asked for the first time again."""
    before, ticks = _counted(shop), origin.ticks()
    tries = options.tries if heading.endswith("again") else 1
    runs: list[Run] = []

    def once() -> Run:
        nonlocal before, ticks
        before, ticks = _counted(shop), origin.ticks()
        runs.append(send(schedule, "readthrough", seed=SEED))
        return runs[-1]

    run = believed(partial(once), tries, heading)
    cores = (origin.ticks() - ticks) / TICKS / run.duration_s
    after = _counted(shop)
    looked_up = sum(after.results.values()) - sum(before.results.values())
    hits = after.results.get("hit", 0.0) - before.results.get("hit", 0.0)
    return Part(
        run,
        cores,
        1000 * (after.statements - before.statements) / len(schedule.due_s),
        (after.background - before.background) / run.duration_s,
        100 * hits / looked_up if looked_up else 0.0,
        1000 * _within({bound: count - before.writes.get(bound, 0.0) for bound, count in after.writes.items()}, 0.99),
    )


def _edge_key(shop: BenchShop) -> str:
    try:
        return str(json.loads((shop.target.state / "env.json").read_text())["NEARSHELF_EDGE_KEY"])
    except (OSError, ValueError, KeyError) as exc:
        raise BenchError(f"{shop.target.state}/env.json tells no edge key: {exc}") from exc


def _counted(shop: BenchShop) -> Counted:
    return asyncio.run(_ask(shop))


async def _ask(shop: BenchShop) -> Counted:
    fields = {"Authorization": f"Bearer {shop.target.admin_token}"}
    async with Connection(shop.target.origin) as connection:
        try:
            answer = await connection.request("GET", "/metrics", fields)
        except NoAnswer as exc:
            raise BenchError(f"the origin's figures: {exc}") from exc
    if answer.status != 200:
        raise BenchError(f"the origin's figures: {shop.target.origin}/metrics answers {answer.status}")
    return read(answer.body.decode())


def read(text: str) -> Counted:
    """The figures in the text format."""
    statements = background = 0.0
    results: dict[str, float] = {}
    writes: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            match sample.name:
                case "nearshelf_database_statements_total" if sample.labels["pool"] in BACKGROUND_POOLS:
                    background += sample.value
                case "nearshelf_database_statements_total":
                    statements += sample.value
                case "nearshelf_readthrough_total":
                    results[sample.labels["result"]] = sample.value
                case "nearshelf_readthrough_seconds_bucket" if sample.labels["of"] == "write":
                    writes[float(sample.labels["le"])] = sample.value
                case _:
                    pass
    return Counted(statements, background, results, writes)


def _within(buckets: Mapping[float, float], share: float) -> float:
    """The bound within which so many of the values of a histogram are; 0 where there are none."""
    total = max(buckets.values(), default=0.0)
    return next((bound for bound, count in sorted(buckets.items()) if total and count >= share * total), 0.0)


# -- telling -----------------------------------------------------------------------------------------------------------


def line_of(with_it: Measured, without: Measured) -> Line:
    """The documents' line: a hit in 5 ms, a miss in 50 with its keeping."""
    hit, miss, read_each = with_it.again.of(), with_it.once.of(), without.again.of()
    fewer = without.again.statements - with_it.again.statements
    return Line(
        f"Read-through cache at the origin: hit {HIT_MS:g} ms, miss {MISS_MS:g} ms with its warming",
        f"hits {_told(hit)}, {with_it.again.hit_share:.1f} % of the look-ups; misses {_told(miss)}, and 99 % kept "
        f"within {with_it.once.kept_ms:g} ms after the answer; without it {_told(read_each)}; {fewer:,.0f} statements "
        "fewer for each 1,000 requests",
        f"{with_it.again.cores:.2f} at {WARM_PER_S} a second, {without.again.cores:.2f} without it",
        (
            Verdict("read-through, hits, p99, ms", hit.ms(0.99), HIT_MS),
            Verdict("read-through, misses with their keeping, p99, ms", miss.ms(0.99) + with_it.once.kept_ms, MISS_MS),
        ),
        tuple(
            f"read-through, {name}: {fault}"
            for name, part in (("hits", with_it.again), ("misses", with_it.once), ("without", without.again))
            for fault in part.run.check.faults
        ),
    )


def tables(with_it: Measured, without: Measured) -> str:
    """Times and statements of all four runs, and times by kind of address."""
    rows = [
        ("the first time, without", without.once),
        ("the first time: misses, kept afterwards", with_it.once),
        ("again, without", without.again),
        ("again: hits", with_it.again),
    ]
    found = [
        "| | p50 ms | p95 ms | p99 ms | answered | hits | statements for 1,000 requests | cores |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in rows:
        times = part.of()
        found.append(
            f"| {name} | {times.ms(0.5):.2f} | {times.ms(0.95):.2f} | {times.ms(0.99):.2f} | {times.up:.2f} % "
            f"| {part.hit_share:.1f} % | {part.statements:,.0f} | {part.cores:.2f} |"
        )
    found += [
        "",
        (
            f"Beside these, whoever asks for what: {with_it.again.background_per_s:.0f} statements a second for the "
            f"purge log and the registry of edges, {without.again.background_per_s:.0f} without the cache."
        ),
        "",
        "| p50 / p99 ms | " + " | ".join(KINDS) + " |",
        "|---|" + "---|" * len(KINDS),
    ]
    for name, part in rows:
        cells = [f"{times.ms(0.5):.2f} / {times.ms(0.99):.2f}" for times in map(part.of, KINDS)]
        found.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(found)


def _told(found: Volley) -> str:
    return ", ".join(f"p{100 * share:.0f} {found.ms(share):.2f}" for share in (0.5, 0.95, 0.99)) + " ms"
