"""What an answer says of itself, as viewers of the simulation read it."""

from __future__ import annotations

import pytest

from edge.core.delivery import NOTICE
from tests.simulation.shop import PAGES, Lifetimes, event_of, is_listed, kind_of, shown_in
from tests.simulation.viewers import detail_of, presented


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        pytest.param("nearshelf-eu; hit; ttl=3", "", id="a hit"),
        pytest.param("nearshelf-eu; hit; ttl=-3; detail=stale-while-revalidate", "stale-while-revalidate", id="stale"),
        pytest.param("nearshelf-eu; fwd=stale; fwd-status=200; stored; detail=purged-soft", "", id="fetched after it"),
        pytest.param("nearshelf-eu; fwd=stale; ttl=-9; detail=stale-marked", "stale-marked", id="marked"),
    ],
)
def test_what_is_not_current_says_so(said, detail):
    assert detail_of(f"HTTP/1.1 200 OK\r\ncache-status: {said}\r\n".encode()) == detail


def test_a_page_is_marked_only_if_somebody_can_see_it():
    head = b"HTTP/1.1 200 OK\r\ncache-status: nearshelf-eu; fwd=stale; detail=stale-marked\r\n"
    assert presented(head, b"<p><!--nearshelf:notice-->price:boot=3</p>") == ""
    assert presented(head, b"<p>" + NOTICE + b"price:boot=3</p>") == "stale-marked"


@pytest.mark.parametrize(
    ("page", "detail", "absent", "longest_s"),
    [
        pytest.param("page of boot", "", False, 1, id="fresh"),
        pytest.param("page of boot", "stale-while-revalidate", False, 4, id="while it is refreshed"),
        pytest.param("page of boot", "stale-marked", False, 61, id="while nobody answers"),
        pytest.param("price of boot", "stale-if-error", False, 1, id="a price is never stale"),
        pytest.param("page of boot", "stale-while-revalidate", True, 1, id="nor is what there is not"),
    ],
)
def test_how_long_what_the_origin_said_may_be_shown(page, detail, absent, longest_s):
    asked_for = next(each for each in PAGES if each.name == page)
    assert Lifetimes(1, 3, 60).longest_s(asked_for, detail, absent=absent) == longest_s


def test_a_body_shows_its_rows():
    assert shown_in(b'{"rows": "price:boot=17 listed:boot=4"}') == (("price:boot", 17), ("listed:boot", 4))


def test_every_row_is_on_a_page_that_a_change_of_it_purges():
    from origin.events.purge_map import purge_of
    from tests.simulation.world import shop_files

    _, markets = shop_files()
    for page in PAGES:
        for row in page.rows:
            for number in (3, 4):
                kind, tags = purge_of([event_of(row, number)], markets)
                assert kind is kind_of(row)
                assert set(tags) & set(page.tags), f"{page.name} does not carry what a change of {row} names"
    assert (is_listed(3), is_listed(4)) == (False, True)
