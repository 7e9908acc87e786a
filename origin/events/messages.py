"""Every event of the shop, with all the facts that a consumer needs: what happened, never what to do about it.

`category_paths` always includes the paths of all ancestors ("shoes/running" comes with "shoes"). `sku` is the
product's SKU, also where a variant changed: product tags know products only. Which cache tags an event names is
`purge_map.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache_policies.positions import PurgeKind


@dataclass(frozen=True, slots=True)
class PriceChanged:
    """The price of a product, or of one of its variants, in one market."""

    market: str
    sku: str
    category_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RateChanged:
    """The rate by which base prices are converted for one market."""

    market: str


@dataclass(frozen=True, slots=True)
class StockBandChanged:
    """A product, or one of its variants, went from one stock band to another, in every market."""

    sku: str
    category_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProductListed:
    """A product is in the shop from now on."""

    sku: str
    slug: str
    category_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProductTakenDown:
    """A product is no longer in the shop."""

    sku: str
    slug: str
    category_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProductsReplaced:
    """So many products changed at once, or came to be (an import), that they are not named one by one."""

    departments: tuple[str, ...]
    """A path for each department that the first category of one of them is or was in."""
    category_paths: tuple[str, ...]
    """Of all categories that one of them is or was in."""


@dataclass(frozen=True, slots=True)
class MarketsReplaced:
    """So much changed at once (an import that moves categories) that whatever any market shows may be otherwise, and
    every picture."""


@dataclass(frozen=True, slots=True)
class CatalogReplaced:
    """So much changed at once (a release that renders otherwise) that everything is purged."""


@dataclass(frozen=True, slots=True)
class TagsPurged:
    """Somebody ordered a purge of these tags by hand."""

    tags: tuple[str, ...]
    kind: PurgeKind


Event = (
    PriceChanged
    | RateChanged
    | StockBandChanged
    | ProductListed
    | ProductTakenDown
    | ProductsReplaced
    | MarketsReplaced
    | CatalogReplaced
    | TagsPurged
)
