"""An event loop whose time is turned, not waited for, and connections in memory: no socket, no sleep.

Whatever waits for a moment (a timer, a deadline) has it as soon as nothing else is left to do, so that days pass in
milliseconds and every run is the same run. What is run over it notices nothing: it is asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

START_S = 10_000.0
"""What the clock shows first: high, so that durations cannot pass for times."""

TURN_S = 1e-6
"""The least by which the clock is turned."""


class _Turns(selectors.DefaultSelector):
    """In place of waiting for the time until the next timer, lets it pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START_S
        self.idle: Callable[[], bool] = lambda: False
        """Called when nothing is left to do at this moment; whether there is something now."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0 or self.idle():
            return []
        assert timeout is not None, "everybody waits, and nothing is left that could happen"
        # Always some, and in whole steps: years from now, what is left of a wait may be too little to be added.
        self.now = max(round(self.now + timeout, 6), self.now + TURN_S)
        return []


Connect = Callable[[Callable[[], asyncio.BaseProtocol]], Awaitable[asyncio.Transport]]
"""Makes a connection with a protocol of the caller's. Raises OSError where nobody listens."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is a number. Connects to nobody but `listeners`, and runs what is meant for a thread at once."""

    def __init__(self) -> None:
        self._turns = _Turns()
        super().__init__(self._turns)
        # A timer is due when it is less than this away. asyncio's own nanosecond is lost beside months, and the timer
        # would be waited for without end.
        self._clock_resolution = 2 * TURN_S
        self._turns.idle = self._wake_settled
        self._settling: list[asyncio.Future[None]] = []
        self.listeners: Mapping[str, Connect] = {}
        """Who answers, by the name of the host."""

    def time(self) -> float:
        return self._turns.now

    async def settled(self) -> None:
        """Until nothing more can happen at this moment: everybody waits for a later one."""
        waiter = self.create_future()
        self._settling.append(waiter)
        await waiter

    def _wake_settled(self) -> bool:
        waiters, self._settling = self._settling, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return bool(waiters)

    async def create_connection(  # type: ignore[override]  # of asyncio's many ways, the one that is used
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        **_: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """A connection to one of `listeners`. Raises ConnectionRefusedError for any other host."""
        connect = self.listeners.get(host)
        if connect is None:
            raise ConnectionRefusedError(f"nobody listens at {host}:{port}")
        made: list[asyncio.BaseProtocol] = []

        def make() -> asyncio.BaseProtocol:
            made.append(protocol_factory())
            return made[0]

        transport = await connect(make)
        return transport, made[0]

    def run_in_executor(  # type: ignore[override]  # a future, as there, but of what is done already
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Runs `func` now: a thread would take an unknown part of a time that does not pass."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001  # whoever waits for the future gets it
            future.set_exception(exc)
        return future


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory. `receive` takes what is written, `hung_up` hears once of its end."""

    def __init__(self, peer: str, receive: Callable[[bytes], None], hung_up: Callable[[], None]) -> None:
        super().__init__({"peername": (peer, 0)})
        self._receive = receive
        self._hung_up = hung_up
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closed:
            self._receive(bytes(data))

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hung_up()

    def abort(self) -> None:
        self.close()

    def get_write_buffer_size(self) -> int:
        """Nothing waits: what is written has arrived."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Needless where nothing waits."""

    def pause_reading(self) -> None:
        """What arrives here arrives whole; its reader holds it."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""
