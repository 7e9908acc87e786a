"""Which tags an event names, and whether hard or soft: a table."""

from __future__ import annotations

import pytest

from cache_policies.markets import load_markets
from cache_policies.positions import MAX_TAGS_PER_ENTRY, PurgeKind
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
from origin.events.purge_map import purge_of, shortened

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
        pytest.param(CatalogReplaced(), HARD, {"*"}, id="a release"),
        pytest.param(MarketsReplaced(), HARD, everywhere("m:M") | {"pics"}, id="an import that moves categories"),
        pytest.param(
            ProductsReplaced(("kitchen",), PATHS),
            HARD,
            {
                *everywhere("d:M:kitchen", "l:M", "h:M", "many:M", "cp:M:"),
                *everywhere("c:M:kitchen", "c:M:kitchen/mugs", "cp:M:kitchen", "cp:M:kitchen/mugs"),
                "pics",
            },
            id="an import of many products",
        ),
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


def test_an_entry_that_would_be_too_long_names_the_market():
    few = [PriceChanged("eu-eur", f"SKU-{number}", ()) for number in range(MAX_TAGS_PER_ENTRY - 2)]
    kind, tags = purge_of(few, MARKETS)
    assert len(tags) == MAX_TAGS_PER_ENTRY
    assert purge_of([*few, PriceChanged("eu-eur", "ONE-MORE", ())], MARKETS) == (kind, ("m:eu-eur",))
    assert set(purge_of([*few, PriceChanged("jp-jpy", "A", ())], MARKETS)[1]) == {
        *("m:eu-eur", "p:jp-jpy:a", "many:jp-jpy", "cp:jp-jpy:"),
    }


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param(["a", "b", "a"], {"a", "b"}, id="few"),
        pytest.param(["a", "*"], {"*"}, id="everything"),
        pytest.param(
            ["p:eu-eur:1", "cp:eu-eur:x", "p:jp-jpy:1", "pic:1"],
            {"m:eu-eur", "p:jp-jpy:1", "pic:1"},
            id="the largest crowd gives way",
        ),
        pytest.param([*(f"pic:{n}" for n in range(9)), "n:eu-eur"], {"pics", "n:eu-eur"}, id="pictures"),
        pytest.param(
            [f"{kind}:{market}:1" for kind in ("p", "s") for market in ("a", "b", "c")],
            {"m:a", "m:b", "m:c"},
            id="every crowd gives way",
        ),
        pytest.param([f"{kind}:{market}:1" for kind in ("p", "s") for market in "abcd"], {"*"}, id="too many crowds"),
        pytest.param(["path:/1", "path:/2", "file:a", "file:b"], {"*"}, id="what no tag stands for"),
        pytest.param(
            ["path:/1", "file:a", "p:eu-eur:1", "h:eu-eur"], {"path:/1", "file:a", "m:eu-eur"}, id="the rest stays"
        ),
    ],
)
def test_too_many_tags_give_way_to_those_that_stand_for_them(tags, expected):
    short = shortened(tags, limit=3)
    assert (set(short), len(short)) == (expected, len(expected))


def test_many_products_of_a_department_give_way_to_it_before_the_market_does():
    lamps = [PriceChanged("eu-eur", f"LAMP-{number}", ("lighting", "lighting/lamps")) for number in range(700)]
    mugs = [PriceChanged("eu-eur", f"MUG-{number}", PATHS) for number in range(400)]
    _, tags = purge_of([*lamps, *mugs], MARKETS)
    # The larger crowd gave way, the smaller one is still named.
    assert {"d:eu-eur:lighting", "l:eu-eur", "many:eu-eur", "p:eu-eur:mug-399"} <= set(tags)
    assert not {"p:eu-eur:lamp-1", "d:eu-eur:kitchen", "m:eu-eur"} & set(tags)
    assert {"cp:eu-eur:lighting%2flamps", "cp:eu-eur:kitchen%2fmugs"} <= set(tags)
    nowhere: list[Event] = [PriceChanged("eu-eur", f"X-{number}", ()) for number in range(1_000)]
    assert purge_of([*lamps, *nowhere], MARKETS)[1] == ("m:eu-eur",)


def test_nothing_purges_nothing():
    with pytest.raises(ValueError, match="nothing happened"):
        purge_of([], MARKETS)
