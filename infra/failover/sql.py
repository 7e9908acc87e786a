"""Failover by SQL alone: what any PostgreSQL lets its administrator do. For servers of others, and below those of ours.

Every session commits locally: what the supervisor writes must not wait for a standby, which may be what is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from cache_policies import clock
from infra.failover.machine import LEASE_S
from infra.failover.silence import PROBE_DEADLINE_S
from infra.failover.steps import Open, Probe, Promote, Release, Seen, Stop, Synchronise, TakeBack, Unleash

STANDBY = "standby1"
"""What a standby is called by the primary it follows, whichever of the servers it is."""
CONNECT_S = 5.0
STATEMENT_S = 10.0
"""How long a server may take for a statement. One that falls silent must not keep a step waiting for ever."""
CHECKPOINT_S = 120.0
PROMOTED_S = 60.0
"""How long a promotion may take: whatever the standby has received is replayed first."""
IN_FORCE_S = 10.0
FLUSHED_S = 20.0
POLL_S = 0.005
HEARD_S = 2.5
"""A standby that has not replied for so long follows no more, whatever its stream looks like; it replies every 1 s."""
SQL_FENCE_S = 1.0
"""How long an old primary of others is tried to be told that it is one no more. Only its lease is certain."""

TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asking a server may raise."""

_PROBE = r"""
SELECT pg_is_in_recovery() AS in_recovery,
       coalesce(CASE WHEN pg_is_in_recovery()
                     THEN (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming')
                     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END, 0) AS timeline,
       pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::bigint AS received,
       coalesce(
         (SELECT substring(setting FROM 'application_name\s*=\s*''?([^''&\s]+)')
            FROM pg_settings WHERE name = 'primary_conninfo'),
         nullif(current_setting('cluster_name'), ''), 'walreceiver') AS name,
       current_setting('synchronous_standby_names') <> '' AS synchronous,
       EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'
                  AND reply_time > clock_timestamp() - make_interval(secs => $2)) AS followed,
       to_regclass('events.supervisor_lease') IS NOT NULL AS has_lease,
       clock_timestamp() AS clock
"""
_EPOCH = "SELECT epoch FROM events.clock"
_RENEW = "SELECT events.renew_supervisor_lease($1, $2, make_interval(secs => $3))"
_HISTORY = "SELECT epoch, timeline = events.timeline() AS of_this_timeline FROM events.clock"
_END_SUPERVISION = "SELECT events.end_supervision()"
_END_OLDER = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE backend_type = 'client backend'
   AND backend_start < (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
"""
_HAS_FLUSHED = "SELECT coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) >= $1, false)"


class StepFailed(Exception):
    """A server did not do what it was asked. Says why."""


@dataclass(slots=True)
class _Line:
    """A session that is kept for the next probe."""

    connection: asyncpg.Connection[Any]
    basis: Any = None
    """What the server's clock showed when the last answer left it: from then on the next lease counts."""


class SqlServers:
    """The servers by name, each reached as its administrator."""

    def __init__(
        self, addresses: Mapping[str, Mapping[str, Any]], holder: str, clock: Callable[[], float] = clock.now
    ) -> None:
        """`addresses`: arguments of asyncpg.connect. `holder`: who we are, unlike any other supervisor of these
        servers. `clock`: the one of the machine."""
        self._addresses = dict(addresses)
        self._holder = holder
        self._clock = clock
        self._lines: dict[str, list[_Line]] = {node: [] for node in addresses}

    async def close(self) -> None:
        for lines in self._lines.values():
            for line in lines:
                line.connection.terminate()
            lines.clear()

    @asynccontextmanager
    async def connection(self, node: str, within_s: float = CONNECT_S) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A session of its own. Raises what is in TROUBLE."""
        connection = await self._connect(node, within_s)
        try:
            yield connection
        finally:
            # Nothing is under way that could be lost, and a server that is silent would not say goodbye.
            connection.terminate()

    async def _connect(self, node: str, within_s: float) -> asyncpg.Connection[Any]:
        settings = {"application_name": "nearshelf-supervisor", "synchronous_commit": "local", "jit": "off"}
        return await asyncpg.connect(
            **self._addresses[node], timeout=within_s, command_timeout=STATEMENT_S, server_settings=settings
        )

    async def probe(self, step: Probe) -> Seen:
        """How a server is, its lease renewed where that is wanted. Raises what is in TROUBLE."""
        node, sent_at = step.node, self._clock()
        lines = self._lines[node]
        line = lines.pop() if lines else None
        try:
            async with asyncio.timeout(PROBE_DEADLINE_S):
                if line is None:
                    line = _Line(await self._connect(node, PROBE_DEADLINE_S))
                seen = await self._ask(node, line, step.renew, sent_at)
        except BaseException:
            if line is not None:
                line.connection.terminate()
            for other in lines:
                other.connection.terminate()
            lines.clear()
            raise
        if lines:
            line.connection.terminate()
        else:
            lines.append(line)
        return seen

    async def _ask(self, node: str, line: _Line, renew: bool, sent_at: float) -> Seen:
        row = await line.connection.fetchrow(_PROBE, STANDBY, HEARD_S)
        basis, line.basis = line.basis, row["clock"]
        epoch, trouble, renewed, ousted = 0, "", False, False
        if not row["in_recovery"] and row["has_lease"]:
            epoch = await line.connection.fetchval(_EPOCH)
            if renew and basis is not None:
                try:
                    line.basis = await line.connection.fetchval(_RENEW, self._holder, basis, LEASE_S)
                    renewed = True
                except asyncpg.PostgresError as exc:
                    if line.connection.is_closed():
                        raise
                    # It answers, so it is not lost; that it cannot write is for people to mend.
                    line.basis, trouble = None, str(exc)
                    ousted = isinstance(exc, asyncpg.ObjectInUseError)
        return Seen(
            node,
            sent_at,
            row["in_recovery"],
            timeline=row["timeline"],
            followed=row["followed"],
            synchronous=row["synchronous"],
            epoch=epoch,
            renewed=renewed,
            trouble=trouble,
            ousted=ousted,
            received=row["received"] or 0,
            name=row["name"],
        )

    async def epoch_of(self, standby: str) -> int:
        """How far its purge log has come. Not asked by every probe: it may have to wait for what is replayed."""
        async with self.connection(standby) as connection:
            if not await connection.fetchval("SELECT to_regclass('events.clock') IS NOT NULL"):
                return 0
            epoch: int = await connection.fetchval(_EPOCH)
            return epoch

    async def identity_of(self, node: str) -> str:
        """What is kept through promotions and copies of its files: of the cluster, and which database of it."""
        async with self.connection(node) as connection:
            identity: str = await connection.fetchval(
                "SELECT system_identifier || '/' || current_database() FROM pg_control_system()"
            )
            return identity

    async def open(self, step: Open) -> None:
        """One transaction, the first that this server lets anybody commit since its timeline began: until an epoch has
        begun there, the shop's functions refuse. Before the tables are made there is nothing to open.

        The epoch is raised where its history is a new one: another timeline, or one that lacks an epoch which may have
        been given out. Doing it again raises nothing.
        """
        async with self.connection(step.node) as connection:
            async with connection.transaction():
                # It may have been turned away when it was a primary before.
                await connection.execute("SET TRANSACTION READ WRITE")
                await self._open(connection, step)
            # Not sooner: another supervisor may have it in charge, and be handing over just now.
            if await connection.fetchval("SELECT current_setting('default_transaction_read_only')") == "on":
                await _take_back(connection)

    async def _open(self, connection: asyncpg.Connection[Any], step: Open) -> None:
        if not await connection.fetchval("SELECT to_regclass('events.supervisor_lease') IS NOT NULL"):
            return
        epoch, of_this_timeline = await connection.fetchrow(_HISTORY)
        if not of_this_timeline or epoch < step.above:
            await connection.execute("SELECT events.raise_epoch($1, $2)", self._holder, step.above)
        if step.lease:
            basis = await connection.fetchval("SELECT clock_timestamp()")
            await connection.execute(_RENEW, self._holder, basis, LEASE_S)
        else:
            await connection.execute(_END_SUPERVISION)

    async def unleash(self, step: Unleash) -> None:
        """Let this primary be in charge without anybody's lease."""
        async with self.connection(step.node) as connection:
            await connection.execute(_END_SUPERVISION)

    async def promote(self, step: Promote) -> None:
        """Raises StepFailed when it is still a standby after `PROMOTED_S`.

        Whom its commits wait for from then on is left as it is set there.
        """
        async with self.connection(step.node) as connection:
            if not await connection.fetchval("SELECT pg_is_in_recovery()"):
                return
            await connection.execute("SELECT pg_promote(false)")
            give_up_at = self._clock() + PROMOTED_S
            while await connection.fetchval("SELECT pg_is_in_recovery()"):
                if self._clock() > give_up_at:
                    raise StepFailed(f"it is still a standby after {PROMOTED_S:g} s")
                await asyncio.sleep(POLL_S)

    async def synchronise(self, step: Synchronise) -> None:
        """Have synchronous commits wait for the standby. Done when they all do, and what went before is on its disk.

        Commits go by a word that the checkpointer passes on. A session that shows the new setting was begun after the
        server told its checkpointer of it, and a checkpoint asked for after that begins after it has listened.
        Raises StepFailed when the standby does not come so far in time.
        """
        async with self.connection(step.primary) as connection:
            await _wait_for(connection, wanted := f"ANY 1 ({STANDBY})")
            give_up_at = self._clock() + IN_FORCE_S
            while not await self._shows(step.primary, "synchronous_standby_names", wanted):
                if self._clock() > give_up_at:
                    raise StepFailed("the server does not take the setting over")
                await asyncio.sleep(POLL_S)
            await connection.execute("CHECKPOINT", timeout=CHECKPOINT_S)
            position = await connection.fetchval("SELECT pg_current_wal_lsn()")
            give_up_at = self._clock() + FLUSHED_S
            flushed = "SELECT max(flush_lsn) >= $1 FROM pg_stat_replication WHERE application_name = $2"
            while not await connection.fetchval(flushed, position, STANDBY):
                if self._clock() > give_up_at:
                    raise StepFailed(f"the standby has not caught up after {FLUSHED_S:g} s")
                await asyncio.sleep(POLL_S)

    async def _shows(self, node: str, setting: str, value: str) -> bool:
        """A session that begins now was told so: the server has heard of it, and tells every later one."""
        async with self.connection(node) as fresh:
            return bool(await fresh.fetchval("SELECT current_setting($1) = $2", setting, value))

    async def release(self, step: Release) -> None:
        """Have no commit wait for a standby; of a standby: from when it is the primary."""
        async with self.connection(step.primary) as connection:
            await _wait_for(connection, "")

    async def turn_away(self, step: Stop) -> None:
        """Tell an old primary, if it listens, to take no writes and to end its sessions. Proves nothing."""
        async with asyncio.timeout(SQL_FENCE_S), self.connection(step.node, SQL_FENCE_S) as connection:
            await connection.execute("ALTER SYSTEM SET default_transaction_read_only = 'on'")
            await connection.execute("SELECT pg_reload_conf()")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    async def take_back(self, step: TakeBack) -> None:
        """Undo what `turn_away` has left."""
        async with self.connection(step.node) as connection:
            await _take_back(connection)

    async def until_flushed(self, step: Stop, heir: str) -> None:
        """Wait until that standby has all that an old primary has written, which `turn_away` has told to take no more.

        Raises StepFailed when it has not in time.
        """
        give_up_at = self._clock() + IN_FORCE_S
        while not await self._shows(step.node, "default_transaction_read_only", "on"):
            if self._clock() > give_up_at:
                raise StepFailed("the server goes on to take writes")
            await asyncio.sleep(POLL_S)
        async with self.connection(step.node) as connection:
            # Whoever came before this session may still write; whoever comes after it is told not to.
            while await connection.fetchval(_END_OLDER):
                if self._clock() > give_up_at:
                    raise StepFailed("its sessions do not end")
                await asyncio.sleep(POLL_S)
            position = await connection.fetchval("SELECT pg_current_wal_flush_lsn()")
        give_up_at = self._clock() + FLUSHED_S
        async with self.connection(heir) as standby:
            while not await standby.fetchval(_HAS_FLUSHED, position):
                if self._clock() > give_up_at:
                    raise StepFailed(f"{heir} does not have its last changes after {FLUSHED_S:g} s")
                await asyncio.sleep(POLL_S)


async def _wait_for(connection: asyncpg.Connection[Any], standbys: str) -> None:
    """Set whom synchronous commits wait for, as PostgreSQL spells it; empty: nobody."""
    await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{standbys}'")
    await connection.execute("SELECT pg_reload_conf()")


async def _take_back(connection: asyncpg.Connection[Any]) -> None:
    """Undo what `turn_away` has left: it outlasts a restart, and a life as a standby."""
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await connection.execute("SELECT pg_reload_conf()")


def in_words(exc: BaseException) -> str:
    """An exception in one line."""
    said = str(exc).partition("\n")[0][:200]
    return said or ("nothing in time" if isinstance(exc, TimeoutError) else type(exc).__name__)
