"""A promotion that has much log to replay is waited for, and said: the server is a standby until it is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from infra.local.postgres import Databases


class Server:
    """Says of each promotion whether it was over in time."""

    def __init__(self, *over: bool) -> None:
        self.over = list(over)

    async def fetchval(self, _: str) -> bool:
        return self.over.pop(0)


async def test_a_promotion_is_waited_for_until_it_is_over():
    databases, said = Databases.__new__(Databases), list[str]()
    databases.tell = said.append
    server = Server(False, False, True)
    await databases._until_promoted(cast(Any, SimpleNamespace(name="pg-2")), cast(Any, server))
    assert server.over == []
    assert said == ["pg-2 is not the primary yet after 60 s: it has log to replay, and is waited for"] * 2
