"""What is done to a server by SQL when it is made the primary, and what is left to whoever runs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from infra.failover.embedded import EmbeddedDriver
from infra.failover.external import ExternalDriver
from infra.failover.sql import SqlServers
from infra.failover.steps import Event, Open, Promote
from infra.local.state import State


class Server:
    """A standby, or an old primary that was told to take no writes. Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.is_standby = True
        self.is_held_by_another = False

    async def execute(self, statement: str, *values: object) -> None:
        if "renew_supervisor_lease" in statement and self.is_held_by_another:
            raise asyncpg.ObjectInUseError("the supervisor b/1 has this server in charge")
        self.told.append(statement)
        self.is_standby = self.is_standby and "pg_promote" not in statement

    async def fetchval(self, statement: str, *values: object) -> object:
        if "pg_is_in_recovery" in statement:
            return self.is_standby
        return "on" if "default_transaction_read_only" in statement else True

    async def fetchrow(self, statement: str, *values: object) -> tuple[int, bool]:
        return 2, True

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.told.append("BEGIN")
        yield
        self.told.append("COMMIT")

    def was_told(self, part: str) -> bool:
        return any(part in statement for statement in self.told)

    @contextlib.asynccontextmanager
    async def connection(self, *_: object) -> AsyncIterator[Any]:
        yield self


def of_others(folder: Path) -> Any:
    return ExternalDriver({"b": {}}, State(folder), "me", moved=print)


def of_ours(folder: Path) -> Any:
    servers = SimpleNamespace(addresses=lambda: {"b": {}})
    return EmbeddedDriver(cast(Any, servers), State(folder), "me", moved=print, tell=print)


@pytest.mark.parametrize(("made", "released"), [(of_others, False), (of_ours, True)])
async def test_whom_commits_wait_for_is_set_by_whoever_runs_the_servers(
    tmp_path: Path, made: Callable[[Path], Any], released: bool
):
    """Others may wait for several standbys: with none, what is acknowledged next would be on one machine alone."""
    server, driver = Server(), made(tmp_path)
    driver._sql.connection = server.connection

    def submit(_: Event) -> None: ...

    await driver.carry_out(Promote("b"), submit)
    assert not server.is_standby
    assert server.was_told("synchronous_standby_names") == released
    if released:
        assert "synchronous_standby_names" in server.told[0], "its first commit would wait for ever"


async def test_a_server_that_another_supervisor_has_in_charge_is_not_told_to_take_writes_again():
    """It may be handing it over just now."""
    server, sql = Server(), SqlServers({"b": {}}, "me")
    sql.connection = server.connection  # type: ignore[method-assign, assignment]
    server.is_held_by_another = True
    with pytest.raises(asyncpg.ObjectInUseError):
        await sql.open(Open("b", above=1, lease=True))
    assert not server.was_told("RESET default_transaction_read_only")
    server.is_held_by_another = False
    await sql.open(Open("b", above=1, lease=True))
    reset = server.told.index("ALTER SYSTEM RESET default_transaction_read_only")
    assert reset > server.told.index("COMMIT")
