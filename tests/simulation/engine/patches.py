"""What the real modules see of the world while a simulation runs: its clocks, its ids, its database, its Valkey."""

from __future__ import annotations

import logging
import random
import secrets
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import asyncpg

import edge.store.regional
import edge.store.s3fifo
import origin.db
import origin.events.wake
import origin.shelf
import origin.whereabouts
from tests.simulation.engine.database import RawConnection, SimEngine, connect
from tests.simulation.engine.loop import SimLoop
from tests.simulation.engine.network import Network
from tests.simulation.engine.valkey import SimRedis

ROOMS = ("cache_policies.", "edge.", "origin.")


class _Time:
    """In place of the module `time`: of the process that runs."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.current.monotonic()

    perf_counter = monotonic

    def time(self) -> float:
        return self._loop.current.wall()


class _Ids:
    """In place of the modules `uuid` and `secrets`: drawn from the seed."""

    UUID = uuid.UUID
    compare_digest = staticmethod(secrets.compare_digest)

    def __init__(self, loop: SimLoop) -> None:
        self._draws = loop.draws("ids")

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._draws.getrandbits(128), version=4)

    def token_bytes(self, nbytes: int = 32) -> bytes:
        return self._draws.randbytes(nbytes)

    def token_hex(self, nbytes: int = 32) -> str:
        return self._draws.randbytes(nbytes).hex()

    token_urlsafe = token_hex


class _Faults(logging.Handler):
    """What is logged with a traceback is a fault of the program, wherever it was caught."""

    def __init__(self, loop: SimLoop) -> None:
        super().__init__(logging.ERROR)
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._loop.faults.append(f"{self._loop.now:.6f} {self._loop.current}: {self.format(record)}")


@contextmanager
def simulated(loop: SimLoop, network: Network) -> Iterator[None]:
    """For the length of the block, engines and Redis clients reach the servers of `network`, and the modules of edge
    and origin that are loaded by now read the clocks of `loop` and draw their ids from its seed."""
    clock, ids, faults = _Time(loop), _Ids(loop), _Faults(loop)
    instead = ((time, clock), (uuid, ids), (secrets, ids), (random, loop.draws("modules")))
    before = logging.root.manager.disable
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith(ROOMS):
                for attribute, value in list(vars(module).items()):
                    for real, simulation in instead:
                        if value is real:
                            stack.enter_context(patch.object(module, attribute, simulation))
        stack.enter_context(patch.object(origin.db, "create_async_engine", _engines(network)))
        stack.enter_context(patch.object(origin.whereabouts, "asyncpg", _Asyncpg(network)))
        stack.enter_context(patch.object(edge.store.regional, "_client", _tiers(network)))
        stack.enter_context(patch.object(edge.store.s3fifo, "_trace", _trace))
        stack.enter_context(patch.object(origin.shelf, "BlockingConnectionPool", _Pools))
        stack.enter_context(patch.object(origin.shelf, "Redis", _Clients(network)))
        stack.enter_context(patch.object(origin.events.wake, "Redis", _Clients(network)))
        logging.disable(logging.WARNING)
        logging.root.addHandler(faults)
        try:
            yield
        finally:
            logging.root.removeHandler(faults)
            logging.disable(before)


def _trace(key: Hashable) -> int:
    """In place of `hash`, which is another in each process: which trace takes another's place decides what is kept."""
    return zlib.crc32(repr(key).encode()) or 1


def _engines(network: Network) -> Callable[..., SimEngine]:
    return lambda url, **options: SimEngine(network, url, **options)


class _Asyncpg:
    """In place of the module `asyncpg`: its errors, and connections of ours."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncpg, name)

    async def connect(self, **options: Any) -> RawConnection:
        return await connect(self._network, **options)


def _tiers(network: Network) -> Callable[..., SimRedis]:
    def client(url: str, pool: object, connect_s: float, *, socket_timeout: float | None, **_: Any) -> SimRedis:
        return SimRedis(network, url, socket_timeout, connect_s)

    return client


class _Pools:
    """In place of redis-py's pools: what a client is made of."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.options = options

    @classmethod
    def from_url(cls, url: str, **options: Any) -> _Pools:
        return cls(url, options)


class _Clients:
    """In place of redis-py's class of clients."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def from_pool(self, pool: _Pools) -> SimRedis:
        return self.from_url(pool.url, **pool.options)

    def from_url(
        self, url: str, *, socket_timeout: float | None = None, socket_connect_timeout: float = 1.0, **_: Any
    ) -> SimRedis:
        return SimRedis(self._network, url, socket_timeout, socket_connect_timeout)
