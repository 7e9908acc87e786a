"""A hot tag is purged under load: `python -m loadtests.bench hot_tag`.

Every page carries one tag. A thousand viewers ask for them at several sites, each of two workers that share a Redis or
Valkey; the tag is purged, and from then on every page is asked for at every site, some of them by many. Counted are the
requests at the origin, which answers after 20 ms, how many of them were under way at once, and what the viewers got.

The first row has patience: every page is fetched once for each site, and nobody gets an error. In the others a fill
waits a second for its turn: what is beyond that gets 503 with Retry-After, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from cache_policies.fields import MIN_VERSION_FIELD, MIN_VERSION_HEAD
from loadtests.bench import measuring, ours
from loadtests.bench.asking import ask_for, until_hit
from loadtests.bench.measuring import BenchError, Server, Verdict
from loadtests.bench.origins import BenchOrigin, Page, running
from loadtests.bench.stampede import start_tier, tier_program

TAG = "c:eu-eur:lamps"
ORIGIN_S = 0.02
WORKERS = 2
"""Of each site."""
HOT_KEYS, HOT_SHARE = 50, 0.25
"""After the purge each viewer asks for one of so few pages so often, besides those that are due."""
THINK_S = 0.5
"""A viewer's rest before its next page, until the purge."""
BEFORE_S = 3.0
"""How long viewers ask before the purge."""
HEADINGS = (
    *("of a site", "pages x sites", "fetches", "most at once (cap x sites)", "live, ms"),
    *("200", "503", "other", "p50, ms", "p99, ms", "old after live"),
)
START_S = 60.0
"""Within which a worker must answer: it may have to be read from the disk."""
LIVE_S = 10.0
"""Within which every worker must have reported the purge."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row: how much of the origin a site takes, and how long a fill waits for its turn."""

    name: str
    cap: int
    """Fills under way at once, of a site."""
    deadline_s: float
    has_excess: bool
    """Whether it is meant to be too much."""


class Got(NamedTuple):
    """One answer, as its viewer saw it. Times are of the machine's monotonic clock, which all processes share."""

    sent_at: float
    took_s: float
    status: int
    retry_after: bool
    position: int
    """That the page was read at; 0: it says none."""


class Fetch(NamedTuple):
    """One request at the origin."""

    position: int
    """Of the log when it was answered."""
    demands_head: bool
    """Its worker's lease had run out."""
    site: str
    target: str

    @property
    def why(self) -> str:
        """Why it may have been one too many."""
        return "past a lease" if self.demands_head else "another worker had it, and was not heard of in time"


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one case."""

    fetches: Sequence[Fetch]
    """Answered from the purge on. What a worker still lacked before is the end of filling it."""
    most_under_way: int
    live_ms: float
    got: Sequence[Got]
    """From the purge on."""
    purged: int
    """The position of the purge."""
    live_at: float

    @property
    def statuses(self) -> Counter[int]:
        return Counter(each.status for each in self.got)

    @property
    def beyond(self) -> Counter[str]:
        """Why a site fetched what it had been given: by reason, how many of its fetches of a page were one too many."""
        by_page: dict[tuple[str, str], list[Fetch]] = {}
        for fetch in self.fetches:
            by_page.setdefault((fetch.site, fetch.target), []).append(fetch)
        for of_page in by_page.values():
            # One was due: one that no lease was the reason for, if there is one.
            of_page.sort(key=lambda fetch: not fetch.demands_head)
        return Counter(fetch.why for of_page in by_page.values() for fetch in of_page[:-1])

    @property
    def old_after_live(self) -> int:
        """Pages from before the purge in answers to requests that were sent when it was live."""
        later = [each for each in self.got if each.sent_at > self.live_at and each.status == 200]
        return sum(each.position < self.purged for each in later)

    @property
    def amiss(self) -> int:
        """Answers that are neither the page nor 503 with Retry-After."""
        return sum(not (each.status == 200 or (each.status == 503 and each.retry_after)) for each in self.got)


def main(argv: Sequence[str] | None = None) -> int:
    """1: an aim was missed; 2: it could not run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench hot_tag", description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000, help="pages with the tag (default 10000)")
    parser.add_argument("--viewers", type=int, default=1_000)
    parser.add_argument("--sites", type=int, default=2, help=f"each of {WORKERS} workers (default 2)")
    parser.add_argument("--cap", type=int, default=100, help="fills under way at once, of a site (default 100)")
    parser.add_argument("--only", type=int, help="only the row of this number, from 1")
    parser.add_argument("--write", type=Path, help="put the table into this file, between its `hot-tag` marks")
    options = parser.parse_args(argv)
    few = max(WORKERS, options.cap // 10)
    cases = [
        Case(f"cap {options.cap}, deadline 30 s", options.cap, 30.0, has_excess=False),
        Case(f"cap {options.cap}, deadline 1 s", options.cap, 1.0, has_excess=False),
        Case(f"cap {few}, deadline 1 s", few, 1.0, has_excess=True),
    ]
    if options.only is not None:
        if not 1 <= options.only <= len(cases):
            return measuring.complain(f"--only: rows are 1 to {len(cases)}, not {options.only}")
        cases = [cases[options.only - 1]]
    program = tier_program()
    if program is None:
        return measuring.complain("this takes a valkey-server or a redis-server; VALKEY_BIN names one")
    about = (
        f"{measuring.today()}: {options.keys:,} pages with one tag, {options.viewers:,} viewers, {options.sites} sites "
        f"of {WORKERS} workers with a regional tier, origin {ORIGIN_S * 1000:.0f} ms"
    )
    lines = [
        about,
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|" + "---|" * len(HEADINGS),
    ]
    verdicts: list[Verdict] = []
    notes: list[str] = []
    for case in cases:
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearshelf-bench-")))
            done = play(stack, scratch, program, case, options.keys, options.viewers, options.sites)
        lines.append(_row(case, done, options.keys * options.sites, options.sites))
        print(lines[-1], flush=True)
        notes += [f"{case.name}: fetched twice: {count} ({why})" for why, count in sorted(done.beyond.items())]
        verdicts += judged(case, done, options.keys * options.sites, options.sites)
    text = "\n".join([*lines, *(["", *notes] if notes else []), "", measuring.told(verdicts)])
    print(f"\n{text}")
    if options.write is not None:
        measuring.write_between_marks(options.write, "hot-tag", text)
    return int(not all(verdict.met for verdict in verdicts))


def judged(case: Case, done: Done, wanted: int, sites: int) -> list[Verdict]:
    """The figures of one case, held against the aims."""
    statuses, name = done.statuses, case.name
    found = [
        Verdict(f"{name}: fetches beyond one for each page and site", done.beyond.total(), 0),
        Verdict(f"{name}: most requests at the origin at once", done.most_under_way, case.cap * sites),
        Verdict(f"{name}: pages from before the purge after it was live", done.old_after_live, 0),
        Verdict(f"{name}: answers that are neither 200 nor 503 with Retry-After", done.amiss, 0),
    ]
    if case.has_excess:
        found.append(Verdict(f"{name}: answers 503", statuses[503], 1, at_least=True))
    elif case.deadline_s > 1.0:
        found += [
            Verdict(f"{name}: fetches", len(done.fetches), wanted, at_least=True),
            Verdict(f"{name}: answers 5xx", sum(count for status, count in statuses.items() if status >= 500), 0),
        ]
    return found


def play(stack: ExitStack, scratch: Path, program: Path, case: Case, keys: int, viewers: int, sites: int) -> Done:
    """Start everything, fill every site, let viewers ask, purge, and let them ask for every page. Raises BenchError."""
    fetches: list[Fetch] = []
    origin = BenchOrigin(lambda target, head: _page(target, head, origin, fetches))
    stack.enter_context(running(origin))
    tier = start_tier(stack, program, scratch)
    policies = ours.lasting_policies(scratch / "policies")
    all_sites = [_start_site(stack, f"site-{number}", origin, tier, scratch, policies, case) for number in range(sites)]
    for site in all_sites:
        for worker in site:
            until_hit(worker, _target(0), START_S)
            # No more at once than a worker takes: nobody waits in line.
            ask_for(worker, [_target(number) for number in range(keys)], connections=min(16, case.cap // WORKERS))
    fetches.clear()
    origin.most_under_way = 0
    origin.delay_s = ORIGIN_S
    # A process of their own: the origin is in this one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_share, initargs=(purged := context.Event(),)) as pool:
        ports = [[worker.port for worker in site] for site in all_sites]
        asking = pool.submit(viewers_ask, ports, keys, viewers, BEFORE_S + LIVE_S)
        time.sleep(BEFORE_S)
        put_at = time.monotonic()
        entry = origin.purge(TAG)
        until = put_at + LIVE_S
        while origin.reports[entry] < sites * WORKERS:
            if time.monotonic() > until or asking.done():
                raise BenchError(f"{origin.reports[entry]} of {sites * WORKERS} workers report the purge")
            time.sleep(0.001)
        live_at = time.monotonic()
        # Until now a page that was asked for may still have been answered as it was.
        purged.set()
        answers = asking.result()
    for site in all_sites:
        for worker in site:
            worker.check_alive()
    return Done(
        fetches=[fetch for fetch in fetches if fetch.position >= entry.cv],
        most_under_way=origin.most_under_way,
        live_ms=1000 * (live_at - put_at),
        got=[got for got in answers if got.sent_at >= put_at],
        purged=entry.cv,
        live_at=live_at,
    )


def _start_site(
    stack: ExitStack, name: str, origin: BenchOrigin, tier: int, scratch: Path, policies: Path, case: Case
) -> list[Server]:
    port = measuring.free_port()
    settings = {
        "NEARSHELF_EDGE": name,
        "NEARSHELF_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "NEARSHELF_REGIONAL": f"redis://127.0.0.1:{tier}/0",
        "NEARSHELF_ORIGIN_CONNECTIONS": str(case.cap // WORKERS),
        "NEARSHELF_ORIGIN_TAG_CONNECTIONS": str(case.cap // WORKERS),
        "NEARSHELF_ORIGIN_QUEUE": "10000",
        "NEARSHELF_ORIGIN_QUEUE_S": f"{case.deadline_s:g}",
    }
    return [
        ours.start_gateway(
            stack, f"{name}, worker {number}", origin.url, scratch, policies=policies, core=None, port=port,
            settings=settings,
        )
        for number in range(WORKERS)
    ]  # fmt: skip


# -- viewers, in their own process -------------------------------------------------------------------------------------

_purged: Event
"""Set when the purge of the tag is live."""


def _share(purged: Event) -> None:
    global _purged  # noqa: PLW0603  # how a process of a pool is given what cannot be sent to it later
    _purged = purged


def viewers_ask(ports: Sequence[Sequence[int]], keys: int, viewers: int, before_s: float) -> list[Got]:
    """What so many viewers got, of the sites in turn; from the purge on until every page was asked for at each."""
    return asyncio.run(_viewers_ask(ports, keys, viewers, before_s))


async def _viewers_ask(ports: Sequence[Sequence[int]], keys: int, viewers: int, before_s: float) -> list[Got]:
    give_up_at = time.monotonic() + before_s
    due = [_shuffled(keys, seed) for seed in range(len(ports))]
    got: list[Got] = []
    turns = itertools.cycle([(site, port) for site, of_site in enumerate(ports) for port in of_site])
    await asyncio.gather(
        *[
            _viewer(port, ports[site][0], due[site], keys, random.Random(number), got, give_up_at)
            for number, (site, port) in enumerate(itertools.islice(turns, viewers))
        ]
    )
    return got


def _shuffled(keys: int, seed: int) -> Iterator[int]:
    every = list(range(keys))
    random.Random(seed).shuffle(every)
    return iter(every)


async def _viewer(
    port: int, site_port: int, due: Iterator[int], keys: int, rng: random.Random, got: list[Got], give_up_at: float
) -> None:
    """One connection. Raises BenchError when the purge never comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.sleep(rng.random() * THINK_S)
        while not _purged.is_set():
            if time.monotonic() > give_up_at:
                raise BenchError("the tag is not purged")
            got.append(await _asked(reader, writer, site_port, _any(keys, rng)))
            await asyncio.sleep(THINK_S * (0.5 + rng.random()))
        for number in due:
            answer = await _asked(reader, writer, site_port, number)
            got.append(answer)
            if rng.random() < HOT_SHARE:
                got.append(await _asked(reader, writer, site_port, rng.randrange(min(keys, HOT_KEYS))))
            if answer.status == 503:
                await asyncio.sleep(1.0)
    finally:
        writer.close()


def _any(keys: int, rng: random.Random) -> int:
    return rng.randrange(min(keys, HOT_KEYS)) if rng.random() < HOT_SHARE else rng.randrange(keys)


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, site_port: int, number: int) -> Got:
    sent_at = time.monotonic()
    writer.write(f"GET {_target(number)} HTTP/1.1\r\nHost: 127.0.0.1:{site_port}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    body = await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
    status = int(head.split(" ", 2)[1])
    position = int(body.partition(b"\n")[0]) if status == 200 else 0
    return Got(sent_at, time.monotonic() - sent_at, status, "\r\nretry-after: " in head, position)


def _target(number: int) -> str:
    return f"/eu-eur/products/lamp-{number}"


def _page(target: str, head: str, origin: BenchOrigin, fetches: list[Fetch]) -> Page:
    """Its first line is the number of the position that it was read at."""
    at = origin.position
    asked = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")[1:]}
    fetches.append(Fetch(at.cv, asked.get(MIN_VERSION_FIELD) == MIN_VERSION_HEAD, asked["host"], target))
    fields = (
        f"catalog-version: {at}",
        f"cache-tag: {TAG}",
        "cdn-cache-control: max-age=86400",
        f'etag: "{at.cv}"',
    )
    return Page(f"{at.cv}\n<p>{target}</p>".encode().ljust(2_000, b"."), fields=fields)


def _row(case: Case, done: Done, wanted: int, sites: int) -> str:
    statuses = done.statuses
    other = len(done.got) - statuses[200] - statuses[503]
    took = statistics.quantiles([each.took_s for each in done.got], n=100)
    return (
        f"| {case.name} | {wanted:,} | {len(done.fetches):,} | {done.most_under_way} ({case.cap * sites}) | "
        f"{done.live_ms:.0f} | {statuses[200]:,} | {statuses[503]:,} | {other} | "
        f"{took[49] * 1000:.0f} | {took[98] * 1000:.0f} | {done.old_after_live} |"
    )


if __name__ == "__main__":
    sys.exit(main())
