"""The embedded servers lose their primary: a promotion by real processes, and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.failover import sql
from infra.failover.keeping import KeptDatabases
from infra.failover.machine import LEASE_S, Refused
from infra.failover.records import OURS, record, recorded
from infra.failover.steps import Fence, Freed, Record
from infra.local import postgres
from infra.local.errors import LocalError
from infra.local.external import ExternalDatabases
from infra.local.state import State
from infra.local.voice import Voice
from tests.support.servers import EmbeddedServers

pytestmark = [pytest.mark.database, pytest.mark.alone]

KEPT = "public.kept"
WITHIN_S = 40.0


class Pair:
    """Two embedded servers of a test's own, with the origin's tables, and whoever keeps one of them in charge."""

    def __init__(self, folder: Path) -> None:
        self.embedded = EmbeddedServers(folder)
        self.moves = 0
        self.said: list[str] = []
        self.kept: KeptDatabases

    def __enter__(self) -> Pair:
        self.embedded.__enter__()
        self.keep()
        self.embedded.migrate()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.kept.stop())
        self.embedded.__exit__(*_)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.embedded.run(work)

    @property
    def servers(self):
        return self.embedded.servers

    @property
    def machine(self):
        return self.kept.runner.machine

    def keep(self, *, accept_loss: bool = False) -> None:
        """From now on, as `up` does."""
        voice = Voice(quiet=True)
        voice.warn = self.said.append  # type: ignore[method-assign, assignment]
        state: State = self.servers.state

        def moved() -> None:
            self.moves += 1

        self.kept = KeptDatabases(self.servers, None, state, voice, failover=None, accept_loss=accept_loss, moved=moved)
        self.run(self.kept.start_primary())
        self.run(self.kept.start_standby())
        self.until_whole()

    def keep_no_more(self) -> None:
        self.run(self.kept.stop())
        self.run(self.servers.stop_databases())

    def until_whole(self) -> None:
        self.run(self.kept.until_whole())

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the machine does is so."""

        async def wait() -> None:
            async with asyncio.timeout(WITHIN_S):
                await self.kept.runner.until(condition)

        self.run(wait())

    def until_said(self, words: str) -> None:
        self.until(lambda: any(words in said for said in self.said))

    # --- SQL ---

    def sql(self, node: str, statement: str, *values: object, durable: bool = False) -> Any:
        async def ask() -> Any:
            async with self.session(node, durable) as connection:
                return await connection.fetchval(statement, *values)

        return self.run(ask())

    @contextlib.asynccontextmanager
    async def session(self, node: str, durable: bool = False) -> AsyncIterator[asyncpg.Connection]:
        settings = {"synchronous_commit": "on" if durable else "local"}
        connection = await asyncpg.connect(**self.servers.addresses()[node], timeout=5, server_settings=settings)
        try:
            yield connection
        finally:
            connection.terminate()

    def change(self, node: str, durable: bool = True) -> tuple[int, int]:
        """A change that takes a position."""

        async def ask() -> tuple[int, int]:
            async with self.session(node, durable) as connection:
                row = await connection.fetchrow("SELECT * FROM events.log_purge('hard', ARRAY['x'], 'test', 'test')")
                return row["epoch"], row["cv"]

        return self.run(ask())

    def positions(self, node: str) -> list[tuple[int, int, str]]:
        async def ask() -> list[tuple[int, int, str]]:
            async with self.session(node) as connection:
                rows = await connection.fetch("SELECT epoch, cv, kind FROM events.purge_log ORDER BY epoch, cv")
                return [tuple(row) for row in rows]

        return self.run(ask())


@pytest.fixture(scope="module")
def pair_of_module(scratch: Path, _servers_exist: None) -> Iterator[Pair]:
    with Pair(scratch / "failover") as pair:
        yield pair


@pytest.fixture
def pair(pair_of_module: Pair) -> Iterator[Pair]:
    """Whole before the test and after it."""
    yield pair_of_module
    pair_of_module.run(_call(pair_of_module.kept.runner.arm))
    for node in pair_of_module.servers.nodes.values():
        if node.child.is_running:
            node.child.thaw()
    pair_of_module.until_whole()


def lose(pair: Pair) -> tuple[str, str]:
    """Old and new primary, after the old one was killed without warning and all is whole again."""
    old, count = pair.machine.primary, len(pair.machine.moves)
    pair.servers.nodes[old].child.kill()
    pair.until(lambda: len(pair.machine.moves) > count and pair.machine.moves[-1].opened_at is not None)
    new = pair.machine.primary
    pair.until_whole()
    return old, new


def test_a_killed_primary_is_replaced_and_nothing_acknowledged_is_lost(pair):
    epoch, cv = pair.change(pair.machine.primary)
    moves = pair.moves
    old, new = lose(pair)
    assert old != new
    assert pair.moves == moves + 2  # the new one, and that the old one may be read from again
    assert pair.positions(new)[-2:] == [(epoch, cv, "hard"), (epoch + 1, cv + 1, "epoch")]
    assert pair.change(new) == (epoch + 1, cv + 2)
    move = pair.machine.moves[-1]
    assert move.opened_at is not None
    assert move.opened_at - move.lost_at < 5.0
    # The old one follows, in the new history.
    assert pair.sql(old, "SELECT pg_is_in_recovery()")
    pair.embedded.run(_until_equal(pair, new, old))
    assert pair.servers.primary_name == new


async def _until_equal(pair: Pair, one: str, other: str) -> None:
    query = "SELECT (epoch, cv)::text FROM events.clock"
    async with pair.session(one) as here, pair.session(other) as there, asyncio.timeout(WITHIN_S):
        while await here.fetchval(query) != await there.fetchval(query):
            await asyncio.sleep(0.01)


def test_the_first_process_alone_is_enough_to_lose(pair):
    """Its children go on for a moment when it is killed: none of them may be left when another is promoted."""
    old = pair.machine.primary
    count = len(pair.machine.moves)
    os.kill(pair.servers.nodes[old].child.pid, signal.SIGKILL)
    pair.until(lambda: len(pair.machine.moves) > count and pair.machine.moves[-1].fenced_at is not None)
    pair.until_whole()
    assert pair.machine.primary != old


@contextlib.contextmanager
def nowhere_to_write(pair: Pair) -> Iterator[None]:
    """What is lost cannot be written down."""
    folder = pair.servers.state.folder / "lost"
    folder.mkdir(exist_ok=True)
    away = folder.rename(folder.with_name("lost.away"))
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        away.rename(folder)


def test_what_only_the_old_primary_had_is_gone_and_its_position_is_not_given_out_again(pair):
    old = pair.machine.primary
    epoch, cv = pair.change(old)
    pair.servers.line.lead_nowhere()
    try:
        pair.run(pair.servers.end_streams())
        assert pair.change(old, durable=False) == (epoch, cv + 1)
        pair.embedded.run(_call(lambda: pair.kept.hold(old)))
        pair.servers.nodes[old].child.kill()
        pair.until(lambda: pair.machine.primary != old)
    finally:
        pair.servers.line.lead_directly()
    with nowhere_to_write(pair):
        pair.run(_call(lambda: pair.kept.runner.submit(Freed(old))))
        pair.until_said("cannot be written down")
        assert not pair.servers.nodes[old].is_standby, "it is not rewound before that is safe"
    pair.until_whole()
    new = pair.machine.primary
    assert (epoch + 1, cv + 1, "epoch") in pair.positions(new)
    assert (epoch, cv + 1, "hard") not in pair.positions(new)
    pair.embedded.run(_until_equal(pair, new, old))
    assert (epoch, cv + 1, "hard") not in pair.positions(old)
    # Before it was rewound, it was written down.
    lost = pair.servers.state.folder / "lost" / f"{old}-before-epoch-{epoch + 1}.jsonl"
    (row,) = [json.loads(line) for line in lost.read_text().splitlines()]
    assert (row["table"], row["epoch"], row["cv"], row["cause"]) == ("events.purge_log", epoch, cv + 1, "test")
    assert any(str(lost) in said for said in pair.said)


def test_a_frozen_primary_is_killed_before_another_is_promoted(pair):
    old = pair.machine.primary
    node = pair.servers.nodes[old]
    count, pid = len(pair.machine.moves), node.child.pid
    node.child.freeze()
    pair.until(lambda: len(pair.machine.moves) > count and pair.machine.moves[-1].fenced_at is not None)
    assert not Path(f"/proc/{pid}/cwd").exists()
    pair.until_whole()


@pytest.mark.parametrize("disarmed", [("kill",), ("kill", "sync"), ("kill", "lease"), ("lease", "sync")], ids=" ".join)
def test_an_old_primary_that_goes_on_acknowledges_nothing(pair, disarmed):
    """Nor does it answer anything, but where only commits are fenced."""
    for fence in disarmed:
        pair.run(_call(partial(pair.kept.runner.disarm, Fence(fence))))
    pair.until(lambda: pair.machine.promotable is not None)
    old = pair.machine.primary
    node, count = pair.servers.nodes[old], len(pair.machine.moves)
    # Before the first renewal after the tables were made there is no lease that could end.
    pair.embedded.run(_until_leased(pair, old, "lease" not in disarmed))

    async def connected() -> asyncpg.Connection:
        settings = {"synchronous_commit": "on"}
        return await asyncpg.connect(**pair.servers.addresses()[old], timeout=5, server_settings=settings)

    session = pair.run(connected())
    node.child.freeze()
    pair.until(lambda: len(pair.machine.moves) > count and pair.machine.moves[-1].opened_at is not None)
    move = pair.machine.moves[-1]
    if "lease" not in disarmed:
        assert move.fenced_at - move.lost_at >= 0.9 * LEASE_S - 0.5
    node.child.thaw()

    async def acknowledged() -> bool:
        statement = "SELECT events.log_purge('hard', ARRAY['x'], 'too late', 'test')"
        try:
            async with asyncio.timeout(2.0):
                await session.fetchval(statement)
                return bool(await session.fetchval("SELECT events.in_charge()"))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        finally:
            session.terminate()

    async def answers() -> bool:
        try:
            return bool(await session.fetchval("SELECT events.in_charge()"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    assert pair.run(answers()) == (set(disarmed) == {"kill", "lease"})
    assert not pair.run(acknowledged())
    new = pair.machine.primary
    assert new != old
    pair.change(new)


async def _call(what: Callable[[], None]) -> None:
    what()


async def _until_leased(pair: Pair, node: str, leased: bool) -> None:
    async with pair.session(node) as connection, asyncio.timeout(WITHIN_S):
        while await connection.fetchval("SELECT EXISTS (SELECT FROM events.supervisor_lease)") != leased:
            await asyncio.sleep(0.01)


def test_a_shop_says_whether_commits_wait_for_its_standby(pair):
    assert pair.run(pair.servers.replication())["waited_for"]
    pair.run(_call(partial(pair.kept.runner.disarm, Fence.SYNC)))

    async def let_go() -> None:
        async with asyncio.timeout(WITHIN_S):
            while (await pair.servers.replication())["waited_for"]:
                await asyncio.sleep(0.01)

    pair.run(let_go())
    assert pair.run(pair.servers.replication())["state"] == "streaming"


def test_the_primary_is_handed_over_in_good_order(pair):
    old = pair.machine.primary
    position = pair.change(old, durable=False)

    async def asked_twice() -> list[Any]:
        runner = pair.kept.runner
        return list(await asyncio.gather(runner.move(None), runner.move(None), return_exceptions=True))

    move, refused = pair.run(asked_twice())
    assert (move.old, move.new) == (old, pair.machine.primary)
    assert isinstance(refused, Refused)
    # In good order even what was committed for this server alone came over.
    assert (*position, "hard") in pair.positions(move.new)
    pair.until_whole()


def test_while_the_standby_is_away_changes_go_on_and_nobody_is_promotable(pair):
    standby = pair.servers.standby
    pair.embedded.run(_call(lambda: pair.kept.hold(standby.name)))
    pair.run(standby.child.stop())
    primary = pair.machine.primary
    begun = time.monotonic()
    pair.change(primary)  # waits until nobody waits for the standby any more
    assert time.monotonic() - begun < 15
    assert pair.machine.promotable is None
    # Without a standby that holds everything, a lost primary is started again.
    pair.servers.nodes[primary].child.kill()
    restarts = pair.servers.nodes[primary].child.restarts
    pair.until(lambda: pair.servers.nodes[primary].child.restarts > restarts and not pair.machine.down - {standby.name})
    assert pair.machine.primary == primary
    pair.run(pair.kept.wake([standby.name]))


def test_a_standby_that_came_while_its_primary_was_away_follows_it_when_it_is_back(pair):
    primary, standby = pair.servers.primary, pair.servers.standby
    pair.embedded.run(_call(lambda: pair.kept.hold(standby.name)))
    pair.run(standby.child.stop())
    pair.change(primary.name)  # waits until nobody waits for the standby any more
    pair.sql(primary.name, "SELECT pg_drop_replication_slot($1)", sql.STANDBY)
    pair.embedded.run(_call(lambda: pair.kept.hold(primary.name)))
    primary.child.kill()
    pair.until(lambda: primary.name in pair.machine.down)
    pair.run(pair.kept.wake([standby.name]))
    pair.run(pair.kept.wake([primary.name]))
    pair.until_whole()


def test_a_copy_that_fails_leaves_the_standby_its_place_in_the_log(pair, monkeypatch):
    async def fail(*_: object) -> None:
        raise LocalError("no room")

    standby = pair.servers.standby
    pair.embedded.run(_call(lambda: pair.kept.hold(standby.name)))
    pair.run(standby.child.stop())
    monkeypatch.setattr(pair.servers._folders, "_tool", fail)
    with pytest.raises(LocalError, match="no room"):
        pair.run(pair.servers._copy(standby))
    slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1"
    assert pair.sql(pair.machine.primary, slots, sql.STANDBY) == 1
    pair.run(pair.kept.wake([standby.name]))


def test_an_old_primary_that_cannot_be_rewound_is_copied_anew(pair, monkeypatch):
    old = pair.machine.primary
    node = pair.servers.nodes[old]
    pair.embedded.run(_call(lambda: pair.kept.hold(old)))
    node.child.kill()
    pair.until(lambda: pair.machine.primary != old)
    (node.data / "global" / "pg_control").unlink()
    monkeypatch.setattr(postgres, "free_bytes", lambda _: 0)
    pair.run(_call(lambda: pair.kept.runner.submit(Freed(old))))
    pair.until_said("no room")
    assert not node.is_standby, "it may be the full disk alone that keeps it from being read"
    monkeypatch.undo()
    pair.run(pair.kept.wake([old]))
    pair.until_whole()
    assert pair.sql(old, "SELECT pg_is_in_recovery()")


def test_the_next_run_knows_who_is_the_primary(pair):
    _, new = lose(pair)
    epoch = pair.positions(new)[-1][0]
    pair.keep_no_more()
    pair.servers.primary_name = "pg-1"
    pair.keep()
    assert pair.machine.primary == new
    # The same history goes on: nothing was promoted.
    assert pair.positions(new)[-1][0] == epoch


def test_a_promotion_that_a_killed_run_began_is_finished_by_the_next(pair):
    old, standby = pair.machine.primary, pair.servers.standby.name
    epoch, cv = pair.change(old)
    pair.keep_no_more()
    (pair.servers.state.folder / OURS).write_text(
        f'{{"primary": "{standby}", "promotable": null, "epoch": {epoch + 3}}}'
    )
    pair.keep()
    assert pair.machine.primary == standby
    assert pair.positions(standby)[-1] == (epoch + 4, cv + 1, "epoch")
    assert pair.sql(old, "SELECT pg_is_in_recovery()")


@pytest.mark.parametrize("is_promotable", [True, False])
def test_a_primary_that_cannot_be_started_at_all_gives_way_if_nothing_is_lost_or_that_is_accepted(pair, is_promotable):
    old, standby = pair.machine.primary, pair.servers.standby.name
    epoch, cv = pair.change(old)
    pair.keep_no_more()
    path = pair.servers.state.folder / OURS
    (pair.servers.nodes[old].data / "global" / "pg_control").unlink()
    if not is_promotable:
        record(path, Record(old, None, epoch))
        with pytest.raises(LocalError, match="--accept-loss"):
            pair.keep()
        assert recorded(path) == Record(old, None, epoch)
        pair.run(pair.servers.stop_databases())
    pair.keep(accept_loss=not is_promotable)
    assert pair.machine.primary == standby
    assert pair.positions(standby)[-1] == (epoch + 2, cv + 1, "epoch")


def test_going_back_to_the_old_primary_by_hand_gives_up_the_epoch_of_the_new_one(pair):
    old, new = pair.machine.primary, pair.servers.standby.name
    epoch, cv = pair.change(old)
    pair.embedded.run(_call(lambda: pair.kept.hold(old)))
    pair.servers.nodes[old].child.kill()
    pair.until(lambda: pair.machine.primary == new)
    assert pair.change(new, durable=False) == (epoch + 1, cv + 2)
    pair.keep_no_more()
    path = pair.servers.state.folder / OURS
    known = recorded(path)
    assert known is not None
    record(path, Record(old, known.promotable, known.epoch))
    pair.keep()
    assert pair.machine.primary == old
    # The same position as that of the change which is given up, and not the same epoch.
    assert pair.positions(old)[-2:] == [(epoch, cv, "hard"), (epoch + 2, cv + 1, "epoch")]
    lost = pair.servers.state.folder / "lost" / f"{new}-before-epoch-{epoch + 2}.jsonl"
    rows = [json.loads(line) for line in lost.read_text().splitlines()]
    assert [(row["epoch"], row["cv"]) for row in rows] == [(epoch + 1, cv + 1), (epoch + 1, cv + 2)]


def test_without_a_record_of_who_is_the_primary_nobody_is_taken_for_it_by_chance(pair):
    state = pair.servers.state
    path, mark = state.folder / OURS, pair.servers.standby.data / "standby.signal"
    known = path.read_text()

    def refused() -> str:
        kept = KeptDatabases(pair.servers, None, state, Voice(quiet=True), failover=None, moved=lambda: None)
        with pytest.raises(LocalError) as caught:
            pair.run(kept.start_primary())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    try:
        path.write_text("{")
        assert "cannot be read" in refused()
        path.write_text('{"primary": "pg-9", "promotable": null, "epoch": 1}')
        assert "'pg-9'" in refused()
        path.unlink()
        mark.rename(mark.with_name("elsewhere"))  # as after a promotion, before the other one has rejoined
        assert "were both a primary" in refused()
    finally:
        mark.with_name("elsewhere").rename(mark)
        path.write_text(known)
        pair.servers.tell = pair.said.append


# --- servers of others ---


def others(pair: Pair, **more: str) -> ExternalDatabases:
    found = ExternalDatabases.of(
        {
            "DATABASE_URL": pair.servers.database_url,
            "REPLICA_URLS": pair.servers.replica_url,
            "ADMIN_DATABASE_URL": pair.servers.admin_database_url,
            **more,
        }
    )
    assert found is not None
    return found


async def _until_changed(pair: Pair, node: str) -> tuple[int, int]:
    """A change, as soon as the server that was told to take none is told otherwise."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                async with pair.session(node) as connection:
                    row = await connection.fetchrow(
                        "SELECT * FROM events.log_purge('hard', ARRAY['x'], 'test', 'test')"
                    )
                    return row["epoch"], row["cv"]
            except asyncpg.PostgresError:
                await asyncio.sleep(0.01)


@pytest.fixture
def folder_of_others(scratch: Path) -> Iterator[State]:
    """A state folder of a shop on servers of others: one that has servers of its own is refused them."""
    with State(scratch / "failover-of-others") as state:
        yield state


def test_servers_of_others_are_put_in_charge_and_handed_over_by_hand(pair, folder_of_others, monkeypatch):
    pair.run(pair.kept.stop())
    servers, state = pair.servers, folder_of_others
    old, new = servers.primary, servers.standby
    kept = KeptDatabases(
        servers,
        others(pair, NEARSHELF_STANDBYS="standby1"),
        state,
        Voice(quiet=True),
        failover=None,
        moved=lambda: None,
    )
    try:
        assert pair.run(kept.start_primary()) == []
        assert kept.runner.machine.primary == f"{servers.sockets}:{old.port}"
        pair.sql(old.name, "ALTER SYSTEM SET synchronous_standby_names = ''")
        pair.sql(old.name, "SELECT pg_reload_conf()")
        position = pair.change(old.name, durable=False)
        with monkeypatch.context() as patched:
            patched.setattr(sql, "FLUSHED_S", 0.2)
            servers.line.lead_nowhere()
            try:
                pair.run(servers.end_streams())
                position = pair.change(old.name, durable=False)
                # What the standby cannot get would be lost: the old one goes on.
                with pytest.raises(Refused, match="does not have its last changes"):
                    pair.run(kept.runner.move(None))
            finally:
                servers.line.lead_directly()
        position = pair.run(_until_changed(pair, old.name))
        move = pair.run(kept.runner.move(None))
        assert move.new == f"{servers.sockets}:{new.port}"
        assert pair.positions(new.name)[-2:] == [(*position, "hard"), (position[0] + 1, position[1] + 1, "epoch")]
        # It still runs, and takes no change.
        with pytest.raises(asyncpg.PostgresError):
            pair.change(old.name, durable=False)
    finally:
        pair.run(kept.stop())
    # Its owner rebuilds the old one.
    pair.run(servers.stop_databases())
    record(servers.state.folder / OURS, Record(new.name, None, position[0] + 1))
    pair.keep()
    assert pair.machine.primary == new.name
    # It was told to take no writes when it was handed over, and is told otherwise when it is the primary again.
    pair.sql(old.name, "ALTER SYSTEM SET default_transaction_read_only = 'on'")
    pair.sql(old.name, "SELECT pg_reload_conf()")
    assert pair.run(pair.kept.runner.move(None)).new == old.name
    pair.change(old.name, durable=False)
