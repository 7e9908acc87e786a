"""Two clients break and mend one shop at once, and what a command says that is neither true nor false."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.local import faults as room
from infra.local.errors import LocalError
from infra.local.faults import Faults
from infra.local.processes import Child
from infra.local.supervisor import Supervisor


class Relay:
    """Answers when somebody else has had a turn; notes who is broken."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.fails = False

    async def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.fails:
            raise LocalError("the relay is not running; try again in a second")
        self.told.append((command["do"], f"{command['edge']} {command['channel']}"))
        return {"felt": 2}


class Line:
    """The way between the databases."""

    def lead_directly(self) -> None: ...

    lead_nowhere = lead_through_relay = lead_directly


class Servers:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.line = Line()

    async def end_streams(self) -> None:
        await asyncio.sleep(0)

    def database_children(self) -> list[Child]:
        return []


class Runner:
    """Hands over to whoever is asked for."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def move(self, _: object, *, accept_loss: bool) -> None:
        self.asked.append(accept_loss)


class Shop:
    """As much of a supervisor as faults of the ways are about."""

    def __init__(self, home: Path) -> None:
        self.relay = Relay()
        self.servers = Servers(home)
        self.runner = Runner()
        self.state = SimpleNamespace(logs=home)
        self.databases = SimpleNamespace(external=None, disarmed=list, runner=self.runner)
        self.topology = SimpleNamespace(edges=[SimpleNamespace(name=name) for name in ("us", "eu")])
        self.children: dict[str, Child] = {}
        self.resting: dict[str, None] = {}
        self.is_ready = True


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def faults(shop: Shop) -> Faults:
    return Faults(cast(Supervisor, shop))


@pytest.mark.parametrize("edge", ["replication", "eu"])
async def test_two_clients_heal_the_same_and_only_one_ends_it(shop, faults, edge):
    await faults.obey({"do": "slow", "edge": edge, "ms": 5})
    healed = await asyncio.gather(*(faults.obey({"do": "heal", "edge": edge}) for _ in range(2)))
    assert [each["faults"] for each in healed] == [[], []]
    ended = [where for did, where in shop.relay.told if did == "heal"]
    assert len(ended) == len(set(ended))
    assert sum(each["felt"] for each in healed) == 2 * len(ended)


async def test_what_is_cut_while_another_heals_is_in_force_afterwards_or_not_and_the_relay_agrees(shop, faults):
    await faults.obey({"do": "cut", "edge": "eu"})
    await asyncio.gather(faults.obey({"do": "heal", "edge": "eu"}), faults.obey({"do": "stall", "edge": "all"}))
    last = dict.fromkeys(where for _, where in shop.relay.told)
    for did, where in shop.relay.told:
        last[where] = did
    in_force = {text.replace(":", "").removesuffix(" stalled") for text in await faults.active()}
    assert in_force == {where for where, did in last.items() if did == "stall"}


async def test_a_new_relay_is_told_what_the_old_one_was_told_while_somebody_heals(shop, faults):
    await faults.obey({"do": "cut", "edge": "all"})
    await asyncio.gather(faults.repeat_cuts(), faults.obey({"do": "heal", "edge": "all"}))
    assert await faults.active() == []


async def test_what_could_not_be_healed_is_still_in_force(shop, faults):
    await faults.obey({"do": "cut", "edge": "eu", "channel": "fills"})
    shop.relay.fails = True
    with pytest.raises(LocalError, match="not running"):
        await faults.obey({"do": "heal", "edge": "eu"})
    assert await faults.active() == ["eu: fills cut"]


@pytest.mark.parametrize("said", ["false", "", 0, 1, None, []])
@pytest.mark.parametrize("command", [{"do": "failover", "name": "accept_loss"}, {"do": "fill-disk", "name": "dry"}])
async def test_what_is_neither_true_nor_false_is_refused(shop, faults, command, said):
    with pytest.raises(LocalError, match=f"{command['do']}: {command['name']} is true or false, not"):
        await faults.obey({"do": command["do"], command["name"]: said})
    assert shop.runner.asked == []


@pytest.mark.parametrize(
    ("said", "accepted"), [({}, False), ({"accept_loss": False}, False), ({"accept_loss": True}, True)]
)
async def test_loss_is_accepted_by_whoever_says_so(shop, faults, monkeypatch, said, accepted):
    monkeypatch.setattr(room, "described", lambda _: {})
    await faults.obey({"do": "failover", **said})
    assert shop.runner.asked == [accepted]


@pytest.fixture
def sleeper() -> Supervisor:
    """A supervisor of which only waking is tried: each start takes a while."""
    one = Supervisor.__new__(Supervisor)
    one.resting = {"origin-1": None, "eu-1": None}
    one._waking = asyncio.Lock()
    one.databases = cast(Any, SimpleNamespace(are=lambda _: False))
    one.topology = cast(Any, SimpleNamespace(origin_workers=["origin-1"], origin_readiness=["/readyz"], edges=[]))
    return one


async def test_two_clients_who_start_the_same_start_it_once_and_both_wait_for_it(sleeper, monkeypatch):
    started: list[str] = []
    kept: list[str] = []
    ready = asyncio.Event()
    waiting = 0

    async def revive(child: Child) -> None:
        await asyncio.sleep(0)
        started.append(child.name)

    async def until_ready(*_: object) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            ready.set()
        await ready.wait()

    monkeypatch.setattr(sleeper, "revive", revive, raising=False)
    monkeypatch.setattr(sleeper, "_until_ready", until_ready, raising=False)
    monkeypatch.setattr(
        sleeper, "_keep", lambda *children: kept.extend(child.name for child in children), raising=False
    )
    monkeypatch.setattr(sleeper, "_edge_names", list, raising=False)
    child = cast(Child, SimpleNamespace(name="origin-1"))
    async with asyncio.timeout(5):
        await asyncio.gather(sleeper.wake([child]), sleeper.wake([child]))
    assert started == kept == ["origin-1"]
    assert list(sleeper.resting) == ["eu-1"]
