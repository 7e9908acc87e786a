"""At midnight in a market: one soft purge of it, whoever of the workers is first, and its head warmed behind that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from origin import midnight
from origin.accounts import audit
from origin.midnight import MOST_FAILURES, Due, Midnight, due_of, next_due, warm
from origin.shop import Shop
from tests.support.origin import until
from tests.support.raw_origin import refusing_url
from tests.support.scripted_origin import Reply, ScriptedOrigin
from tests.support.small_shop import small_shop

BERLIN, TOKYO, AZORES = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo"), ZoneInfo("Atlantic/Azores")
HAVANA = ZoneInfo("America/Havana")
ZONES = {"eu-eur": BERLIN, "jp-jpy": TOKYO}
DAY, YESTERDAY = date(2026, 11, 22), date(2026, 11, 21)


def at(text_: str) -> datetime:
    return datetime.fromisoformat(text_).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        pytest.param(BERLIN, DAY, "2026-11-21T23:00", id="in winter"),
        pytest.param(BERLIN, date(2026, 7, 1), "2026-06-30T22:00", id="in summer"),
        pytest.param(TOKYO, DAY, "2026-11-21T15:00", id="far ahead"),
        pytest.param(AZORES, date(2026, 3, 29), "2026-03-29T01:00", id="the clock is set forward at midnight"),
        pytest.param(HAVANA, date(2026, 11, 1), "2026-11-01T04:00", id="midnight is there twice: the first"),
    ],
)
def test_midnight_is_the_markets_own(zone, day, expected):
    assert due_of("eu-eur", zone, day, 0.0).at == at(expected)


def test_markets_of_one_zone_are_apart_and_all_workers_agree_on_the_moment():
    moments = {market: due_of(market, BERLIN, DAY, 900.0).at for market in ("eu-eur", "gb-gbp", "jp-jpy")}
    assert len(set(moments.values())) == 3
    midnight = at("2026-11-21T23:00")
    assert all(midnight <= moment <= midnight + timedelta(seconds=900) for moment in moments.values())
    assert due_of("eu-eur", BERLIN, DAY, 900.0).at == moments["eu-eur"]


@pytest.mark.parametrize(
    ("now", "done", "expected"),
    [
        pytest.param(
            "2026-11-21T14:00",
            {"jp-jpy": YESTERDAY, "eu-eur": YESTERDAY},
            Due(at("2026-11-21T15:00"), "jp-jpy", DAY),
            id="the earliest comes first",
        ),
        pytest.param(
            "2026-11-21T15:10", {"eu-eur": YESTERDAY}, Due(at("2026-11-21T15:00"), "jp-jpy", DAY), id="a little late"
        ),
        pytest.param(
            "2026-11-21T15:10", {"jp-jpy": DAY}, Due(at("2026-11-20T23:00"), "eu-eur", YESTERDAY), id="late all day"
        ),
        pytest.param(
            "2026-11-21T15:10",
            {"jp-jpy": DAY, "eu-eur": YESTERDAY},
            Due(at("2026-11-21T23:00"), "eu-eur", DAY),
            id="what is done is done",
        ),
        pytest.param(
            "2026-11-21T22:59",
            {"jp-jpy": DAY, "eu-eur": DAY},
            Due(at("2026-11-21T23:00"), "eu-eur", DAY),
            id="the wall clock was set back",
        ),
    ],
)
def test_what_is_done_next(now, done, expected):
    assert next_due(ZONES, 0.0, done, at(now)) == expected


def test_without_markets_there_is_nothing_to_do():
    assert next_due({}, 0.0, {}, at("2026-11-21T14:00")) is None


@pytest.fixture
async def shop(database) -> AsyncIterator[Shop]:
    async with small_shop(database, serving=True) as shop:
        yield shop


def midnight_of(shop: Shop, *, pages: int = 0, now: str = "2026-11-21T23:00") -> Midnight:
    return Midnight(shop.database, shop.observer, {"eu-eur": BERLIN}, jitter_s=0.0, warm=pages, wall=lambda: at(now))


async def works_until(made: Midnight, day: date) -> None:
    """It works by itself until it has nothing more to do for `day`."""
    running = asyncio.create_task(made.run())
    await until(lambda: made._done.get("eu-eur") == day, 20.0, f"midnight of {day}")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def refreshes(shop: Shop) -> list[tuple[str, list[str], str]]:
    async with shop.database.writes.connect() as connection:
        query = text("SELECT kind, tags, cause FROM events.purge_log WHERE actor = 'midnight' ORDER BY epoch, cv")
        return [(row.kind, sorted(row.tags), row.cause) for row in await connection.execute(query)]


@pytest.mark.database
async def test_of_several_workers_one_purges_the_market_softly(shop):
    done = await asyncio.gather(*[midnight_of(shop).refresh("eu-eur", DAY) for _ in range(4)])
    assert [each is None for each in done].count(False) == 1
    assert await refreshes(shop) == [("soft", ["m:eu-eur", "many:eu-eur"], "midnight in eu-eur")]
    assert await midnight_of(shop).refresh("eu-eur", DAY + timedelta(days=1))
    async with shop.database.writes.connect() as connection:
        entries = await audit.entries(connection, audit.AuditFilter(actor="midnight"))
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("market.refresh", "eu-eur/2026-11-23"),
        ("market.refresh", "eu-eur/2026-11-22"),
    ]


@pytest.mark.database
async def test_a_worker_that_was_restarted_neither_does_it_again_nor_leaves_it_out(shop):
    assert await midnight_of(shop).refresh("eu-eur", DAY)
    await works_until(midnight_of(shop, now="2026-11-22T20:00"), DAY)
    assert len(await refreshes(shop)) == 1
    # Nobody worked at the next one: it is made up for, also in the evening.
    await works_until(midnight_of(shop, now="2026-11-23T20:00"), DAY + timedelta(days=1))
    assert len(await refreshes(shop)) == 2


@pytest.mark.database
async def test_a_market_whose_name_ends_another_s_has_a_midnight_of_its_own(shop):
    assert await midnight_of(shop).refresh("eu-eur", DAY)
    assert await midnight_of(shop).refresh("eur", DAY)


@pytest.mark.database
async def test_however_long_warming_takes_the_next_market_is_not_late(shop, monkeypatch):
    begun = asyncio.Event()

    async def for_ever(*_: object) -> list[str]:
        begun.set()
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(Midnight, "_head", for_ever)
    zones = {"eu-eur": BERLIN, "gb-gbp": BERLIN}
    two = Midnight(shop.database, shop.observer, zones, jitter_s=0.0, warm=5, wall=lambda: at("2026-11-21T23:00"))
    running = asyncio.create_task(two.run())

    async def both_are_done() -> bool:
        return len(await refreshes(shop)) == 2

    await until(begun.is_set, 20.0, "warming")
    await until(both_are_done, 20.0, "midnight in the other market")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert {cause for _, _, cause in await refreshes(shop)} == {"midnight in eu-eur", "midnight in gb-gbp"}


@pytest.mark.database
async def test_warming_ends_when_it_takes_too_long(shop, monkeypatch, caplog):
    async def for_ever(*_: object) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(Midnight, "_head", for_ever)
    monkeypatch.setattr(midnight, "WARM_WITHIN_S", 0.0)
    one = midnight_of(shop, pages=5)
    position = await one.refresh("eu-eur", DAY)
    assert position is not None
    await one.warm_up("eu-eur", position)
    assert "was not warmed to its end: it took too long" in caplog.text


@pytest.mark.database
async def test_by_itself_it_works_when_it_is_time(shop):
    await works_until(midnight_of(shop), DAY)
    assert len(await refreshes(shop)) == 1


async def test_before_its_time_it_does_nothing(monkeypatch):
    looked = asyncio.Semaphore(0)
    done: list[tuple[str, date]] = []

    def wall() -> datetime:
        looked.release()
        return at("2026-11-21T22:59")

    async def refresh(self: Midnight, market: str, day: date) -> None:
        done.append((market, day))

    monkeypatch.setattr(Midnight, "refresh", refresh)
    waiting = Midnight(None, None, {"eu-eur": BERLIN}, jitter_s=0.0, warm=0, wall=wall)  # type: ignore[arg-type]
    waiting._done["eu-eur"] = YESTERDAY
    running = asyncio.create_task(waiting.run())
    for _ in range(2):
        await looked.acquire()
    await asyncio.sleep(0)
    assert not done
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.database
async def test_the_head_is_home_departments_and_what_is_popular(shop):
    paths = await midnight_of(shop, pages=4)._head("eu-eur")
    assert paths[:2] == ["/eu-eur/", "/eu-eur/c/lighting"]
    assert len(paths) == 4
    assert all(path.startswith("/eu-eur/products/") for path in paths[2:])


async def test_warming_asks_for_every_page_and_counts_what_was_answered():
    async with ScriptedOrigin() as edge:
        edge.on("/a", Reply(b"a"))
        edge.on("/b", Reply(b"b", 503))
        assert await warm(edge.url, ["/a", "/b", "/nowhere"], every_s=0.0) == 2
        assert [seen.path for seen in edge.seen] == ["/a", "/b", "/nowhere"]


async def test_an_edge_that_does_not_answer_is_left_alone():
    async with ScriptedOrigin() as edge:
        edge.otherwise = Reply(b"", 503)
        assert await warm(edge.url, [f"/{number}" for number in range(50)], every_s=0.0) == 0
        assert len(edge.seen) == MOST_FAILURES
    assert await warm(refusing_url(), ["/a"], every_s=0.0) == 0
