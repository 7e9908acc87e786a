"""Where the read-through cache keeps its values: Redis or Valkey, which may be slow, full, lying or gone at any moment.

Nothing here raises, and nobody waits for it longer than `WAIT_S`: what does not come by then counts as not there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cache_policies.positions import Position

WAIT_S = 0.02
"""How long a request waits for its value: about what reading it from the database takes."""
TURNS = 8
"""Of the event loop, within which an answer that has arrived comes to whoever waits for it."""
GIVE_UP_S = 2.0
"""How long the server has for an answer that nobody waits for any more, and to take a connection."""
FAILURES = 3
"""In a row: then it is left alone."""
REST_S = (0.25, 5.0)
"""For how long: at first, and at most."""
SAY_EVERY_S = 60.0
"""Faults are said in the log so often at the most."""
CONNECTIONS = 16
MOST_UNDER_WAY = 64
"""Commands of one worker at a time; one more is not sent."""
POSITION_CHARACTERS = 28

_log = logging.getLogger(__name__)

# A value begins with its position. One of a higher position stays, whoever is late; what is no value gives way.
_PUT = """
local held = redis.call('GETRANGE', KEYS[1], 0, 27)
if string.find(held, '^%d%d%d%d%d%d%d%d%d%.%d+$') and #held == 28 and held > string.sub(ARGV[1], 1, 28) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Absence(StrEnum):
    """Why there is no value."""

    ABSENT = "absent"
    """There is none of that name."""
    SLOW = "slow"
    """No answer within `WAIT_S`."""
    AWAY = "away"
    """The server is not there, refuses, or is left alone after it failed."""


def in_order(position: Position) -> bytes:
    """`position` in 28 characters that sort as positions do; what each value begins with."""
    return f"{position.epoch:09d}.{position.cv:018d}".encode()


class Shelf:
    """One worker's end."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`url`: redis://, rediss:// or unix://. Raises ValueError for anything else."""
        # No second tries: who asks goes without instead.
        pool = BlockingConnectionPool.from_url(
            url,
            protocol=2,
            max_connections=CONNECTIONS,
            timeout=GIVE_UP_S,
            socket_connect_timeout=GIVE_UP_S,
            socket_timeout=GIVE_UP_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._clock = clock
        self._under_way: set[asyncio.Future[Any]] = set()
        self._failures = 0
        self._rest_s = REST_S[0]
        self._rests_until = 0.0
        self._silent_until = 0.0

    async def close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._redis.aclose()

    async def get(self, name: str) -> bytes | Absence:
        """The value called `name`."""
        value = await self._ask(self._redis.get(name))
        if value is None:
            return Absence.ABSENT
        return value if isinstance(value, bytes | Absence) else Absence.AWAY

    async def put(self, name: str, value: bytes, for_s: float) -> bool:
        """Keep `value`, which begins with its position (`in_order`), unless a higher one is there; whether it is kept.

        `for_s`: seconds until it is forgotten.
        """
        asked = self._redis.execute_command("EVAL", _PUT, 1, name, value, max(1, round(for_s * 1000)))  # type: ignore[no-untyped-call]
        return bool(await self._ask(asked) == 1)

    async def drop(self, name: str) -> None:
        """Forget what is called `name`."""
        await self._ask(self._redis.delete(name))

    async def _ask(self, asked: Awaitable[Any]) -> Any:
        """What comes within `WAIT_S`, or why nothing came."""
        if self._clock() < self._rests_until or len(self._under_way) >= MOST_UNDER_WAY:
            asked.close()  # type: ignore[attr-defined]
            return Absence.AWAY
        task = asyncio.ensure_future(asked)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        # The command runs to its own end whatever happens here: its connection stays in step, and is used again.
        await asyncio.wait({task}, timeout=WAIT_S)
        for _ in range(TURNS):
            # This worker itself may have been busy for so long: what has arrived meanwhile is there after some turns.
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            self._failed(f"nothing within {WAIT_S:g} s")
            return Absence.SLOW
        try:
            answer = task.result()
        except ResponseError as exc:
            # It is there, and will not do this: full, or something else has that name.
            self._say(f"refuses a command: {exc}")
            return Absence.AWAY
        except (RedisError, OSError, TimeoutError) as exc:
            self._failed(str(exc) or type(exc).__name__)
            return Absence.AWAY
        self._failures, self._rest_s = 0, REST_S[0]
        return answer

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has been told

    def _say(self, what: str) -> None:
        if self._clock() >= self._silent_until:
            self._silent_until = self._clock() + SAY_EVERY_S
            _log.warning("the read-through cache %s", what)

    def _failed(self, why: str) -> None:
        self._failures += 1
        if self._failures < FAILURES or self._clock() < self._rests_until:
            return
        self._say(f"does not answer ({why}): going without it while it fails")
        self._rests_until = self._clock() + self._rest_s
        self._rest_s = min(2 * self._rest_s, REST_S[1])
