"""Stock, and how much of it the public is told. No I/O."""

from __future__ import annotations

from enum import StrEnum

from origin.errors import Invalid

LOW_AT = 5
"""Pieces on hand at or below which a product is called low, where its row says nothing else."""
MAX_ON_HAND = 2**31 - 1
"""What the column holds."""


class Band(StrEnum):
    """All that a shopper is told about stock: three words never need a purge for every piece sold."""

    IN_STOCK = "in_stock"
    LOW = "low"
    OUT = "out"


class StockError(Invalid):
    """A number of pieces that cannot be; the text says why."""


def band_of(on_hand: int, low_at: int = LOW_AT) -> Band:
    """The band of `on_hand` pieces. Nothing on hand is out, also where `low_at` is zero."""
    if on_hand <= 0:
        return Band.OUT
    return Band.LOW if on_hand <= low_at else Band.IN_STOCK


def checked_on_hand(on_hand: int) -> int:
    """`on_hand` itself. Raises StockError when it is negative or more than the column holds."""
    if on_hand < 0:
        raise StockError(f"{on_hand} pieces on hand cannot be, expected zero or more")
    if on_hand > MAX_ON_HAND:
        raise StockError(f"{on_hand} pieces on hand is too much, the largest is {MAX_ON_HAND}")
    return on_hand
