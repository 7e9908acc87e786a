"""Who is the primary: chosen by what servers say, followed when it moves, and never one of an epoch that ended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from origin import whereabouts as module
from origin.settings import OriginSettings, SettingsError
from origin.whereabouts import NoServer, Role, Sighting, Whereabouts, choose
from tests.support.origin import until

PRIMARY = Sighting(is_standby=False, in_charge=True, epoch=1)
STANDBY = Sighting(is_standby=True, in_charge=False, epoch=1)
NEXT = Sighting(is_standby=False, in_charge=True, epoch=2)
FENCED = Sighting(is_standby=False, in_charge=False, epoch=1)
URL = "postgresql+asyncpg://nearshelf@/nearshelf?host=a:1&host=b:2"


@pytest.mark.parametrize(
    ("role", "seen", "epoch", "chosen"),
    [
        pytest.param(Role.PRIMARY, [STANDBY, PRIMARY], 0, 1, id="the one that is no standby"),
        pytest.param(Role.PRIMARY, [None, STANDBY], 0, None, id="a standby is none, and the other is silent"),
        pytest.param(Role.PRIMARY, [FENCED, NEXT], 1, 1, id="an old one that woke up is not in charge"),
        pytest.param(Role.PRIMARY, [NEXT, PRIMARY], 0, 0, id="of two that claim it, the higher epoch"),
        pytest.param(
            Role.PRIMARY, [PRIMARY, replace(NEXT, in_charge=False)], 0, 1, id="also when that is not in charge"
        ),
        pytest.param(Role.PRIMARY, [replace(FENCED, epoch=2), NEXT], 0, 1, id="of one epoch, who is in charge"),
        pytest.param(Role.PRIMARY, [PRIMARY, None], 2, None, id="an epoch that ended is not gone back to"),
        pytest.param(Role.PRIMARY, [FENCED, STANDBY], 1, 0, id="without a supervisor's word it is still the primary"),
        pytest.param(Role.STANDBY, [PRIMARY, STANDBY], 0, 1, id="a standby"),
        pytest.param(Role.STANDBY, [None, PRIMARY], 0, None, id="no standby"),
        pytest.param(Role.ANY, [None, PRIMARY], 0, 1, id="any that answers"),
    ],
)
def test_who_is_chosen(role, seen, epoch, chosen):
    assert choose(role, seen, epoch) == chosen


@pytest.mark.parametrize(
    ("url", "role", "names"),
    [
        (f"{URL}&target_session_attrs=standby", Role.STANDBY, ["a:1", "b:2"]),
        (URL, Role.ANY, ["a:1", "b:2"]),
        ("postgresql+asyncpg://x@/y?host=/run/pg:5432&host=/run/pg:5433", Role.ANY, ["/run/pg:5432", "/run/pg:5433"]),
        ("postgresql+asyncpg://x@/y?host=/run/pg&port=5432", Role.ANY, ["/run/pg:5432"]),
        ("postgresql+asyncpg://x@db.example:5432/y", Role.ANY, ["db.example:5432"]),
    ],
)
def test_a_url_names_servers_and_a_role(url, role, names):
    place = Whereabouts(url)
    assert (place.role, [server.name for server in place.servers]) == (role, names)
    assert place.can_move is (len(names) > 1)


@pytest.mark.parametrize(
    ("name", "url", "why"),
    [
        ("DATABASE_URL", f"{URL}&target_session_attrs=read-write", "any, primary or standby"),
        ("DATABASE_URL", f"{URL}&target_session_attrs=standby", "must not be standby"),
        ("DATABASE_URL", "postgresql+asyncpg://x@/y?host=a:1&host=b", "ports"),
        ("REPLICA_URLS", "postgresql+asyncpg://x@/y?host=a:1&host=b:two", "non-integer"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(name, url, why):
    enough = {"DATABASE_URL": URL, "NEARSHELF_EDGE_KEY": "sixteen letters!"}
    with pytest.raises(SettingsError, match=name) as caught:
        OriginSettings.from_env(enough | {name: url})
    assert why in str(caught.value)


class FakeConnection:
    """A session on a fake server."""

    def __init__(self, servers: FakeServers, port: int) -> None:
        self._servers = servers
        self.port = port
        self.closed = False
        self.reads = False

    async def fetchrow(self, statement: str) -> dict[str, object]:
        said = await self._servers.word_of(self.port)
        return {"is_standby": said.is_standby, "in_charge": said.in_charge, "epoch": said.epoch}

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        assert not self.closed, "asyncpg has an AttributeError in its place"
        return self.reads

    def terminate(self) -> None:
        self.closed = True


class FakeServers:
    """What servers would say, by their ports. An exception is raised by whoever asks; None: nothing is said."""

    def __init__(self, **words: Sighting | Exception | None) -> None:
        self.words = {int(name.removeprefix("at_")): word for name, word in words.items()}
        self.asked = 0

    async def connect(self, **options) -> FakeConnection:
        self.asked += 1
        word = self.words[options["port"]]
        if isinstance(word, OSError | asyncpg.TooManyConnectionsError | asyncpg.InternalClientError):
            raise word
        if isinstance(word, Sighting) and options.get("target_session_attrs") == "primary" and word.is_standby:
            raise asyncpg.TargetServerAttributeNotMatched("it is a standby")
        return FakeConnection(self, options["port"])

    async def word_of(self, port: int) -> Sighting:
        word = self.words[port]
        if word is None:
            await asyncio.Event().wait()
        if isinstance(word, Exception):
            raise word
        assert isinstance(word, Sighting)
        return word


@pytest.fixture
def fake(monkeypatch):
    def make(**words) -> FakeServers:
        servers = FakeServers(**words)
        monkeypatch.setattr(asyncpg, "connect", servers.connect)
        # Nobody who answers here needs any time for it.
        monkeypatch.setattr(module, "SAY_S", 0.05)
        monkeypatch.setattr(module, "ALONE_S", 0.05)
        monkeypatch.setattr(module, "WATCH_EVERY_S", 0.001)
        return servers

    return make


def primary_of(url: str = URL) -> Whereabouts:
    return Whereabouts(url, Role.PRIMARY)


@asynccontextmanager
async def watched(place: Whereabouts):
    task = asyncio.create_task(place.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_connection_goes_to_the_primary_wherever_it_is(fake):
    servers = fake(at_1=STANDBY, at_2=PRIMARY)
    place = primary_of()
    connection = await place.connect(port=[1, 2])
    assert (connection.port, place.moves) == (2, 0)
    servers.words = {1: NEXT, 2: ConnectionRefusedError("gone")}
    assert ((await place.connect(port=[1, 2])).port, place.moves) == (1, 1)


ALONE = "postgresql+asyncpg://x@/y?host=a:1"


@pytest.mark.parametrize(
    "word", [PRIMARY, FENCED, STANDBY, asyncpg.UndefinedTableError("no tables yet"), ConnectionRefusedError("full")]
)
async def test_the_only_host_is_the_one_whatever_it_says(fake, word):
    servers = fake(at_1=PRIMARY)
    place = primary_of(ALONE)
    connection = await place.connect(port=1)
    servers.words = {1: word}
    async with watched(place):
        await until(lambda: servers.asked > (3 if isinstance(word, Exception) else 1))
    assert (connection.closed, place.moves) == (False, 0)


async def test_whoever_waits_on_the_only_host_is_told_when_it_is_silent(fake):
    servers = fake(at_1=PRIMARY)
    place = primary_of(ALONE)
    waits = await place.connect(port=1)
    async with watched(place):
        servers.words = {1: None}
        await until(lambda: waits.closed)
        servers.words = {1: PRIMARY}
        assert not (await place.connect(port=1)).closed


async def test_without_a_primary_there_is_no_connection_and_a_word_for_people(fake):
    fake(at_1=STANDBY, at_2=ConnectionRefusedError("gone"))
    with pytest.raises(NoServer, match="try again") as caught:
        await primary_of().connect(port=[1, 2])
    assert caught.value.retry_after_s == 1


async def test_all_who_look_at_once_look_together(fake):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = primary_of()
    await asyncio.gather(*(place.look() for _ in range(20)))
    assert servers.asked == 2


async def test_connections_to_the_old_primary_are_closed_when_a_new_one_is_found(fake):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = primary_of()
    old = await place.connect(port=[1, 2])
    servers.words = {1: FENCED, 2: NEXT}
    await place.look()
    new = await place.connect(port=[1, 2])
    assert (old.closed, new.port, new.closed) == (True, 2, False)
    servers.words = {1: PRIMARY, 2: ConnectionRefusedError("gone")}
    with pytest.raises(NoServer):
        await place.connect(port=[1, 2])


@pytest.mark.parametrize(
    ("reads", "says", "closed"),
    [
        pytest.param(True, NEXT, False, id="a read goes on where the standby was promoted"),
        pytest.param(False, NEXT, True, id="nobody reads there just now"),
        pytest.param(True, None, True, id="it is silent, and whoever reads would wait"),
    ],
)
async def test_a_read_is_not_torn_when_the_standby_is_elsewhere(fake, reads, says, closed):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = Whereabouts(URL, Role.STANDBY)
    old = await place.connect(port=[1, 2])
    old.reads = reads
    servers.words = {1: STANDBY, 2: says}
    await place.look()
    new = await place.connect(port=[1, 2])
    assert (old.closed, new.port) == (closed, 1)
    assert (place.has_left(old), place.has_left(new)) == (not closed, False)
    old.reads = False
    await place.look()
    assert old.closed


async def test_a_connection_that_its_pool_has_closed_is_nobodys_business(fake):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = Whereabouts(URL, Role.STANDBY)
    gone = await place.connect(port=[1, 2])
    gone.terminate()
    servers.words = {1: STANDBY, 2: NEXT}
    assert (await place.look()).name == "a:1"


async def test_whoever_keeps_watch_follows_a_primary_that_is_not_in_charge_any_more(fake):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = primary_of()
    old = await place.connect(port=[1, 2])
    async with watched(place):
        await until(lambda: servers.asked > 3)
        servers.words = {1: FENCED, 2: STANDBY}
        await until(lambda: servers.asked > 10)
        assert not old.closed  # it is no worse off there than anywhere else
        servers.words = {1: FENCED, 2: NEXT}
        await until(lambda: old.closed)
    assert place.moves == 1


async def test_whoever_waits_on_a_silent_primary_is_told(fake):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = primary_of()
    connection = await place.connect(port=[1, 2])
    async with watched(place):
        servers.words = {1: None, 2: STANDBY}
        await until(lambda: connection.closed)
        servers.words = {1: None, 2: NEXT}
        await until(lambda: place.moves == 1)
    assert (await place.connect(port=[1, 2])).port == 2


async def test_a_server_that_talks_nonsense_is_one_that_is_silent(fake):
    """Whoever keeps watch goes on: nobody would follow the primary any more."""
    servers = fake(at_1=asyncpg.ProtocolError("what is that?"), at_2=STANDBY)
    place = primary_of()
    async with watched(place):
        await until(lambda: servers.asked > 4)
        servers.words = {1: asyncpg.ProtocolError("what is that?"), 2: NEXT}
        before = servers.asked
        # Whoever connects shares the look that is under way: not one that began before.
        await until(lambda: servers.asked > before + 2)
        assert (await place.connect(port=[1, 2])).port == 2


async def test_a_primary_without_room_for_another_look_stays_where_it_is(fake):
    servers = fake(at_1=PRIMARY, at_2=STANDBY)
    place = primary_of()
    connection = await place.connect(port=[1, 2])
    servers.words = {1: asyncpg.TooManyConnectionsError("full"), 2: STANDBY}
    async with watched(place):
        await until(lambda: servers.asked > 12)
    assert not connection.closed


async def test_a_look_whose_asker_was_cancelled_goes_on_for_the_others(fake):
    fake(at_1=PRIMARY, at_2=None)
    place = primary_of()
    first = asyncio.create_task(place.look())
    second = asyncio.create_task(place.look())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).name == "a:1"
