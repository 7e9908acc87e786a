"""Use cases of prices: read them, change one, go back to the converted one, set a rate, load many.

Whatever changes a price records its event and its audit row in the same transaction; what the event purges
is decided by `origin.events.purge_map`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection

from cache_policies.markets import Market, Markets
from cache_policies.positions import MAX_TAG_CHARACTERS, Position
from cache_policies.tags import product_tag
from origin.accounts import audit
from origin.catalog import service as catalog
from origin.events.messages import PriceChanged, RateChanged
from origin.money import Money, MoneyError, amount_text, digits_of, parse_amount, parse_rate
from origin.pricing import tables
from origin.pricing.model import (
    AmountRefused,
    NoOwnPrice,
    NothingToFallBackOn,
    Price,
    PriceFacts,
    PriceVersionConflict,
    UnknownMarket,
    UnknownSku,
)

if TYPE_CHECKING:
    from origin.db import UnitOfWork
    from origin.shop import Shop

# Units for one US dollar, rounded, autumn 2026: only where a new shop starts from. Rates are rows; staff set them.
_STARTING_RATES_PER_USD = {"USD": "1", "CAD": "1.37", "EUR": "0.86", "GBP": "0.75", "JPY": "154", "SGD": "1.3"}
_RATE_STEP = Decimal("0.000000000001")


@dataclass(frozen=True, slots=True)
class Changed:
    """A committed change: where it is in the purge log, and what it made of the price."""

    position: Position
    purge_id: str
    sku: str
    market: str
    price: Price
    before: PriceFacts


@dataclass(frozen=True, slots=True)
class RateSet:
    """A committed rate, and the markets whose converted prices it moves."""

    position: Position
    purge_id: str
    before: Decimal | None
    rate: Decimal
    markets: tuple[str, ...]


def market_of(markets: Markets, market_id: str) -> Market:
    """The market with this id. Raises UnknownMarket, which names the known ones."""
    market = markets.by_id(market_id)
    if market is None:
        raise UnknownMarket(market_id, tuple(known.id for known in markets.all))
    return market


def checked_sku(sku: str) -> str:
    """`sku` itself. Raises UnknownSku for what cannot be one: no database could hold it, or no tag could name it."""
    if "\x00" in sku or len(product_tag("market", sku)) > MAX_TAG_CHARACTERS:
        raise UnknownSku(sku)
    return sku


async def prices(
    connection: AsyncConnection, markets: Markets, market: Market, skus: Sequence[str]
) -> dict[str, Price]:
    """The price of each of `skus` (of products or variants) in `market`; without those that have none there.

    `markets` say how converted prices are rounded.
    """
    facts = await tables.facts(connection, market, markets.rounding_of(market.currency), skus)
    return {price.sku: price for price in (fact.price for fact in facts) if price is not None}


async def price_facts(connection: AsyncConnection, markets: Markets, sku: str) -> list[PriceFacts]:
    """What the price of `sku` in each of `markets` is made from, in their order."""
    return [
        fact
        for market in markets.all
        for fact in await tables.facts(connection, market, markets.rounding_of(market.currency), [sku])
    ]


async def change_price(
    shop: Shop,
    actor: str,
    sku: str,
    market_id: str,
    amount: str,
    expected_version: int | None = None,
    reason: str = "",
) -> Changed:
    """Gives `sku` its own price in a market.

    Raises UnknownMarket, AmountRefused, UnknownSku, and PriceVersionConflict when `expected_version` is given
    and is no longer the price's. Nothing is changed then.
    """
    market = market_of(shop.markets, market_id)
    try:
        wanted = parse_amount(amount, market.currency)
    except MoneyError as exc:
        raise AmountRefused(exc) from exc
    return await _change(shop, actor, sku, market, wanted, expected_version, reason)


async def remove_price(
    shop: Shop, actor: str, sku: str, market_id: str, expected_version: int | None = None, reason: str = ""
) -> Changed:
    """Takes the market's own price away, so that the converted one is shown again.

    Raises as `change_price` does, NoOwnPrice when there is none, and NothingToFallBackOn when the SKU
    would be left without a price.
    """
    return await _change(shop, actor, sku, market_of(shop.markets, market_id), None, expected_version, reason)


async def _change(
    shop: Shop, actor: str, sku: str, market: Market, wanted: Money | None, expected_version: int | None, reason: str
) -> Changed:
    async with shop.database.unit_of_work(actor=actor, cause="price set" if wanted else "price removed") as work:
        # The categories that it is in now must be those at the commit: their orders by price are purged.
        await catalog.keep_in_place(work.connection, sku)
        product = await catalog.product_of(work.connection, sku)
        if product is None:
            raise UnknownSku(sku, await similar_skus(work.connection, sku))
        await tables.lock(work.connection, sku, market.id, market.currency, actor)
        rounding = shop.markets.rounding_of(market.currency)
        [before] = await tables.facts(work.connection, market, rounding, [sku])
        if expected_version is not None and before.version != expected_version:
            raise PriceVersionConflict(before, wanted, expected_version)
        if wanted is None and before.own is None:
            raise NoOwnPrice(sku, market.id)
        if wanted is None and before.converted is None:
            raise NothingToFallBackOn(before)
        await tables.write_price(
            work.connection, sku, market.id, market.currency, None if wanted is None else wanted.minor_units, actor
        )
        [after] = await tables.facts(work.connection, market, rounding, [sku])
        assert after.price is not None
        work.record(PriceChanged(market.id, product.sku, await catalog.category_paths_of(work.connection, product.sku)))
        await _audit(
            work, actor, "price.set" if wanted else "price.remove", f"{market.id}/{sku}", before, after, reason
        )
    assert work.position is not None
    return Changed(work.position, work.purge_id, sku, market.id, after.price, before)


async def set_rate(shop: Shop, actor: str, base: str, quote: str, rate: str, reason: str = "") -> RateSet:
    """Sets how many units of `quote` one unit of `base` is; every converted price between the two moves with it.

    Raises AmountRefused for an unknown currency, the same one twice, one that no market sells in, and a rate
    that is not above zero.
    """
    value, markets = _checked_rate(shop.markets, base, quote, rate)
    async with shop.database.unit_of_work(actor=actor, cause="rate set") as work:
        before = await tables.write_rate(work.connection, base, quote, value, actor)
        for market in markets:
            work.record(RateChanged(market))
        await audit.write(
            work.connection,
            actor=actor,
            action="rate.set",
            subject=f"{base}/{quote}",
            before=None if before is None else {"rate": f"{before.normalize():f}"},
            after={"rate": f"{value.normalize():f}"},
            reason=reason,
            purge_id=work.purge_id,
        )
    assert work.position is not None
    return RateSet(work.position, work.purge_id, before, value, markets)


def _checked_rate(markets: Markets, base: str, quote: str, rate: str) -> tuple[Decimal, tuple[str, ...]]:
    try:
        for currency in (base, quote):
            digits_of(currency)
        if base == quote:
            raise MoneyError(f"a rate from {base} to itself is always 1")
        using = tuple(market.id for market in markets.all if market.currency == quote)
        if not using:
            sold_in = ", ".join(sorted({market.currency for market in markets.all}))
            raise MoneyError(f"no market sells in {quote}, so no price would use this rate; markets sell in {sold_in}")
        return parse_rate(rate), using
    except MoneyError as exc:
        raise AmountRefused(exc, "rate") from exc


async def similar_skus(connection: AsyncConnection, sku: str, limit: int = 3) -> tuple[str, ...]:
    """SKUs of products that a person who typed `sku` may have meant, the nearest first."""
    return tuple(found.sku for found in await catalog.find_products(connection, sku, limit))


async def load_base_prices(connection: AsyncConnection, rows: Iterable[tuple[str, str, int]]) -> int:
    """Writes base prices (sku, currency, minor units) in bulk, inside the caller's unit of work; how many.

    The caller records the event: only it knows what the rows belong to.
    """
    return await tables.upsert_base_prices(connection, rows)


async def load_prices(connection: AsyncConnection, rows: Iterable[tuple[str, str, str, int]], actor: str) -> int:
    """Writes markets' own prices (sku, market, currency, minor units) in bulk, as `load_base_prices` does."""
    return await tables.upsert_prices(connection, rows, actor)


async def ensure_rates(connection: AsyncConnection, markets: Markets, actor: str) -> int:
    """Adds a starting rate where one is missing between a well-known currency and a market's; how many were added.

    Rates that are there stay as they are, and with all of them there nothing is written. For a new shop, inside the
    caller's unit of work; the caller records the event when any was added.
    """
    known = await tables.rates(connection)
    rows = [
        {
            "base": base,
            "quote": quote,
            "rate": (Decimal(per_usd_quote) / Decimal(per_usd_base)).quantize(_RATE_STEP),
            "updated_by": actor,
        }
        for base, per_usd_base in _STARTING_RATES_PER_USD.items()
        for quote, per_usd_quote in _STARTING_RATES_PER_USD.items()
        if base != quote and (base, quote) not in known and any(market.currency == quote for market in markets.all)
    ]
    return await tables.add_missing_rates(connection, rows) if rows else 0


async def currencies_with_rates(connection: AsyncConnection) -> dict[tuple[str, str], Decimal]:
    """Every rate by (base, quote): which listing currencies can be shown in which market."""
    return await tables.rates(connection)


def price_json(price: Price, market: Market) -> dict[str, Any]:
    """A price as JSON shows it (docs/wire.md)."""
    return {
        "sku": price.sku,
        "market": market.id,
        "currency": price.money.currency,
        "amount": amount_text(price.money),
        "amount_minor": price.money.minor_units,
        "source": price.source,
    }


def describe(facts: PriceFacts) -> dict[str, Any]:
    """The price and where it comes from, as the audit list and the staff API write it down."""
    price = facts.price
    return {
        "amount": None if price is None else amount_text(price.money),
        "currency": facts.currency,
        "source": None if price is None else price.source,
        "version": facts.version,
    }


async def _audit(
    work: UnitOfWork, actor: str, action: str, subject: str, before: PriceFacts, after: PriceFacts, reason: str
) -> None:
    await audit.write(
        work.connection,
        actor=actor,
        action=action,
        subject=subject,
        before=describe(before),
        after=describe(after),
        reason=reason,
        purge_id=work.purge_id,
    )
