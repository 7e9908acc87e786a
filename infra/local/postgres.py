"""Two PostgreSQL 18 servers, a primary and its streaming standby, as our own children.

The servers keep their names, `pg-1` and `pg-2`; who of them is the primary changes (infra.failover). Both are started
by the same command but for name and port, so that either can be what the other was. They do not listen on TCP: they
have unix sockets in a folder that only their account may enter, which is why they can trust whoever connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.failover.sql import STANDBY, TROUBLE, in_words
from infra.local.binaries import Binaries
from infra.local.disk import free_bytes
from infra.local.errors import LocalError
from infra.local.lost_changes import lost_rows, write_down
from infra.local.postgres_data import DataFolders, give, server_environment, session
from infra.local.processes import Account, Child, Log, Program, Tether, tail
from infra.local.replication_line import ReplicationLine
from infra.local.state import processes_in

if TYPE_CHECKING:
    import asyncpg

PRIMARY_PORT = 5432
STANDBY_PORT = 5433
PORTS = {"pg-1": PRIMARY_PORT, "pg-2": STANDBY_PORT}
"""Of each server. In a new shop the first is the primary."""
APPLICATION_ROLE = "nearshelf"
DATABASE = "nearshelf"
END_STREAMS_S = 2.0
END_S = 10.0
"""How long processes that are killed may take to vanish."""
PROMOTION_S = 60
"""How long a promotion is waited for before it is said that it takes so long."""
READY_S = 60.0
"""How long a server may take until it answers; one that says that it recovers may take longer."""
ROOM_BYTES = 64 << 20
"""A server that starts after a crash may need so much room on its disk: some segments of its log."""
STREAMING_S = 15.0
"""How long a standby that answers may take until it streams; one that does not is made anew."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "wal_level": "logical",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    # After a promotion, or a restart of the primary, a standby would otherwise wait 5 s before it tries again.
    "wal_retrieve_retry_interval": "100ms",
    # What an old primary needs to be rewound, and to follow, is still there after a checkpoint.
    "wal_keep_size": "128MB",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "max_connections": "200",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "log_line_prefix": "%m [%p] ",
    # Before a server recovers, all of its data is made safe: a file after the other takes seconds, and nobody works.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
}
"""Given on the command line, so that a newer nearshelf changes them without touching the data. fsync stays on."""


@dataclass(slots=True)
class Node:
    """One server."""

    name: str
    port: int
    data: Path
    child: Child

    @property
    def is_standby(self) -> bool:
        """It was the last time it ran, or was prepared to be one."""
        return (self.data / "standby.signal").exists()


class Databases:
    """Both servers. Programs and data are in `home` and are kept; the sockets are in the folder of this run.

    The children are ordinary Child objects: whoever runs the shop watches them and starts them again.
    """

    def __init__(self, home: Path, runtime: Path, logs: Path, lost: Path, tether: Tether) -> None:
        """`lost`: the folder for what only an old primary had."""
        self.home = home
        self.logs = logs
        self.tether = tether
        self.sockets = runtime / "pg"
        self.line = ReplicationLine(runtime / "wal", self.sockets, tuple(PORTS.values()))
        self.binaries: Binaries | None = None
        self.nodes: dict[str, Node] = {}
        self.primary_name = "pg-1"
        """Who is the primary; whoever moves that says so here."""
        self.tell: Callable[[str], None] = lambda _: None
        """Says a line to people."""
        self._lost = lost
        self._aside = runtime / "old"
        """Where an old primary listens while it is looked at."""
        self._tools = Log(self.logs / "databases.log")

    def prepare_databases(self, binaries: Binaries) -> None:
        """Make the folders."""
        self.binaries = binaries
        for folder in (self.sockets, self._aside, self.line.folder, self.home / "data"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
            self.give(folder)
        self._folders = DataFolders(binaries, self.home, self.sockets, self._tools, self.tether)
        self.line.lead_directly()
        for name, port, former in zip(PORTS, PORTS.values(), ("primary", "standby"), strict=True):
            data = self.home / "data" / name
            if data.with_name(former).exists():
                data.with_name(former).rename(data)  # of before their roles could change
            self._folders.mend(data)
            self.nodes[name] = Node(name, port, data, self._child(name, data, port))

    # --- who and where ---

    @property
    def primary(self) -> Node:
        return self.nodes[self.primary_name]

    @property
    def standby(self) -> Node:
        return next(node for name, node in self.nodes.items() if name != self.primary_name)

    def url(self, role: str, kind: str) -> str:
        """For SQLAlchemy; `kind` of the two is meant: `primary` or `standby`, whichever that is at the moment."""
        hosts = "&".join(f"host={self.sockets}:{port}" for port in PORTS.values())
        return f"postgresql+asyncpg://{role}@/{DATABASE}?{hosts}&target_session_attrs={kind}"

    @property
    def database_url(self) -> str:
        return self.url(APPLICATION_ROLE, "primary")

    @property
    def replica_url(self) -> str:
        return self.url(APPLICATION_ROLE, "standby")

    @property
    def admin_database_url(self) -> str:
        return self.url("postgres", "primary")

    def addresses(self) -> dict[str, dict[str, Any]]:
        """Arguments of asyncpg.connect for the administrator of each server."""
        return {
            name: {"host": str(self.sockets), "port": port, "user": "postgres", "database": DATABASE}
            for name, port in PORTS.items()
        }

    # --- starting ---

    async def start_primary(self) -> Child:
        """Make the data on the first start, then run; the role and the database are there when it returns.

        Raises LocalError when it does not run.
        """
        node = self.primary
        for each in self.nodes.values():  # none of a killed run is left when one is promoted
            await self._end_leftovers(each.data)
        if not any(each.data.exists() for each in self.nodes.values()):
            # initdb writes values of its own for these two; a reload would complain that they differ from ours.
            chosen = {each: SETTINGS[each] for each in ("max_connections", "shared_buffers")}
            await self._folders.make(node.data, chosen)
        if not node.data.exists():
            raise LocalError(f"{node.name} is the primary, and its data {node.data} is not there")
        await self._run(node)
        if node.is_standby:
            # A run that was promoting it was killed: there is no way back to the other.
            async with self.connection(node.port, "postgres") as connection:
                await connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
                await self._until_promoted(node, connection)
        await self._ensure_application()
        return node.child

    async def _until_promoted(self, node: Node, connection: asyncpg.Connection[Any]) -> None:
        """However much log it has to replay first: nothing else can be done with it."""
        # Asked again it is only waited for; it may have come to its end in between.
        promotion = f"SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(true, {PROMOTION_S}) ELSE true END"
        while not await connection.fetchval(promotion):
            self.tell(
                f"{node.name} is not the primary yet after {PROMOTION_S} s: it has log to replay, and is waited for"
            )

    async def start_standby(self) -> Child:
        """Have the other server follow the primary: copied on the first start, else as `follow` does."""
        return await self.follow(self.standby.name)

    async def follow(self, name: str) -> Child:
        """Run a server as the standby of the primary, and wait until it streams. Raises LocalError.

        One that was a primary itself is rewound to where their histories part. One whose data cannot be used (the
        primary was made anew, or its write-ahead log is gone) is copied again, once.
        """
        node = self.nodes[name]
        await self._end_leftovers(node.data)
        made = not node.data.exists()
        if not made and not node.is_standby:
            if self._folders.can_rewind(node.data):
                await self._save_what_is_lost(node)
            made = not await self._folders.rewind(node.data, self.primary.port)
        if made:
            await self._copy(node)
        try:
            return await self._run_standby(node)
        except LocalError:
            if made:
                raise
            await node.child.stop()
            await self._copy(node)
            return await self._run_standby(node)

    async def _copy(self, node: Node) -> None:
        await self._ensure_slot()
        await self._folders.copy(node.data, self.primary.port)

    async def _save_what_is_lost(self, node: Node) -> None:
        """Write down what only an old primary has. One that cannot be read is given up, and that is said.

        Raises LocalError, or what is in TROUBLE, where trying again may save it: the rewind leaves nothing to try with.
        """
        async with self.connection(self.primary.port) as here:
            try:
                epoch, rows = await self._lost_rows(node, here)
            except (LocalError, *TROUBLE) as exc:
                await here.fetchval("SELECT true")  # it was not the new one that failed
                if free_bytes(node.data) < ROOM_BYTES:
                    raise LocalError(f"what only {node.name} had cannot be read: its disk has no room left") from exc
                self.tell(f"what only {node.name} had, if anything, cannot be read, and is gone now: {in_words(exc)}")
                return
        if not rows:
            return
        try:
            path = write_down(rows, self._lost, f"{node.name}-before-epoch-{epoch}")
        except OSError as exc:
            raise LocalError(f"what only {node.name} had cannot be written down: {exc}") from exc
        self.tell(f"only {node.name} had {len(rows)} rows of changes: they are in {path}")

    async def _lost_rows(self, node: Node, here: asyncpg.Connection[Any]) -> tuple[int, list[dict[str, Any]]]:
        """Run an old primary where nobody else can reach it, and compare it with the new one."""
        overrides = {
            "unix_socket_directories": str(self._aside),
            "default_transaction_read_only": "on",
            "synchronous_standby_names": "",
            "max_wal_senders": "0",
            "autovacuum": "off",
        }
        program = node.child.program
        argv = (*program.argv, *(word for each in overrides.items() for word in ("-c", "=".join(each))))
        old = Child(replace(program, name=f"{node.name}, looked at", argv=argv), self._tools, self.tether)
        await old.start()
        try:
            while not await until_ready(old, lambda: self._answers(self._aside, node.port)):
                self.tell(f"{node.name} still recovers: it is waited for, to see what only it has")
            async with session(self._aside, node.port, DATABASE) as there:
                return await lost_rows(there, here)
        finally:
            await old.stop()

    async def _run(self, node: Node, *, can_be_copied: bool = False) -> None:
        await node.child.start()
        await self._until_it_answers(node, can_be_copied=can_be_copied)

    async def _run_standby(self, node: Node) -> Child:
        with contextlib.suppress(*TROUBLE):  # no primary: nobody to follow yet
            await self._ensure_slot()
        await self._run(node, can_be_copied=True)
        if self.primary.child.is_running and self._line_is_whole():
            await self._until_streaming(node.child)
        await self.delay_replay(0)  # what a killed run may have left
        return node.child

    def _line_is_whole(self) -> bool:
        """Whether nothing was put, on purpose, between the servers."""
        socket = f".s.PGSQL.{self.primary.port}"
        return (self.line.folder / socket).resolve() == (self.sockets / socket).resolve()

    async def start(self, name: str) -> None:
        """Start a server that has ended as what it was, and wait until it answers. Raises LocalError."""
        node = self.nodes[name]
        await self._end_leftovers(node.data)
        await self._run(node)
        if node is self.primary:
            with contextlib.suppress(*TROUBLE):  # ended or full: whoever follows it next asks again
                await self._ensure_slot()  # its standby may have come while it was away

    async def end(self, name: str) -> None:
        """Kill every process of a server; none is left when this returns. Raises LocalError when one stays."""
        node = self.nodes[name]
        give_up_at = time.monotonic() + END_S
        node.child.kill()
        while left := processes_in(node.data):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > give_up_at:
                raise LocalError(f"process {left[0]} of {name} cannot be ended; end it by hand")
            await asyncio.sleep(0.002)
        if node.child.process is not None:
            await node.child.wait()

    def is_dead(self, name: str) -> bool:
        """Whether certainly no process of it is left."""
        node = self.nodes[name]
        return sys.platform == "linux" and not node.child.is_running and not processes_in(node.data)

    def database_children(self) -> list[Child]:
        """Those that were started, the primary before its standby."""
        if not self.nodes:
            return []
        return [node.child for node in (self.primary, self.standby) if node.child.process is not None]

    async def stop_databases(self) -> None:
        """The standby first: the primary would wait until it has sent it everything."""
        for child in reversed(self.database_children()):
            await child.stop()

    # --- readiness ---

    async def _until_it_answers(self, node: Node, *, can_be_copied: bool) -> None:
        """Raises LocalError when it ends first, or does not answer in time.

        One that says that it recovers is waited for, unless a copy of the primary can take its place: ended, it would
        begin that anew.
        """
        while not await until_ready(node.child, lambda: self._answers(self.sockets, node.port)):
            if can_be_copied:
                raise LocalError(f"{node.name} has not recovered after {READY_S:.0f} s")
            self.tell(f"{node.name} still recovers from its log, and is waited for")

    @staticmethod
    async def _answers(sockets: Path, port: int) -> bool | None:
        """None: it says that it is not ready yet."""
        import asyncpg

        try:
            async with session(sockets, port, "postgres") as connection:
                return bool(await connection.fetchval("SELECT true"))
        except asyncpg.CannotConnectNowError:
            return None
        except asyncpg.PostgresConnectionError:
            return False

    async def _until_streaming(self, standby: Child) -> None:
        async def streaming() -> bool:
            async with self.connection(self.primary.port, "postgres") as connection:
                query = "SELECT state = 'streaming' FROM pg_stat_replication WHERE application_name = $1"
                return bool(await connection.fetchval(query, STANDBY))

        await until_ready(standby, streaming, within_s=STREAMING_S)

    def connection(self, port: int, database: str = DATABASE) -> AbstractAsyncContextManager[asyncpg.Connection[Any]]:
        """A superuser's session on one of the servers, which waits for no standby. Raises OSError or asyncpg's."""
        return session(self.sockets, port, database)

    # --- replication, for tests and faults ---

    async def pause_replay(self) -> None:
        """The standby goes on receiving, but shows nothing newer until `resume_replay`."""
        async with self.connection(self.standby.port) as standby:
            await standby.execute("SELECT pg_wal_replay_pause()")
            # The request is noticed between two records; only then is it certain that nothing more appears.
            while await standby.fetchval("SELECT pg_get_wal_replay_pause_state(), pg_sleep(0.002)") != "paused":
                pass

    async def resume_replay(self) -> None:
        async with self.connection(self.standby.port) as standby:
            await standby.execute("SELECT pg_wal_replay_resume()")

    async def delay_replay(self, delay_ms: int) -> None:
        """The standby shows a commit `delay_ms` milliseconds after it was made; 0: at once."""
        async with self.connection(self.standby.port, "postgres") as standby:
            await standby.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{int(delay_ms)}ms'")
            await standby.execute("SELECT pg_reload_conf()")

    async def end_streams(self) -> None:
        """Hang up on whoever streams from any of the servers: it comes again, by whatever way leads there now.

        A server that does not answer has nobody who streams from it.
        """
        for port in PORTS.values():
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(END_STREAMS_S), self.connection(port, "postgres") as connection:
                    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")

    async def replication(self) -> dict[str, Any]:
        """How far the standby is behind, as the primary and the standby see it."""
        async with self.connection(self.primary.port) as primary:
            row = await primary.fetchrow(
                "SELECT state, sync_state <> 'async' AS waited_for,"
                " pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::bigint AS unflushed,"
                " pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS unreplayed"
                " FROM pg_stat_replication WHERE application_name = $1",
                STANDBY,
            )
        async with self.connection(self.standby.port) as standby:
            paused = await standby.fetchval("SELECT pg_get_wal_replay_pause_state() <> 'not paused'")
            delay = await standby.fetchval("SHOW recovery_min_apply_delay")
        return {
            "state": row["state"] if row is not None else "disconnected",
            "waited_for": row is not None and bool(row["waited_for"]),
            "unflushed_bytes": row["unflushed"] if row is not None else None,
            "unreplayed_bytes": row["unreplayed"] if row is not None else None,
            "replay_paused": bool(paused),
            "replay_delay": str(delay),
        }

    # --- processes ---

    @property
    def account(self) -> Account | None:
        assert self.binaries is not None
        return self.binaries.account

    def give(self, path: Path) -> None:
        """To the account that the servers run as."""
        give(path, self.account)

    def _child(self, name: str, data: Path, port: int) -> Child:
        assert self.binaries is not None
        (other,) = (each for each in PORTS.values() if each != port)
        settings = {
            **SETTINGS,
            "unix_socket_directories": str(self.sockets),
            "port": str(port),
            "cluster_name": name,
            # For when it is the standby; a primary ignores both. It is called for its place, not by its own name.
            "primary_conninfo": f"host={self.line.folder} port={other} user=postgres application_name={STANDBY}",
            "primary_slot_name": STANDBY,
        }
        argv = [str(self.binaries.postgres / "postgres"), "-D", str(data)]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        # SIGINT is the fast shutdown: sessions are ended, the data is left clean.
        program = Program(name, tuple(argv), server_environment(), data, signal.SIGINT, self.account)
        return Child(program, Log(self.logs / f"{name}.log"), self.tether)

    async def _ensure_slot(self) -> None:
        """The primary keeps what its standby has not received yet. Raises what asyncpg does where there is none."""
        async with self.connection(self.primary.port, "postgres") as primary:
            await primary.execute(
                "SELECT pg_create_physical_replication_slot($1, true)"
                " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
                STANDBY,
            )

    async def _ensure_application(self) -> None:
        async with self.connection(self.primary.port, "postgres") as primary:
            if not await primary.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", APPLICATION_ROLE):
                await primary.execute(f"CREATE ROLE {APPLICATION_ROLE} LOGIN NOSUPERUSER")
            # So that the origin can see how far the standbys have flushed (docs/freshness.md, rule 6).
            await primary.execute(f"GRANT pg_read_all_stats TO {APPLICATION_ROLE}")
            if not await primary.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await primary.execute(f"CREATE DATABASE {DATABASE}")

    async def _end_leftovers(self, data: Path) -> None:
        """End a server that a killed run left on this data, and remove its stale pid file.

        The folder is locked, so whatever runs there belongs to nobody. PostgreSQL would itself refuse to start when
        the number in the file has meanwhile been given to another process of the same account.
        """
        pid_file = data / "postmaster.pid"
        if not pid_file.exists():
            return
        if sys.platform != "linux":
            return  # without /proc the decision is left to PostgreSQL
        deadline = time.monotonic() + END_S
        while leftovers := processes_in(data):
            number = signal.SIGINT if time.monotonic() < deadline - END_S / 2 else signal.SIGKILL
            for pid in leftovers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise LocalError(f"process {leftovers[0]} still uses {data} and cannot be ended; end it by hand")
        pid_file.unlink(missing_ok=True)


async def until_ready(child: Child, check: Any, within_s: float = READY_S) -> bool:
    """Until `check` is true; False when time runs out and it says, by None, that it is getting ready.

    Raises LocalError when the child ends first, or time runs out otherwise.
    """
    deadline = time.monotonic() + within_s
    while True:
        ready: bool | None = False
        with contextlib.suppress(OSError, TimeoutError):
            ready = await check()
        if ready:
            return True
        if not child.is_running:
            raise LocalError(f"{child.name} ended while it was starting; {tail(child.last_words(12), child.log)}")
        if time.monotonic() > deadline:
            if ready is None:
                return False
            raise LocalError(
                f"{child.name} does not answer after {within_s:.0f} s; {tail(child.last_words(12), child.log)}"
            )
        await asyncio.sleep(0.01)
