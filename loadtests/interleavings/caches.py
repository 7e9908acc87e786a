"""The caches of the table: how each is started, what it is told of a change, and when it says that it is done.

Ours twice: a worker in front of an origin that keeps a purge log, as the shop's edges are, and `nearshelf edge` in
front of an origin that knows nothing of positions. The peers (`peers.py`) share the second one's way: an order by HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cache_policies
from cache_policies.positions import Position, PurgeKind
from loadtests.http1 import Answer, Connection, NoAnswer
from loadtests.interleavings.origin import EDGE_KEY, Origin, Page
from loadtests.site import Missing, free_port, started, until, valkey_program

ORIGIN_AT_ONCE = 20
"""Requests that each cache may have under way at the origin."""
START_S = 120.0
"""How long it may take to come up: on a machine with much else to do, long."""
ORDER_S = 10.0
"""How long an order may take to be answered."""
AUTHORITY = "shop.example"
"""What viewers ask for, whichever cache they ask."""
TOKEN = "a token for the interleavings"  # noqa: S105 - of processes that end with the run


class CannotStart(Exception):
    """A cache did not come up; the text says what it wrote."""


@dataclass(frozen=True, slots=True)
class Change:
    """What has happened at the origin: `pages` show something else, and all of them carry `tag`."""

    pages: Sequence[Page]
    tag: str
    kind: PurgeKind
    position: Position


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a change after a cache was told of it."""

    done: bool
    """Whether it is reported done: from now on nobody may be shown what was before, unless it was soft."""
    words: str
    """How that came about, or why not."""


class Cache(ABC):
    """One cache before one origin. Its address stays the same for its life.

    `inner`: another one of its kind, which it asks in place of the origin: two tiers.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Commands without which it cannot be started; the first is its own."""
    version_flag: ClassVar[str] = ""
    """With which that one tells its version."""
    about: ClassVar[str]
    """How it is set up, and what it cannot be told. A sentence or two for the notes under the table."""
    purges_tags: ClassVar[bool] = True
    claims: ClassVar[frozenset[str] | None] = frozenset()
    """The interleavings that it must stand; None: all."""

    def __init__(self, origin: Origin, folder: Path, inner: Cache | None = None) -> None:
        self.origin = origin
        self.folder = folder
        self.inner = inner
        self.port = free_port()
        self.orders_lost = False
        """Whether what it is told is lost on its way."""
        self._running = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def upstream(self) -> str:
        """Whom it asks for what it has not got."""
        return self.origin.url if self.inner is None else self.inner.url

    def outer(self, folder: Path) -> Cache:
        """One that stands before this one."""
        return type(self)(self.origin, folder, self)

    async def start(self) -> None:
        """Returns when it answers. Raises CannotStart."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        running, self._running = self._running, contextlib.AsyncExitStack()
        await running.aclose()

    async def end(self) -> None:
        """It is not started again."""
        await self.stop()

    @abstractmethod
    async def _start(self) -> None: ...

    @abstractmethod
    async def tell(self, change: Change, within_s: float) -> Told:
        """Tell it of a change, and wait until that is reported done, or known not to be."""

    def clock(self) -> float:
        """Seconds of its own time: that by which what it keeps grows old."""
        return time.monotonic()

    async def wait(self, seconds: float) -> None:
        """Until so much of its time has passed."""
        await asyncio.sleep(seconds)

    async def heard_later(self, change: Change, within_s: float) -> Told:
        """What becomes of a change whose message was lost, when messages get through again and nobody sends it anew."""
        del change, within_s
        return Told(False, "nobody tells it again")

    async def process(self, *command: str, ready: str, env: dict[str, str] | None = None) -> None:
        """Run `command` until `stop`. Returns when the address `ready` answers with 200. Raises CannotStart."""
        said = self.folder / "said"
        with said.open("ab") as output:
            running = await self._running.enter_async_context(
                started(*command, stdout=output, stderr=output, env=os.environ | (env or {}))
            )
        base, _, path = ready.rpartition("/")
        give_up_at = time.monotonic() + START_S
        async with Connection(base) as connection:
            while True:
                with contextlib.suppress(NoAnswer):
                    if (await connection.request("GET", f"/{path}")).status == 200:
                        return
                if running.returncode is not None or time.monotonic() > give_up_at:
                    raise CannotStart(f"{self.name} does not come up: {said.read_text(errors='replace')[-2000:]}")
                await asyncio.sleep(0.02)

    async def order(
        self, url: str, method: str, target: str, fields: dict[str, str], body: bytes | None = None
    ) -> Answer | None:
        """One message to it; None when it is lost."""
        if self.orders_lost:
            return None
        async with Connection(url, ORDER_S, authority=AUTHORITY if url == self.url else None) as connection:
            try:
                return await connection.request(method, target, fields, body)
            except NoAnswer:
                return None


class Edge(Cache):
    """A worker as the shop has it: it follows the origin's own purge log."""

    name = "nearshelf"
    about = (
        "a worker of an edge as the shop has it, with the shipped policies, following the origin's purge log; behind "
        "it, where there is one, the tier that it shares with the other workers of its site (e4: a second worker). It "
        "is told nothing: it asks. *Done* is what [rule 6](#the-rules) calls live"
    )
    claims = None

    def __init__(self, origin: Origin, folder: Path, inner: Cache | None = None) -> None:
        super().__init__(origin, folder, inner)
        self._tier = contextlib.AsyncExitStack()
        self._tier_url: str = inner._tier_url if isinstance(inner, Edge) else ""

    async def _start(self) -> None:
        if not self._tier_url:
            await self._start_tier()
        admin = free_port()
        settings = {
            "NEARSHELF_EDGE": "interleavings",
            "NEARSHELF_LISTEN": f"127.0.0.1:{self.port}",
            "NEARSHELF_ADMIN_LISTEN": f"127.0.0.1:{admin}",
            "NEARSHELF_ORIGIN_URL": self.origin.url,
            "NEARSHELF_EDGE_KEY": EDGE_KEY,
            "NEARSHELF_ADMIN_TOKEN": TOKEN,
            "NEARSHELF_HOSTS": AUTHORITY,
            "NEARSHELF_REGIONAL": self._tier_url,
            "NEARSHELF_ORIGIN_CONNECTIONS": str(ORIGIN_AT_ONCE),
            "NEARSHELF_ORIGIN_QUEUE": "1000",
            "NEARSHELF_ORIGIN_QUEUE_S": "10",
        }
        await self.process(
            *(sys.executable, "-m", "edge.gateway"), ready=f"http://127.0.0.1:{admin}/readyz", env=settings
        )

    async def _start_tier(self) -> None:
        """It outlives the worker. Without a Valkey or Redis on this machine there is none."""
        try:
            program = valkey_program()
        except Missing:
            return
        socket = self.folder / "tier"
        command = (program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(self.folder))
        await self._tier.enter_async_context(started(*command, stdout=asyncio.subprocess.DEVNULL))
        await until(socket.exists, "the tier does not listen")
        self._tier_url = f"unix://{socket}"

    async def end(self) -> None:
        await super().end()
        await self._tier.aclose()

    async def tell(self, change: Change, within_s: float) -> Told:
        live = await self.origin.live(change.position, within_s)
        return Told(live.done, live.words)

    async def heard_later(self, change: Change, within_s: float) -> Told:
        return await self.tell(change, within_s)


def bounded_policies(folder: Path) -> Path:
    """The profile rfc9111 in `folder`, without showing what is stale for longer than the origin says."""
    folder.mkdir(exist_ok=True)
    shipped = Path(cache_policies.__file__).parent / "profiles" / "rfc9111" / "default.yaml"
    lines = shipped.read_text().splitlines(keepends=True)
    bounded = [line for line in lines if not line.lstrip().startswith("stale_if_unreachable:")]
    (folder / shipped.name).write_text("".join(bounded))
    return folder


class Site(Cache):
    """`nearshelf edge`: a purge log of its own, for an origin that has none."""

    name = "nearshelf edge"
    about = (
        "`nearshelf edge` with one worker, for any origin, with the profile `rfc9111` less its 30 days of "
        "`stale_if_unreachable`, because here the origin's own bound is the question. It keeps a purge log of its own "
        "and is told by tag over its admin listener. It cannot demand a position of an origin that has none, so it "
        "stores what a lagging replica says (b), and an order that does not reach it is one that nobody has given (c)"
    )
    claims = frozenset({"a1", "a2", "a3", "a4", "a5", "a6", "c5", "d1", "e1", "e2", "e3", "e4", "f1", "f2", "f3"})

    def __init__(self, origin: Origin, folder: Path, inner: Cache | None = None) -> None:
        super().__init__(origin, folder, inner)
        self._admin = f"http://127.0.0.1:{free_port()}"

    async def _start(self) -> None:
        policies = await asyncio.to_thread(bounded_policies, self.folder / "policies")
        command = [sys.executable, "-c", "from infra.cli import main; main()", "edge", "--workers", "1"]
        command += ["--policies", str(policies), "--state", str(self.folder / "state")]
        command += ["--origin", self.upstream, "--listen", f"127.0.0.1:{self.port}", "--host", AUTHORITY]
        command += ["--admin", self._admin.removeprefix("http://")]
        settings = {
            "NEARSHELF_ADMIN_TOKEN": TOKEN,
            "NEARSHELF_ORIGIN_CONNECTIONS": str(ORIGIN_AT_ONCE),
            "NEARSHELF_ORIGIN_QUEUE": "1000",
            "NEARSHELF_ORIGIN_QUEUE_S": "10",
        }
        await self.process(*command, ready=f"{self._admin}/readyz", env=settings)

    async def tell(self, change: Change, within_s: float) -> Told:
        del within_s
        wish = {"tags": [change.tag], "soft": change.kind is PurgeKind.SOFT, "reason": "interleavings"}
        fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        answer = await self.order(self._admin, "POST", "/purge", fields, json.dumps(wish).encode())
        if answer is None:
            return Told(False, "the order is lost")
        if answer.status != 200 or not json.loads(answer.body)["live"]:
            return Told(False, f"the order is answered with {answer.status}")
        return Told(True, "live by its report")
