"""One address of an origin: its connections, those kept between requests among them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from socket import gaierror
from typing import Any, cast
from urllib.parse import urlsplit

from edge.core.http import Headers
from edge.gateway.origin.breaker import Breaker
from edge.gateway.origin.connection import Connection
from edge.gateway.origin.errors import ErrorKind, OriginError
from edge.gateway.origin.health import CHECK_S, Health
from edge.gateway.origin.limits import KEEP_IDLE_S
from edge.gateway.origin.request_head import render_request_head
from edge.gateway.wire import Wires

NEXT_FAMILY_S = 0.25
"""How long one address of a name is tried before another is tried beside it (RFC 8305 §5)."""
BOTH_PORTS = {"http": 80, "https": 443}


def is_origin_url(text: str) -> bool:
    """Whether it is the address of an origin: scheme, host and port; no path, no query, nobody's name in it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    usable = parts.scheme in BOTH_PORTS and parts.hostname and port != 0 and "@" not in parts.netloc
    # `urlsplit` drops line breaks and blanks that a later reader might see.
    printable = text.isascii() and text.isprintable() and " " not in text
    bare = parts.path in {"", "/"} and not {"?", "#"} & set(text)
    return bool(usable and printable and bare)


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Certificates are verified, and that they are for the host in the address; `ca_file` instead of the system's
    authorities. Raises OSError when it cannot be read, ssl.SSLError when it holds no certificate."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Address:
    """`on_freed` is called when a request under way has ended. `wires` gives what watches its connections; None: the
    loop does, as it does for TLS. At most as many connections are open as requests were
    under way at once."""

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext | None,
        on_freed: Callable[[], None],
        wires: Callable[[], Wires] | None,
        *,
        oldest_first: bool,
    ) -> None:
        if not is_origin_url(url):
            raise ValueError(f"not an origin's address: {url!r}, expected http://HOST:PORT")
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host = parts.hostname
        self.port = parts.port or BOTH_PORTS[parts.scheme]
        self.authority = parts.netloc
        self.breaker = Breaker()
        self.health = Health()
        self.opened = 0
        self.failures = 0
        """Requests that got no usable head of a response here."""
        self.under_way = 0
        """Requests that hold one of its places: from before the connection is there until the body has been read."""
        self._tls = (tls or tls_context()) if parts.scheme == "https" else None
        self._on_freed = on_freed
        self._wires = None if self._tls is not None else wires
        self._oldest_first = oldest_first
        self._idle: deque[Connection] = deque()
        self._members: dict[Connection, None] = {}
        """In the order in which they were made."""
        self._closing = False
        try:
            ip_address(self.host)
        except ValueError:
            self._is_name = True
        else:
            self._is_name = False

    # -- connections ---------------------------------------------------------------------------------------------------

    def idle(self, now: float, max_idle_s: float) -> Connection | None:
        """A kept connection that was used within `max_idle_s`; the caller holds a place."""
        while self._idle:
            connection = self._idle[0 if self._oldest_first else -1]
            idle_s = now - connection.idle_since
            if idle_s < max_idle_s and connection.is_usable:
                self._idle.popleft() if self._oldest_first else self._idle.pop()
                connection.placed = True
                return connection
            # Nobody's any more; or not this request's, and one has to make room for the new one that it gets instead.
            spent = idle_s >= KEEP_IDLE_S or not connection.is_usable
            if not spent:
                connection = self._idle[0]
            self._idle.remove(connection)
            self._members.pop(connection, None)
            connection.close()
            if not spent:
                break
        return None

    async def connect(self, target: str, connect_s: float) -> Connection:
        """A new connection; the caller holds a place, and has lost it when this raises OriginError."""
        try:
            connection = await self._dial(target, connect_s)
        except BaseException:
            self._free()
            raise
        if self._closing:
            connection.close()
            self._free()
            raise OriginError(ErrorKind.CONNECTION_TERMINATED, target)
        self.opened += 1
        self._members[connection] = None
        connection.placed = True
        return connection

    async def _dial(self, target: str, connect_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        racing: dict[str, Any] = {}
        if self._is_name and isinstance(loop, asyncio.BaseEventLoop):
            # uvloop has no such option, and tries a name's addresses one after the other.
            racing["happy_eyeballs_delay"] = NEXT_FAMILY_S
        connection = Connection(self.forget)
        first = connection if self._wires is None else _Connecting()
        try:
            async with asyncio.timeout(None if connect_s == float("inf") else connect_s):
                transport, _ = await loop.create_connection(
                    lambda: first, self.host, self.port, ssl=self._tls, **racing
                )
            if self._wires is not None:
                # Taken from the loop, which would have read nothing of it so far.
                connected = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
                transport.abort()
                self._wires().add(connected, None, connection)
        except OSError as exc:
            raise OriginError(_kind_of(exc), target) from exc
        return connection

    def give_back(self, connection: Connection, now: float) -> None:
        """The exchange is over: keep the connection if it can carry another."""
        if connection.finish() and not self._closing:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            self._members.pop(connection, None)
        if connection.placed:
            connection.placed = False
            self._free()

    def forget(self, connection: Connection) -> None:
        """The connection is gone."""
        if connection in self._members:
            del self._members[connection]
            if connection in self._idle:
                self._idle.remove(connection)
        if connection.placed:
            connection.placed = False
            self._free()

    def _free(self) -> None:
        self.under_way -= 1
        self._on_freed()

    def close(self) -> None:
        """Hang up everywhere; exchanges under way end with an error."""
        self._closing = True
        for connection in list(self._members):
            connection.close()
            self.forget(connection)

    # -- health --------------------------------------------------------------------------------------------------------

    async def answers(self, path: str) -> bool:
        """Whether a GET of `path` is answered with 2xx or 3xx in time, over a connection of its own: a check neither
        waits for a place nor takes one."""
        head = render_request_head("GET", path, Headers((("host", self.authority), ("connection", "close"))), None)
        connection: Connection | None = None
        try:
            connection = await self._dial(path, CHECK_S)
            connection.begin("GET", path, head)
            await connection.wait_for_head(CHECK_S)
        except OriginError:
            return False
        else:
            return 200 <= connection.status < 400
        finally:
            if connection is not None:
                connection.close()

    def status(self) -> dict[str, Any]:
        """What `/status` shows of it."""
        return {
            "address": self.authority,
            "up": self.health.is_up,
            "left_alone": self.breaker.is_open,
            "under_way": self.under_way,
            "idle": len(self._idle),
            "connections_opened": self.opened,
            "failures": self.failures,
        }


class _Connecting(asyncio.Protocol):
    """Whose a connection is until it is watched by `Wires`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).pause_reading()


def _kind_of(exc: OSError) -> ErrorKind:
    """Why there is no connection. Nothing of a request was sent, whatever it is."""
    if isinstance(exc, TimeoutError):
        return ErrorKind.CONNECTION_TIMEOUT
    if isinstance(exc, gaierror):
        return ErrorKind.DNS_ERROR
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ErrorKind.TLS_CERTIFICATE_ERROR
    if isinstance(exc, ssl.SSLError):
        return ErrorKind.TLS_PROTOCOL_ERROR
    return ErrorKind.CONNECTION_REFUSED
