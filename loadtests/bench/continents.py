"""Shoppers on three continents, each 20 ms from an edge, beside the same shoppers without one. Part of `documents`.

The origin is in Virginia: 2 ms from the edge in the United States, 80 ms from the one in Europe, 180 ms from the one in
Asia. Distance is simulated on both sides of the edge (`loadtests/distance.py`, `nearshelf up`). Every page was asked
for at each edge before, as in a shop where nothing has changed for some minutes.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from loadtests.bench.asking import ask_for
from loadtests.bench.lines import Line, Options
from loadtests.bench.measuring import BenchError, Verdict, free_port
from loadtests.bench.shops import port_of, running_shop
from loadtests.bench.volleys import Volley, believed, send, volley
from loadtests.discovery import discover
from loadtests.distance import Path as Distance
from loadtests.distance import relayed
from loadtests.http1 import Connection
from loadtests.people import ZIPF_EXPONENT, ShopFront
from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import HIT_STATUSES, Run
from loadtests.target import BadTarget
from loadtests.volume import Asked, steady

SEED = 6
SHOPPER_MS = 20.0
"""Round trip between a shopper and the edge of the region."""
AIM_MS = 100.0
HIT_MS = 30.0
"""The upper end of what the documents say of CloudFront: 5 to 30 ms."""
RATE_PER_S = 120.0
WARM_UP_S = 12.0
DIRECT_SHARE = 0.2
"""Of the requests of each continent, those that go straight to the origin."""


class Continent(NamedTuple):
    name: str
    edge: str
    market: str
    origin_ms: float
    """Round trip between the edge and the origin, as `up` is told."""


CONTINENTS = (
    Continent("North America", "us", "us-usd", 2.0),
    Continent("Europe", "eu", "eu-eur", 80.0),
    Continent("Asia", "ap", "jp-jpy", 180.0),
)


def direct_name(continent: Continent) -> str:
    """How the schedule calls the way without an edge."""
    return f"{continent.edge}, no edge"


def lines(options: Options) -> list[Line]:
    """A line for each continent. Raises BenchError."""
    ports = {continent.edge: free_port() for continent in CONTINENTS}
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports.values())
    rtts = [text for each in CONTINENTS for text in ("--rtt", f"{each.edge}={each.origin_ms:g}")]
    with running_shop(products=options.products, arguments=rtts, settings={"NEARSHELF_HOSTS": hosts}) as shop:
        target = shop.target
        paths = [Distance(ports[each.edge], port_of(target.edges[each.edge]), SHOPPER_MS) for each in CONTINENTS]
        paths += [Distance(0, port_of(target.origin), SHOPPER_MS + each.origin_ms) for each in CONTINENTS]
        front = asyncio.run(_front(target.edges[CONTINENTS[0].edge], options.products))
        with relayed(paths) as relay:
            names = [*(each.edge for each in CONTINENTS), *(direct_name(each) for each in CONTINENTS)]
            ways = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, relay.ports, strict=True)}
            asked, weights = requests(front)
            for continent in CONTINENTS:
                edge = shop.listener(continent.edge, ways[continent.edge])
                for _ in range(2):  # once for each of the edge's workers that has not heard of it from the other
                    ask_for(edge, [each.target for each in asked if each.edge == continent.edge], connections=16)
            schedule = steady(
                ways, asked, rate_per_s=RATE_PER_S, duration_s=options.seconds, warmup_s=WARM_UP_S, seed=SEED,
                weights=weights,
            )  # fmt: skip
            run = believed(lambda: send(schedule, "continents", seed=SEED), options.tries, "continents")
            late = Histogram.merged(relay.lateness().values())
    return [line_of(continent, run, late) for continent in CONTINENTS]


async def _front(edge: str, products: int) -> ShopFront:
    try:
        async with Connection(edge) as connection:
            return await discover(connection, products)
    except BadTarget as exc:
        raise BenchError(str(exc)) from exc


def requests(front: ShopFront) -> tuple[list[Asked], list[float]]:
    """What is asked for, the popular first, and how often beside the rest: product pages by their rank, and a listing
    or the home page for every third of them."""
    asked: list[Asked] = []
    weights: list[float] = []
    for rank, item in enumerate(front.products, 1):
        for continent in CONTINENTS:
            pages = [("product", f"/{continent.market}/products/{item.slug}")]
            if rank == 1:
                pages.append(("home", f"/{continent.market}/"))
            if rank <= len(front.categories):
                pages.append(("category", f"/{continent.market}/c/{front.categories[rank - 1]}"))
            for route, path in pages:
                for name, share in ((continent.edge, 1 - DIRECT_SHARE), (direct_name(continent), DIRECT_SHARE)):
                    asked.append(Asked(name, route, continent.market, path, (("Accept-Encoding", "br"),)))
                    weights.append(share * rank**-ZIPF_EXPONENT)
    return asked, weights


def line_of(continent: Continent, run: Run, late: Histogram) -> Line:
    """What the run says of one continent."""
    everything = volley(run, lambda cell: cell.label.edge == continent.edge)
    hits = volley(run, lambda cell: cell.label.edge == continent.edge and cell.label.status in HIT_STATUSES)
    direct = volley(run, lambda cell: cell.label.edge == direct_name(continent))
    return Line(
        f"Under {AIM_MS:g} ms worldwide; {continent.name}, {SHOPPER_MS:g} ms from an edge, "
        f"{SHOPPER_MS + continent.origin_ms:g} ms from the origin",
        f"with the edge: hits {_told(hits)}; all, {everything.hit_ratio:.1f} % of them hits, {_told(everything)}. "
        f"Without: {_told(direct)}: the edge saves {direct.ms(0.5) - everything.ms(0.5):.0f} ms at the median. "
        f"At p99 the relay was late by {late.percentile_us(0.99) / 1000:.2f} ms",
        "-",
        (
            Verdict(f"{continent.name}: hits, p99, ms", hits.ms(0.99), HIT_MS),
            Verdict(f"{continent.name}: everything with the edge, p95, ms", everything.ms(0.95), AIM_MS),
        ),
        tuple(f"continents: {fault}" for fault in run.check.faults),
    )


def _told(found: Volley) -> str:
    times = ", ".join(f"p{100 * share:.0f} {found.ms(share):.1f}" for share in (0.5, 0.95, 0.99))
    return f"{times} ms, {found.within(AIM_MS):.1f} % under {AIM_MS:g}"
