"""A whole edge worker in this process: real sockets, a scripted origin, a purge log and a clock turned by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from cache_policies.feed import Answer
from cache_policies.positions import Position, PurgeEntry, PurgeKind
from edge.core.policy import PolicySet
from edge.gateway.app import Gateway
from edge.gateway.server import Limits
from edge.gateway.settings import Address, GatewaySettings
from edge.policy_files import load_policies
from tests.support.clock import ManualClock
from tests.support.raw_http import RawResponse, RawViewer
from tests.support.scripted_origin import ScriptedOrigin

START = Position(1, 5)
WALL = 1_795_000_000.0


_packaged = cache(load_policies)
"""Reading YAML takes longer than most stories."""


class _Silent:
    """In place of the follower's loop: the test says what the log says."""

    async def run(self) -> None:
        await asyncio.Event().wait()


class EdgeShop:
    """Use as an async context manager. Starts with the log applied up to 1.5 and the lease held, unless told not to.

    `settings`: fields of GatewaySettings that are to be otherwise.
    """

    def __init__(
        self,
        tmp_path: Path,
        *,
        policies: Path | PolicySet | None = None,
        limits: Limits | None = None,
        applied: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.origin = ScriptedOrigin()
        self.log_path = tmp_path / "access.log"
        self._policies = policies
        self._limits = limits or Limits()
        self._applied = applied
        self._settings = settings or {}
        self._viewers: list[RawViewer] = []
        self.position = START

    async def __aenter__(self) -> EdgeShop:
        await self.origin.start()
        settings = GatewaySettings(
            edge="eu",
            listen=Address("127.0.0.1", 0),
            admin_listen=Address("127.0.0.1", 0),
            public_url="http://shop.example",
            origin_urls=(self.origin.url,),
            feed_urls=(self.origin.url,),
            edge_key="the-key",
            admin_token="the-token",
            access_log=str(self.log_path),
            limits=self._limits,
            policies=self._policies if isinstance(self._policies, Path) else None,
        )
        settings = replace(settings, **self._settings)
        began = self.clock.time
        self.gateway = Gateway(
            settings,
            self._policies if isinstance(self._policies, PolicySet) else _packaged(self._policies),
            clock=self.clock,
            wall=lambda: WALL + self.clock.time - began,
        )
        for pool in self.gateway.origins._pools.values():
            # The origin is this very process: where that stands still for seconds, nobody is out of reach.
            pool.deadlines = replace(pool.deadlines, connect_s=60.0)
        self.gateway.follower_loop = _Silent()  # type: ignore[assignment]  # all that the gateway calls of it
        self.gateway.reload.run = _Silent().run  # type: ignore[method-assign]  # and when files are looked at
        await self.gateway.start()
        if self._applied:
            self.start_following()
        return self

    async def __aexit__(self, *_: object) -> None:
        for viewer in self._viewers:
            viewer.writer.transport.abort()
        await self.gateway.stop()
        await self.origin.stop()

    # -- the log -------------------------------------------------------------------------------------------------------

    def tell(self, answer: Answer) -> None:
        """The follower hears `answer` to a question asked now."""
        follower = self.gateway.follower
        follower.on_answer(follower.question(), answer, self.clock())

    def start_following(self) -> None:
        """The first question was answered: the log starts and ends here."""
        start = (self.position, f"id-{self.position}")
        self.tell(Answer((), self.position, start[1], start))

    def renew(self) -> None:
        """A question was answered: nothing new."""
        self.tell(Answer((), self.position, f"id-{self.position}"))

    def purge(self, *tags: str, soft: bool = False) -> Position:
        """The next entry of the log is applied: from here on the change is live on this worker."""
        self.position = Position(self.position.epoch, self.position.cv + 1)
        entry_id = f"id-{self.position}"
        kind = PurgeKind.SOFT if soft else PurgeKind.HARD
        self.tell(Answer((PurgeEntry(self.position, entry_id, kind, tags),), self.position, entry_id))
        return self.position

    def fail_over(self, lost: int = 0) -> Position:
        """The record of a new epoch is applied: another primary goes on, without the last `lost` entries."""
        shared = Position(self.position.epoch, self.position.cv - lost)
        self.position = Position(shared.epoch + 1, shared.cv + 1)
        entry_id = f"id-{self.position}"
        record = PurgeEntry(self.position, entry_id, PurgeKind.EPOCH, (), shared.cv)
        rewind = (shared, f"id-{shared}") if lost else None
        self.tell(Answer((record,), self.position, entry_id, rewind=rewind))
        return self.position

    def later(self, seconds: float, *, lease: bool = True) -> None:
        """Turn the clock; with `lease` the follower hears that nothing is new at the end of it."""
        self.clock.advance(seconds)
        if lease:
            self.renew()

    # -- viewers -------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.gateway.address[1]}"

    async def viewer(self) -> RawViewer:
        viewer = await RawViewer.open(self.gateway.address)
        self._viewers.append(viewer)
        return viewer

    async def get(self, target: str, *lines: str, method: str = "GET") -> RawResponse:
        """One request on a connection of its own."""
        viewer = await self.viewer()
        viewer.get(target, self.host, *lines, method=method)
        response = await viewer.response(to=method)
        viewer.writer.transport.abort()
        return response

    def asking(self, target: str, *lines: str, method: str = "GET") -> asyncio.Task[RawResponse]:
        """The same, under way."""
        return asyncio.create_task(self.get(target, *lines, method=method))

    async def until(self, statement: Callable[[], bool]) -> None:
        """Let the loop turn until `statement` holds; AssertionError after five seconds."""
        try:
            async with asyncio.timeout(5):
                while not statement():
                    await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError("it did not come about within five seconds") from None

    async def has_waiters(self, count: int) -> None:
        """Until so many exchanges are waiting for the origin."""
        server = self.gateway.server
        assert server is not None
        await self.until(lambda: sum(viewer._busy is not None for viewer in server.connections) >= count)

    def log_lines(self) -> list[dict[str, Any]]:
        assert self.gateway._log is not None
        self.gateway._log.flush()
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]
