"""Sockets of viewers and origins, read and written here: for a hit two system calls and one run of Python.

The event loop watches one epoll set in which all of a worker's viewers are, and one for each origin. However many of
them have sent something, it calls back once; each one's bytes are then read, answered and written before the next one's
are read. asyncio's own transports cost a handle, a context and four calls for each of them, which is more than a hit
takes otherwise. They are used where there is no epoll, and for TLS (`server.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

logger = logging.getLogger("nearshelf.wire")

AVAILABLE = hasattr(select, "epoll")
READ_BYTES = 16_384
"""Bytes read at a time."""
AT_A_TIME, ROUNDS = 32, 4
"""Sockets read at a time, and how often before the loop's other work gets its turn, which waits some two milliseconds
at the most: to ask again at once is cheaper than to be called again."""
FEW = 4
"""With fewer of them there is no hurry."""
ACCEPTED_AT_A_TIME = 64
ACCEPT_AGAIN_S = 1.0
"""How long nobody is accepted after the process ran out of descriptors or memory."""


class End(Protocol):
    """What a wire is for, a viewer say; the names are asyncio's (`asyncio.Protocol`)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class Wire(asyncio.Transport):
    """One socket, as `asyncio.Transport` says; the kernel takes what is written, or it waits here."""

    __slots__ = (
        "_closing",
        "_ended",
        "_high",
        "_interest",
        "_peer",
        "_send",
        "_socket",
        "_waiting",
        "_waiting_bytes",
        "_wires",
        "_write_paused",
        "end",
        "fd",
        "recv",
    )

    def __init__(self, wires: Wires, connected: socket.socket, peer: Any, end: End) -> None:
        super().__init__()
        self._wires = wires
        self._socket = connected
        self._peer = peer
        self.fd = connected.fileno()
        self.recv = connected.recv if wires.buffer is None else partial(_copied, connected.recv_into, wires.buffer)
        self._send = connected.send
        self.end = end
        self._interest = select.EPOLLIN
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._high = 65_536
        self._write_paused = False
        self._closing = False
        self._ended = False

    # -- asyncio.Transport ---------------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._peer, "socket": self._socket}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """`high`: bytes that wait before its end is told to pause; it is told to go on at a quarter of them."""
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what the kernel takes, the rest when it takes more. Nothing after `close`."""
        if self._closing:
            return
        if self._waiting:
            self._keep(memoryview(data))
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            self.fail(exc)
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])
            self._watch(self._interest | select.EPOLLOUT)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same of several pieces, in one call of the kernel and without joining them: for long ones that is
        cheaper."""
        pieces = list(list_of_data)
        if self._closing:
            return
        sent = 0
        if not self._waiting:
            try:
                sent = self._socket.sendmsg(pieces)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                self.fail(exc)
                return
            if sent == sum(map(len, pieces)):
                return
            self._watch(self._interest | select.EPOLLOUT)
        for piece in pieces:
            if sent < len(piece):
                self._keep(memoryview(piece)[sent:])
            sent = max(0, sent - len(piece))

    def pause_reading(self) -> None:
        self._watch(self._interest & ~select.EPOLLIN)

    def resume_reading(self) -> None:
        if not self._closing:
            self._watch(self._interest | select.EPOLLIN)

    def close(self) -> None:
        """Read nothing more; hang up when all that was written is sent."""
        if self._closing:
            return
        self._closing = True
        if self._waiting:
            self._watch(select.EPOLLOUT)
        else:
            self._end(None)

    def abort(self) -> None:
        """Hang up now."""
        self._end(None)

    # -- what the kernel says ------------------------------------------------------------------------------------------

    def ended(self) -> None:
        """The peer has sent its last byte; it may still be waiting for answers."""
        self._watch(self._interest & ~select.EPOLLIN)
        if not self.end.eof_received():
            self.close()

    def fail(self, exc: Exception | None) -> None:
        """The connection is broken."""
        self._end(exc)

    def happened(self, events: int) -> None:
        """Something other than bytes to be read."""
        if events & select.EPOLLIN and not self._closing:
            # First of all: what the peer said before it broke off.
            self._wires.read(self)
        if self._ended:
            return
        if events & (select.EPOLLERR | select.EPOLLHUP):
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.fail(OSError(code, os.strerror(code)) if code else None)
            return
        if events & select.EPOLLOUT:
            self._send_waiting()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _keep(self, rest: memoryview) -> None:
        self._waiting.append(rest)
        self._waiting_bytes += len(rest)
        if self._waiting_bytes > self._high and not self._write_paused:
            self._write_paused = True
            self.end.pause_writing()

    def _send_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            try:
                sent = self._send(waiting[0])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                self.fail(exc)
                return
            self._waiting_bytes -= sent
            if sent < len(waiting[0]):
                waiting[0] = waiting[0][sent:]
                break
            waiting.popleft()
        if not waiting:
            if self._closing:
                self._end(None)
                return
            self._watch(self._interest & ~select.EPOLLOUT)
        if self._write_paused and self._waiting_bytes <= self._high // 4:
            self._write_paused = False
            self.end.resume_writing()

    def _watch(self, interest: int) -> None:
        if interest != self._interest and not self._ended:
            self._interest = interest
            self._wires.watch(self.fd, interest)

    def _end(self, exc: Exception | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        self._waiting.clear()
        self._waiting_bytes = 0
        self._wires.forget(self.fd)
        # Not from within `write`, whose caller is in the middle of something.
        asyncio.get_running_loop().call_soon(self._lost, exc)

    def _lost(self, exc: Exception | None) -> None:
        try:
            self.end.connection_lost(exc)
        finally:
            self._socket.close()


class Wires:
    """Sockets that one epoll set watches: reads them. `read_bytes`: at a time.

    `lasting`: parts of what is read are kept for long. Then it is read into one buffer and copied from there, which
    takes a fifth of a microsecond more: what was allocated for a whole read, shrunk and freed between bodies that are
    stored left holes of 230 bytes for each of them.
    """

    def __init__(self, read_bytes: int = READ_BYTES, *, lasting: bool = False) -> None:
        self._read_bytes = read_bytes
        self.buffer = memoryview(bytearray(read_bytes)) if lasting else None
        self._wires: dict[int, Wire] = {}
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, connected: socket.socket, peer: Any, end: End) -> None:
        """Watch a connected socket, which is `end`'s from now on."""
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = self._wires[connected.fileno()] = Wire(self, connected, peer, end)
        self._epoll.register(wire.fd, select.EPOLLIN)
        end.connection_made(wire)

    def close(self) -> None:
        """Hang up on everybody, and close everything. The ends are told in the loop's next step."""
        for wire in list(self._wires.values()):
            wire.abort()
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def watch(self, fd: int, interest: int) -> None:
        self._epoll.modify(fd, interest)

    def forget(self, fd: int) -> None:
        del self._wires[fd]
        self._epoll.unregister(fd)

    def _ready(self) -> None:
        poll, wires, read = self._poll, self._wires, self.read
        for _ in range(ROUNDS):
            happened = poll(0, AT_A_TIME)
            for fd, events in happened:
                wire = wires.get(fd)
                if wire is None:
                    self._other(fd)
                elif events == 1:  # EPOLLIN, as nearly always
                    read(wire)
                else:
                    wire.happened(events)
            if len(happened) < FEW or self._epoll.closed:
                return

    def _other(self, fd: int) -> None:
        """Something happened to what is no wire: one that was hung up on while others of this round were read."""

    def read(self, wire: Wire) -> None:
        """Take what the peer has sent, and hand it over."""
        try:
            data = wire.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            wire.fail(exc)
            return
        try:
            if data:
                wire.end.received(data)
            else:
                wire.ended()
        except Exception:
            logger.exception("a connection failed: a fault of this program")
            wire.abort()


def _copied(recv_into: Callable[[memoryview], int], buffer: memoryview, _: int) -> bytes:
    return buffer[: recv_into(buffer)].tobytes()


class Listener(Wires):
    """The viewers of one listener: accepts them, too. `make` gives each accepted one its end."""

    def __init__(self, listener: socket.socket, make: Callable[[], End]) -> None:
        """`listener`: bound; it is listened on from now on, and closed by `close`."""
        super().__init__()
        self._listener = listener
        self._make = make
        self._accepting: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        listener.listen(1024)
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def stop_accepting(self) -> None:
        """The listener is closed; who is connected stays so."""
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
        if self._listener.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._listener.fileno())
            self._listener.close()

    def close(self) -> None:
        """Accept nobody any more, hang up on everybody, and close everything."""
        self.stop_accepting()
        super().close()

    def _other(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_A_TIME):
            try:
                connected, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                # Out of descriptors or memory: to be told of each further viewer would not help.
                logger.error("no viewer can be accepted for %g s: %s", ACCEPT_AGAIN_S, exc.strerror or exc)
                self._epoll.unregister(self._listener.fileno())
                self._accepting = self._loop.call_later(ACCEPT_AGAIN_S, self._accept_again)
                return
            self.add(connected, peer, self._make())

    def _accept_again(self) -> None:
        self._accepting = None
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
