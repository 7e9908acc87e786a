"""The data folders of the embedded PostgreSQL servers: made, copied from a primary, rewound to follow one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.failover.sql import STANDBY
from infra.local.binaries import Binaries
from infra.local.errors import LocalError
from infra.local.processes import Account, Log, Program, Tether, run_once

if TYPE_CHECKING:
    import asyncpg


class DataFolders:
    """Those below `home`. What is made, is made under another name first: a broken attempt is never taken for data."""

    def __init__(self, binaries: Binaries, home: Path, sockets: Path, log: Log, tether: Tether) -> None:
        """`sockets`: where the servers listen. `log`: of the tools."""
        self._binaries = binaries
        self._home = home
        self._sockets = sockets
        self._log = log
        self._tether = tether

    def mend(self, data: Path) -> None:
        """Put back what was put aside by whoever ended in that moment; a whole standby is not one half rewound."""
        if not data.exists() and (former := _former(data)).exists():
            former.rename(data)
        if (data / "standby.signal").exists():
            _being_rewound(data).unlink(missing_ok=True)

    async def make(self, data: Path, settings: dict[str, str]) -> None:
        """Of a new primary. `settings`: values that initdb would otherwise choose itself. Raises LocalError."""

        async def initdb(draft: Path) -> None:
            await self._tool(
                "initdb",
                *("-D", str(draft), "-U", "postgres", "-A", "trust", "-E", "UTF8"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-sync"),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            )

        await self._make(data, initdb)

    async def copy(self, data: Path, port: int) -> None:
        """Of a standby of the primary at `port`, which has a slot for it. What was there before goes when the copy is
        whole, and no sooner: the primary may be lost meanwhile, and that be all there is. Raises LocalError."""

        async def basebackup(draft: Path) -> None:
            await self._tool(
                "pg_basebackup",
                *("-D", str(draft), "-h", str(self._sockets), "-p", str(port), "-U", "postgres"),
                *("-X", "stream", "-S", STANDBY, "-c", "fast", "--no-sync"),
            )
            self._mark_as_standby(draft)

        await self._make(data, basebackup)

    @staticmethod
    def can_rewind(data: Path) -> bool:
        """What a rewind has left half done is nothing that another one could go on from."""
        return not _being_rewound(data).exists()

    async def rewind(self, data: Path, port: int) -> bool:
        """Make an old primary's data the standby's of the one at `port`; False when that cannot be done."""
        if not self.can_rewind(data):
            return False
        mark = _being_rewound(data)
        mark.touch()
        try:
            source = f"host={self._sockets} port={port} user=postgres dbname=postgres"
            await self._tool("pg_rewind", "--target-pgdata", str(data), "--source-server", source, "--no-sync")
        except LocalError:
            return False
        # Of those that followed it: a slot that nobody uses would hold back its log for ever.
        for slot in (data / "pg_replslot").iterdir():
            await asyncio.to_thread(shutil.rmtree, slot)
        self._mark_as_standby(data)
        mark.unlink()
        return True

    async def _make(self, data: Path, make: Callable[[Path], Awaitable[None]]) -> None:
        draft, former = data.with_name(data.name + ".making"), _former(data)
        for each in (draft, former):
            if each.exists():
                await asyncio.to_thread(shutil.rmtree, each)
        await make(draft)
        _put_in_place(draft, data)
        _being_rewound(data).unlink(missing_ok=True)
        if former.exists():
            await asyncio.to_thread(shutil.rmtree, former)

    def _mark_as_standby(self, data: Path) -> None:
        signal_file = data / "standby.signal"
        signal_file.touch()
        give(signal_file, self._binaries.account)

    async def _tool(self, name: str, *arguments: str) -> None:
        argv = (str(self._binaries.postgres / name), *arguments)
        account, folder = self._binaries.account, self._home / "data"
        await run_once(
            Program(name, argv, server_environment(), folder, signal.SIGINT, account), self._log, self._tether
        )


def _put_in_place(draft: Path, data: Path) -> None:
    if data.exists():
        data.rename(_former(data))
    draft.rename(data)


def _former(data: Path) -> Path:
    return data.with_name(data.name + ".former")


def _being_rewound(data: Path) -> Path:
    return data.with_name(data.name + ".rewinding")


def give(path: Path, account: Account | None) -> None:
    """To the account that the servers run as; None: our own."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def server_environment() -> dict[str, str]:
    """What a database server may know of our environment: next to nothing."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


@contextlib.asynccontextmanager
async def session(sockets: Path, port: int, database: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A superuser's session on a server of ours, which waits for no standby. Raises OSError or asyncpg's."""
    import asyncpg

    connection = await asyncpg.connect(
        host=str(sockets),
        port=port,
        user="postgres",
        database=database,
        timeout=10,
        server_settings={"synchronous_commit": "local"},
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=5)
