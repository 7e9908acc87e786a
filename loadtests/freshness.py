"""Change prices at random while shoppers read everywhere, and check every answer.

    python -m loadtests.freshness --changes 500
    python -m loadtests.freshness --changes 500 --pause-replay half
    python -m loadtests.freshness --changes 200 --cut eu

An observer that speaks nothing but HTTP with a running shop: it changes prices over the staff API, waits until each
change is reported live (or, where no standby has it yet, shown everywhere), and meanwhile reads product pages,
listings, home pages and the API through every edge on many connections. Every answer is judged by what had been
reported live when its request was sent (`loadtests/oracle.py`): no old price may come back. Answers to conditional
requests and to HEAD are judged by the body that their ETag stands for.

Exit status: 0 when no answer was wrong, every change became live and every edge shows each changed price at the end; 1
otherwise, 2 when the run could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loadtests import people
from loadtests.discovery import discover
from loadtests.faults import Faults, FaultsUnavailable
from loadtests.http1 import Connection, NoAnswer
from loadtests.judge import Findings, Judge, violation_line
from loadtests.oracle import Change, Oracle, PriceKey
from loadtests.staff import StaffApi, StaffError
from loadtests.statistics import percentile_text, percentiles
from loadtests.target import BadTarget, Target, load_target

LIVE_STATES = frozenset({"live", "shown"})
"""States of a change after which no edge may show what it replaced."""
WAIT_LIVE_S = 30.0
"""A change that is not live after this long fails the run: leases of lost workers run out within seconds."""
RECONNECT_AFTER = 100
"""Requests on one connection; the next connection may land on the edge's other worker."""
FAULT_PERIOD_S = 8.0
"""A fault asked for half of the time is on for half of this, then off for half; longer than the lease of 2 s."""
PRODUCTS = 40
"""Products that shoppers know; found by following links."""
LAST_TRIES, LAST_PAUSE_S = 4, 0.5
"""How often an edge is asked for a price at the end that it does not answer with, and how long after one another."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does."""

    changes: int = 500
    seed: int = 1
    prices: int = 60
    """Prices (a product in a market) that change; few, so that caches hold what shows them when they do."""
    parallel: int = 4
    """Changes on their way at the same time."""
    connections: int = 6
    """Shoppers of each edge, each with a connection of its own."""
    rate: float = 250.0
    """Requests a second of all shoppers together; 0 for as fast as they can."""
    pause_replay: bool = False
    cut: str | None = None
    duration_limit_s: float | None = None
    """Begin no change after this long."""


@dataclass(slots=True)
class Report(Findings):
    """What a run found; times in milliseconds."""

    seed: int = 0
    changes: int = 0
    changes_failed: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    no_answer: int = 0
    not_there: dict[str, int] = field(default_factory=dict)
    """Edge -> changed prices that it did not answer with at the end."""
    live_ms: dict[str, float] = field(default_factory=dict)
    """p50, p99 and max from sending a change to the report that it is live."""
    after_commit_ms: dict[str, float] = field(default_factory=dict)
    """The same from the answer that it is committed."""
    waited_out: dict[str, int] = field(default_factory=dict)
    """Workers whose lease had to run out before a change was live -> for how many changes."""
    duration_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        proved = self.changes > 0 and self.answers_telling > 0
        return proved and self.is_clean and not self.changes_failed and not any(self.not_there.values())


class Shopper:
    """One connection to one edge, at a time; reads what changed last, and what is popular."""

    def __init__(self, observer: Observer, edge: str, number: int) -> None:
        self.observer = observer
        self.edge = edge
        self.rng = random.Random(f"{observer.plan.seed} shopper {edge} {number}")
        self._browsing = random.Random(self.rng.randrange(2**32))
        self._visits: Iterator[people.Visit] = iter(())
        self._etags: OrderedDict[str, str] = OrderedDict()
        self._fresh_targets: deque[people.Visit] = deque(maxlen=64)

    def tell(self, visit: people.Visit) -> None:
        """A change was just reported live: look here soon."""
        self._fresh_targets.append(visit)

    async def run(self) -> None:
        """Read until cancelled."""
        pause_s = self.observer.pause_s
        while True:
            async with Connection(self.observer.target.edges[self.edge]) as connection:
                for _ in range(RECONNECT_AFTER):
                    begun = time.monotonic()
                    await self.one(connection, self._next())
                    if pause_s:
                        rest_s = begun + self.rng.uniform(0.5, 1.5) * pause_s - time.monotonic()
                        # A shopper with news does not rest: the moment after live is what is being watched.
                        if rest_s > 0 and not self._fresh_targets:
                            await asyncio.sleep(rest_s)

    async def one(self, connection: Connection, visit: people.Visit) -> None:
        """One exchange, judged."""
        method, headers = "GET", {"Accept": "*/*"}
        roll = self.rng.random()
        known = self._etags.get(visit.target)
        if roll < 0.05:
            method = "HEAD"
        elif roll < 0.45 and known is not None:
            headers["If-None-Match"] = known
        try:
            answer = await connection.request(method, visit.target, headers)
        except NoAnswer:
            self.observer.report.no_answer += 1
            await asyncio.sleep(0.05)
            return
        if answer.status == 200 and method == "GET" and "etag" in answer.headers:
            self._etags[visit.target] = answer.headers["etag"]
            self._etags.move_to_end(visit.target)
            if len(self._etags) > 500:
                self._etags.popitem(last=False)
        self.observer.judge.answered(self.edge, method, visit, answer)

    def _next(self) -> people.Visit:
        if self._fresh_targets:
            return self._fresh_targets.popleft()
        if self.rng.random() < 0.5:
            return self.observer.watched_visit(self.rng)
        while True:
            visit = next(self._visits, None)
            if visit is not None:
                return visit
            market = self.rng.choice(self.observer.front.markets)
            self._visits = people.browse(self.observer.taste, market, self._browsing)


class Observer:
    """A whole run."""

    def __init__(self, target: Target, staff: StaffApi, plan: Plan, faults: Faults | None = None) -> None:
        self.target = target
        self.staff = staff
        self.plan = plan
        self.faults = faults
        self.rng = random.Random(plan.seed)
        self.oracle = Oracle()
        self.report = Report(seed=plan.seed)
        self.judge = Judge(self.oracle, self.report)
        self.merchandiser = people.Merchandiser(plan.seed)
        self.front = people.ShopFront((), (), ())
        self.taste: people.Taste
        """Of everybody; there once the shop has been looked at."""
        self.pause_s = len(target.edges) * plan.connections / plan.rate if plan.rate else 0.0
        self._digits: dict[str, int] = {}
        self._by_sku: dict[str, people.ShownProduct] = {}
        self._keys: list[PriceKey] = []
        self._busy: set[PriceKey] = set()
        self._recent: deque[PriceKey] = deque(maxlen=12)
        self._shoppers: list[Shopper] = []
        self._live_ms: list[float] = []
        self._after_commit_ms: list[float] = []
        self._states: Counter[str] = Counter()
        self._waited_out: Counter[str] = Counter()

    async def run(self) -> Report:
        """Discover the shop, run the plan, and report. Raises BadTarget when there is nothing to observe."""
        await self._prepare()
        begun = time.monotonic()
        names = list(self.target.edges)
        self._shoppers = [Shopper(self, edge, n) for edge in names for n in range(self.plan.connections)]
        readers = [asyncio.create_task(shopper.run()) for shopper in self._shoppers]
        disturbing = asyncio.create_task(self._disturb())
        try:
            numbers = iter(range(self.plan.changes))
            await asyncio.gather(*(self._change_prices(numbers, begun) for _ in range(self.plan.parallel)))
            await self._look_once_more()
        finally:
            disturbing.cancel()
            for task in readers:
                task.cancel()
            outcomes = await asyncio.gather(*readers, disturbing, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome
        self.report.duration_s = round(time.monotonic() - begun, 2)
        self.report.live_ms = percentiles(self._live_ms)
        self.report.after_commit_ms = percentiles(self._after_commit_ms)
        self.report.states = dict(self._states)
        self.report.waited_out = dict(self._waited_out.most_common())
        self.judge.finish()
        return self.report

    async def _prepare(self) -> None:
        """Follow links to find products, then read the price that each shows in each market before any change."""
        first = next(iter(self.target.edges.values()))
        async with Connection(first) as connection:
            self.front = await discover(connection, PRODUCTS)
            if not self.front.products:
                raise BadTarget(f"{first}: no product was found by following links; is the shop seeded?")
            self.taste = people.Taste(self.front, self.plan.seed)
            self._by_sku = {item.sku: item for item in self.front.products}
            every = [PriceKey(market, sku) for market in self.front.markets for sku in self._by_sku]
            self._keys = self.rng.sample(every, min(self.plan.prices, len(every)))
            for key in self._keys:
                target = people.price(*key).target
                try:
                    answer = await connection.request("GET", target)
                except NoAnswer as exc:
                    raise BadTarget(str(exc)) from exc
                if answer.status != 200:
                    raise BadTarget(f"{first}{target}: {answer.status}, expected a price")
                body = json.loads(answer.body)
                self.oracle.start(key, body["amount_minor"])
                self._digits[key.market] = len(body["amount"].partition(".")[2])

    def watched_visit(self, rng: random.Random) -> people.Visit:
        """Somewhere a watched price is shown: often one that changed a moment ago."""
        key = rng.choice(self._recent) if self._recent and rng.random() < 0.6 else rng.choice(self._keys)
        return self._where_shown(key, rng)

    def _where_shown(self, key: PriceKey, rng: random.Random) -> people.Visit:
        item = self._by_sku[key.sku]
        choices = [people.product(key.market, item.slug), people.price(key.market, key.sku)]
        choices += [people.api_product(key.market, key.sku), people.home(key.market)]
        choices += [self._some_listing(key.market, item, rng)] * 2
        return rng.choice(choices)

    def _some_listing(self, market: str, item: people.ShownProduct, rng: random.Random) -> people.Visit:
        category = rng.choice(item.categories)
        sort = rng.choice(self.front.sorts)
        page = rng.randint(1, self.front.pages.get(category, 1)) if rng.random() < 0.5 else 1
        return people.listing(market, category, sort, page)

    async def _change_prices(self, numbers: Iterator[int], begun: float) -> None:
        """One line of changes, each awaited until it is live."""
        limit_s = self.plan.duration_limit_s
        async with self.staff.session() as session:
            for _ in numbers:
                if limit_s is not None and time.monotonic() - begun > limit_s:
                    return
                free = [key for key in self._keys if key not in self._busy]
                if not free:
                    return
                key = self.rng.choice(free)
                self._busy.add(key)
                current = self.oracle.current(key)
                assert current is not None
                amount = self.merchandiser.next_amount(key, current)
                change = self.oracle.began(key, amount, time.monotonic())
                try:
                    position = await session.set_price(key, people.amount_text(amount, self._digits[key.market]))
                except StaffError as exc:
                    self.report.changes_failed.append(f"{key.market} {key.sku}: {exc}")
                    if exc.refused:
                        self.oracle.refused(change)
                        self._busy.discard(key)
                    # Else it is not known whether it was committed: the price stays busy, its history in order.
                    continue
                committed_at = time.monotonic()
                self._recent.append(key)
                try:
                    outcome = await session.until(position, LIVE_STATES, WAIT_LIVE_S)
                except StaffError as exc:
                    self.report.changes_failed.append(f"{key.market} {key.sku} at {position}: {exc}")
                    self._busy.discard(key)
                    continue
                self._became_live(change, committed_at, outcome.state, outcome.waited_out)
                self._busy.discard(key)

    def _became_live(self, change: Change, committed_at: float, state: str, waited_out: Sequence[str]) -> None:
        live_at = time.monotonic()
        self.oracle.live(change, live_at)
        self.report.changes += 1
        self._states[state] += 1
        self._waited_out.update(waited_out)
        self._live_ms.append((live_at - change.begun_at) * 1000)
        self._after_commit_ms.append((live_at - committed_at) * 1000)
        for shopper in self._shoppers:
            shopper.tell(self._where_shown(change.key, shopper.rng))

    async def _look_once_more(self) -> None:
        """Every price that was changed, at every edge, after the last change is live."""
        changed = [key for key in self._keys if self.oracle.current(key) != self.oracle.initial(key)]
        for edge, url in self.target.edges.items():
            async with Connection(url) as connection:
                there = [await self._is_there(edge, connection, people.price(*key)) for key in changed]
            self.report.not_there[edge] = there.count(False)

    async def _is_there(self, edge: str, connection: Connection, visit: people.Visit) -> bool:
        """Whether an edge answers, with whatever; a fault may be on just now."""
        for number in range(LAST_TRIES):
            await asyncio.sleep(LAST_PAUSE_S if number else 0.0)
            try:
                answer = await connection.request("GET", visit.target)
            except NoAnswer:
                self.report.no_answer += 1
                continue
            self.judge.answered(edge, "GET", visit, answer)
            if answer.status == 200:
                return True
        return False

    async def _disturb(self) -> None:
        """Faults, on for half of each period. Leaves everything healed."""
        if self.faults is None:
            return
        faults, plan = self.faults, self.plan
        if plan.pause_replay:
            self.report.faults.append("replay paused on the standby half of the time")
        if plan.cut is not None:
            self.report.faults.append(f"questions of {plan.cut} cut half of the time")
        try:
            while True:
                if plan.pause_replay:
                    await faults.pause_replay()
                if plan.cut is not None:
                    await faults.cut(plan.cut)
                await asyncio.sleep(FAULT_PERIOD_S / 2)
                await self._heal(faults)
                await asyncio.sleep(FAULT_PERIOD_S / 2)
        finally:
            await asyncio.shield(self._heal(faults))

    async def _heal(self, faults: Faults) -> None:
        if self.plan.pause_replay:
            await faults.resume_replay()
        if self.plan.cut is not None:
            await faults.heal(self.plan.cut)


def render(report: Report) -> str:
    """The report as text for a person."""
    lines = [
        f"changes                        {report.changes}"
        + "".join(f"  {state} {count}" for state, count in report.states.items()),
        f"answers                        {report.answers} ({report.no_answer} without an answer)",
        f"  checked                      {report.answers_checked}, with {report.prices_checked} prices",
        f"  of a price changed and live  {report.answers_telling}",
        f"old prices shown after live    {report.old_prices_after_live}",
        f"prices never set               {report.wrong_prices}",
        f"answers that nobody can read   {report.unreadable}",
        f"pages marked as unconfirmed    {report.marked_pages}",
        f"change to live, ms             {percentile_text(report.live_ms)}",
        f"  after its commit, ms         {percentile_text(report.after_commit_ms)}",
        "by edge                        " + _counts(report.by_edge),
        "by status code                 " + _counts(report.by_code),
        "by cache status",
        *(f"  {name:<28} {count}" for name, count in report.by_status.items()),
        "leases waited out              " + (_counts(report.waited_out) or "none"),
        f"seed {report.seed}, {report.duration_s:.1f} s" + "".join(f", {fault}" for fault in report.faults),
    ]
    lines += [f"failed: {text}" for text in report.changes_failed]
    lines += [f"unreadable: {text}" for text in report.unreadable_said]
    lines += [f"not there at the end: {count} prices at {edge}" for edge, count in report.not_there.items() if count]
    lines += [violation_line(violation) for violation in report.violations]
    if report.changes and not report.answers_telling:
        lines.append("nothing was proved: no answer showed a price that had changed")
    lines.append("PASSED" if report.passed else "FAILED")
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return "  ".join(f"{name} {count}" for name, count in counts.items())


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.freshness", description=__doc__.partition("\n")[0])
    plan = Plan()
    parser.add_argument("--changes", type=int, default=plan.changes, help="price changes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--prices", type=int, default=plan.prices, help="how many different prices change")
    parser.add_argument("--parallel", type=int, default=plan.parallel, help="changes on their way at the same time")
    parser.add_argument("--connections", type=int, default=plan.connections, help="shoppers of each edge")
    parser.add_argument("--rate", type=float, default=plan.rate, help="requests a second in all; 0: no pauses")
    parser.add_argument("--pause-replay", choices=["half"], help="pause the standby's replay half of the time")
    parser.add_argument("--cut", metavar="EDGE", help="cut this edge's questions half of the time")
    parser.add_argument("--duration-limit", type=float, metavar="SECONDS", help="begin no change after this long")
    parser.add_argument("--ready", type=Path, help="ready file (default: NEARSHELF_READY, or the state folder's)")
    parser.add_argument("--state", type=Path, help="state folder (default: .nearshelf)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args(arguments)


async def observe(target: Target, plan: Plan) -> Report:
    """Run a plan against a running shop. Raises BadTarget, StaffError or FaultsUnavailable when it cannot start."""
    if plan.cut is not None and plan.cut not in target.edges:
        raise BadTarget(f"--cut {plan.cut}: no such edge, there are {', '.join(target.edges)}")
    faults = Faults.of(target) if plan.pause_replay or plan.cut is not None else None
    return await Observer(target, await StaffApi.signed_in(target), plan, faults).run()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    plan = Plan(
        changes=options.changes,
        seed=options.seed,
        prices=options.prices,
        parallel=options.parallel,
        connections=options.connections,
        rate=options.rate,
        pause_replay=options.pause_replay is not None,
        cut=options.cut,
        duration_limit_s=options.duration_limit,
    )
    try:
        report = asyncio.run(observe(load_target(options.ready, options.state), plan))
    except (BadTarget, StaffError, FaultsUnavailable) as exc:
        print(f"freshness: {exc}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({**asdict(report), "passed": report.passed}, indent=2))
    else:
        print(render(report))
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
