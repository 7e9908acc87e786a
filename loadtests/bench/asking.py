"""A client that asks one server for very many targets, each once: faster than a general one, and able to do no more.

It pipelines nothing: each connection sends its next request when the answer to the last one is there.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from loadtests.bench.measuring import BenchError, Server

SILENCE_S = 30.0
"""No answer for so long: something is wrong."""


@dataclass
class Answers:
    """What came back."""

    count: int = 0
    hits: int = 0
    took_s: list[float] = field(default_factory=list)
    """Of each request, from its sending to the end of its answer; in the order in which they ended."""


def ask_for(server: Server, targets: Iterable[str], *, connections: int = 32, pause_s: float = 0.0) -> Answers:
    """GET every target once. `pause_s`: each connection rests so long between an answer and its next request.

    Raises BenchError for an answer other than 200, and when none comes.
    """
    return asyncio.run(_ask_for(server, iter(targets), connections, pause_s))


def until_hit(server: Server, target: str, within_s: float = 20.0) -> None:
    """Ask for `target` until it is answered from the store. Raises BenchError when it never is."""
    said, until = "nothing", time.monotonic() + within_s
    while time.monotonic() < until:
        server.check_alive()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            response.read()
            said = response.headers.get(server.hit_field, "")
            if server.is_hit(said):
                return
        except OSError as exc:
            said = str(exc)
        finally:
            connection.close()
        time.sleep(0.05)
    raise BenchError(f"{server.name} gives no hit for {target}: {server.hit_field}: {said}")


async def _ask_for(server: Server, targets: Iterator[str], connections: int, pause_s: float) -> Answers:
    answers = Answers()
    loop = asyncio.get_running_loop()
    askers = [_Asker(server, targets, answers, pause_s) for _ in range(connections)]
    for asker in askers:
        await loop.create_connection(lambda asker=asker: asker, "127.0.0.1", server.port)  # type: ignore[misc]
    ended = asyncio.gather(*[asker.ended for asker in askers])
    before = -1
    while not ended.done():
        await asyncio.wait({ended}, timeout=SILENCE_S)
        server.check_alive()
        if not ended.done() and answers.count == before:
            raise BenchError(f"{server.name} has not answered for {SILENCE_S:.0f} s")
        before = answers.count
    await ended
    return answers


class _Asker(asyncio.Protocol):
    def __init__(self, server: Server, targets: Iterator[str], answers: Answers, pause_s: float) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = server
        self._targets = targets
        self._answers = answers
        self._hit_field = b"\r\n%b:" % server.hit_field.lower().encode()
        self._pause_s = pause_s
        self._got = bytearray()
        self._wanted = 0
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._wanted:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._got[: end + 2])
            if not head.startswith(b"HTTP/1.1 200 "):
                self._fail(head.partition(b"\r\n")[0].decode("latin-1"))
                return
            self._answers.hits += self._server.is_hit(_value(head, self._hit_field).decode("latin-1"))
            self._wanted = end + 4 + int(_value(head, b"\r\ncontent-length:"))
        if len(self._got) >= self._wanted:
            self._answers.count += 1
            self._answers.took_s.append(time.perf_counter() - self._sent_at)
            self._got.clear()
            self._wanted = 0
            if self._pause_s:
                asyncio.get_running_loop().call_later(self._pause_s, self._next)
            else:
                self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc or "the connection was closed"))

    def _next(self) -> None:
        target = next(self._targets, None)
        if target is None:
            if not self.ended.done():
                self.ended.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (target.encode(), self._server.port))

    def _fail(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(BenchError(f"{self._server.name}: {why}"))
            self._transport.close()


def _value(head: bytes, field_start: bytes) -> bytes:
    at = head.lower().find(field_start)
    return head[at + len(field_start) :].partition(b"\r\n")[0].strip() if at >= 0 else b""
