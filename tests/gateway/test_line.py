"""Whose turn it is at an origin: hottest first, so many for each tag, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter

import pytest

from edge.core.http import Headers
from edge.gateway.origin import Caps, Deadlines, ErrorKind, OriginError, OriginPool, Rank, Turn
from edge.gateway.origin.line import SPARE_GONE, Line, Waiting
from tests.support.clock import ManualClock
from tests.support.raw_origin import RawOrigin

HOST = Headers((("host", "shop"),))
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def heats(line: Line) -> list[int]:
    """The heats of those who may go, in their order; each is under way from then on."""
    found = []
    while (waiting := line.first()) is not None:
        line.leave(waiting)
        line.began(waiting.rank.tag)
        found.append(waiting.rank.heat)
    return found


async def test_the_hottest_goes_first_and_what_has_something_to_show_last():
    line = Line(9)
    for rank in (Rank(heat=1), Rank(heat=90, patient=True), Rank(heat=70), Rank(heat=3, patient=True), Rank(heat=5)):
        line.join(rank)
    assert heats(line) == [70, 5, 1, 90, 3]
    assert len(line) == 0


async def test_equals_go_in_the_order_in_which_they_came():
    line = Line(9)
    came = [line.join(Rank()) for _ in range(5)]
    gone = []
    while (waiting := line.first()) is not None:
        line.leave(waiting)
        gone.append(waiting)
    assert gone == came


async def test_a_tag_has_so_many_under_way_and_holds_up_nobody_else():
    line = Line(2)
    for heat in (9, 8, 7, 6):
        line.join(Rank("hot", heat))
    line.join(Rank("other", 1))
    line.join(Rank(heat=0))
    assert heats(line) == [9, 8, 1, 0]
    assert len(line) == 2
    line.ended("hot")
    assert heats(line) == [7]
    line.ended("other")
    assert heats(line) == []
    line.ended("hot")
    assert heats(line) == [6]


async def test_who_comes_back_into_the_line_and_leaves_makes_way_for_the_next():
    line = Line(1)
    line.began("hot")
    colder, hotter = line.join(Rank("hot", 1)), line.join(Rank("hot", 2))
    assert line.first() is None
    line.ended("hot")
    assert line.first() is hotter
    line.leave(hotter)
    assert line.first() is colder


async def test_leaving_twice_counts_once():
    line = Line(1)
    waiting = line.join(Rank())
    line.leave(waiting)
    line.leave(waiting)
    assert len(line) == 0
    assert line.first() is None


async def test_those_who_left_take_no_room():
    line = Line(1)
    line.began("hot")
    hottest = line.join(Rank("hot", 1_000_000))
    assert line.first() is None
    for heat in range(10 * SPARE_GONE):
        line.leave(line.join(Rank("hot", heat)))
        assert line.first() is None
        line.leave(line.join(Rank(heat=heat)))
    standing = len(line._ready) + sum(map(len, line._aside.values()))
    assert standing <= SPARE_GONE + 3
    line.ended("hot")
    assert line.first() is hottest


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_everybody_goes_or_leaves_and_no_tag_has_too_many(seed):
    """Seeded: joins, leaves, turns and ends in any order. Whoever may go is the most urgent of those that may."""
    chosen = random.Random(seed)
    line, waiting, under_way = Line(3), list[Waiting](), Counter[str]()
    went = 0
    for number in range(3_000):
        match chosen.randrange(5):
            case 0 | 1:
                waiting.append(
                    line.join(Rank(chosen.choice(["", "a", "b"]), chosen.randrange(4), chosen.random() < 0.2))
                )
            case 2 if waiting:
                line.leave(waiting.pop(chosen.randrange(len(waiting))))
            case 3 if any(under_way.values()):
                tag = chosen.choice([tag for tag, count in under_way.items() if count])
                under_way[tag] -= 1
                line.ended(tag)
            case _:
                may_go = [one for one in waiting if not one.rank.tag or under_way[one.rank.tag] < 3]
                first = line.first()
                assert first is min(may_go, default=None), f"step {number}"
                if first is not None:
                    went += 1
                    waiting.remove(first)
                    line.leave(first)
                    line.began(first.rank.tag)
                    under_way[first.rank.tag] += 1
        assert len(line) == len(waiting)
        assert all(count <= 3 for tag, count in under_way.items() if tag)
    assert went > 300


async def test_clearing_gives_everybody_the_most_urgent_first():
    line = Line(1)
    line.began("hot")
    aside, other = line.join(Rank("hot", 5)), line.join(Rank(heat=1))
    line.leave(line.join(Rank(heat=9)))
    assert line.first() is other
    assert line.clear() == [aside, other]
    assert (len(line), line.first()) == (0, None)


# -- in the pool -------------------------------------------------------------------------------------------------------


def pool_to(origin: RawOrigin, **caps: float) -> OriginPool:
    given = {"connections": 1, "tag_connections": 1, "queue": 10, "queue_s": math.inf, **caps}
    deadlines = Deadlines(connect_s=5, head_s=5, idle_s=5, total_s=5)
    return OriginPool((origin.url,), ManualClock(), deadlines=deadlines, caps=Caps(**given))  # type: ignore[arg-type]


async def test_a_turn_is_used_by_one_request_and_its_tag_is_free_when_it_is_released():
    async with RawOrigin() as origin:
        pool = pool_to(origin, connections=2)
        turn = pool.turn_at_once("/a", Rank("hot"))
        assert turn is not None
        assert pool.under_way == 1
        assert pool.turn_at_once("/b", Rank("hot")) is None
        asking = asyncio.create_task(pool.send("GET", "/a", HOST, turn=turn))
        await (await origin.accepted()).answer(OK)
        await (await asking).read(100)
        assert (pool.under_way, turn.address) == (0, None)
        assert pool.turn_at_once("/b", Rank("hot")) is None
        turn.release()
        again = pool.turn_at_once("/b", Rank("hot"))
        assert again is not None
        again.release()
        assert pool.under_way == 0
        pool.close()


async def test_a_turn_that_is_given_back_is_the_next_ones():
    async with RawOrigin() as origin:
        pool = pool_to(origin)
        first = await pool.turn("/a", Rank(heat=1))
        waiting = {heat: asyncio.create_task(pool.turn("/a", Rank(heat=heat))) for heat in (1, 5)}
        await asyncio.sleep(0)
        assert pool.status()["waiting"] == 2
        first.release()
        hotter = await waiting[5]
        assert not waiting[1].done()
        hotter.release()
        (await waiting[1]).release()
        assert pool.under_way == 0
        pool.close()


async def test_what_one_tag_lost_leaves_the_rest_of_the_origin_alone():
    async with RawOrigin() as origin:
        pool = pool_to(origin, connections=3, tag_connections=2)
        held = [await pool.turn("/a", Rank("hot")) for _ in range(2)]
        waiting = asyncio.create_task(pool.turn("/a", Rank("hot", 99)))
        await asyncio.sleep(0)
        asking = asyncio.create_task(pool.send("GET", "/cart", HOST))
        await (await origin.accepted()).answer(OK)
        await (await asking).read(100)
        assert not waiting.done()
        held[0].release()
        for turn in (held[1], await waiting):
            turn.release()
        assert pool.under_way == 0
        pool.close()


async def test_a_wait_that_is_called_off_takes_no_tag_with_it():
    async with RawOrigin() as origin:
        pool = pool_to(origin)
        first = await pool.turn("/a", Rank("hot"))
        waiting = asyncio.create_task(pool.turn("/a", Rank("hot")))
        await asyncio.sleep(0)
        first.release()
        # It has its place by now, and has not heard of it.
        waiting.cancel()
        await asyncio.wait([waiting])
        turn = pool.turn_at_once("/a", Rank("hot"))
        assert isinstance(turn, Turn)
        turn.release()
        assert (pool.under_way, pool.status()["waiting"]) == (0, 0)
        pool.close()


async def test_who_shows_something_meanwhile_takes_half_of_the_queue_at_the_most():
    async with RawOrigin() as origin:
        pool = pool_to(origin, queue=4)
        first = await pool.turn("/a", Rank())
        line = [asyncio.create_task(pool.turn("/a", Rank(patient=True))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OriginError) as found:
            await pool.turn("/a", Rank(patient=True))
        assert found.value.kind is ErrorKind.CONNECTION_LIMIT_REACHED
        line.append(asyncio.create_task(pool.turn("/a", Rank())))
        await asyncio.sleep(0)
        first.release()
        (await line[2]).release()
        for task in line[:2]:
            (await task).release()
        pool.close()


async def test_closing_tells_also_those_who_were_put_aside():
    async with RawOrigin() as origin:
        pool = pool_to(origin, connections=2)
        await pool.turn("/a", Rank("hot"))
        waiting = asyncio.create_task(pool.turn("/a", Rank("hot")))
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(OriginError):
            await waiting


# -- an origin that came back ------------------------------------------------------------------------------------------

SPARE = Rank(spare=True)


def paced(origin: RawOrigin, **caps: float) -> tuple[OriginPool, ManualClock]:
    """A pool that keeps a pace of one in a second, and may send one now."""
    pool, clock = pool_to(origin, **caps), ManualClock()
    pool._clock = clock
    for _ in range(30):
        pool.pace.sent(clock())
        clock.advance(1.0)
    pool.pace.went_away()
    pool.pace.came_back(clock())
    clock.advance(1.1)
    return pool, clock


async def test_what_was_allowed_to_go_and_did_not_leaves_its_part_of_the_pace_to_the_next():
    async with RawOrigin() as origin:
        pool, _ = paced(origin, queue_s=0.0)
        unused = pool.turn_at_once("/a", SPARE)
        assert unused is not None
        unused.release()
        held = pool.turn_at_once("/a", Rank())
        assert held is not None
        assert pool.turn_at_once("/a", SPARE) is None
        with pytest.raises(OriginError):
            await pool.turn("/a", SPARE)
        held.release()
        turn = pool.turn_at_once("/a", SPARE)
        assert turn is not None
        with pytest.raises(OriginError):
            pool.turn_at_once("/a", SPARE)
        turn.release()
        pool.close()


async def test_what_is_asked_for_again_counts_although_it_could_have_waited():
    async with RawOrigin() as origin:
        pool, clock = paced(origin, connections=2)
        turn = pool.turn_at_once("/a", SPARE)
        assert turn is not None
        asking = asyncio.create_task(pool.send("GET", "/a", HOST, turn=turn))
        connection = await origin.accepted()
        await connection.answer(OK)
        await (await asking).read(100)
        for _ in range(2):
            asking = asyncio.create_task(pool.send("GET", "/a", HOST, turn=turn))
            await connection.answer(OK)
            await (await asking).read(100)
        turn.release()
        clock.advance(1.0)
        with pytest.raises(OriginError):
            pool.turn_at_once("/a", SPARE)
        clock.advance(2.0)
        turn = pool.turn_at_once("/a", SPARE)
        assert turn is not None
        turn.release()
        pool.close()
