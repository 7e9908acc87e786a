"""Prices: where the price of a SKU in a market comes from, and what can be wrong with a change. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from cache_policies.markets import Rounding
from origin.errors import Conflict, Invalid, NotFound
from origin.money import HALF_UP, Money, MoneyError, amount_text, convert, rounding_text


@dataclass(frozen=True, slots=True)
class Price:
    """What a shopper pays for one piece of `sku` in one market."""

    sku: str
    money: Money
    source: Literal["explicit", "converted"]
    version: int
    """Counts the changes of this SKU's own price in this market; 0: it never had one. Not touched by a new rate."""


@dataclass(frozen=True, slots=True)
class PriceFacts:
    """Everything that the price of one SKU in one market is made from."""

    sku: str
    market: str
    currency: str
    own: Money | None
    """The market's own price, if it has one."""
    version: int
    changed_at: datetime | None
    changed_by: str | None
    base: Money | None
    """The base price in the currency that the product was listed in."""
    rate: Decimal | None
    """Units of the market's currency for one unit of the base currency."""
    rounding: Rounding = HALF_UP
    """How a converted price in the market's currency is rounded."""

    @property
    def converted(self) -> Money | None:
        """The base price in the market's currency; None without base price or rate, or when it would be too much.

        Rounded only where a rate made it: a base price in the market's own currency is shown as it was written.
        """
        if self.base is None:
            return None
        if self.base.currency == self.currency:
            return self.base
        if self.rate is None:
            return None
        try:
            return convert(self.base, self.rate, self.currency, self.rounding)
        except MoneyError:
            return None

    @property
    def rounded(self) -> str:
        """What the currency's rounding did to `converted`, in words (`money.rounding_text`); empty: nothing special."""
        multiplied = self.converted is not None and self.rate is not None and self.converted is not self.base
        return rounding_text(self.currency, self.rounding) if multiplied else ""

    @property
    def price(self) -> Price | None:
        """The market's own price, else the converted base price, else None: not sold in this market.

        A market's own price in a currency that the market no longer has is not a price.
        """
        if self.own is not None and self.own.currency == self.currency:
            return Price(self.sku, self.own, "explicit", self.version)
        converted = self.converted
        return None if converted is None else Price(self.sku, converted, "converted", self.version)


class AmountRefused(Invalid):
    """The amount (or the rate) that was typed cannot be used."""

    def __init__(self, why: MoneyError, field: str = "amount") -> None:
        super().__init__(str(why), {field: str(why)})


class UnknownMarket(NotFound):
    """No such market; names the known ones."""

    def __init__(self, market: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown market {market[:40]!r}, known are {', '.join(known)}")
        self.market, self.known = market, known


class UnknownSku(NotFound):
    """No product or variant has this SKU; `similar` are SKUs that the person may have meant."""

    def __init__(self, sku: str, similar: tuple[str, ...] = ()) -> None:
        hint = f", did you mean {' or '.join(similar)}?" if similar else ""
        super().__init__(f"unknown SKU {sku[:80]!r}{hint}")
        self.sku, self.similar = sku, similar


class PriceVersionConflict(Conflict):
    """Somebody else changed this price since it was looked at. Look at both values and choose."""

    def __init__(self, facts: PriceFacts, wanted: Money | None, expected_version: int) -> None:
        theirs = "the converted price" if facts.own is None else f"{amount_text(facts.own)} {facts.own.currency}"
        yours = "the converted price" if wanted is None else f"{amount_text(wanted)} {wanted.currency}"
        by = f" by {facts.changed_by}" if facts.changed_by else ""
        super().__init__(
            f"{facts.sku} in {facts.market} was changed{by} to {theirs} (version {facts.version}) after you looked at "
            f"version {expected_version}; your value, {yours}, was not saved"
        )
        self.facts, self.wanted, self.expected_version = facts, wanted, expected_version


class NoOwnPrice(Conflict):
    """There is no price of its own to remove."""

    def __init__(self, sku: str, market: str) -> None:
        super().__init__(f"{sku} has no price of its own in {market}: it is converted already")


class NothingToFallBackOn(Conflict):
    """Without its own price the SKU would have none in this market."""

    def __init__(self, facts: PriceFacts) -> None:
        reason = (
            "it has no base price"
            if facts.base is None
            else f"there is no rate from {facts.base.currency} to {facts.currency}"
        )
        super().__init__(f"{facts.sku} would have no price in {facts.market}: {reason}")
