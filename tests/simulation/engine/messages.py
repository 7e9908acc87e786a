"""What processes ask and tell each other where only the meaning is simulated: questions, datagrams, sessions of calls.

A question is answered by a stream of messages; each of them may be lost, come twice, late, or before the one that was
sent before it. A datagram may meet the same. A session is a connection to a server (a database, say) over which calls
are made one after the other: reliable while it stands, and broken when either side dies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from tests.simulation.engine.loop import Process
from tests.simulation.engine.network import Lane, Link, Network

LATE_S = (0.05, 5.0)
"""How much later a message comes that does not keep its place, in virtual seconds."""

Handler = Callable[[bytes], AsyncIterator[bytes]]


class Messages:
    """Questions and datagrams over `network`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._loop = network.loop
        self._draws = network.loop.draws("messages")
        self._serving: dict[str, list[tuple[Process, Handler]]] = {}
        self._hearing: dict[str, tuple[Process, Callable[[bytes], object]]] = {}
        self._turn = 0
        self.lost = 0
        self.repeated = 0
        self.late = 0

    # -- how they travel -----------------------------------------------------------------------------------------------

    def carry(self, lane: Lane, receiver: Process, callback: Callable[..., object], *args: Any) -> None:
        """As `Network.carry`, for what may be lost, repeated and overtaken."""
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
            self._network.carry(lane, receiver, callback, *args)

    def _late(self, link: Link, receiver: Process, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        receiver.post(self._network.delay_of(link) + self._draws.uniform(*LATE_S), callback, *args)

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
        self.carry(Lane(self._network.link(self._loop.current.name, receiver.name)), receiver, take, data)
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
            await asyncio.sleep(self._network.delay_of(self._network.link(self._loop.current.name, address)))
            raise ConnectionRefusedError(f"nobody answers at {address}")
        self._turn += 1
        server, handler = alive[self._turn % len(alive)]
        asked = _Asked(self, self._network, self._loop.current, server, handler)
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

    def __init__(
        self, messages: Messages, network: Network, client: Process, server: Process, handler: Handler
    ) -> None:
        self._messages = messages
        self._network = network
        self._client = client
        self._server = server
        self._handler = handler
        self._there = Lane(network.link(client.name, server.name))
        self._back = Lane(network.link(server.name, client.name))
        self._inbox: deque[bytes | None | ConnectionError] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._left = False
        self._client_end, self._server_end = _End(self._client_died), _End(self._server_died)

    # -- who asks ------------------------------------------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        self._client.dependents[self._client_end] = None
        self._server.dependents[self._server_end] = None
        self._messages.carry(self._there, self._server, self._arrived, payload)

    async def next(self) -> bytes | None:
        """The next answer; None: there is none any more. Raises ConnectionError."""
        while not self._inbox:
            self._waiter = self._network.loop.create_future()
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
            self._network.carry(self._there, self._server, self._hung_up)

    def _take(self, answer: bytes | None | ConnectionError) -> None:
        self._inbox.append(answer)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _client_died(self) -> None:
        self._left = True
        self._network.carry(self._there, self._server, self._hung_up)

    # -- who answers ---------------------------------------------------------------------------------------------------

    def _arrived(self, payload: bytes) -> None:
        if not self._left or not self._tasks:
            self._tasks.append(self._network.loop.create_task(self._answer(payload)))

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
        self._network.carry(self._back, self._client, self._take, ConnectionResetError(f"{self._server.name} is gone"))


async def _close(answers: AsyncIterator[bytes]) -> None:
    if isinstance(answers, AsyncGenerator):
        await answers.aclose()


class _End:
    """One side of something that hears when its process dies."""

    def __init__(self, died: Callable[[], None]) -> None:
        self.process_died = died


class Session:
    """Calls from `client` to `server`, one way each at a time of its own; `Sessions.open` makes it."""

    def __init__(self, network: Network, client: Process, server: Process, on_close: Callable[[], object]) -> None:
        self._network = network
        self._client = client
        self._server = server
        self._on_close = on_close
        self._there = Lane(network.link(client.name, server.name))
        self._back = Lane(network.link(server.name, client.name))
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._client_end, self._server_end = _End(self._client_died), _End(self._server_died)
        self.broken = False
        """Whether this end knows that nothing can be called any more."""
        self._closed_there = False
        client.dependents[self._client_end] = None
        server.dependents[self._server_end] = None

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function(*args)` gives at the server, or the future that it gives there. Raises what that raises, and
        ConnectionResetError when the server dies first: whether it was done is not known then."""
        if self.broken:
            raise ConnectionResetError(f"the connection to {self._server.name} is broken")
        answer: asyncio.Future[Any] = self._network.loop.create_future()
        self._waiting[answer] = None
        self._network.carry(self._there, self._server, self._serve, function, args, answer)
        try:
            return await answer
        except asyncio.CancelledError:
            # What was asked may be done all the same, and its answer would be taken for another's.
            self.close()
            raise
        finally:
            self._waiting.pop(answer, None)

    def close(self) -> None:
        """Hang up; the server ends what this session had begun."""
        if not self.broken:
            self.broken = True
            self._client.dependents.pop(self._client_end, None)
            self._network.carry(self._there, self._server, self._end_there)

    def break_off(self) -> None:
        """The server ends the session by itself."""
        self._end_there()
        self._network.carry(self._back, self._client, self._was_reset)

    # -- the server's side ---------------------------------------------------------------------------------------------

    def _serve(self, function: Callable[..., Any], args: tuple[Any, ...], answer: asyncio.Future[Any]) -> None:
        if self._closed_there:
            return
        try:
            result = function(*args)
        except Exception as exc:
            self._say(answer, None, exc)
            return
        if isinstance(result, asyncio.Future):
            result.add_done_callback(lambda done: self._say_result(answer, done))
        else:
            self._say(answer, result, None)

    def _say_result(self, answer: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
        if not done.cancelled():
            exc = done.exception()
            self._say(answer, None if exc is not None else done.result(), exc)

    def _say(self, answer: asyncio.Future[Any], result: Any, exc: BaseException | None) -> None:
        self._network.carry(self._back, self._client, self._answered, answer, result, exc)

    def _end_there(self) -> None:
        if not self._closed_there:
            self._closed_there = True
            self._server.dependents.pop(self._server_end, None)
            self._on_close()

    def _server_died(self) -> None:
        self._closed_there = True
        self._network.carry(self._back, self._client, self._was_reset)

    # -- the client's side ---------------------------------------------------------------------------------------------

    def _answered(self, answer: asyncio.Future[Any], result: Any, exc: BaseException | None) -> None:
        if answer.done():
            return
        if exc is None:
            answer.set_result(result)
        else:
            answer.set_exception(exc)

    def _was_reset(self) -> None:
        self.broken = True
        self._client.dependents.pop(self._client_end, None)
        for answer in list(self._waiting):
            if not answer.done():
                answer.set_exception(ConnectionResetError(f"the connection to {self._server.name} was reset"))

    def _client_died(self) -> None:
        self.broken = True
        self._network.carry(self._there, self._server, self._end_there)


class Sessions:
    """Who takes sessions, by address."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._taking: dict[str, tuple[Process, Callable[[], Callable[[], object]]]] = {}

    def take(self, process: Process, address: str, opened: Callable[[], Callable[[], object]]) -> None:
        """From now on `process` takes sessions at `address`. `opened` is called there for each, may refuse it with an
        exception, and gives what is to be called there when it ends."""
        self._taking[address] = (process, opened)

    async def open(self, address: str) -> Session:
        """A session from the process that runs. Raises ConnectionRefusedError, and what refuses it there; waits while
        the server is stopped or the way is cut."""
        network, client = self._network, self._network.loop.current
        made: asyncio.Future[Session] = network.loop.create_future()
        entry = self._taking.get(address)
        server = network.kernel if entry is None else entry[0]
        there = Lane(network.link(client.name, address if entry is None else server.name))
        back = Lane(network.link(server.name, client.name))

        def knock() -> None:
            if entry is None or not server.alive or self._taking.get(address) is not entry:
                network.carry(back, client, answer, None, ConnectionRefusedError(f"nobody listens at {address}"))
            else:
                server.post(0.0, let_in, entry[1])

        def let_in(opened: Callable[[], Callable[[], object]]) -> None:
            try:
                on_close = opened()
            except Exception as exc:
                network.carry(back, client, answer, None, exc)
                return
            network.carry(back, client, answer, Session(network, client, server, on_close), None)

        def answer(session: Session | None, exc: Exception | None) -> None:
            if made.done():
                if session is not None:
                    session.close()
            elif session is None:
                assert exc is not None
                made.set_exception(exc)
            else:
                made.set_result(session)

        network.carry(there, network.kernel, knock)
        return await made
