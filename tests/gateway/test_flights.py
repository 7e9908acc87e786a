"""Who waits for whom, and for how long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from cache_policies.origins import Origin
from cache_policies.positions import Position
from edge.core.floors import Floors
from edge.core.http import Headers, Request
from edge.core.key import CacheKey
from edge.core.policy import CachePolicy, Match
from edge.core.residency import Placed
from edge.gateway.flights import Fate, Flights
from edge.gateway.landings import Errand, Failed, Fetched, NotKept
from tests.support.clock import ManualClock

WAIT_S = 0.05
SHOP = Placed(Origin("shop"))


def errand(*, demand_head: bool = True) -> Errand:
    policy = CachePolicy(id="p", path="/{rest...}", store=True, collapse_wait_s=WAIT_S)
    request = Request("GET", "h", "/x", "", Headers(()))
    return Errand(request, Match(policy, "/x", ""), CacheKey("h", "/x", (), ""), None, None, demand_head, "ZZ", SHOP)


class Sky:
    """Flights whose landing the test decides."""

    def __init__(self) -> None:
        self.landings: list[asyncio.Future[Fetched]] = []
        self.flights = Flights(self._fetch, Floors(), ManualClock())

    async def _fetch(self, _errand: Errand, _fate: Fate) -> Fetched:
        self.landings.append(asyncio.get_running_loop().create_future())
        return await self.landings[-1]

    def viewer(self) -> asyncio.Task[str]:
        async def reason() -> str:
            landed = (await self.flights.forward(errand())).landed
            assert isinstance(landed, Failed)
            return landed.reason

        return asyncio.create_task(reason())

    async def sent(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.landings) < count:
                await asyncio.sleep(0)

    def land(self, number: int) -> None:
        self.landings[number].set_result(Failed(None, f"flight {number}", 0.0))


@pytest.fixture
def sky() -> Sky:
    return Sky()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_wave_is_sent_beside_a_flight_that_takes_too_long(sky):
    first = sky.viewer()
    await sky.sent(1)
    late = [sky.viewer() for _ in range(10)]
    await sky.sent(2)
    sky.land(1)
    async with asyncio.timeout(5):
        assert {await viewer for viewer in late} == {"flight 1"}
    assert not first.done()
    sky.land(0)
    assert await first == "flight 0"
    assert len(sky.landings) == 2
    assert len(sky.flights) == 0


async def test_a_flight_that_was_left_behind_does_not_end_the_one_beside_it(sky):
    first = sky.viewer()
    await sky.sent(1)
    second = sky.viewer()
    await sky.sent(2)
    third = sky.viewer()
    await turn()
    sky.land(0)
    assert await first == "flight 0"
    assert len(sky.flights) == 1
    sky.land(1)
    assert await second == "flight 1"
    await sky.sent(3)
    sky.land(2)
    assert await third == "flight 2"


@pytest.mark.parametrize("turns", [0, 3])
async def test_nobody_asks_beside_a_flight_whose_answer_came_while_the_process_was_held_up(sky, turns):
    """It is there when the process goes on, some turns of the loop from being read, and so is the end of the wait."""
    asked = replace(errand(demand_head=False), applied=BEFORE)
    first = asyncio.create_task(sky.flights.forward(asked))
    await sky.sent(1)
    follower = asyncio.create_task(sky.flights.forward(asked))
    await turn()
    loop = asyncio.get_running_loop()

    def read(left: int) -> None:
        if left:
            loop.call_soon(read, left - 1)
        else:
            sky.land(0)

    # This is what is tried: a process that does nothing for so long, while its timers run out.
    time.sleep(3 * WAIT_S)
    read(turns)
    async with asyncio.timeout(5):
        assert isinstance((await first).landed, Failed)
        assert (await follower).landed == (await first).landed
    assert len(sky.landings) == 1


async def test_stopping_starts_no_wave_and_tells_everybody(sky):
    first = sky.viewer()
    await sky.sent(1)
    late = sky.viewer()
    await turn()
    await sky.flights.stop()
    async with asyncio.timeout(5):
        assert (await first, await late) == ("stopping", "stopping")
    await turn()
    assert len(sky.landings) == 1
    assert len(sky.flights) == 0


async def test_stopping_before_the_first_step_of_a_flight_tells_its_viewer_too(sky):
    viewer = sky.viewer()
    await asyncio.sleep(0)
    await sky.flights.stop()
    async with asyncio.timeout(5):
        assert await viewer == "stopping"
    assert sky.landings == []


async def test_after_stopping_nothing_is_sent(sky):
    await sky.flights.stop()
    sky.flights.refresh_later(errand())
    assert await sky.viewer() == "stopping"
    assert sky.landings == []


class OneAnswer:
    """A response for one viewer, as far as flights look at it."""

    status = 200
    abandoned = False

    def abandon(self) -> None:
        self.abandoned = True


def not_kept() -> tuple[OneAnswer, NotKept]:
    answer: Any = OneAnswer()
    return answer, NotKept(answer, "no-store", 0.0, 0.0)


BEFORE, AFTER = Position(7, 1), Position(7, 2)


@pytest.mark.parametrize(
    ("arrived_at", "takes_it"),
    [pytest.param(BEFORE, True, id="nothing was purged since"), pytest.param(AFTER, False, id="purged since")],
)
async def test_what_is_not_stored_is_for_those_who_arrived_at_the_position_it_was_sent_at(sky, arrived_at, takes_it):
    asked = replace(errand(demand_head=False), applied=BEFORE)
    sky.flights.refresh_later(asked)
    await sky.sent(1)
    viewer = asyncio.create_task(sky.flights.forward(replace(asked, applied=arrived_at)))
    await turn()
    answer, landed = not_kept()
    sky.landings[0].set_result(landed)
    if takes_it:
        assert (await viewer).landed is landed
        assert not answer.abandoned
        return
    await sky.sent(2)
    assert answer.abandoned
    its_own, landed_after = not_kept()
    sky.landings[1].set_result(landed_after)
    assert (await viewer).landed is landed_after
    assert not its_own.abandoned


async def test_what_nobody_has_waited_long_enough_for_is_let_go(sky):
    asked = replace(errand(demand_head=False), applied=BEFORE)
    sky.flights.refresh_later(asked)
    await sky.sent(1)
    viewer = asyncio.create_task(sky.flights.forward(asked))
    await sky.sent(2)
    answer, landed = not_kept()
    sky.landings[0].set_result(landed)
    await turn()
    assert answer.abandoned
    sky.land(1)
    assert isinstance((await viewer).landed, Failed)
