"""Sessions: connections to a server (a database, say) over which calls are made; only their meaning is simulated.

Reliable while it stands, and broken when either side dies. Each call, and each answer, is an event of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from tests.simulation.engine.links import End, Lane, Links
from tests.simulation.engine.processes import Process


class Served(Protocol):
    """What a server keeps for one session."""

    def hung_up(self) -> None:
        """The session is over: end what it had begun."""
        ...

    def cancel(self) -> None:
        """The client does not wait any more for what was asked last, and says so."""
        ...


class Session:
    """Calls from `client` to `server`, one way each at a time of its own; `Sessions.open` makes it."""

    served: Any
    """What the server keeps for it, for `call`."""

    def __init__(self, links: Links, client: Process, server: Process) -> None:
        self._links = links
        self._client = client
        self._server = server
        self.pushed: Callable[[Any], object] | None = None
        """Takes, at the client, what the server says without being asked; None: the server is gone."""
        self._there = Lane(links.link(client.name, server.name))
        self._back = Lane(links.link(server.name, client.name))
        self._waiting: dict[asyncio.Future[Any], None] = {}
        self._client_end, self._server_end = End(self._client_died), End(self._server_died)
        self.broken = False
        """Whether this end knows that nothing can be called any more."""
        self._closed_there = False

    def stand(self, served: Served) -> None:
        """It has been let in: from here on each side hears of the other's death."""
        self.served = served
        self._server.dependents[self._server_end] = None
        if self._client.alive:
            self._client.dependents[self._client_end] = None
        else:
            self._client_died()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What `function(*args)` gives at the server, or the future that it gives there. Raises what that raises, and
        ConnectionResetError when the server dies first: whether it was done is not known then."""
        if self.broken:
            raise ConnectionResetError(f"the connection to {self._server.name} is broken")
        answer: asyncio.Future[Any] = self._links.loop.create_future()
        self._waiting[answer] = None
        self._links.carry(self._there, self._server, self._serve, function, args, answer)
        try:
            return await answer
        except asyncio.CancelledError:
            # What was asked may be done all the same, and its answer would be taken for another's.
            if not self.broken:
                self._links.carry(self._there, self._server, self._cancel_there)
            self.close()
            raise
        finally:
            self._waiting.pop(answer, None)

    def close(self) -> None:
        """Hang up; the server ends what this session had begun, and whoever waits for an answer is told."""
        if not self.broken:
            self._links.carry(self._there, self._server, self._end_there)
            self._break(f"the connection to {self._server.name} is closed")

    def tell(self, function: Callable[..., Any], *args: Any) -> None:
        """The same without an answer, nor anybody who waits for one."""
        if not self.broken:
            self._links.carry(self._there, self._server, self._serve, function, args, None)

    # -- the server's side ---------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """Say something to the client that it did not ask for."""
        if not self._closed_there:
            self._links.carry(self._back, self._client, self._pushed, value)

    def _serve(self, function: Callable[..., Any], args: tuple[Any, ...], answer: asyncio.Future[Any] | None) -> None:
        if self._closed_there:
            return
        if answer is None:
            function(*args)
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
        self._links.carry(self._back, self._client, self._answered, answer, result, exc)

    def _cancel_there(self) -> None:
        if not self._closed_there:
            self.served.cancel()

    def _end_there(self) -> None:
        if not self._closed_there:
            self._closed_there = True
            self._server.dependents.pop(self._server_end, None)
            self.served.hung_up()

    def _server_died(self) -> None:
        self._closed_there = True
        self._links.carry(self._back, self._client, self._was_reset)

    # -- the client's side ---------------------------------------------------------------------------------------------

    def _answered(self, answer: asyncio.Future[Any], result: Any, exc: BaseException | None) -> None:
        if answer.done():
            return
        if exc is None:
            answer.set_result(result)
        else:
            answer.set_exception(exc)

    def _pushed(self, value: Any) -> None:
        if self.pushed is not None and not self.broken:
            self.pushed(value)

    def _was_reset(self) -> None:
        if not self.broken:
            if self.pushed is not None:
                self.pushed(None)
            self._break(f"the connection to {self._server.name} was reset")

    def _break(self, why: str) -> None:
        self.broken = True
        self._client.dependents.pop(self._client_end, None)
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ConnectionResetError(why))

    def _client_died(self) -> None:
        self.broken = True
        self._links.carry(self._there, self._server, self._end_there)


class Sessions:
    """Who takes sessions, by address."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._taking: dict[str, tuple[Process, Callable[[Session], Served]]] = {}

    def take(self, process: Process, address: str, opened: Callable[[Session], Served]) -> None:
        """From now on `process` takes sessions at `address`. `opened` is called there for each, may refuse it with an
        exception, and gives what is kept for it."""
        self._taking[address] = (process, opened)

    async def open(self, address: str) -> Session:
        """A session from the process that runs. Raises ConnectionRefusedError, and what refuses it there; waits while
        the server is stopped or the way is cut."""
        links, client = self._links, self._links.loop.current
        made: asyncio.Future[Session] = links.loop.create_future()
        entry = self._taking.get(address)
        server = links.kernel if entry is None else entry[0]
        there = Lane(links.link(client.name, address if entry is None else server.name))
        back = Lane(links.link(server.name, client.name))

        def knock() -> None:
            if entry is None or not server.alive or self._taking.get(address) is not entry:
                links.carry(back, client, answer, None, ConnectionRefusedError(f"nobody listens at {address}"))
            else:
                # Whoever waits to be let in hears of it when the server dies.
                end = End(reset)
                server.dependents[end] = None
                server.post(0.0, let_in, entry[1], end)

        def reset() -> None:
            links.carry(back, client, answer, None, ConnectionResetError(f"{address} let nobody in"))

        def let_in(opened: Callable[[Session], Served], end: End) -> None:
            server.dependents.pop(end, None)
            session = Session(links, client, server)
            try:
                session.stand(opened(session))
            except Exception as exc:
                links.carry(back, client, answer, None, exc)
                return
            links.carry(back, client, answer, session, None)

        def answer(session: Session | None, exc: Exception | None) -> None:
            if made.done():
                if session is not None:
                    session.close()
            elif session is None:
                assert exc is not None
                made.set_exception(exc)
            else:
                made.set_result(session)

        links.carry(there, links.kernel, knock)
        return await made
