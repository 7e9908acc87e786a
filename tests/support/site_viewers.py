"""Viewers of a running site who know which worker answers them, and eyes on everything that its workers keep.

Nothing here sleeps for luck: every wait is for a condition, within `WITHIN_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis

from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.codec import VERSION, Unreadable, decode, encode, key_record
from edge.store.siblings import STORED
from tests.support.raw_http import RawResponse, RawViewer
from tests.support.site import RunningSite

WITHIN_S = 20.0
"""How long anything may take on a busy machine before a test fails."""
HOST = "shop.test"
"""What every viewer asks for, whatever port the site has: it is part of what a response is stored under."""
LONGEST_MESSAGE_BYTES = 200_001
MOST_TRIES = 200
"""Connections, until each worker has had one."""


async def until(statement: Callable[[], Awaitable[bool]], what: str, within_s: float = WITHIN_S) -> None:
    """Ask again and again until `statement` holds; `what` says what was waited for."""
    try:
        async with asyncio.timeout(within_s):
            while not await statement():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


class Pinned:
    """One connection, and so one worker. One request at a time."""

    def __init__(self, raw: RawViewer) -> None:
        self._raw = raw
        self._method = "GET"

    def send(self, target: str, *lines: str, method: str = "GET") -> None:
        self._method = method
        self._raw.get(target, HOST, *lines, method=method)

    async def response(self) -> RawResponse:
        return await self._raw.response(to=self._method, within_s=WITHIN_S)

    async def ask(self, target: str, *lines: str, method: str = "GET") -> RawResponse:
        self.send(target, *lines, method=method)
        return await self.response()

    async def head(self) -> RawResponse:
        """The head of the answer, as soon as it is there; its body is to be had by `body_after`."""
        async with asyncio.timeout(WITHIN_S):
            status_line, *lines = (await self._raw.reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4].split("\r\n")
        pairs = tuple((line.partition(":")[0].lower(), line.partition(":")[2].strip()) for line in lines)
        return RawResponse(int(status_line.split(" ")[1]), dict(pairs), b"", pairs)

    async def body_after(self, head: RawResponse) -> bytes:
        """Raises IncompleteReadError or ConnectionError when it is cut short."""
        reader = self._raw.reader
        async with asyncio.timeout(WITHIN_S):
            if head.headers.get("transfer-encoding") != "chunked":
                return await reader.readexactly(int(head.headers["content-length"]))
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
            return body

    def hang_up(self) -> None:
        self._raw.writer.transport.abort()


class Viewers:
    """For a site that was told of `HOST`; use as an async context manager.

    `at[name]` is a connection to the worker called that.

    `another(name)` opens one more: for who has to wait for its answer.
    """

    def __init__(self, site: RunningSite) -> None:
        self._site = site
        self._stack = contextlib.AsyncExitStack()
        self._spare: dict[str, list[Pinned]] = {}
        self._numbers = itertools.count(1)
        self.at: dict[str, Pinned] = {}

    async def __aenter__(self) -> Viewers:
        await self.pin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def names(self) -> list[str]:
        return sorted(self.at)

    async def pin(self) -> None:
        """New connections to each worker; also after one was started again."""
        names = [worker["name"] for worker in (await self._site.status())["workers"]]
        self._spare.clear()
        self.at = {name: await self.another(name) for name in names}

    async def another(self, name: str) -> Pinned:
        """A connection that the worker called `name` has accepted and answered on once."""
        for _ in range(MOST_TRIES):
            if self._spare.get(name):
                return self._spare[name].pop()
            pinned, found = await self._open()
            self._spare.setdefault(found, []).append(pinned)
        raise AssertionError(f"{MOST_TRIES} connections, and none of them to {name}")

    async def _open(self) -> tuple[Pinned, str]:
        """A connection and whose it is: the kernel chooses a worker for it, and the admin listener tells which."""
        raw = await self._stack.enter_async_context(await RawViewer.open(("127.0.0.1", self._site.port)))
        pinned = Pinned(raw)
        mark = f"/whose-{self._site.port}-{next(self._numbers)}"
        await pinned.ask(mark, "Cache-Control: no-store")
        told: list[str] = []

        async def is_told() -> bool:
            requests = (await self._site.client.get("/requests?limit=20")).json()["requests"]
            told.extend(request["worker"] for request in requests if request.get("path") == mark)
            return bool(told)

        await until(is_told, f"the admin listener tells of {mark}")
        return pinned, told[0]

    async def have_read_everything(self) -> None:
        """Returns once every worker has dealt with whatever was sent to it before, by viewers or by siblings.

        Bytes sent over loopback are at the receiver when `send` returns: a worker that answers a later request has
        those in the same turn of its loop at the latest, and is through with that turn when it answers one more.
        """
        for pinned in self.at.values():
            for _ in range(2):
                await pinned.ask(f"/turn-{next(self._numbers)}", "Cache-Control: no-store")


@dataclass(frozen=True)
class Heard:
    """A response that a worker stored, as it told its siblings."""

    path: str
    position: str
    body: bytes


class Ear:
    """A sibling of the workers of `site` that only listens: each response that goes into any store of theirs is told in
    the same step, however soon it is replaced. Use as a context manager."""

    def __init__(self, site: RunningSite) -> None:
        runtime = Path((site.folder / "state" / "runtime").read_text(encoding="utf-8").strip())
        self._path = runtime / "siblings" / "the-ear"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard: list[Heard] = []

    def __enter__(self) -> Ear:
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * LONGEST_MESSAGE_BYTES)
        self._socket.bind(str(self._path))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def stored(self, path: str) -> list[Heard]:
        """Everything heard of `path`, in order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                message = self._socket.recv(LONGEST_MESSAGE_BYTES)
                if message.startswith(STORED):
                    told = decode(message.removeprefix(STORED))
                    self._heard.append(Heard(told.key.path, str(told.position), told.body))
        return [heard for heard in self._heard if heard.path == path]


class Records:
    """The records of a site in its tier, as they lie there. Use as an async context manager."""

    def __init__(self, url: str, site: RunningSite) -> None:
        self._redis = Redis.from_url(url)
        first_line = (site.folder / "state" / "purges.log").read_text(encoding="utf-8").partition("\n")[0]
        identity = first_line.partition('"log":"')[2].partition('"')[0]
        assert identity, first_line
        self.prefix = f"nearshelf:{VERSION}:{identity}:"

    async def __aenter__(self) -> Records:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    def name_of(self, key: CacheKey) -> str:
        return f"{self.prefix}key:{hashlib.sha256(key_record(key)).hexdigest()}"

    async def all(self) -> dict[str, list[bytes]]:
        """Name -> the values of its hash."""
        found = {}
        async for name in self._redis.scan_iter(f"{self.prefix}key:*"):
            values = await cast("Awaitable[list[bytes]]", self._redis.hvals(name))
            found[name.decode()] = values
        return found

    async def of(self, path: str) -> list[StoredResponse]:
        """The responses under `path`, asked for without a query, that can be read."""
        name = self.name_of(CacheKey(HOST, path, (), ""))
        found = []
        for value in await cast("Awaitable[list[bytes]]", self._redis.hvals(name)):
            with contextlib.suppress(Unreadable):
                found.append(decode(value.split(b" ", 4)[4]))
        return found

    async def has(self, path: str) -> None:
        """Returns once there is a record of `path`: workers write them in the background."""

        async def is_there() -> bool:
            return bool(await self.of(path))

        await until(is_there, f"a record of {path} in the tier")

    async def plant(self, name: str, stored: StoredResponse, record: bytes | None = None) -> None:
        """Write `stored` under `name` as a worker would, its position in front; with `record` in place of its own.

        Its times are taken as they are: decoded by `of`, they are by the wall clock, as they go over the wire.
        """
        seconds, microseconds = await self._redis.time()
        epoch, cv = stored.position
        moment = f"{seconds}.{microseconds:06d}"
        head = f"{epoch:09d}.{cv:018d} {moment} {moment} {moment} ".encode()
        variant = hashlib.sha256(b"[]").digest()
        value = head + (encode(stored) if record is None else record)
        await self._redis.hset(name, mapping={variant: value})

    async def copy(self, name: str, values: list[bytes]) -> None:
        """Write a hash of one variant as it was elsewhere."""
        variant = hashlib.sha256(b"[]").digest()
        for value in values:
            await self._redis.hset(name, mapping={variant: value})

    async def calls(self, command: str) -> int:
        """How often the server was sent `command` by now."""
        figures: Mapping[str, Any] = await self._redis.info("commandstats")
        return int(figures.get(f"cmdstat_{command}", {}).get("calls", 0))
