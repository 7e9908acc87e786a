"""What a shopper's browser sees at a distance, with an edge and without: `python -m loadtests.bench shopper`.

Chromium against a real shop whose origin is 80 ms away from the shopper: through an edge 10 ms away that has the page,
that has to ask the origin for the page, or for everything on it; straight to the origin; and through an edge that is
80 ms away itself. Each load begins with nothing: no connection, no cache. The ways take turns, round by round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtests import distance
from loadtests.bench import measuring
from loadtests.bench.measuring import BenchError, Verdict, free_port
from loadtests.bench.shops import port_of, running_shop
from loadtests.discovery import discover
from loadtests.http1 import Connection, NoAnswer
from loadtests.people import ShopFront, home, listing
from loadtests.staff import PREFIX, Exchange, StaffApi, StaffError
from loadtests.target import BadTarget, Target

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

AWAY_MS = 80.0
"""Round trip between the shopper and the origin, in every way there."""
NEAR_MS = 10.0
"""Of that, between the shopper and a near edge."""
MARKET, EDGE = "eu-eur", "eu"
PATIENCE_S = 30.0
WARM_TRIES = 5
LIVE_STATES = frozenset({"live", "shown"})
ACCEPT_ENCODING = "gzip, deflate, br, zstd"
"""What Chromium sends: coded copies are made for whom asks for them, and are part of a warm edge."""
MAX_LCP_MS, MAX_LISTING_KB, MAX_CLS = 1_000.0, 30.0, 0.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP: Mapping[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: Mapping[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "is_mobile": True, "has_touch": True,
}  # fmt: skip
PHONE_SLOWDOWN = 4
"""How many times slower a phone's processor is taken to be."""
_ASSET = re.compile(r"""(?:src|href)="(/(?:static|art)/[^"]+)\"""")

OBSERVE = """
window.seen = {cls: 0, lcp: 0, what: ""};
new PerformanceObserver(list => { for (const entry of list.getEntries()) seen.cls += entry.value; })
  .observe({type: "layout-shift", buffered: true});
new PerformanceObserver(list => { for (const entry of list.getEntries()) {
  seen.lcp = entry.startTime; seen.what = entry.element ? entry.element.localName : "";
} }).observe({type: "largest-contentful-paint", buffered: true});
"""
TELL = """async (patience) => {
  // A busy machine paints after the last byte has come.
  while (!seen.lcp && performance.now() < patience) await new Promise(resolve => setTimeout(resolve, 20));
  const page = performance.getEntriesByType("navigation")[0], rest = performance.getEntriesByType("resource");
  const first = performance.getEntriesByName("first-contentful-paint")[0];
  return {
    ttfb: page.responseStart, fcp: first ? first.startTime : 0, lcp: seen.lcp, what: seen.what, cls: seen.cls,
    html: page.encodedBodySize, bytes: rest.reduce((sum, each) => sum + each.transferSize, page.transferSize),
    requests: 1 + rest.filter(each => each.transferSize > 0).length,
  };
}"""


class Edge(StrEnum):
    """What is between the shopper and the origin."""

    HAS_ALL = "has the page"
    ASKS_FOR_PAGE = "has to ask for the page"
    """The page was purged. What the edge keeps of it may be confirmed by the origin; it is asked nevertheless."""
    ASKS_FOR_ALL = "has to ask for everything"
    NONE = "is not there"


@dataclass(frozen=True, slots=True)
class Way:
    """How the shopper gets at a page."""

    name: str
    edge: Edge
    rtt_ms: float
    """To whatever the browser talks to."""
    phone: bool = False


WAYS = (
    Way("edge 10 ms away, hit", Edge.HAS_ALL, NEAR_MS),
    Way("edge 80 ms away, hit", Edge.HAS_ALL, AWAY_MS),
    Way("edge 80 ms away, hit, a phone", Edge.HAS_ALL, AWAY_MS, phone=True),
    Way("edge 10 ms away, the page purged", Edge.ASKS_FOR_PAGE, NEAR_MS),
    Way("edge 10 ms away, everything purged", Edge.ASKS_FOR_ALL, NEAR_MS),
    Way("no edge: the origin, 80 ms away", Edge.NONE, AWAY_MS),
)
"""In the order of their turns: what is purged for the later ones is warm for the earlier ones, in the next round."""
NO_EDGE = WAYS[-1]


@dataclass(frozen=True, slots=True)
class Load:
    """One page loaded once. Milliseconds since the navigation began; bytes as they travelled, heads included."""

    ttfb_ms: float
    fcp_ms: float
    lcp_ms: float
    lcp_of: str
    """The element that the largest paint was of: `img`, `h1`."""
    cls: float
    html_bytes: int
    """The page itself, as it was coded; without its head."""
    all_bytes: int
    requests: int
    foreign: float
    """Cores taken meanwhile by anything but the bench: its shop, its browser and itself."""

    @classmethod
    def told(cls, told: Mapping[str, Any], foreign: float = 0.0) -> Load:
        """What the script in the page says. Raises BenchError when the browser saw no paint."""
        if not told["lcp"] or not told["fcp"]:
            raise BenchError("the browser painted nothing; is it able to, without a screen?")
        return cls(
            ttfb_ms=float(told["ttfb"]),
            fcp_ms=float(told["fcp"]),
            lcp_ms=float(told["lcp"]),
            lcp_of=str(told["what"]),
            cls=float(told["cls"]),
            html_bytes=int(told["html"]),
            all_bytes=int(told["bytes"]),
            requests=int(told["requests"]),
            foreign=foreign,
        )


@dataclass
class Row:
    """One page by one way, and its loads in the order of the rounds."""

    page: str
    way: Way
    loads: list[Load] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench shopper", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="loads of each page by each way (default 9)")
    parser.add_argument("--tries", type=int, default=4, help="repetitions of a load that was disturbed (default 4)")
    parser.add_argument("--products", type=int, default=5_000, help="size of the shop (default 5000)")
    parser.add_argument("--only", default="", help="comma list of pages: home, listing, product")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `shopper` marks")
    options = parser.parse_args(argv)
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return measuring.complain("no Chromium or Chrome on this machine. On Debian: apt-get install chromium")
    ports = {way.rtt_ms: free_port() for way in WAYS if way.edge is not Edge.NONE}
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports.values())
    near = ["--rtt", f"{EDGE}={AWAY_MS - NEAR_MS:g}"]
    with running_shop(products=options.products, arguments=near, settings={"NEARSHELF_HOSTS": hosts}) as shop:
        edge_port, origin_port = port_of(shop.target.edges[EDGE]), port_of(shop.target.origin)
        paths = [distance.Path(port, edge_port, rtt_ms) for rtt_ms, port in ports.items()]
        with distance.relayed([*paths, distance.Path(0, origin_port, AWAY_MS)]) as relay:
            bench = Bench(shop.target, ports, relay.ports[-1], browser)
            try:
                rows = asyncio.run(bench.run(options.rounds, options.tries, options.only))
            except (BadTarget, StaffError, NoAnswer) as exc:
                raise BenchError(str(exc)) from exc
    text, verdicts = report(rows, options.products)
    print(f"\n{text}")
    if options.write is not None:
        measuring.write_between_marks(options.write, "shopper", text)
    return int(not all(verdict.met for verdict in verdicts))


class Bench:
    """The loads of all pages by all ways."""

    def __init__(self, target: Target, ports: Mapping[float, int], origin_port: int, browser: str) -> None:
        """`ports`: where the edge is at that distance; `origin_port`: where the origin is at its distance."""
        self._target = target
        self._ports = ports
        self._origin_port = origin_port
        self._browser_path = browser

    async def run(self, rounds: int, tries: int, only: str) -> list[Row]:
        """The rows, filled. Raises BenchError, BadTarget, StaffError and NoAnswer when the shop does not play along."""
        try:
            from playwright.async_api import Error, async_playwright
        except ImportError as exc:
            raise BenchError("playwright is not installed: it is in the development dependencies") from exc
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(Connection(self._target.edges[EDGE]))
            targets = pages_of(await discover(connection, products=100), only)
            staff = await StaffApi.signed_in(self._target)
            playwright = await stack.enter_async_context(async_playwright())
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            try:
                browser = await playwright.chromium.launch(executable_path=self._browser_path, args=arguments)
            except Error as exc:
                raise BenchError(f"{self._browser_path} does not start: {str(exc).splitlines()[0]}") from exc
            rows = [Row(page, way) for way in WAYS for page in targets]
            for number in range(rounds + 1):  # the first one is for a browser that has never painted
                for port in self._ports.values():
                    await self._warm(port, targets.values())
                for row in rows:
                    try:
                        load = await self._undisturbed(browser, staff, row.way, targets[row.page], tries)
                    except Error as exc:
                        raise BenchError(f"{row.page}, {row.way.name}: {str(exc).splitlines()[0]}") from exc
                    if number:
                        row.loads.append(load)
                    told = f"TTFB {load.ttfb_ms:5.0f}  FCP {load.fcp_ms:5.0f}  LCP {load.lcp_ms:5.0f} ms"
                    told += f"  foreign {load.foreign:.2f} core"
                    print(f"round {number}: {row.page:8} {row.way.name:36} {told}", file=sys.stderr, flush=True)
            return rows

    async def _undisturbed(self, browser: Browser, staff: StaffApi, way: Way, path: str, tries: int) -> Load:
        """A load with little foreign load; the quietest of `tries` where none is quiet enough."""
        found: list[Load] = []
        while not found or (found[-1].foreign > measuring.MAX_FOREIGN_CORES and len(found) < tries):
            if (tag := purged_before(way.edge, path)) is not None:
                await _purge(staff, tag)
            found.append(await self._load(browser, way, path))
        return min(found, key=lambda load: load.foreign)

    async def _load(self, browser: Browser, way: Way, path: str) -> Load:
        port = self._origin_port if way.edge is Edge.NONE else self._ports[way.rtt_ms]
        context = await browser.new_context(**(PHONE if way.phone else DESKTOP))
        try:
            return await _loaded(context, f"http://127.0.0.1:{port}{path}", way)
        finally:
            await context.close()

    async def _warm(self, port: int, paths: Iterable[str]) -> None:
        """Ask for pages and everything in them, as Chromium asks, until all are hits. Raises BenchError."""
        base = f"http://127.0.0.1:{port}"
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(Connection(base, PATIENCE_S)) for _ in range(6)]
            assets: dict[str, None] = {}
            for path in paths:
                answer = await connections[0].request("GET", path)
                assets.update(dict.fromkeys(unescape(found) for found in _ASSET.findall(answer.body.decode())))
            wanted = [*paths, *assets]
            missing = wanted
            for _ in range(WARM_TRIES):
                # Each of the edge's workers is met by some connection, and tells the others what it has stored.
                found = await asyncio.gather(
                    *(_not_hit(each, wanted[number::6]) for number, each in enumerate(connections))
                )
                missing = [path for paths in found for path in paths]
                if not missing:
                    return
        raise BenchError(f"the edge does not keep {missing[0]}")


async def _not_hit(connection: Connection, paths: Sequence[str]) -> list[str]:
    """Those of `paths` that were no hits when asked for once more."""
    found = []
    for path in paths:
        answer = await connection.request("GET", path, {"Accept-Encoding": ACCEPT_ENCODING})
        if "; hit" not in answer.headers.get("cache-status", ""):
            found.append(path)
    return found


async def _loaded(context: BrowserContext, url: str, way: Way) -> Load:
    """Load `url` once, and say what it was like. Raises BenchError when the edge had what it should lack, or lacked
    what it should have."""
    await context.add_init_script(OBSERVE)
    page = await context.new_page()
    watch = measuring.Foreign()
    if way.phone:
        session = await context.new_cdp_session(page)
        await session.send("Emulation.setCPUThrottlingRate", {"rate": PHONE_SLOWDOWN})
    response = await page.goto(url, wait_until="networkidle")
    if response is None or response.status != 200:
        raise BenchError(f"{url}: {'no answer' if response is None else response.status}, expected a page")
    status = response.headers.get("cache-status", "")
    if ("; hit" in status) is not (way.edge is Edge.HAS_ALL) or (not status) is not (way.edge is Edge.NONE):
        raise BenchError(f"{url}: Cache-Status: {status or 'none'}, for an edge that {way.edge.value}")
    return Load.told(await page.evaluate(TELL, PATIENCE_S * 1000), watch.cores())


async def _purge(staff: StaffApi, tag: str) -> None:
    """Purge `tag`, hard, and wait until that is live. Raises StaffError."""
    async with staff.session() as session:
        wish = {"kind": "hard", "tags": [tag], "reason": "bench"}
        found = await session.ask(Exchange("POST", f"{PREFIX}/purges", wish))
        await session.until(str(found["position"]), LIVE_STATES, PATIENCE_S)


def purged_before(edge: Edge, path: str) -> str | None:
    """The tag to purge before a load, so that the edge is as the way says."""
    match edge:
        case Edge.ASKS_FOR_PAGE:
            return f"path:{path}"
        case Edge.ASKS_FOR_ALL:
            return "*"
        case _:
            return None


def pages_of(front: ShopFront, only: str = "") -> dict[str, str]:
    """A page of each kind, by its name: the first department's listing, a product in the middle of what was found.
    Raises BenchError for a name that is none."""
    if not (front.categories and front.products):
        raise BenchError("the shop shows no categories or no products")
    found = {
        "home": home(MARKET).target,
        "listing": listing(MARKET, front.categories[0]).target,
        "product": f"/{MARKET}/products/{front.products[len(front.products) // 2].slug}",
    }
    wanted = [name.strip() for name in only.split(",") if name.strip()] or list(found)
    if strange := [name for name in wanted if name not in found]:
        raise BenchError(f"--only {strange[0]}: expected some of {', '.join(found)}")
    return {name: found[name] for name in wanted}


def report(rows: Sequence[Row], products: int) -> tuple[str, list[Verdict]]:
    """The table, a line each for what is largest on a page, and the verdicts."""
    rounds = len(rows[0].loads)
    about = (
        f"{measuring.today()}: Chromium, {products:,} products, {rounds} loads of each page by each way; "
        "medians, with quartiles in brackets; milliseconds, kB of 1,000 bytes"
    )
    lines = [
        about,
        "",
        "| | TTFB | FCP | LCP | LCP to no edge's | CLS, most | HTML kB | all kB | requests |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    pages = list(dict.fromkeys(row.page for row in rows))
    for page in pages:
        of_page = [row for row in rows if row.page == page]
        direct = next(row for row in of_page if row.way is NO_EDGE)
        lines += [f"| {page}: {row.way.name} | {' | '.join(_cells(row, direct))} |" for row in of_page]
    lines += ["", *(_largest(page, rows) for page in pages), ""]
    lines += [measuring.disturbance(max(load.foreign for row in rows for load in row.loads)), ""]
    verdicts = judged(rows)
    return "\n".join([*lines, measuring.told(verdicts)]), verdicts


def _cells(row: Row, direct: Row) -> list[str]:
    loads = row.loads
    ratio = statistics.median([ours.lcp_ms / theirs.lcp_ms for ours, theirs in zip(loads, direct.loads, strict=True)])
    return [
        measuring.spread([load.ttfb_ms for load in loads], ",.0f"),
        measuring.spread([load.fcp_ms for load in loads], ",.0f"),
        measuring.spread([load.lcp_ms for load in loads], ",.0f"),
        "" if row is direct else f"{ratio:.2f}",
        f"{max(load.cls for load in loads):.3f}",
        f"{statistics.median([load.html_bytes for load in loads]) / 1000:.1f}",
        f"{statistics.median([load.all_bytes for load in loads]) / 1000:.1f}",
        f"{statistics.median([load.requests for load in loads]):.0f}",
    ]


def _largest(page: str, rows: Sequence[Row]) -> str:
    """What the largest paint of a page is of, most often."""
    found = statistics.mode(load.lcp_of for row in rows if row.page == page for load in row.loads)
    return f"Largest on {page}: `{found}`."


def judged(rows: Sequence[Row]) -> list[Verdict]:
    """LCP as Core Web Vitals take it, at the 75th percentile; the other figures at their worst."""
    verdicts = [
        Verdict(f"LCP of {row.page}, {row.way.name}, 75th percentile, ms", _upper_quartile(row), MAX_LCP_MS)
        for row in rows
        if row.way.rtt_ms == AWAY_MS and row.way.edge is not Edge.NONE
    ]
    verdicts.append(Verdict("CLS, the most of all loads", max(load.cls for row in rows for load in row.loads), MAX_CLS))
    coded = [row for row in rows if row.page == "listing" and row.way.edge is not Edge.NONE]
    if coded:
        heaviest = max(load.html_bytes for row in coded for load in row.loads)
        verdicts.append(Verdict("compressed HTML of a listing, kB", heaviest / 1000, MAX_LISTING_KB))
    return verdicts


def _upper_quartile(row: Row) -> float:
    values = [load.lcp_ms for load in row.loads]
    return statistics.quantiles(values, n=4, method="inclusive")[2] if len(values) > 1 else values[0]


if __name__ == "__main__":
    sys.exit(main())
