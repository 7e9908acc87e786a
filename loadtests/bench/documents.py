"""The customer's documents' own targets, each measured and judged: `python -m loadtests.bench documents`.

Requests come at the rates that the documents name, each at the moment it was meant for, and durations count from that
moment. Cores are processor time of the servers, the generator's apart. Where this machine has too few of them, what one
carries is measured, and how many the rate would take is said.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from loadtests.bench import continents, measuring, ours, readthrough
from loadtests.bench.asking import ask_for
from loadtests.bench.hits import Shop, warm
from loadtests.bench.lines import Line, Options, judged, table
from loadtests.bench.measuring import CLIENT_CORE, TICKS, BenchError, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, labelled, running
from loadtests.bench.shops import BenchShop, running_shop
from loadtests.bench.volleys import Volley, believed, send, volley
from loadtests.http1 import Connection, NoAnswer
from loadtests.people import ZIPF_EXPONENT
from loadtests.recorder.run import Run
from loadtests.volume import Asked, steady

SEED = 5
MARKET, EDGE = "eu-eur", "eu"
OBJECTS, REQUESTS = 4_000, 8_000
GATEWAY_PER_S, GATEWAY_MS, GATEWAY_UP, FUNCTION_SHARE = 10_000, 50.0, 99.95, 99.99
HIT_P99_MS, STATIC_P99_MS = 20.0, 5.0
CATALOG_PER_S, CATALOG_MS, CATALOG_UP = 5_000, 100.0, 99.99
THROTTLE_PER_S, THROTTLED_PER_S = 1_000, 1_500
THROTTLE_TOLERANCE = 0.02
_PRODUCT_ROUTE = "    path: /api/v1/{market}/products/{sku}\n"
_ASSET = re.compile(rb"""(?:src|href)="(/(?:static|art)/[^"]+)\"""")


class Spent(NamedTuple):
    """A run, and the processor time that the servers took for it."""

    run: Run
    cores: float
    """Mean over the run, warm-up included."""


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench documents", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run that counts (default 20)")
    parser.add_argument("--products", type=int, default=1_000, help="size of the shop (default 1000)")
    parser.add_argument("--tries", type=int, default=3, help="repetitions of a run whose generator fell behind")
    parser.add_argument("--only", default="", help=f"comma list of {', '.join(PARTS)}")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `documents` marks")
    found = parser.parse_args(argv)
    wanted = [name.strip() for name in found.only.split(",") if name.strip()] or list(PARTS)
    if strange := [name for name in wanted if name not in PARTS]:
        return measuring.complain(f"--only {strange[0]}: expected some of {', '.join(PARTS)}")
    if (reason := measuring.cannot_run(["taskset", "wrk"])) is not None:
        return measuring.complain(reason)
    options = Options(found.seconds, found.products, found.tries)
    lines = [line for name in wanted for line in PARTS[name](options)]
    about = (
        f"{measuring.today()}: {options.seconds:g} s each, after a warm-up; a shop of {options.products:,} products; "
        f"Python {sys.version.split()[0]}; the generator has a core for itself only where the server has the other"
    )
    text = f"{about}\n\n{table(lines)}\n\n{judged(lines)}"
    print(f"\n{text}")
    if found.write is not None:
        measuring.write_between_marks(found.write, "documents", text)
    return int(not all(line.met for line in lines))


# -- the gateway -------------------------------------------------------------------------------------------------------


def gateway(options: Options) -> list[Line]:
    """One worker on a core of its own, 10,000 requests a second, no two alike."""
    shop = Shop(OBJECTS, 8_192)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        origin = stack.enter_context(running(BenchOrigin(shop.page_for)))
        policies = ours.lasting_policies(scratch / "policies")
        server = ours.start_gateway(stack, "gateway", origin.url, scratch, policies=policies)
        warm(server, shop, "identity")
        asked = [asked_as(each) for each in shop.requests(REQUESTS, f"127.0.0.1:{server.port}", "identity")]
        schedule = steady(
            {"gateway": server.url},
            asked,
            rate_per_s=GATEWAY_PER_S,
            duration_s=options.seconds,
            warmup_s=2.0,
            seed=SEED,
        )
        spent = kept_up(server, partial(send, schedule, "gateway", seed=SEED, core=CLIENT_CORE), options, "gateway")
    return [gateway_line(spent)]


def gateway_line(spent: Spent) -> Line:
    """What the gateway's run says."""
    found = volley(spent.run)
    in_time = found.within(GATEWAY_MS)
    return Line(
        f"API gateway: {GATEWAY_PER_S:,} requests a second under {GATEWAY_MS:g} ms, {GATEWAY_UP} % available; "
        f"edge functions: {FUNCTION_SHARE} % under {GATEWAY_MS:g} ms",
        f"hits of 8 KB, one worker: {told(found)}",
        f"{spent.cores:.2f}",
        (
            Verdict(
                f"gateway, {GATEWAY_PER_S:,}/s: % within {GATEWAY_MS:g} ms", in_time, FUNCTION_SHARE, at_least=True
            ),
            Verdict("gateway: % answered", found.up, GATEWAY_UP, at_least=True),
            Verdict("gateway: hits, p99 at the edge, ms", found.ms(0.99), HIT_P99_MS),
        ),
        doubts("gateway", spent.run),
    )


def throttle(options: Options) -> list[Line]:
    """One worker with the documents' throttle, one client that asks half as often again."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
        page = Page(json.dumps({"sku": "A", "text": "x" * 900}).encode(), "application/json", labelled("p:eu-eur:a"))
        origin = stack.enter_context(running(BenchOrigin(lambda target, head: page)))
        policies = throttled_policies(scratch / "policies")
        server = ours.start_gateway(stack, "gateway", origin.url, scratch, policies=policies)
        asked = [Asked("gateway", "product", MARKET, f"/api/v1/{MARKET}/products/SKU-{n}") for n in range(100)]
        schedule = steady(
            {"gateway": server.url}, asked, rate_per_s=THROTTLED_PER_S, duration_s=options.seconds, warmup_s=2.0,
            seed=SEED,
        )  # fmt: skip
        spent = kept_up(server, partial(send, schedule, "throttle", seed=SEED, core=CLIENT_CORE), options, "throttle")
    return [throttle_line(spent, options.seconds)]


def throttled_policies(folder: Path) -> Path:
    """The shipped policies, with the documents' row for `/products`. Raises BenchError when the route is not there."""
    prices = ours.lasting_policies(folder) / "prices.yaml"
    text = prices.read_text()
    if _PRODUCT_ROUTE not in text:
        raise BenchError(f"{prices.name} has no route{_PRODUCT_ROUTE}".rstrip())
    throttled = f"{_PRODUCT_ROUTE}    throttle: {{rate: {THROTTLE_PER_S}/s, burst: 100}}\n    fresh: 60s\n"
    prices.write_text(text.replace(_PRODUCT_ROUTE, throttled))
    return folder


def throttle_line(spent: Spent, seconds: float) -> Line:
    """What the throttle's run says."""
    found = volley(spent.run)
    per_s, refused = found.codes.get("200", 0) / seconds, found.codes.get("429", 0)
    return Line(
        f"`/products` at the gateway: a throttle of {THROTTLE_PER_S:,} a second, cached for 60 s",
        f"{THROTTLED_PER_S:,} a second asked by one client: {per_s:,.0f} a second answered, {refused:,} refused with "
        f"429; p99 of both {found.ms(0.99):.2f} ms",
        f"{spent.cores:.2f}",
        (
            Verdict("throttle: answered a second", per_s, THROTTLE_PER_S * (1 + THROTTLE_TOLERANCE)),
            Verdict("throttle: answered a second", per_s, THROTTLE_PER_S * (1 - THROTTLE_TOLERANCE), at_least=True),
        ),
        doubts("throttle", spent.run),
    )


# -- the catalog -------------------------------------------------------------------------------------------------------


def catalog(options: Options) -> list[Line]:
    """A whole shop: through the edge at the documents' rate, then what its origin carries without the edge."""
    with running_shop(products=options.products) as shop:
        edge, origin = (shop.listener(name, url) for name, url in (
            ("edge", shop.target.edges[EDGE]), ("origin", shop.target.origin),
        ))  # fmt: skip
        skus, assets = asyncio.run(_what_is_sold(edge.url))
        asked = catalog_requests(skus, assets)
        for _ in range(2):  # once for each of the edge's workers that has not heard of it from the other
            ask_for(edge, [each.target for each in asked], connections=8)
        schedule = steady(
            {EDGE: edge.url}, asked, rate_per_s=CATALOG_PER_S, duration_s=options.seconds, warmup_s=2.0, seed=SEED,
            weights=zipf_weights(asked),
        )  # fmt: skip
        spent = kept_up(edge, partial(send, schedule, "catalog", seed=SEED), options, "catalog")
        alone = origin_alone(shop, origin, skus, options)
    return [*catalog_lines(spent), alone]


async def _what_is_sold(edge: str) -> tuple[list[str], list[str]]:
    """SKUs in the order of the product list, and what the home page refers to. Raises BenchError."""
    skus: list[str] = []
    async with Connection(edge) as connection:
        try:
            for page in range(1, 1_000):
                answer = await connection.request("GET", f"/api/v1/{MARKET}/products?page={page}")
                listed = json.loads(answer.body).get("products", []) if answer.status == 200 else []
                if not listed:
                    break
                skus += [product["sku"] for product in listed]
            front_page = await connection.request("GET", f"/{MARKET}/")
        except (NoAnswer, ValueError) as exc:
            raise BenchError(f"the shop's product list: {exc}") from exc
    assets = list(dict.fromkeys(found.decode() for found in _ASSET.findall(front_page.body)))
    if not (skus and assets):
        raise BenchError("the shop lists no products, or its home page shows no pictures")
    return skus, assets


def catalog_requests(skus: Sequence[str], assets: Sequence[str]) -> list[Asked]:
    """What is asked for: each product's JSON and its price, the most popular first, and files."""
    found = [
        Asked(EDGE, route, MARKET, f"/api/v1/{MARKET}/{kind}/{quote(sku, safe='')}")
        for sku in skus
        for route, kind in (("product", "products"), ("price", "prices"))
    ]
    return [*found, *(Asked(EDGE, "file", MARKET, path) for path in assets)]


def zipf_weights(asked: Iterable[Asked]) -> list[float]:
    """How often each is asked for beside the others: products by their popularity, files a tenth of everything."""
    ranks: dict[str, int] = {}
    found = []
    for each in asked:
        rank = ranks[each.route] = ranks.get(each.route, 0) + 1
        found.append((each.route, rank**-ZIPF_EXPONENT if each.route != "file" else 1.0))
    of_files = sum(weight for route, weight in found if route == "file")
    of_others = sum(weight for route, weight in found if route != "file")
    share = of_others / 9 / of_files if of_files else 0.0
    return [weight * share if route == "file" else weight for route, weight in found]


def catalog_lines(spent: Spent) -> list[Line]:
    """What the run through the edge says of the catalog, and of files."""
    products = volley(spent.run, lambda cell: cell.label.route != "file")
    files = volley(spent.run, lambda cell: cell.label.route == "file")
    in_time = products.within(CATALOG_MS)
    service = Line(
        f"Catalog service: {CATALOG_PER_S:,} a second under {CATALOG_MS:g} ms (cache), {CATALOG_UP} % available",
        f"products and prices of a whole shop through the edge, Zipf {ZIPF_EXPONENT}: {told(products)}, "
        f"{products.hit_ratio:.1f} % hits",
        f"{spent.cores:.2f}, the whole shop",
        (
            Verdict(f"catalog, {CATALOG_PER_S:,}/s: % within {CATALOG_MS:g} ms", in_time, CATALOG_UP, at_least=True),
            Verdict("catalog: % answered", products.up, CATALOG_UP, at_least=True),
        ),
        doubts("catalog", spent.run),
    )
    static = Line(
        f"CDN: static files under {STATIC_P99_MS:g} ms",
        f"style sheet, script and pictures in the same run, at the edge: {told(files)}",
        "of the above",
        (Verdict("static files, p99 at the edge, ms", files.ms(0.99), STATIC_P99_MS),),
        doubts("catalog", spent.run),
    )
    return [service, static]


def origin_alone(shop: BenchShop, origin: Server, skus: Sequence[str], options: Options) -> Line:
    """What the catalog service carries when nobody caches for it, as fast as it answers, and what the rate would take:
    no verdict, because the documents' target is with a cache."""
    with tempfile.TemporaryDirectory(prefix="nearshelf-bench-") as folder:
        requests = [
            f"GET /api/v1/{MARKET}/products/{quote(sku, safe='')} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            for sku in skus
        ]
        script = measuring.wrk_script(Path(folder) / "origin.lua", requests)
        run = measuring.wrk(origin, script, seconds=max(1, round(options.seconds)), connections=8)
    return Line(
        "The same without any edge",
        f"as fast as the origin answers, 8 connections: {run.per_s:,.0f} a second, p50 {run.p50_ms:.1f} ms, "
        f"p99 {run.p99_ms:.1f} ms; {run.cpu_us / 1000:.2f} ms of processor for each, databases included",
        f"{CATALOG_PER_S:,} a second would take {cores_for(CATALOG_PER_S, run.cpu_us):.0f}",
    )


def cores_for(rate_per_s: float, cpu_us: float) -> float:
    """Cores that so many requests a second take, at so many microseconds each."""
    return rate_per_s * cpu_us / 1e6


# -- what is common to all ---------------------------------------------------------------------------------------------


def asked_as(request: bytes, edge: str = "gateway") -> Asked:
    """A whole request as a schedule has it; its route is what its path begins with."""
    first, *lines = request.decode("ascii").rstrip("\r\n").split("\r\n")
    target = first.split(" ")[1]
    fields = tuple(tuple(line.split(": ", 1)) for line in lines if not line.lower().startswith("host:"))
    kind = "price" if target.startswith("/api/") else "category" if "/c/" in target else "product"
    return Asked(edge, kind, MARKET, target, fields)  # type: ignore[arg-type]  # each line is a name and a value


def kept_up(server: Server, once: Callable[[], Run], options: Options, heading: str) -> Spent:
    """A run whose generator kept up, if there is one in so many tries, with what the server took for it."""
    cores = 0.0

    def measured() -> Run:
        nonlocal cores
        server.check_alive()
        before = server.ticks()
        run = once()
        cores = (server.ticks() - before) / TICKS / run.duration_s
        return run

    return Spent(believed(measured, options.tries, heading), cores)


def doubts(what: str, run: Run) -> tuple[str, ...]:
    """What makes the generator's figures doubtful."""
    return tuple(f"{what}: {fault}" for fault in run.check.faults)


def told(found: Volley) -> str:
    """The percentiles of a volley, for a cell of the table."""
    shares = ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "most"))
    times = ", ".join(f"{name} {found.ms(share):.2f}" for share, name in shares)
    return f"{found.requests:,} asked, {found.up:.3f} % answered; {times} ms"


PARTS: dict[str, Callable[[Options], list[Line]]] = {
    "gateway": gateway,
    "throttle": throttle,
    "catalog": catalog,
    "readthrough": readthrough.lines,
    "continents": continents.lines,
}
"""By name: what makes the lines of each part of the table."""


if __name__ == "__main__":
    sys.exit(main())
