"""Two database servers that change places, and by hand what a supervisor does."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.servers import EmbeddedServers

LEASE = "SELECT events.renew_supervisor_lease('tests', clock_timestamp(), $1::text::interval)"


class Pair(EmbeddedServers):
    """Started with `start_postgres`. Whoever is the primary, `servers.primary` and `servers.standby` say so."""

    @property
    def primary_port(self) -> int:
        return self.servers.primary.port

    @property
    def database_url(self) -> str:
        """Of both servers, as an origin worker is told."""
        return self.servers.database_url

    @property
    def replica_url(self) -> str:
        return self.servers.replica_url

    def url_of(self, port: int) -> str:
        """Of one server, whatever it is."""
        return f"postgresql+asyncpg://nearshelf@/nearshelf?host={self.servers.sockets}&port={port}"

    def ask(self, port: int, statement: str, *values: object) -> Any:
        """One value from a server, as its owner."""
        return self.run(self._ask(port, statement, *values))

    async def _ask(self, port: int, statement: str, *values: object) -> Any:
        async with self.servers.connection(port) as connection:
            return await connection.fetchval(statement, *values)

    def configure(self, port: int, name: str, value: str) -> None:
        """Change a setting of a server, and have it read by all of its processes that are asked from now on."""
        self.run(self._configure(port, name, value))

    async def _configure(self, port: int, name: str, value: str) -> None:
        async with self.servers.connection(port) as connection:
            await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            await connection.execute("SELECT pg_reload_conf()")
        while await self._ask(port, f"SELECT current_setting('{name}')") != value:
            pass
        # Whoever commits hears of it from the checkpointer, which has listened when it has made a checkpoint.
        if name == "synchronous_standby_names":
            async with self.servers.connection(port) as connection:
                await connection.execute("CHECKPOINT")

    async def _wait_for_replay(self) -> None:
        position = await self._ask(self.primary_port, "SELECT pg_current_wal_lsn()::text")
        async with self.servers.connection(self.servers.standby.port) as standby, asyncio.timeout(30):
            while not await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position):
                pass

    def hold_lease(self, length: str = "2 s") -> None:
        """Have the primary in charge for so long."""
        self.ask(self.primary_port, LEASE, length)

    def promote(self) -> None:
        """The standby becomes the primary, begins an epoch, and is in charge for as long as nobody takes it back."""
        self.run(self._promote())

    async def _promote(self) -> None:
        node = self.servers.standby
        async with self.servers.connection(node.port) as connection:
            assert await connection.fetchval("SELECT pg_promote(true, 30)")
            async with connection.transaction():
                await connection.execute("SELECT events.raise_epoch('tests')")
                await connection.execute("SELECT events.end_supervision()")
        self.servers.primary_name = node.name

    def end(self, name: str) -> None:
        """kill -9 of one server."""
        self.run(self.servers.end(name))

    def freeze(self, name: str) -> None:
        self.servers.nodes[name].child.freeze()

    def thaw(self, name: str) -> None:
        self.servers.nodes[name].child.thaw()

    def heal(self) -> None:
        """A primary, in charge without a supervisor, and a standby that streams from it."""
        self.run(self._heal())

    async def _heal(self) -> None:
        for node in self.servers.nodes.values():
            if node.child.frozen:
                node.child.thaw()
        primary, standby = self.servers.primary, self.servers.standby
        if not primary.child.is_running:
            await self.servers.start(primary.name)
        await self._configure(primary.port, "synchronous_standby_names", "")
        await self._ask(primary.port, "SELECT events.end_supervision()")
        await self.servers.end(standby.name)
        (standby.data / "postgresql.auto.conf").write_text("")
        await self.servers.follow(standby.name)
