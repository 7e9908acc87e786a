"""At midnight in a market everything shown there is refreshed: a soft purge of the market, then its head is warmed.

What changes with the day of a market is not shown past it as current: the soft purge leaves stored pages servable as
stale only, each of them until it is refreshed behind its next viewer's back. So that the pages that are asked for most
are the first, they are asked for through every edge, at a bounded rate. A random moment within `jitter_s` keeps markets
of one time zone apart; it is the same for every worker, of which the first does it for all (docs/merchandising.md).

The audit list is what says that a day was done, written in the transaction of its purge: it outlives this worker, and
the primary. A midnight at which no worker ran is made up for as soon as one does, as long as its day lasts. Warming is
not repeated: it spares the first viewers a stale page, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

import httpx
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from cache_policies.positions import Position, PurgeKind
from cache_policies.tags import market_tag
from origin.accounts import audit
from origin.catalog import service as catalog
from origin.catalog.pages import category_path, product_path
from origin.db import Database
from origin.errors import ShopError
from origin.events.messages import TagsPurged
from origin.events.observer import Observer

ACTOR = "midnight"
ACTION = "market.refresh"
LONGEST_SLEEP_S = 600.0
"""Then the wall clock is read again: it may have been set."""
RETRY_S = 30.0
LIVE_S = 10.0
"""How long warming waits for the purge to be live."""
WARM_EVERY_S = 0.05
"""From one page to the next, at each edge: its refreshes are to be a trickle for the origin."""
WARM_TIMEOUT_S = 10.0
"""For one page."""
WARM_WITHIN_S = 900.0
"""Then a market's warming ends: the next market's waits for it, so that the rate stays that of one."""
MOST_FAILURES = 5
"""In a row; then an edge is left alone."""
_ONE_AT_A_TIME = 0x6E656172, 0x6D6964
"""Of the database's advisory locks."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """One market's refresh of one day."""

    at: datetime
    """In UTC."""
    market: str
    day: date
    """That begins there."""


def due_of(market: str, zone: tzinfo, day: date, jitter_s: float) -> Due:
    """When `market` is refreshed at the beginning of `day`: at its midnight, or the moment that stands for it where
    clocks are set forward then, and up to `jitter_s` later."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    late_s = random.Random(f"{market} {day}").uniform(0.0, jitter_s)
    return Due(midnight + timedelta(seconds=late_s), market, day)


def next_due(zones: Mapping[str, tzinfo], jitter_s: float, done: Mapping[str, date], now: datetime) -> Due | None:
    """The refresh to do next: the earliest of those of today and tomorrow that are not done. None without markets.

    `done`: the last day of each market that needs nothing more.
    """
    found = []
    for market, zone in zones.items():
        today = now.astimezone(zone).date()
        day = today if done.get(market, date.min) < today else today + timedelta(days=1)
        found.append(due_of(market, zone, day, jitter_s))
    return min(found, key=lambda due: (due.at, due.market), default=None)


class Midnight:
    """One per origin worker. `zones`: by market; those that are not in it are left alone. `wall`: now, in UTC."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        zones: Mapping[str, tzinfo],
        *,
        jitter_s: float,
        warm: int,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._observer = observer
        self._zones = zones
        self._jitter_s = jitter_s
        self._warm = warm
        self._wall = wall
        self._done: dict[str, date] = {}
        self._warming = asyncio.Lock()

    async def run(self) -> None:
        """Refresh every market at its midnight, until cancelled."""
        async with asyncio.TaskGroup() as beside:
            while (due := next_due(self._zones, self._jitter_s, self._done, self._wall())) is not None:
                wait_s = (due.at - self._wall()).total_seconds()
                if wait_s > 0:
                    await asyncio.sleep(min(wait_s, LONGEST_SLEEP_S))
                    continue
                try:
                    position = await self.refresh(due.market, due.day)
                except (SQLAlchemyError, ShopError, OSError) as exc:
                    _log.warning("%s was not refreshed for %s, and will be: %s", due.market, due.day, exc)
                    await asyncio.sleep(RETRY_S)
                    continue
                if position is not None and self._warm:
                    # Beside it: however long that takes, the next market's midnight is not late for it.
                    beside.create_task(self.warm_up(due.market, position))

    async def refresh(self, market: str, day: date) -> Position | None:
        """Purge `market` softly for `day`; its position, or None when another worker has."""
        position = await self._purge(market, day)
        self._done[market] = day
        if position is not None:
            _log.info("%s is refreshed for %s at %s", market, day, position)
        return position

    async def warm_up(self, market: str, position: Position) -> None:
        """Warm the head of `market` at every edge, once its purge is live. What goes wrong is logged."""
        async with self._warming:
            try:
                async with asyncio.timeout(WARM_WITHIN_S):
                    report = await self._observer.wait_live(position, LIVE_S)
                    paths = await self._head(market)
                    edges = {worker.edge: worker.public_url for worker in report.workers}
                    warmed = await asyncio.gather(*[warm(url, paths) for url in edges.values()])
            except (SQLAlchemyError, ShopError, OSError) as exc:
                _log.warning("the head of %s was not warmed to its end: %s", market, str(exc) or "it took too long")
                return
        told = ", ".join(f"{count} at {edge}" for edge, count in zip(edges, warmed, strict=True))
        _log.info("the head of %s is warm: %s of %d pages", market, told or "no edge", len(paths))

    async def _purge(self, market: str, day: date) -> Position | None:
        """The position of the purge; None when there is one already."""
        subject = f"{market}/{day.isoformat()}"
        # What `_done` says, no failover may take back: the purge survives one.
        async with self._database.unit_of_work(actor=ACTOR, cause=f"midnight in {market}") as work:
            await work.connection.execute(select(func.pg_advisory_xact_lock(*_ONE_AT_A_TIME)))
            if await audit.is_noted(work.connection, actor=ACTOR, action=ACTION, subject=subject):
                return None
            work.record(TagsPurged((market_tag(market),), PurgeKind.SOFT))
            await audit.write(work.connection, actor=ACTOR, action=ACTION, subject=subject, purge_id=work.purge_id)
        return work.position

    async def _head(self, market: str) -> list[str]:
        """The addresses in `market` that are asked for most: the home page, the departments, the popular products."""
        async with self._database.writes.connect() as connection:
            departments = (await catalog.tree(connection)).departments()
            products = await catalog.most_popular(connection, self._warm)
        paths = [f"/{market}/", *(category_path(market, department.path) for department in departments)]
        return [*paths, *(product_path(market, product.slug) for product in products)][: self._warm]


async def warm(public_url: str, paths: Sequence[str], every_s: float = WARM_EVERY_S) -> int:
    """Ask for `paths` through the edge at `public_url`, one after the other; how many it answered with success."""
    warmed = failed = 0
    try:
        client = httpx.AsyncClient(base_url=public_url, timeout=WARM_TIMEOUT_S, trust_env=False)
    except httpx.InvalidURL:
        return 0
    async with client:
        for path in paths:
            try:
                response = await client.get(path)
                answered = response.status_code < 500
            except httpx.HTTPError:
                answered = False
            warmed += answered
            failed = 0 if answered else failed + 1
            if failed >= MOST_FAILURES:
                break
            await asyncio.sleep(every_s)
    return warmed
