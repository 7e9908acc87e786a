"""A server that recovers says so, and is waited for: ended, it would begin anew, for ever."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from infra.local import postgres
from infra.local.errors import LocalError
from infra.local.postgres import Databases, Node


class Server:
    """Answers each question with the next of `answers`; the last of them stays."""

    name, log, is_running = "pg-1", SimpleNamespace(path="pg-1.log"), True

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)

    async def start(self) -> None: ...

    def last_words(self, _: int) -> list[str]:
        return []

    @contextlib.asynccontextmanager
    async def session(self, *_: object) -> AsyncIterator[Any]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer

        async def fetchval(_: str) -> bool:
            return answer

        yield SimpleNamespace(fetchval=fetchval)


RECOVERS = asyncpg.CannotConnectNowError("the database system is not yet accepting connections")
REFUSES = ConnectionRefusedError("connection refused")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs `server`; no answer is waited for longer than for one question."""
    monkeypatch.setattr(postgres, "READY_S", -1.0)

    async def run(server: Server, *, can_be_copied: bool) -> list[str]:
        databases, said = Databases.__new__(Databases), list[str]()
        databases.tell, databases.sockets = said.append, tmp_path
        monkeypatch.setattr(postgres, "session", server.session)
        until_ready = postgres.until_ready
        monkeypatch.setattr(postgres, "until_ready", lambda child, check: until_ready(child, check, postgres.READY_S))
        node = Node("pg-1", 5432, tmp_path, cast(Any, server))
        await databases._run(node, can_be_copied=can_be_copied)
        return said

    return run


async def test_a_server_that_recovers_is_waited_for_and_that_is_said(run):
    said = await run(Server(RECOVERS, RECOVERS, True), can_be_copied=False)
    assert said == ["pg-1 still recovers from its log, and is waited for"] * 2


async def test_one_that_can_be_copied_anew_is_not(run):
    with pytest.raises(LocalError, match="pg-1 has not recovered"):
        await run(Server(RECOVERS), can_be_copied=True)


@pytest.mark.parametrize("can_be_copied", [True, False])
async def test_nor_is_one_that_says_nothing(run, can_be_copied):
    with pytest.raises(LocalError, match="pg-1 does not answer"):
        await run(Server(REFUSES), can_be_copied=can_be_copied)


async def test_a_server_that_ends_while_it_recovers_is_not_waited_for(run):
    server = Server(RECOVERS)
    server.is_running = False
    with pytest.raises(LocalError, match="ended while it was starting"):
        await run(server, can_be_copied=False)
