"""A nudge between the origin's workers over Redis; it may be lost, which costs milliseconds and nothing else.

Nobody learns anything from a nudge but that it is worth reading the purge log now.
"""

from __future__ import annotations

import asyncio
import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

from origin.db import Committed

CHANNEL = "nearshelf:wake"
RECONNECT_S = (0.05, 2.0)
"""How long to wait before connecting again: at first, and at most."""
PUBLISH_TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)


class Wake:
    """One per worker. `start` it, hang `announce` into `Database.on_commit`, wait for `event` (and clear it)."""

    def __init__(self, redis_url: str = "") -> None:
        """`redis_url`: where the workers nudge each other; empty: this worker hears only itself."""
        self.event = asyncio.Event()
        """Set whenever the purge log may have grown."""
        self.connected = False
        """Whether nudges of other workers are heard just now; while not, whoever waits must poll."""
        self._url = redis_url
        self._publisher: Redis | None = None
        self._listener: asyncio.Task[None] | None = None
        self._publishing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. Never fails: without Redis it keeps trying."""
        if self._url:
            self._publisher = self._client()
            self._listener = asyncio.create_task(self._listen(), name="wake")

    async def stop(self) -> None:
        tasks = [*self._publishing, *([self._listener] if self._listener is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener = None
        if self._publisher is not None:
            await self._publisher.aclose()
            self._publisher = None

    def announce(self, committed: Committed) -> None:
        """A transaction of this worker took a position: wake this worker at once, and tell the others."""
        self.event.set()
        if self._publisher is not None:
            task = asyncio.ensure_future(self._publish(self._publisher, str(committed.position)))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish(self, publisher: Redis, text: str) -> None:
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await publisher.publish(CHANNEL, text)
        except (RedisError, OSError, TimeoutError) as exc:
            _log.info("position %s was not announced to the other workers, they poll: %s", text, exc)

    async def _listen(self) -> None:
        wait_s = RECONNECT_S[0]
        while True:
            client = self._client()
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    async for _ in subscription.listen():
                        # The first is the confirmation: what was announced until then may have been missed.
                        self.connected = True
                        wait_s = RECONNECT_S[0]
                        self.event.set()
            except (RedisError, OSError) as exc:
                if self.connected:
                    _log.warning("no nudges from other workers, polling instead: %s", exc)
            finally:
                self.connected = False
                await client.aclose()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RECONNECT_S[1])

    def _client(self) -> Redis:
        # RESP2: pushes of RESP3 do not reach a pubsub of this client on every server.
        return Redis.from_url(self._url, protocol=2, socket_connect_timeout=1.0)
