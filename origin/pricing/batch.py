"""Many prices at once: one transaction, one position, all of them or none.

A sale that changes five hundred prices one by one would take five hundred positions, each watched until it is live at
every worker of every edge, and shoppers would see half of a sale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache_policies.markets import Market
from cache_policies.positions import Position
from origin.accounts import audit
from origin.catalog import service as catalog
from origin.errors import Invalid
from origin.events.messages import PriceChanged
from origin.money import Money, MoneyError, parse_amount
from origin.pricing import tables
from origin.pricing.model import Price, PriceFacts, PriceVersionConflict, UnknownSku
from origin.pricing.service import checked_sku, describe

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from origin.shop import Shop

MOST_PRICES = 500
"""In one batch. More is an import (docs/catalog-import.md)."""


@dataclass(frozen=True, slots=True)
class NewPrice:
    """What one price is to be, as it was typed."""

    sku: str
    market: str
    amount: str
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class PricesChanged:
    """A committed batch; `prices` in the order in which they were given, each with its market."""

    position: Position
    purge_id: str
    prices: tuple[tuple[Market, Price], ...]


class BadBatch(Invalid):
    """A batch with something wrong in it; `faults` names each row and field. Nothing was changed."""

    def __init__(self, faults: dict[str, str]) -> None:
        first = next(iter(faults.items()))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"nothing was changed: {first[0]}: {first[1]}{more}", faults)


async def change_prices(shop: Shop, actor: str, wanted: Sequence[NewPrice], reason: str = "") -> PricesChanged:
    """Gives every SKU of `wanted` its own price in a market.

    Raises BadBatch, which names every fault, and PriceVersionConflict for the first price that is no longer the version
    that was expected. Nothing is changed then.
    """
    amounts = _checked(shop, wanted)
    async with shop.database.unit_of_work(actor=actor, cause=f"{len(wanted)} prices set") as work:
        connection = work.connection
        skus = sorted({new.sku for new in wanted})
        await catalog.keep_in_place(connection, *skus)
        products = await catalog.products_of(connection, skus)
        unknown = {
            f"prices.{row}.sku": f"unknown SKU {new.sku[:80]!r}"
            for row, new in enumerate(wanted)
            if new.sku not in products
        }
        if unknown:
            raise BadBatch(unknown)
        rows = [(new.sku, market.id, market.currency) for new, (market, _) in zip(wanted, amounts, strict=True)]
        await tables.lock_all(connection, rows, actor)
        before = await _facts(shop, connection, wanted)
        for new, (_, money) in zip(wanted, amounts, strict=True):
            facts = before[new.sku, new.market]
            if new.expected_version is not None and facts.version != new.expected_version:
                raise PriceVersionConflict(facts, money, new.expected_version)
        changes = [(*row, money.minor_units) for row, (_, money) in zip(rows, amounts, strict=True)]
        await tables.upsert_prices(connection, changes, actor)
        after = await _facts(shop, connection, wanted)
        paths = await catalog.category_paths_of_all(connection, {found.sku for found in products.values()})
        for sku, market in dict.fromkeys((products[new.sku].sku, new.market) for new in wanted):
            work.record(PriceChanged(market, sku, paths[sku]))
        for new in wanted:
            await audit.write(
                connection,
                actor=actor,
                action="price.set",
                subject=f"{new.market}/{new.sku}",
                before=describe(before[new.sku, new.market]),
                after=describe(after[new.sku, new.market]),
                reason=reason,
                purge_id=work.purge_id,
            )
    assert work.position is not None
    shown = []
    for new, (bought_in, _) in zip(wanted, amounts, strict=True):
        price = after[new.sku, new.market].price
        assert price is not None
        shown.append((bought_in, price))
    return PricesChanged(work.position, work.purge_id, tuple(shown))


def _checked(shop: Shop, wanted: Sequence[NewPrice]) -> list[tuple[Market, Money]]:
    """The market and the amount of each. Raises BadBatch."""
    if not 1 <= len(wanted) <= MOST_PRICES:
        raise BadBatch({"prices": f"a batch has 1 to {MOST_PRICES} prices, not {len(wanted)}"})
    faults: dict[str, str] = {}
    found: list[tuple[Market, Money]] = []
    seen: dict[tuple[str, str], int] = {}
    for row, new in enumerate(wanted):
        first = seen.setdefault((new.sku, new.market), row)
        if first != row:
            faults[f"prices.{row}"] = f"{new.market}/{new.sku[:80]} is there twice, first in row {first}"
        try:
            checked_sku(new.sku)
        except UnknownSku as exc:
            faults[f"prices.{row}.sku"] = str(exc)
        market = shop.markets.by_id(new.market)
        if market is None:
            known = ", ".join(each.id for each in shop.markets.all)
            faults[f"prices.{row}.market"] = f"unknown market {new.market[:40]!r}, known are {known}"
            continue
        try:
            found.append((market, parse_amount(new.amount, market.currency)))
        except MoneyError as exc:
            faults[f"prices.{row}.amount"] = str(exc)
    if faults:
        raise BadBatch(faults)
    return found


async def _facts(
    shop: Shop, connection: AsyncConnection, wanted: Sequence[NewPrice]
) -> dict[tuple[str, str], PriceFacts]:
    """What each price is made from now, by SKU and market."""
    found: dict[tuple[str, str], PriceFacts] = {}
    for market in shop.markets.all:
        skus = [new.sku for new in wanted if new.market == market.id]
        if skus:
            rounding = shop.markets.rounding_of(market.currency)
            found |= {(fact.sku, market.id): fact for fact in await tables.facts(connection, market, rounding, skus)}
    return found
