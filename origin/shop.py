"""Everything that a route needs, joined in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cache_policies.markets import Markets, load_markets
from origin.db import STATEMENT_TIMEOUT_S, Database
from origin.events.live import Observer
from origin.events.purge_log import LogTail
from origin.events.wake import Wake
from origin.money import check_rounding
from origin.settings import OriginSettings
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


@asynccontextmanager
async def open_shop(
    settings: OriginSettings,
    *,
    markets: Markets | None = None,
    serving: bool = False,
    statement_timeout_s: float = STATEMENT_TIMEOUT_S,
) -> AsyncIterator[Shop]:
    """The shop as `settings` say; closed at the end of the block.

    `markets`: those of the settings' folder, where the caller has read them; else they are read here, which raises
    PolicyError. MoneyError: they round the prices of a currency in a way that makes no sense.

    `serving`: also follow the purge log, the registry and the other workers' nudges, as a worker does. Without it the
    shop can read and write (imports, seeds), and the workers hear of its changes. `statement_timeout_s`: 0 for work
    that takes long.
    """
    if markets is None:
        markets = load_markets(settings.policies)
    for currency, rounding in markets.rounding:
        check_rounding(currency, rounding)
    database = Database(
        settings.database_url, settings.replica_urls, markets=markets, statement_timeout_s=statement_timeout_s
    )
    wake = Wake(settings.redis_url)
    observer = Observer(database, settings.standbys)
    tail = LogTail(database, wake)
    database.on_commit.extend([wake.announce, observer.watch])
    try:
        if serving:
            await wake.start()
            await observer.start()
            await tail.start()
        yield Shop(settings, database, Snapshots(database), markets, wake, observer, tail)
    finally:
        await tail.stop()
        await observer.stop()
        await wake.stop()
        await database.close()
