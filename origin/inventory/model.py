"""Stock, and how much of it the public is told. No I/O."""

from __future__ import annotations

from enum import StrEnum

from origin.errors import Invalid

MAX_ON_HAND = 2**31 - 1
"""What the column holds."""


class Band(StrEnum):
    """All that a shopper is told about stock: with three words, selling a piece needs no purge.

    Nothing on hand is out; at or below the row's `low_at` (5, where it says nothing else) is low. The database decides
    (migration 0003), so that no way of writing stock can leave the wrong word standing.
    """

    IN_STOCK = "in_stock"
    LOW = "low"
    OUT = "out"


class StockError(Invalid):
    """A number of pieces that cannot be; the text says why."""


def checked_on_hand(on_hand: int) -> int:
    """`on_hand` itself. Raises StockError when it is negative or more than the column holds."""
    if on_hand < 0:
        raise StockError(f"{on_hand} pieces on hand cannot be, expected zero or more")
    if on_hand > MAX_ON_HAND:
        raise StockError(f"{on_hand} pieces on hand is too much, the largest is {MAX_ON_HAND}")
    return on_hand
