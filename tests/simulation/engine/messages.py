"""What processes ask and tell each other where only the meaning is simulated: questions and datagrams.

A question is answered by a stream of messages; each of them may be lost, come twice, late, or before the one that was
sent before it. A datagram may meet the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from tests.simulation.engine.links import End, Lane, Link, Links
from tests.simulation.engine.processes import Process

LATE_S = (0.05, 5.0)
"""How much later a message comes that does not keep its place, in virtual seconds."""

Handler = Callable[[bytes], AsyncIterator[bytes]]


class Messages:
    """Questions and datagrams over `links`."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._loop = links.loop
        self._draws = links.loop.draws("messages")
        self._serving: dict[str, list[tuple[Process, Handler]]] = {}
        self._hearing: dict[str, tuple[Process, Callable[[bytes], object]]] = {}
        self._turn = 0
        self.lost = 0
        self.repeated = 0
        self.late = 0

    # -- how they travel -----------------------------------------------------------------------------------------------

    def carry(self, lane: Lane, receiver: Process, callback: Callable[..., object], *args: Any) -> None:
        """As `Links.carry`, for what may be lost, repeated and overtaken."""
        link, draws = lane.link, self._draws
        if link.is_cut and draws.random() < 0.5:
            self.lost += 1
            return
        if link.loss and draws.random() < link.loss:
            self.lost += 1
            return
        if link.repeat and draws.random() < link.repeat:
            self.repeated += 1
            self._late(link, receiver, callback, args)
        if link.shuffle and draws.random() < link.shuffle:
            self.late += 1
            self._late(link, receiver, callback, args)
        else:
            self._links.carry(lane, receiver, callback, *args)

    def _late(self, link: Link, receiver: Process, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        receiver.post(self._links.delay_of(link) + self._draws.uniform(*LATE_S), callback, *args)

    # -- datagrams -----------------------------------------------------------------------------------------------------

    def hear(self, process: Process, address: str, take: Callable[[bytes], object]) -> None:
        """From now on `process` takes what is told to `address`."""
        self._hearing[address] = (process, take)

    def tell(self, address: str, data: bytes) -> bool:
        """Send `data` there from the process that runs; False: nobody hears there."""
        found = self._hearing.get(address)
        if found is None or not found[0].alive:
            return False
        receiver, take = found
        self.carry(Lane(self._links.link(self._loop.current.name, receiver.name)), receiver, take, data)
        return True

    # -- questions -----------------------------------------------------------------------------------------------------

    def serve(self, process: Process, address: str, handler: Handler) -> None:
        """From now on `process` answers what is asked at `address`; several take turns."""
        self._serving.setdefault(address, []).append((process, handler))

    async def ask(self, address: str, payload: bytes) -> AsyncGenerator[bytes, None]:
        """The answers to `payload`, as they come. Raises ConnectionError when nobody is there, or breaks off.

        Close it when no more are wanted. That they have all come is part of what travels: it may be lost as well.
        """
        alive = [entry for entry in self._serving.get(address, ()) if entry[0].alive]
        if not alive:
            await asyncio.sleep(self._links.delay_of(self._links.link(self._loop.current.name, address)))
            raise ConnectionRefusedError(f"nobody answers at {address}")
        self._turn += 1
        server, handler = alive[self._turn % len(alive)]
        asked = _Asked(self, self._links, self._loop.current, server, handler)
        asked.send(payload)
        try:
            while True:
                answer = await asked.next()
                if answer is None:
                    return
                yield answer
        finally:
            asked.leave()


class _Asked:
    """One question, from both sides."""

    def __init__(self, messages: Messages, links: Links, client: Process, server: Process, handler: Handler) -> None:
        self._messages = messages
        self._links = links
        self._client = client
        self._server = server
        self._handler = handler
        self._there = Lane(links.link(client.name, server.name))
        self._back = Lane(links.link(server.name, client.name))
        self._inbox: deque[bytes | ConnectionError | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._left = False
        self._client_end, self._server_end = End(self._client_died), End(self._server_died)

    # -- who asks ------------------------------------------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        self._client.dependents[self._client_end] = None
        self._server.dependents[self._server_end] = None
        self._messages.carry(self._there, self._server, self._arrived, payload)

    async def next(self) -> bytes | None:
        """The next answer; None: there is none any more. Raises ConnectionError."""
        while not self._inbox:
            self._waiter = self._links.loop.create_future()
            await self._waiter
        found = self._inbox.popleft()
        if isinstance(found, ConnectionError):
            raise found
        return found

    def leave(self) -> None:
        """No more answers are wanted."""
        if not self._left:
            self._left = True
            self._client.dependents.pop(self._client_end, None)
            self._links.carry(self._there, self._server, self._hung_up)

    def _take(self, answer: bytes | ConnectionError | None) -> None:
        self._inbox.append(answer)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _client_died(self) -> None:
        self._left = True
        self._links.carry(self._there, self._server, self._hung_up)

    # -- who answers ---------------------------------------------------------------------------------------------------

    def _arrived(self, payload: bytes) -> None:
        if not self._left or not self._tasks:
            self._tasks.append(self._links.loop.create_task(self._answer(payload)))

    async def _answer(self, payload: bytes) -> None:
        answers = self._handler(payload)
        try:
            async for answer in answers:
                self._messages.carry(self._back, self._client, self._take, answer)
        except asyncio.CancelledError:
            await _close(answers)
            raise
        except Exception as exc:
            refusal = ConnectionError(f"no answer: {type(exc).__name__}: {exc}")
            self._messages.carry(self._back, self._client, self._take, refusal)
        else:
            self._messages.carry(self._back, self._client, self._take, None)

    def _hung_up(self) -> None:
        self._server.dependents.pop(self._server_end, None)
        for task in self._tasks:
            task.cancel()

    def _server_died(self) -> None:
        self._links.carry(self._back, self._client, self._take, ConnectionResetError(f"{self._server.name} is gone"))


async def _close(answers: AsyncIterator[bytes]) -> None:
    if isinstance(answers, AsyncGenerator):
        await answers.aclose()
