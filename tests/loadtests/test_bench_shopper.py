"""The shopper's figures: what the browser says is read strictly, held against the aims, and told honestly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest

from loadtests.bench import shopper
from loadtests.bench.measuring import BenchError
from loadtests.bench.shopper import NO_EDGE, WAYS, Edge, Load, Row
from loadtests.people import ShopFront, ShownProduct
from tests.support.servers import why_not_here

TOLD: dict[str, Any] = {
    "ttfb": 21.5, "fcp": 180, "lcp": 240, "what": "img", "cls": 0, "html": 2899, "bytes": 27_600, "requests": 24,
}  # fmt: skip
FRONT = ShopFront(
    ("eu-eur",),
    ("kitchen", "table"),
    tuple(ShownProduct(f"thing-{n}", f"SKU-{n}", ("kitchen",)) for n in range(5)),
)


def load(lcp_ms: float = 240, **told: Any) -> Load:
    return Load.told({**TOLD, "lcp": lcp_ms, **told})


def rows(**loads: list[Load]) -> list[Row]:
    """Each page by every way; `loads` by the page, the same for all ways."""
    return [Row(page, way, list(found)) for way in WAYS for page, found in loads.items()]


def test_what_the_browser_says_is_read():
    found = load()
    assert (found.ttfb_ms, found.lcp_ms, found.lcp_of, found.html_bytes, found.requests) == (
        21.5,
        240.0,
        "img",
        2899,
        24,
    )


@pytest.mark.parametrize("missing", ["fcp", "lcp"])
def test_a_browser_that_painted_nothing_is_no_figure(missing):
    with pytest.raises(BenchError, match="painted nothing"):
        Load.told({**TOLD, missing: 0})


def test_every_way_is_as_far_from_the_origin():
    assert {way.rtt_ms for way in WAYS} == {shopper.NEAR_MS, shopper.AWAY_MS}
    assert NO_EDGE.edge is Edge.NONE
    assert NO_EDGE.rtt_ms == shopper.AWAY_MS


def test_what_is_purged_comes_after_what_must_be_warm():
    kinds = [way.edge for way in WAYS]
    last_warm = max(number for number, kind in enumerate(kinds) if kind is Edge.HAS_ALL)
    assert last_warm < kinds.index(Edge.ASKS_FOR_PAGE) < kinds.index(Edge.ASKS_FOR_ALL)


@pytest.mark.parametrize(
    ("edge", "tag"),
    [
        (Edge.HAS_ALL, None),
        (Edge.ASKS_FOR_PAGE, "path:/eu-eur/c/kitchen"),
        (Edge.ASKS_FOR_ALL, "*"),
        (Edge.NONE, None),
    ],
)
def test_what_is_purged_before_a_load(edge, tag):
    assert shopper.purged_before(edge, "/eu-eur/c/kitchen") == tag


def test_a_page_of_each_kind_is_chosen():
    assert shopper.pages_of(FRONT) == {
        "home": "/eu-eur/",
        "listing": "/eu-eur/c/kitchen",
        "product": "/eu-eur/products/thing-2",
    }
    assert list(shopper.pages_of(FRONT, "product")) == ["product"]


def test_a_page_that_is_none_is_refused():
    with pytest.raises(BenchError, match="basket: expected some of home, listing, product"):
        shopper.pages_of(FRONT, "basket")
    with pytest.raises(BenchError, match="no categories"):
        shopper.pages_of(ShopFront(("eu-eur",), (), ()))


def test_lcp_is_judged_at_the_75th_percentile_where_all_the_distance_is_before_the_edge():
    # Of these five, 900 is the third quartile.
    found = shopper.judged(rows(home=[load(ms) for ms in (100, 200, 300, 900, 5_000)]))
    lcp = [verdict for verdict in found if verdict.what.startswith("LCP")]
    assert [(verdict.figure, verdict.met) for verdict in lcp] == [(900, True), (900, True)]
    assert all("edge 80 ms away" in verdict.what for verdict in lcp)


def test_one_shift_of_one_load_is_a_miss():
    verdicts = shopper.judged(rows(home=[load(), load(cls=0.01)]))
    assert [verdict.met for verdict in verdicts if verdict.what.startswith("CLS")] == [False]


def test_the_heaviest_listing_is_held_against_its_aim_as_the_edge_codes_it():
    found = rows(listing=[load(html=29_000), load(html=30_100)])
    for row in found:
        if row.way is NO_EDGE:
            row.loads = [load(html=90_000), load(html=90_000)]  # the origin compresses nothing
    [weight] = [verdict for verdict in shopper.judged(found) if verdict.what.startswith("compressed HTML")]
    assert (weight.figure, weight.met) == (30.1, False)


def test_the_table_takes_the_ratio_round_by_round():
    found = rows(home=[load(200), load(400)])
    for row in found:
        if row.way is NO_EDGE:
            row.loads = [load(400), load(500)]
    text, _ = shopper.report(found, products=300)
    assert "| home: edge 10 ms away, hit | 22 (22 - 22) | 180 (180 - 180) | 300 (250 - 350) | 0.65 | 0.000 |" in text
    assert "| home: no edge: the origin, 80 ms away | 22 (22 - 22) | 180 (180 - 180) | 450 (425 - 475) |  |" in text
    assert "Largest on home: `img`." in text
    assert "The most that anything else took during a run that counts: 0.00 core." in text
    assert "300 products, 2 loads" in text


def test_a_disturbed_load_shows():
    found = rows(home=[Load.told(TOLD, foreign=0.5)])
    text, _ = shopper.report(found, products=300)
    assert "**Disturbed**" in text


@pytest.mark.long
@pytest.mark.chromium
@pytest.mark.database
@pytest.mark.timeout(180)
def test_a_round_in_a_real_browser_gives_the_table():
    if not any(shutil.which(name) for name in shopper.BROWSERS):
        pytest.skip("no Chromium or Chrome on this machine: apt-get install chromium")
    if (reason := why_not_here()) is not None:
        pytest.skip(reason)
    command = [sys.executable, "-m", "loadtests.bench", "shopper"]
    command += ["--rounds", "1", "--tries", "1", "--products", "60", "--only", "product"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode in {0, 1}, run.stderr
    assert run.stdout.count("| product: ") == len(WAYS)
    assert "met: CLS, the most of all loads: 0.00" in run.stdout
