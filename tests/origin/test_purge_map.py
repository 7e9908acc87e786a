"""Which tags an event names, and whether hard or soft: a table."""

from __future__ import annotations

import pytest

from cache_policies.markets import load_markets
from cache_policies.positions import MAX_TAGS_PER_ENTRY, PurgeKind
from origin.events.messages import (
    CatalogReplaced,
    Event,
    PriceChanged,
    ProductListed,
    ProductTakenDown,
    RateChanged,
    StockBandChanged,
    TagsPurged,
)
from origin.events.purge_map import purge_of

MARKETS = load_markets()
IDS = [market.id for market in MARKETS.all]
HARD, SOFT = PurgeKind.HARD, PurgeKind.SOFT


def everywhere(*patterns: str) -> set[str]:
    return {pattern.replace("M", market) for pattern in patterns for market in IDS}


MEMBERSHIP = everywhere(
    *("p:M:mug-1", "s:M:blue-mug", "c:M:kitchen", "c:M:kitchen/mugs", "cp:M:kitchen", "cp:M:kitchen/mugs", "cp:M:"),
    *("l:M", "h:M", "many:M"),
)
PATHS = ("kitchen", "kitchen/mugs")


@pytest.mark.parametrize(
    ("event", "kind", "tags"),
    [
        pytest.param(
            PriceChanged("eu-eur", "MUG-1", PATHS),
            HARD,
            {"p:eu-eur:mug-1", "many:eu-eur", "cp:eu-eur:kitchen", "cp:eu-eur:kitchen/mugs", "cp:eu-eur:"},
            id="a price: its product and every order by price it takes part in, in its market only",
        ),
        pytest.param(RateChanged("jp-jpy"), HARD, {"rates:jp-jpy", "many:jp-jpy"}, id="a rate"),
        pytest.param(
            StockBandChanged("MUG-1", PATHS), HARD, everywhere("p:M:mug-1", "many:M"), id="a band: in every market"
        ),
        pytest.param(ProductListed("MUG-1", "blue-mug", PATHS), HARD, MEMBERSHIP | {"pic:mug-1"}, id="listed"),
        pytest.param(ProductTakenDown("MUG-1", "blue-mug", PATHS), HARD, MEMBERSHIP | {"pic:mug-1"}, id="taken down"),
        pytest.param(CatalogReplaced(), HARD, {"*"}, id="an import"),
        pytest.param(
            TagsPurged(("p:eu-eur:mug-1", "pic:mug-1"), SOFT),
            SOFT,
            {"p:eu-eur:mug-1", "pic:mug-1", "many:eu-eur"},
            id="by hand: also what had too many tags to name it",
        ),
        pytest.param(TagsPurged(("*",), SOFT), SOFT, {"*"}, id="everything by hand, softly"),
    ],
)
def test_what_an_event_purges(event, kind, tags):
    got_kind, got = purge_of([event], MARKETS)
    assert got_kind is kind
    # A slash in a path is percent-encoded on the wire.
    assert {tag.replace("%2f", "/") for tag in got} == tags
    assert len(got) == len(set(got))


def test_one_hard_event_makes_the_entry_hard():
    copy, price = TagsPurged(("p:eu-eur:a",), SOFT), PriceChanged("eu-eur", "B", ())
    orders: list[list[Event]] = [[copy, price], [price, copy]]
    for events in orders:
        kind, tags = purge_of(events, MARKETS)
        assert kind is HARD
        assert {"p:eu-eur:a", "p:eu-eur:b"} <= set(tags)


def test_everything_swallows_the_rest():
    assert purge_of([PriceChanged("eu-eur", "A", ()), CatalogReplaced()], MARKETS) == (HARD, ("*",))


def test_an_entry_that_would_be_too_long_names_everything():
    few = [PriceChanged("eu-eur", f"SKU-{number}", ()) for number in range(MAX_TAGS_PER_ENTRY - 2)]
    kind, tags = purge_of(few, MARKETS)
    assert len(tags) == MAX_TAGS_PER_ENTRY
    assert purge_of([*few, PriceChanged("eu-eur", "ONE-MORE", ())], MARKETS) == (kind, ("*",))


def test_nothing_purges_nothing():
    with pytest.raises(ValueError, match="nothing happened"):
        purge_of([], MARKETS)
