"""Purges that people order: the first at once, those of the next second together, and everybody told the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from cache_policies.positions import MAX_TAGS_PER_ENTRY, Position, PurgeKind
from origin.accounts import audit
from origin.accounts.orders import Order, PurgeOrders
from origin.errors import Unavailable
from origin.progress import MOST_CHANGES
from origin.shop import Shop
from tests.support.small_shop import client_of, small_shop, staff_of, token_of

pytestmark = pytest.mark.database
HARD, SOFT = PurgeKind.HARD, PurgeKind.SOFT


@pytest.fixture
async def shop(database) -> AsyncIterator[Shop]:
    async with small_shop(database) as shop:
        yield shop


def order(*tags: str, kind: PurgeKind = HARD, actor: str = "anna@example.com") -> Order:
    return Order(kind, tags, actor, "purge by hand", ", ".join(tags)[:100], "a reason")


async def log_after(shop: Shop, position: Position) -> list[tuple[str, set[str], str, str]]:
    """Kind, tags, actor and cause of every entry after `position`."""
    async with shop.database.writes.connect() as connection:
        rows = await connection.execute(
            text("SELECT kind, tags, actor, cause FROM events.purge_log WHERE (epoch, cv) > (:epoch, :cv) ORDER BY cv"),
            position._asdict(),
        )
        return [(row.kind, set(row.tags), row.actor, row.cause) for row in rows]


async def test_the_first_goes_at_once_and_the_others_together_when_the_window_closes(shop):
    orders = PurgeOrders(shop.database, merge_s=600.0)
    first = await orders.enter(order("first"))
    others = [
        asyncio.create_task(orders.enter(each))
        for each in (
            order("a", "b"),
            order("b", "c", actor="edge eu"),
            order("d", kind=SOFT),
            order("e", kind=SOFT, actor="edge eu"),
        )
    ]
    await asyncio.sleep(0)
    assert not any(task.done() for task in others)
    # Closing does not wait for the end of the window, and loses nothing.
    await orders.close()
    purged = [await task for task in others]
    assert [(each.kind, each.tags) for each in purged] == [
        (HARD, ("a", "b")),
        (HARD, ("b", "c")),
        (SOFT, ("d",)),
        (SOFT, ("e",)),
    ]
    assert purged[0].position == purged[1].position == Position(first.position.epoch, first.position.cv + 1)
    assert purged[2].position == purged[3].position == Position(first.position.epoch, first.position.cv + 2)
    assert (purged[0].purge_id, purged[2].purge_id) == (purged[1].purge_id, purged[3].purge_id)
    assert await log_after(shop, first.position) == [
        ("hard", {"a", "b", "c"}, "anna@example.com, edge eu", "2 purges together"),
        ("soft", {"d", "e"}, "anna@example.com, edge eu", "2 purges together"),
    ]
    async with shop.database.writes.connect() as connection:
        entries = await audit.entries(connection, audit.AuditFilter(action="purge"))
    assert [(entry.actor, entry.after, entry.purge_id) for entry in reversed(entries)][1:3] == [
        ("anna@example.com", {"kind": "hard", "tags": ["a", "b"]}, purged[0].purge_id),
        ("edge eu", {"kind": "hard", "tags": ["b", "c"]}, purged[0].purge_id),
    ]


async def test_after_a_quiet_window_the_next_goes_at_once(shop):
    orders = PurgeOrders(shop.database, merge_s=0.0)
    one = await orders.enter(order("a"))
    two = await orders.enter(order("b"))
    assert two.position.cv == one.position.cv + 1
    await orders.close()


async def test_merging_purges_nothing_that_nobody_ordered(shop):
    """An entry that names too much names whole markets: what is too much for one goes in several."""
    markets = [market.id for market in shop.markets.all]
    orders = PurgeOrders(shop.database, merge_s=600.0)
    first = await orders.enter(order("first"))
    products = [order(*(f"p:{market}:sku-{number}" for market in markets)) for number in range(170)]
    tasks = [asyncio.create_task(orders.enter(each)) for each in products]
    await asyncio.sleep(0)
    await orders.close()
    positions = [(await task).position for task in tasks]
    assert positions == sorted(positions)
    assert len(set(positions)) == 2
    of_each = [tags for _, tags, _, _ in await log_after(shop, first.position)]
    assert all(len(tags) <= MAX_TAGS_PER_ENTRY for tags in of_each)
    assert set().union(*of_each) == {tag for each in products for tag in each.tags} | {
        f"many:{market}" for market in markets
    }


async def test_an_order_that_is_too_much_by_itself_goes_by_itself(shop):
    orders = PurgeOrders(shop.database, merge_s=600.0)
    first = await orders.enter(order("first"))
    long = [f"p:eu-eur:sku-{number}" for number in range(MAX_TAGS_PER_ENTRY)]
    tasks = [asyncio.create_task(orders.enter(each)) for each in (order("a"), order(*long), order("b"))]
    await asyncio.sleep(0)
    await orders.close()
    assert [(await task).position.cv - first.position.cv for task in tasks] == [1, 2, 3]
    assert [tags for _, tags, _, _ in await log_after(shop, first.position)] == [{"a"}, {"m:eu-eur"}, {"b"}]


async def test_what_fails_is_everybodys_failure_and_nothing_is_kept(shop):
    orders = PurgeOrders(shop.database, merge_s=600.0)
    first = await orders.enter(order("first"))
    # No database holds this.
    tasks = [asyncio.create_task(orders.enter(each)) for each in (order("a"), order("b\x00"))]
    soft = asyncio.create_task(orders.enter(order("c", kind=SOFT)))
    await asyncio.sleep(0)
    await orders.close()
    failed = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, Exception) for each in failed)
    assert (await soft).position.cv == first.position.cv + 1
    assert [tags for _, tags, _, _ in await log_after(shop, first.position)] == [{"c"}]


async def test_an_order_is_carried_out_also_when_its_caller_hangs_up(shop):
    orders = PurgeOrders(shop.database, merge_s=600.0)
    first = await orders.enter(order("first"))
    task = asyncio.create_task(orders.enter(order("a")))
    await asyncio.sleep(0)
    task.cancel()
    await orders.close()
    assert task.cancelled() or task.cancelling()
    assert [tags for _, tags, _, _ in await log_after(shop, first.position)] == [{"a"}]
    with pytest.raises(Unavailable):
        await orders.enter(order("b"))


async def test_whoever_ordered_one_of_many_finds_it_at_its_position(shop):
    """Each is told of their own order first, and of the others with whom it went."""
    anna, ben = await staff_of(shop, "editor"), await staff_of(shop, "admin")
    orders = PurgeOrders(shop.database, merge_s=600.0)
    await orders.enter(order("first"))
    many = [order(f"t{number}", actor="edge eu") for number in range(MOST_CHANGES)]
    tasks = [
        asyncio.create_task(orders.enter(each))
        for each in [order("a", actor=anna), *many, order("b", actor=ben), order("c", kind=SOFT, actor=ben)]
    ]
    await asyncio.sleep(0)
    await orders.close()
    done = await asyncio.gather(*tasks)
    async with client_of(shop) as client:
        for email, subject in ((anna, "a"), (ben, "b")):
            client.headers.update(await token_of(client, email))
            told = (await client.get(f"/api/staff/v1/changes/{done[0].position}")).json()
            assert (told["change"]["actor"], told["change"]["subject"]) == (email, subject)
            assert told["changes"][0] == told["change"]
            assert (len(told["changes"]), told["changes_total"]) == (MOST_CHANGES, MOST_CHANGES + 2)
        # The others are in the audit list, and only they.
        listed = await client.get(f"/api/staff/v1/audit?limit=200&purge_id={done[0].purge_id}")
        assert {each["subject"] for each in listed.json()["entries"]} == {
            *("a", "b"),
            *(f"t{number}" for number in range(MOST_CHANGES)),
        }
        alone = (await client.get(f"/api/staff/v1/changes/{done[-1].position}")).json()
        assert (alone["changes_total"], alone["changes"]) == (1, [alone["change"]])


async def test_orders_through_the_staff_api_are_merged(shop):
    email = await staff_of(shop, "editor")
    async with client_of(shop) as client:
        client.headers.update(await token_of(client, email))
        answers = await asyncio.gather(
            *[client.post("/api/staff/v1/purges", json={"tags": [f"t{number}"]}) for number in range(8)]
        )
    purged = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {201}
    assert [each["tags"] for each in purged] == [[f"t{number}"] for number in range(8)]
    assert len({each["position"] for each in purged}) <= 2
    assert len({(each["position"], each["purge_id"]) for each in purged}) == len({each["position"] for each in purged})
