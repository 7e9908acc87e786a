"""Everything that a route needs, joined in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cache_policies.markets import Markets, load_markets
from origin.accounts.orders import PurgeOrders
from origin.db import STATEMENT_TIMEOUT_S, Database
from origin.events.observer import Observer
from origin.events.purge_log import LogTail
from origin.events.wake import Wake
from origin.metrics import Metrics
from origin.midnight import Midnight
from origin.money import check_rounding
from origin.readthrough import ReadThrough
from origin.release import release_digest
from origin.settings import OriginSettings
from origin.shelf import Shelf
from origin.snapshot import Snapshots


@dataclass(frozen=True, slots=True)
class Shop:
    """What routes and use cases share. Made by `open_shop`."""

    settings: OriginSettings
    database: Database
    snapshots: Snapshots
    markets: Markets
    wake: Wake
    observer: Observer
    tail: LogTail
    metrics: Metrics
    readthrough: ReadThrough
    """How public answers are read."""
    purges: PurgeOrders
    """What people and edges order purged."""


@asynccontextmanager
async def open_shop(
    settings: OriginSettings,
    *,
    markets: Markets | None = None,
    serving: bool = False,
    metrics: Metrics | None = None,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
) -> AsyncIterator[Shop]:
    """The shop as `settings` say; closed at the end of the block.

    `markets`: those of the settings' folder, where the caller has read them; else they are read here, which raises
    PolicyError. MoneyError: they round the prices of a currency in a way that makes no sense.

    `serving`: also follow the purge log, the registry and the other workers' nudges, as a worker does. Without it the
    shop can read and write (imports, seeds), and the workers hear of its changes. `metrics`: where it counts; None:
    for itself. `statement_timeout_s`: 0 for work that takes long.
    """
    if markets is None:
        markets = load_markets(settings.policies)
    for currency, rounding in markets.rounding:
        check_rounding(currency, rounding)
    database = Database(
        settings.database_url, settings.replica_urls, markets=markets, statement_timeout_s=statement_timeout_s
    )
    metrics = metrics or Metrics()
    wake = Wake(settings.redis_url)
    observer = Observer(database, settings.standbys, acknowledged=metrics.acknowledged)
    tail = LogTail(database, wake)
    database.on_commit.extend([tail.committed, wake.announce, observer.watch, metrics.committed])
    snapshots = Snapshots(database, opened=lambda source: metrics.snapshots.labels(source).inc())
    metrics.watch(database)
    metrics.look_at(metrics.questions_open, lambda: tail.held)
    metrics.look_at(metrics.in_charge, lambda: observer.in_charge)
    metrics.look_at(metrics.primary_moves, lambda: database.primary.moves)
    metrics.look_at(metrics.standbys, observer.promotable)
    metrics.look_at(metrics.unsafe_bytes, observer.unsafe_bytes)
    metrics.look_at(metrics.unsafe_s, observer.unsafe_s)
    readthrough = _readthrough(settings, markets, snapshots, tail, metrics)
    purges = PurgeOrders(database)
    beside: list[asyncio.Task[None]] = []
    try:
        if serving:
            await wake.start()
            await observer.start()
            await tail.start()
            beside.append(asyncio.create_task(database.keep_watch(), name="where the primary is"))
            beside.append(asyncio.create_task(metrics.keep_looking(), name="metrics"))
            midnight = Midnight(
                database,
                observer,
                settings.midnight,
                jitter_s=settings.midnight_jitter_s,
                warm=settings.midnight_warm,
            )
            beside.append(asyncio.create_task(midnight.run(), name="midnight"))
        yield Shop(settings, database, snapshots, markets, wake, observer, tail, metrics, readthrough, purges)
    finally:
        await purges.close()
        await readthrough.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await tail.stop()
        await observer.stop()
        await wake.stop()
        await database.close()


def _readthrough(
    settings: OriginSettings, markets: Markets, snapshots: Snapshots, tail: LogTail, metrics: Metrics
) -> ReadThrough:
    if not (settings.redis_url and settings.readthrough):
        return ReadThrough(snapshots, tail, metrics)
    renders = f"{release_digest(settings.policies)} {markets!r}"
    shelf = Shelf(settings.redis_url)
    return ReadThrough(snapshots, tail, metrics, shelf, secret=settings.edge_key, renders=renders)
