"""Which cache tags an event names, and whether hard or soft: pure (rule 7 and rule 11 of docs/freshness.md).

What a response has to carry for this to be enough, beside the tags of the products and categories it shows:

* an order by price: `cp:` of the category; the whole product list is the category with the empty path;
* anything whose order or figures come from converted prices, shown or not: `rates:`;
* an order by name or by popularity, a page number, a count of results: `c:` of the category, or `l:` for the list;
* a selection (the home page): `h:`; the category tree in the header: `n:`;
* a 404: the tag of what was not found, and `l:` where that may come to be a product;
* a product: the tag of its department, that of its first category (`d:`). Whatever carries a tag carries the one that
  stands for all of its kind (`tag_of_all`), too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never

from cache_policies.markets import Markets
from cache_policies.positions import MAX_TAGS_PER_ENTRY, PurgeKind
from cache_policies.tags import (
    EVERYTHING,
    category_prices_tag,
    category_tag,
    department_tag,
    home_tag,
    list_tag,
    many_tag,
    market_tag,
    picture_tag,
    pictures_tag,
    product_tag,
    rates_tag,
    slug_tag,
    tag_of_all,
)
from origin.events.messages import (
    CatalogReplaced,
    Event,
    MarketsReplaced,
    PriceChanged,
    ProductListed,
    ProductsReplaced,
    ProductTakenDown,
    RateChanged,
    StockBandChanged,
    TagsPurged,
)

WHOLE_LIST = ""
"""The path of the category that holds everything: the whole product list."""


def purge_of(events: Sequence[Event], markets: Markets) -> tuple[PurgeKind, tuple[str, ...]]:
    """The kind and the tags of the one purge-log entry of a transaction in which `events` happened.

    One hard event makes the entry hard. What would name more than 1,000 tags names whole markets, or everything
    (`shortened`). Raises ValueError when nothing happened.
    """
    if not events:
        raise ValueError("nothing happened: there is nothing to purge")
    kind = PurgeKind.HARD if any(kind_of(event) is PurgeKind.HARD for event in events) else PurgeKind.SOFT
    ids = [market.id for market in markets.all]
    tags = dict.fromkeys(tag for event in events for tag in _tags_of(event, ids))
    return kind, shortened(tags, departments=_departments(events, ids))


def shortened(
    tags: Iterable[str], limit: int = MAX_TAGS_PER_ENTRY, departments: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """At most `limit` tags that cover whatever `tags` cover, each once.

    With more, first those of products give way to those of their departments, where `departments` knows them; then
    those of one market to the tag of all that is shown there, and those of single pictures to that of all pictures: in
    either round the largest crowd first, until it is few enough. Where that does not help, it is everything.
    """
    left = dict.fromkeys(tags)
    if EVERYTHING in left:
        return (EVERYTHING,)
    for stands_for in ((departments or {}).get, tag_of_all):
        crowds = Counter(found for tag in left if (found := stands_for(tag)) is not None)
        for crowd, _ in crowds.most_common():
            if len(left) <= limit:
                break
            # What is no product yet, or has no price, carries the tag of the whole list in place of a department's.
            beside = [list_tag(crowd.split(":")[1])] if stands_for is not tag_of_all else []
            left = dict.fromkeys([crowd, *beside, *(tag for tag in left if stands_for(tag) != crowd)])
    return tuple(left) if len(left) <= limit else (EVERYTHING,)


def _departments(events: Sequence[Event], markets: Sequence[str]) -> dict[str, str]:
    """The department's tag of each product's, for those events after which it covers what that covers."""
    found: dict[str, str] = {}
    for event in events:
        match event:
            case PriceChanged(market, sku, paths) if paths:
                found[product_tag(market, sku)] = department_tag(market, paths[0])
            case StockBandChanged(sku, paths) if paths:
                found |= {product_tag(market, sku): department_tag(market, paths[0]) for market in markets}
            case _:
                pass
    return found


def kind_of(event: Event) -> PurgeKind:
    """Hard for what decides a sale (price, stock band, being in the shop); a purge by hand is what was ordered."""
    match event:
        case TagsPurged(kind=kind):
            return kind
        case _:
            return PurgeKind.HARD


def _tags_of(event: Event, markets: Sequence[str]) -> Iterator[str]:
    match event:
        case PriceChanged(market, sku, paths):
            yield product_tag(market, sku)
            yield many_tag(market)
            for path in (*paths, WHOLE_LIST):
                yield category_prices_tag(market, path)
        case RateChanged(market):
            yield rates_tag(market)
            yield many_tag(market)
        case StockBandChanged(sku, _):
            for market in markets:
                yield product_tag(market, sku)
                yield many_tag(market)
        case ProductListed(sku, slug, paths) | ProductTakenDown(sku, slug, paths):
            yield picture_tag(sku)
            for market in markets:
                yield from _product_in(market, sku, slug)
                yield from (category_tag(market, path) for path in paths)
                yield from (category_prices_tag(market, path) for path in (*paths, WHOLE_LIST))
                yield list_tag(market)
                yield home_tag(market)
        case CatalogReplaced():
            yield EVERYTHING
        case ProductsReplaced(departments, paths):
            yield pictures_tag()
            for market in markets:
                yield from (department_tag(market, path) for path in departments)
                yield from (category_tag(market, path) for path in paths)
                yield from (category_prices_tag(market, path) for path in (*paths, WHOLE_LIST))
                yield list_tag(market)
                yield home_tag(market)
                yield many_tag(market)
        case MarketsReplaced():
            yield pictures_tag()
            yield from (market_tag(market) for market in markets)
        case TagsPurged(tags):
            yield from tags
            # A response with too many tags gave up those named here for `many:`.
            yield from (many_tag(market) for market in markets_named(tags, markets))
        case _:
            assert_never(event)


def _product_in(market: str, sku: str, slug: str) -> Iterable[str]:
    return product_tag(market, sku), slug_tag(market, slug), many_tag(market)


def markets_named(tags: Iterable[str], markets: Sequence[str]) -> list[str]:
    """The markets that `tags` belong to, in the order of `markets`."""
    named = {tag.split(":")[1] for tag in tags if ":" in tag}
    return [market for market in markets if market in named]
