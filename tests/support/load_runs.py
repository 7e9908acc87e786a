"""Runs that nobody ran: made from a seed, with everything in them that a report shows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.recorder.histogram import Histogram
from loadtests.recorder.run import (
    Address,
    Cell,
    Event,
    GeneratorCheck,
    Label,
    Machine,
    Phase,
    PriceChange,
    Prices,
    Run,
    Second,
    Status,
)

EDGES = ("ap", "eu", "us")
MARKETS = {"ap": ("jp-jpy", "sg-sgd"), "eu": ("eu-eur", "gb-gbp"), "us": ("us-usd", "ca-cad")}
ROUTES = ("product", "category", "home", "price")
MEDIAN_US = {
    Status.HIT: 420,
    Status.STALE: 450,
    Status.REVALIDATED: 31_000,
    Status.MISS: 64_000,
    Status.PASS: 88_000,
    Status.EDGE: 300,
    Status.ERROR: 2_000,
}
BUDGET = 64_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What is special about a made-up run."""

    seconds: int = 60
    warmup: int = 10
    rate: float = 120.0
    hit_ratio: float = 0.93
    seed: int = 7
    noise: int = 1
    """Another noise is another run of the same plan."""
    slower: float = 1.0
    """How many times as long everything takes."""
    stall: tuple[float, float] | None = None
    """From when to when nothing is answered; what was meant to be sent then waits for its end."""
    outage: tuple[int, int] | None = None
    changes: int = 40
    scraped: bool = True
    open_loop: bool = True


def made_run(shape: Shape | None = None) -> Run:
    """The run of that shape; the same shape gives the same run."""
    shape = shape or Shape()
    run = Run(
        scenario="steady-day",
        description="A day of browsing pressed into a minute, with prices changing all the while.",
        started_at="2026-11-21T20:43:00Z",
        seed=shape.seed,
        generator="locust" if shape.open_loop else "wrk",
        open_loop=shape.open_loop,
        duration_s=float(shape.seconds),
        request_digest=f"{shape.seed:032x}",
        machine=Machine("Example CPU at 2.5 GHz", 2, 8_000_000_000, "Linux 6.1"),
        versions={"nearshelf": "0.1.0", "revision": "ee5faa0c1d2e", "python": "3.11.7", "locust": "2.47"},
        policy_digests=dict.fromkeys(EDGES, "9f2c41d07be3"),
        phases=[
            Phase("warm-up", 0, shape.warmup, counts=False),
            Phase("steady", shape.warmup, shape.seconds),
        ],
    )
    dice = random.Random(f"{shape.seed}/{shape.noise}")
    plan = random.Random(shape.seed)
    _requests(run, shape, plan, dice)
    _happenings(run, shape, plan, dice)
    if shape.scraped:
        _scrape(run, dice)
    return run


def _requests(run: Run, shape: Shape, plan: random.Random, dice: random.Random) -> None:
    cells: dict[Label, Cell] = {}
    run.seconds = [Second(at_s) for at_s in range(shape.seconds)]
    at_s = 0.0
    while True:
        at_s += plan.expovariate(shape.rate)
        if at_s >= shape.seconds:
            break
        edge, route = plan.choices(EDGES, (2, 5, 4))[0], plan.choices(ROUTES, (60, 25, 5, 10))[0]
        market = plan.choice(MARKETS[edge])
        warm = min(1.0, 0.35 + at_s / max(shape.warmup, 1))
        status = _status(shape, at_s, plan.random(), warm)
        median = MEDIAN_US[status] * shape.slower * (1.6 if edge == "ap" and status is Status.MISS else 1.0)
        took = max(90.0, median * math.exp(dice.gauss(0, 0.35)))
        if dice.random() < 0.004:
            took *= 8
        sent = at_s if shape.stall is None or not shape.stall[0] <= at_s < shape.stall[1] else shape.stall[1]
        size = 0 if status is Status.ERROR else int(plan.uniform(8_000, 24_000))
        phase = "warm-up" if at_s < shape.warmup else "steady"
        label = Label(phase, status, route, edge, market)
        cell = cells.setdefault(label, Cell(label))
        cell.requests += 1
        cell.body_bytes += size
        code = "503" if status is Status.ERROR else "302" if status is Status.EDGE else "200"
        cell.codes[code] = cell.codes.get(code, 0) + 1
        cell.uncorrected.add(took)
        if shape.open_loop:
            cell.corrected.add(took + (sent - at_s) * 1e6)
        second, really = run.seconds[int(at_s)], run.seconds[min(int(sent), shape.seconds - 1)]
        second.intended += int(shape.open_loop)
        second.in_time += int(shape.open_loop)
        really.sent += 1
        run.seconds[min(int(sent + took / 1e6), shape.seconds - 1)].done += 1
        by_edge = second.requests.setdefault(status, {})
        by_edge[edge] = by_edge.get(edge, 0) + 1
        bytes_by_edge = second.body_bytes.setdefault(status, {})
        bytes_by_edge[edge] = bytes_by_edge.get(edge, 0) + size
        second.latency.setdefault(status, Histogram()).add(took + (sent - at_s) * 1e6)
    run.cells = [cells[label] for label in sorted(cells)]
    total = sum(cell.requests for cell in run.cells)
    run.check = GeneratorCheck(total, total, total, 0.0006, 1.8, 0.41, 0.003)
    run.asked_urls = {"ap": 212, "eu": 431, "us": 367}
    run.addresses = [
        Address(
            plan.choice(EDGES), f"/eu-eur/products/aurora-desk-lamp-{number:02}?view=full", 90 - number, 40 - number
        )
        for number in range(12)
    ]


def _status(shape: Shape, at_s: float, drawn: float, warm: float) -> Status:
    if shape.outage and shape.outage[0] <= at_s < shape.outage[1]:
        return Status.STALE if drawn < 0.9 else Status.ERROR
    hit = shape.hit_ratio * 0.95 * warm
    kinds: Sequence[tuple[float, Status]] = (
        (hit, Status.HIT),
        (hit + 0.004, Status.STALE),
        (hit + 0.015, Status.REVALIDATED),
        (0.95, Status.MISS),
        (0.98, Status.EDGE),
    )
    return next((status for limit, status in kinds if drawn < limit), Status.PASS)


def _happenings(run: Run, shape: Shape, plan: random.Random, dice: random.Random) -> None:
    for number in range(shape.changes):
        at_s = shape.warmup + (shape.seconds - shape.warmup) * (number + plan.random()) / shape.changes
        committed = 4 * math.exp(dice.gauss(0, 0.3))
        live = committed + (180 if number % 3 else 60) * math.exp(dice.gauss(0, 0.25)) * shape.slower
        change = PriceChange(at_s, "eu-eur", f"AUR-{number:04}", committed, live)
        for edge, far in (("us", 12), ("eu", 95), ("ap", 190)):
            change.fresh_ms[edge] = committed + far * math.exp(dice.gauss(0, 0.2)) * shape.slower
        run.changes.append(change)
        run.events.append(Event(at_s, "price", f"eu-eur/AUR-{number:04}"))
    if shape.seconds > 30:
        run.events.append(Event(shape.seconds / 2, "purge", "category:lamps"))
    if shape.outage:
        run.events.append(Event(shape.outage[0], "fault", "the origin is stopped"))
        run.events.append(Event(shape.outage[1], "heal", "the origin is started"))
    run.events.sort(key=lambda event: event.at_s)
    if shape.changes:
        stale = Histogram()
        for _ in range(160):
            stale.add(90_000 * math.exp(dice.gauss(0, 0.6)))
        run.prices = Prices(answers_checked=5210, answers_telling=3104, marked=3, staleness=stale)


def _scrape(run: Run, dice: random.Random) -> None:
    def counter(name: str, per_second: Callable[[int], float]) -> None:
        total = float(dice.randrange(100, 900))
        points = [(0.0, total)]
        for second in run.seconds:
            total += per_second(second.at_s)
            points.append((second.at_s + 1.0, total))
        run.series[name] = points

    for edge in EDGES:
        asked = [
            sum(
                second.requests.get(status, {}).get(edge, 0)
                for status in (Status.MISS, Status.REVALIDATED, Status.PASS)
            )
            for second in run.seconds
        ]
        counter(f"nearshelf_origin_fetches_total{{pop={edge},route=product,result=2xx}}", asked.__getitem__)
        counter(f"nearshelf_edge_coalesced_total{{pop={edge}}}", [each // 4 for each in asked].__getitem__)
        counter(f"nearshelf_cache_evictions_total{{pop={edge},why=room}}", lambda at_s: max(0, at_s - 40) // 4)
        counter(f"nearshelf_cache_evictions_total{{pop={edge},why=expired}}", lambda at_s: dice.randrange(2))
        full = {"ap": 0.55, "eu": 0.97, "us": 0.8}[edge]
        times = [0.0, *(second.at_s + 1.0 for second in run.seconds)]
        run.series[f"nearshelf_cache_bytes{{pop={edge}}}"] = [
            (at_s, round(BUDGET * full * (1 - math.exp(-at_s / 15)))) for at_s in times
        ]
        run.series[f"nearshelf_cache_max_bytes{{pop={edge}}}"] = [(at_s, BUDGET) for at_s in times]
        run.series[f"workers_answering{{edge={edge}}}"] = [(at_s, 2.0) for at_s in times]
        run.series[f"nearshelf_cache_objects{{pop={edge}}}"] = [
            (at_s, round(run.asked_urls[edge] * 2.2 * (1 - math.exp(-at_s / 15)))) for at_s in times
        ]
