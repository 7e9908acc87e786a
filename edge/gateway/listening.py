"""Sockets to listen at, and helpers' listeners: a uvicorn that leaves signals to the process it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp

from edge.gateway.settings import Address


def bind(address: Address, *, reuse_port: bool = False) -> socket.socket:
    """A bound socket, not yet listening. Raises OSError naming the address."""
    family = socket.AF_UNIX if address.is_path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if address.is_path:
            Path(address.host).unlink(missing_ok=True)
            bound.bind(address.host)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind((address.host, address.port))
    except OSError as exc:
        bound.close()
        raise OSError(exc.errno, f"cannot listen on {address}: {exc.strerror}") from exc
    bound.setblocking(False)
    return bound


KEEP_ALIVE_S = 75
"""An idle connection is kept for so long: longer than whoever asks here keeps one, so that nobody asks on one that is
just being closed."""


class HelperServer:
    """An ASGI application on a listener of its own, in this loop: for operators and workers, never for viewers."""

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        self._socket = bound
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
                # The parser that bounds a head; what asks here needs no speed.
                http="h11",
                h11_max_incomplete_event_size=16_384,
                limit_concurrency=500,
            )
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Finish what is being answered, for a second at the most, and close the listener."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()


class _Server(uvicorn.Server):
    """Signals are the process's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def body_of(request: Request, at_most: int) -> bytes | None:
    """The body of a request to a helper's listener; None for one of more than `at_most` bytes."""
    found = b""
    async for piece in request.stream():
        found += piece
        if len(found) > at_most:
            return None
    return found
