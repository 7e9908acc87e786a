"""Every fault is mended whether or not it was seen to bite, and counts only where it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from typing import Any

import pytest

from cache_policies.positions import Position
from loadtests.chaos.breaking import Breaking
from loadtests.chaos.history import Broken, Event, Felt, Looked, Mended, NotBroken, Repaired, Used
from loadtests.chaos.schedule import Command, Episode, Fault, Stage
from loadtests.chaos.shop import Known
from loadtests.faults import FaultsUnavailable

STAGE = Stage(("eu",), ("eu-1",), ("origin-1",), full_disk=False)
CUT = Fault("cut", 0.0, 0.0, {"do": "cut", "edge": "eu"}, {"do": "heal", "edge": "eu"})
PAUSE = Fault("pause replay", 0.0, 0.0, {"do": "pause-replay"}, {"do": "resume-replay"})
KILL = Fault("kill edge worker", 0.0, 0.0, {"do": "kill", "name": "eu-1"}, None)
GONE_PID = 2**22 + 1
"""Beyond the highest that Linux gives out."""


class Shop:
    """In this process: notes what it is told, and says what it is to say."""

    def __init__(self) -> None:
        self.told: list[Command] = []
        self.felt = 2
        self.unreplayed_bytes = 9
        self.refuses: Collection[str] = ()
        self.wrong: list[str] = []
        self.asked: list[tuple[Position, float, Collection[str]]] = []

    def workers(self) -> Shop:
        return self

    async def until_they_know(
        self, head: Callable[[], Position], ended_at: float, killed: Collection[str], within_s: float
    ) -> dict[str, Known]:
        self.asked.append((head(), ended_at, killed))
        return {"eu-1": Known(ended_at + 1.0, ended_at + 1.5, 0.5), "eu-2": Known(ended_at + 1.0, None, None)}

    async def by_name(self, breaks: Command, mends: Command | None) -> tuple[Command, Command | None]:
        return breaks, mends

    async def status(self) -> dict[str, Any]:
        return {
            "processes": [{"name": "eu-1", "pid": GONE_PID}],
            "supervisor": GONE_PID,
            "replication": {"replay_paused": True, "unreplayed_bytes": self.unreplayed_bytes},
        }

    async def tell(self, command: Command) -> dict[str, Any]:
        self.told.append(command)
        if command["do"] in self.refuses:
            raise FaultsUnavailable("no relay")
        return {"felt": self.felt} if command["do"] == "heal" else {}

    insist = tell

    async def until_whole(self) -> str:
        return self.wrong.pop(0) if self.wrong else ""

    async def used(self) -> list[tuple[str, int, int]]:
        return [("eu-1", os.getpid(), 20)]


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def played(shop: Shop, *faults: Fault) -> tuple[list[Event], Breaking]:
    events: list[Event] = []
    breaking = Breaking(
        shop,  # type: ignore[arg-type]
        STAGE,
        note=events.append,
        head=lambda: Position(1, 8),
        began_at=time.monotonic(),
    )
    await breaking.play(Episode(3, faults))
    return events, breaking


def of_kind(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("fault", [CUT, PAUSE])
async def test_what_bit_is_mended_and_counts(shop, fault):
    events, breaking = await played(shop, fault)
    assert shop.told == [fault.breaks, fault.mends]
    assert [type(event) for event in events[:3]] == [Broken, Felt, Mended]
    assert breaking.felt == 1


@pytest.mark.parametrize("fault", [CUT, PAUSE])
async def test_what_did_not_bite_is_mended_and_does_not_count(shop, fault):
    shop.felt = shop.unreplayed_bytes = 0
    events, breaking = await played(shop, fault)
    assert shop.told == [fault.breaks, fault.mends]
    assert of_kind(events, Felt) == []
    assert breaking.felt == 0


async def test_what_could_not_be_made_is_mended_all_the_same(shop):
    shop.refuses = ["cut"]
    events, breaking = await played(shop, CUT)
    assert shop.told == [CUT.breaks, CUT.mends]
    assert [type(event) for event in events[:3]] == [Broken, NotBroken, Mended]
    assert of_kind(events, Repaired) == []
    assert breaking.felt == 0


@pytest.mark.parametrize(("fault", "edge"), [(CUT, "eu"), (KILL, "eu"), (PAUSE, None)])
async def test_it_is_told_whose_fault_it_is(shop, fault, edge):
    events, _ = await played(shop, fault)
    assert of_kind(events, Broken)[0].edge == edge


async def test_repair_is_told_since_a_worker_could_ask_and_since_the_kill(shop):
    events, _ = await played(shop, KILL)
    ((head, _, killed),) = shop.asked
    assert (head, killed) == (Position(1, 8), {"eu-1"})
    first, second = of_kind(events, Repaired)
    assert (first.worker, first.seconds, first.in_all_s) == ("eu-1", 0.5, pytest.approx(1.5))
    assert (second.worker, second.seconds) == ("eu-2", None)
    assert (first.restarted, second.restarted) == (True, False)
    assert of_kind(events, Used)


async def test_what_is_not_whole_after_everything_was_mended_is_wrong(shop):
    shop.wrong = ["eu: fills cut"]
    events, _ = await played(shop, CUT)
    assert shop.told[-1] == {"do": "heal"}
    assert of_kind(events, Looked)[0].wrong == "eu: fills cut"


async def test_a_shop_that_cannot_be_mended_ends_the_run(shop):
    shop.wrong = ["eu-1 is stopped", "eu-1 is stopped"]
    with pytest.raises(FaultsUnavailable, match="episode 3"):
        await played(shop, CUT)
