"""Take the origin away under load, bring it back, and see what viewers and the origin noticed.

    python -m loadtests.chaos.outage --outage 60

on a shop whose pages are fresh for some seconds only (docs/faults.md, "The origin away for a minute").

Viewers ask every edge for pages at a steady rate, all of which have been asked for before: each must be answered with
200, the origin there or not. When it is back, everything that became due meanwhile is due at once.

What the origin was asked for is told by its own access log, by when each request *came*, and whether or not it was
answered. The steady rate is the mean of the time before the outage, after a warm-up, and has to be steady: both halves
of it alike. Held against it are the means of the first 10, 30 and 60 seconds from the first request that reaches the
origin again; and the worst ten seconds of all the time after against the worst of before, wherever a surge may hide.
The shop's own policies keep a page fresh for five minutes: then the origin has a steady rate only after a warm-up of
several times as long.

No surge is not enough: edges that never ask again make none. Soon after its return the origin has to be asked again, at
half of the pace of before or more; and of what the outage made stale, half has to be fresh again within a minute (or as
long as all pages take at the pace of before), by what `Cache-Status` says of the answers.

Exit status: 0 when every page was answered and the origin was asked for at most 1.2 times as much as before and not too
little, 1 otherwise, 2 when the run could not start, or was ended before the origin was back: then it is started.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import datetime as dt
import json
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from loadtests import people
from loadtests.discovery import discover
from loadtests.faults import Breakage, FaultsUnavailable
from loadtests.http1 import Connection
from loadtests.paced.schedule import Asked, Schedule, steady
from loadtests.people import ShopFront, Taste
from loadtests.recorder.run import Run, Second, Status
from loadtests.target import BadTarget, Target, load_target
from loadtests.volume import VolumeFailed, volume_run

MOST_SURGE = 1.2
LEAST_SURGE = 0.5
"""What was due before is due after, too; 0.8 was the least that was measured."""
ASKED_AGAIN_S = 10.0
"""From when the origin answers until it is asked: an edge whose origin is silent tries it every 0.7 s at least."""
FRESH_S = 60.0
"""From when the origin answers until half of what the outage made stale is fresh; longer where each page once takes
longer at the pace of before. Measured: 14 s, of 774 pages at 27 a second."""
MADE_STALE = 0.05
"""By so much has the share of stale answers to grow during the outage for that to be judged: less may be chance."""
FEWEST_BEFORE = 60
"""Fetches before the outage: with fewer, chance is larger than what is measured."""
WINDOWS_S = (10.0, 30.0, 60.0)
"""How long after its return the origin's mean rate is held against the one before."""
WORST_S = 10.0
"""The length of the worst window, before and after."""
UNSTEADY = 0.25
"""By so much of the mean may the halves of the time before differ, beyond what chance does."""
CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is. Seconds."""

    warmup_s: float = 120.0
    before_s: float = 60.0
    outage_s: float = 60.0
    after_s: float = 120.0
    rate: float = 150.0
    """Requests a second of all viewers together."""
    products: int = 100
    """How many are looked at; the pages are those, in all markets, and their listings."""
    seed: int = 1

    @property
    def whole_s(self) -> float:
        return self.before_s + self.outage_s + self.after_s


class Moments(NamedTuple):
    """When the origin was told to stop, had stopped, was told to start, and answered; seconds since the epoch."""

    gone_at: float
    stopped_at: float
    back_at: float
    up_at: float


@dataclass(slots=True)
class Found:
    """What an outage did."""

    asked: int = 0
    """Requests after the warm-up."""
    pages: int = 0
    """Different ones, for each edge anew."""
    failed: int = 0
    """Whatever was not answered with 200."""
    by_code: dict[str, int] = field(default_factory=dict)
    """Of these: status code, or `no answer` -> requests."""
    by_status: dict[str, int] = field(default_factory=dict)
    away_s: float = 0.0
    """From the last request that reached the origin before it was told to start, or from when it was told to stop, to
    the first that reached it again; to the end of the run where none did."""
    asked_while_away: int = 0
    """Requests that reached it when it had stopped."""
    asked_again_s: float | None = None
    """From when it answered to the first request that reached it, 0 where that was sooner; None: none did."""
    stale_before: float = 0.0
    """Share of answers from the store that were not fresh any more, of all answers."""
    stale_away: float = 0.0
    """The same in the last WORST_S of the outage."""
    fresh_again_s: float | None = None
    """From when it answered to the end of the first WORST_S in which no more than half of what the outage had added was
    stale; None: it always was more."""
    before_per_s: float = 0.0
    """What edges fetched from the origin."""
    before: int = 0
    halves: tuple[int, int] = (0, 0)
    """Of these, in the first and in the second half of the time before."""
    worst_before: int = 0
    worst_after: int = 0
    """The most within any WORST_S."""
    surge: dict[str, float] = field(default_factory=dict)
    """Seconds since the origin's return -> mean rate within them, as a multiple of that before."""
    faults: list[str] = field(default_factory=list)
    """Why the generator is not to be believed."""

    @property
    def wrong(self) -> list[str]:
        wrong = [f"the run is not valid: {fault}" for fault in self.faults]
        if self.failed:
            codes = ", ".join(f"{code} {count:,}" for code, count in sorted(self.by_code.items()))
            wrong.append(f"{self.failed:,} reads of pages failed that had been asked for before: {codes}")
        first, second = self.halves
        if abs(first - second) > UNSTEADY * self.before / 2 + 3 * math.sqrt(self.before):
            wrong.append(
                f"the origin's rate was not steady before: {first} times in the first half and {second} in the second; "
                "a longer --warmup, or pages that are fresh for a shorter time"
            )
        if self.before < FEWEST_BEFORE:
            wrong.append(
                f"the origin was asked {self.before} times before it went away (at least {FEWEST_BEFORE}): "
                "a longer --before, or pages that are fresh for a shorter time"
            )
        if self.asked_while_away:
            wrong.append(f"the origin was asked {self.asked_while_away} times while it was to be away")
        if self.asked_again_s is None:
            wrong.append("the origin was not asked again after its return")
        elif self.asked_again_s > ASKED_AGAIN_S:
            wrong.append(
                f"the origin was asked again only {self.asked_again_s:.1f} s after its return (at most "
                f"{ASKED_AGAIN_S:g})"
            )
        wrong += [
            f"in the first {within} s after its return the origin was asked {surge:.2f} times as much as before "
            f"(at least {LEAST_SURGE:g}, at most {MOST_SURGE:g})"
            for within, surge in self.surge.items()
            if not LEAST_SURGE <= surge <= MOST_SURGE
        ]
        if self.made_stale and (self.fresh_again_s is None or self.fresh_again_s > self.fresh_within_s):
            after = "not in all the time" if self.fresh_again_s is None else f"only {self.fresh_again_s:.0f} s"
            wrong.append(
                f"{self.stale_before:.0%} of the answers were stale before and {self.stale_away:.0%} without the "
                f"origin; half of that was gone {after} after its return (at most {self.fresh_within_s:.0f} s)"
            )
        if self.worst_after > MOST_SURGE * self.worst_before:
            wrong.append(
                f"the origin was asked {self.worst_after} times within {WORST_S:g} s after its return, and never more "
                f"than {self.worst_before} times before (at most {MOST_SURGE:g} times as much)"
            )
        return wrong

    @property
    def fresh_within_s(self) -> float:
        return max(FRESH_S, self.pages / self.before_per_s) if self.before_per_s else FRESH_S

    @property
    def made_stale(self) -> bool:
        """Whether the outage made enough stale to see it become fresh again."""
        return self.stale_away - self.stale_before >= MADE_STALE


def checked(wanted: Wanted) -> Wanted:
    """Raises BadTarget for a run that would judge nothing, or never end."""
    seconds = (wanted.warmup_s, wanted.before_s, wanted.outage_s, wanted.after_s)
    if not all(math.isfinite(value) for value in (*seconds, wanted.rate)):
        raise BadTarget("--warmup, --before, --outage, --after and --rate: a finite number is needed")
    if wanted.after_s < min(WINDOWS_S):
        raise BadTarget(
            f"--after {wanted.after_s:g}: too short: what the origin is asked after its return is judged over "
            f"{min(WINDOWS_S):g} s at least"
        )
    if min(wanted.warmup_s, wanted.before_s, wanted.outage_s, wanted.rate, wanted.products) <= 0:
        raise BadTarget("--warmup, --before, --outage, --rate and --products: more than nothing is needed")
    return wanted


def pages_of(front: ShopFront, edges: Iterable[str], seed: int) -> tuple[list[Asked], list[float]]:
    """Every page of what was found, at every edge, and how often it is asked for beside the others."""
    taste = Taste(front, seed)
    asked: list[Asked] = []
    weights: list[float] = []
    visits = [(people.home(market), 0) for market in front.markets]
    visits += [
        (people.listing(market, category), rank)
        for market in front.markets
        for rank, category in enumerate(taste.categories)
    ]
    visits += [
        (people.product(market, item.slug), rank)
        for market in front.markets
        for rank, item in enumerate(taste.products)
    ]
    for edge in edges:
        for visit, rank in visits:
            asked.append(Asked(edge, visit.kind, visit.market, visit.target))
            weights.append((rank + 1) ** -people.ZIPF_EXPONENT)
    return asked, weights


def schedule_of(target: Target, front: ShopFront, wanted: Wanted) -> Schedule:
    """Raises BadTarget where the warm-up would not come round."""
    asked, weights = pages_of(front, target.edges, wanted.seed)
    rounds = wanted.warmup_s * wanted.rate / len(asked)
    if rounds < 1.1:
        raise BadTarget(
            f"{len(asked):,} pages in {wanted.warmup_s:g} s at {wanted.rate:g} a second: not all would have been asked "
            "for before the outage; fewer --products, or a longer --warmup"
        )
    shuffled = list(zip(asked, weights, strict=True))
    random.Random(f"outage {wanted.seed}").shuffle(shuffled)
    return steady(
        target.edges,
        [page for page, _ in shuffled],
        rate_per_s=wanted.rate,
        duration_s=wanted.whole_s,
        warmup_s=wanted.warmup_s,
        seed=wanted.seed,
        weights=[weight for _, weight in shuffled],
    )


def fetches(path: Path, since: float, hosts: frozenset[str]) -> list[float]:
    """When what edges fetched came to the origin, seconds since the epoch, ascending. `hosts`: their authorities.

    By arrival, whatever became of it: an origin that is behind answers at its own pace, and what it has not answered
    when an edge gave up was asked all the same.
    """
    found = []
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the origin was ended in the middle of a line
                came_at = entry["time"] - entry["ms"] / 1000
                if entry["edge_key"] and came_at >= since and entry["host"] in hosts:
                    found.append(came_at)
    except OSError as exc:
        raise BadTarget(f"{path}: the origin's access log cannot be read: {exc}") from exc
    return sorted(found)


def surge_of(times: Sequence[float], wanted: Wanted, moments: Moments, found: Found) -> None:
    """Hold what the origin was asked for after its return against what it was asked before it went away."""
    gone_at, stopped_at, back_at, up_at = moments
    before = _within(times, gone_at - wanted.before_s, gone_at)
    found.before = len(before)
    found.before_per_s = len(before) / wanted.before_s
    first_half = len(_within(before, gone_at - wanted.before_s, gone_at - wanted.before_s / 2))
    found.halves = (first_half, len(before) - first_half)
    found.worst_before = _most_within(WORST_S, before)
    found.asked_while_away = len(_within(times, stopped_at, back_at))
    last_at = max(_within(times, gone_at, back_at), default=gone_at)
    # From the first that reached it: it listens some time after it was told to start.
    first = bisect.bisect_left(times, back_at)
    if first == len(times):
        found.away_s = up_at + wanted.after_s - last_at
        return
    again_at = times[first]
    found.away_s = again_at - last_at
    found.asked_again_s = max(0.0, again_at - up_at)
    after = _within(times, again_at, again_at + wanted.after_s)
    found.worst_after = _most_within(WORST_S, after)
    for window_s in WINDOWS_S:
        if window_s <= wanted.after_s and found.before_per_s:
            count = len(_within(after, again_at, again_at + window_s))
            found.surge[f"{window_s:g}"] = count / window_s / found.before_per_s


def staleness_of(seconds: Sequence[Second], wanted: Wanted, moments: Moments, began_at: float, found: Found) -> None:
    """How much of what was answered was stale before and without the origin, and how soon it was not after its return.

    `began_at`: second 0, since the epoch.
    """
    gone_s, _, back_s, up_s = (at - began_at for at in moments)
    ends_s = wanted.warmup_s + wanted.whole_s
    found.stale_before = _stale_share(seconds, gone_s - wanted.before_s, gone_s)
    found.stale_away = _stale_share(seconds, max(gone_s, back_s - WORST_S), back_s)
    half = (found.stale_before + found.stale_away) / 2
    from_s = up_s
    while from_s + WORST_S <= ends_s:
        if _stale_share(seconds, from_s, from_s + WORST_S) <= half:
            found.fresh_again_s = from_s + WORST_S - up_s
            return
        from_s += 1.0


def _stale_share(seconds: Sequence[Second], from_s: float, to_s: float) -> float:
    """Of the requests meant to be sent then; everything where there was none."""
    these = [second.requests for second in seconds if from_s <= second.at_s < to_s]
    stale = sum(sum(requests.get(Status.STALE.value, {}).values()) for requests in these)
    every = sum(sum(edges.values()) for requests in these for edges in requests.values())
    return stale / every if every else 1.0


def _within(times: Sequence[float], from_at: float, to_at: float) -> Sequence[float]:
    return times[bisect.bisect_left(times, from_at) : bisect.bisect_left(times, to_at)]


def _most_within(window_s: float, times: Sequence[float]) -> int:
    """The most within any window of so many seconds."""
    return max((bisect.bisect_left(times, at + window_s) - place for place, at in enumerate(times)), default=0)


def judged(run: Run, target: Target, wanted: Wanted, moments: Moments) -> Found:
    """What a run and the origin's log tell."""
    found = Found(faults=list(run.check.faults))
    counted = {phase.name for phase in run.phases if phase.counts}
    for cell in run.cells:
        if cell.label.phase in counted:
            status = cell.label.status
            found.by_status[status.value] = found.by_status.get(status.value, 0) + cell.requests
            found.asked += cell.requests
            found.failed += cell.requests - cell.codes.get("200", 0)
            for code in cell.codes.keys() - {"200"}:
                found.by_code[code] = found.by_code.get(code, 0) + cell.codes[code]
    found.pages = sum(run.asked_urls.values())
    assert target.origin_log is not None
    began_at = dt.datetime.fromisoformat(run.started_at).timestamp()
    hosts = frozenset(url.partition("://")[2] for url in target.edges.values())
    surge_of(fetches(target.origin_log, began_at, hosts), wanted, moments, found)
    staleness_of(run.seconds, wanted, moments, began_at, found)
    return found


def take_away(breakage: Breakage, wanted: Wanted, over: threading.Event) -> Moments | None:
    """Wait for the moment, then stop the origin and start it again; None where it was `over` before."""
    if over.wait(wanted.warmup_s + wanted.before_s):
        return None
    gone_at = time.time()
    breakage.tell({"do": "stop", "name": "origin"})
    stopped_at = time.time()
    if over.wait(wanted.outage_s):
        return None  # whoever mends starts it
    back_at = time.time()
    breakage.tell({"do": "start", "name": "origin"})
    return Moments(gone_at, stopped_at, back_at, time.time())


def observe(target: Target, wanted: Wanted) -> Found:
    """Raises BadTarget, VolumeFailed or FaultsUnavailable."""
    if target.control is None or target.origin_log is None:
        raise BadTarget("an outage needs a shop that `nearshelf up` runs on this machine, with the origin's access log")
    front = asyncio.run(_front(target, wanted.products))
    schedule = schedule_of(target, front, wanted)
    breakage, over = Breakage(target.control), threading.Event()
    taken: list[Moments | None] = []
    failures: list[FaultsUnavailable] = []

    def take() -> None:
        try:
            taken.append(take_away(breakage, wanted, over))
        except FaultsUnavailable as exc:
            failures.append(exc)

    taking = threading.Thread(target=take)
    taking.start()
    try:
        # Here, and not in the thread: it hears Ctrl-C, and then has the generator end early.
        run = volume_run(
            schedule,
            scenario="outage",
            description="the origin goes away and comes back",
            seed=wanted.seed,
            connections=CONNECTIONS,
        )
    finally:
        over.set()
        taking.join()
        failed = breakage.mend()
    if failures:
        raise failures[0]
    if failed:
        raise FaultsUnavailable("; ".join(failed))
    (moments,) = taken
    if moments is None:
        raise VolumeFailed("the run was over before the origin was back: nothing is known")
    return judged(run, target, wanted, moments)


async def _front(target: Target, products: int) -> ShopFront:
    first = next(iter(target.edges.values()))
    async with Connection(first) as connection:
        front = await discover(connection, products)
    if not front.products:
        raise BadTarget(f"{first}: no product was found by following links; is the shop seeded?")
    return front


def rendered(found: Found) -> str:
    """For a person."""
    surges = ", ".join(f"{surge:.2f} in the first {within} s" for within, surge in found.surge.items())
    lines = [
        f"reads of {found.pages:,} pages      {found.asked:,}, failed {found.failed:,}",
        "  by what they were          "
        + ", ".join(f"{name} {count:,}" for name, count in sorted(found.by_status.items())),
        f"nothing reached the origin   {found.away_s:.1f} s, asked again {_after(found.asked_again_s)}",
        f"steady rate before           {found.before_per_s:.1f} a second, most {found.worst_before} in {WORST_S:g} s",
        f"  in its halves              {found.halves[0]:,} and {found.halves[1]:,} fetches",
        f"  after, as a multiple       {surges or '-'}; most {found.worst_after} in {WORST_S:g} s",
        f"share of stale answers       {found.stale_before:.0%} before, {found.stale_away:.0%} without it",
        f"  half of that gone          {_after(found.fresh_again_s) if found.made_stale else 'too little to tell'}",
        *(f"wrong: {text}" for text in found.wrong),
        "FAILED" if found.wrong else "PASSED",
    ]
    return "\n".join(lines)


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s after it answered"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.chaos.outage", description=(__doc__ or "").partition("\n")[0]
    )
    wanted = Wanted()
    parser.add_argument("--warmup", type=float, default=wanted.warmup_s, metavar="S", help="until every page is known")
    parser.add_argument("--before", type=float, default=wanted.before_s, metavar="S", help="with the origin, measured")
    parser.add_argument("--outage", type=float, default=wanted.outage_s, metavar="S", help="without it")
    parser.add_argument("--after", type=float, default=wanted.after_s, metavar="S", help="with it again")
    parser.add_argument("--rate", type=float, default=wanted.rate, help="requests a second in all")
    parser.add_argument("--products", type=int, default=wanted.products, help="how many are looked at")
    parser.add_argument("--seed", type=int, default=wanted.seed)
    parser.add_argument("--ready", type=Path, help="ready file (default: NEARSHELF_READY, or the state folder's)")
    parser.add_argument("--state", type=Path, help="state folder (default: .nearshelf)")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    wanted = Wanted(
        warmup_s=options.warmup,
        before_s=options.before,
        outage_s=options.outage,
        after_s=options.after,
        rate=options.rate,
        products=options.products,
        seed=options.seed,
    )
    # As after Ctrl-C: the origin is started first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        wanted = checked(wanted)
        found = observe(load_target(options.ready, options.state), wanted)
    except (BadTarget, VolumeFailed, FaultsUnavailable) as exc:
        print(f"outage: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("outage: interrupted", file=sys.stderr)
        return 2
    print(json.dumps({**asdict(found), "wrong": found.wrong}, indent=2) if options.json else rendered(found))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
