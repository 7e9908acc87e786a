"""httpx over an `OriginPool`: the same connections, limits and errors, with httpx's interface."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import httpx

from edge.core.http import Headers
from edge.gateway.origin.errors import ErrorKind, OriginError
from edge.gateway.origin.limits import Deadlines
from edge.gateway.origin.pool import OriginPool
from edge.gateway.origin.request_head import Body
from edge.gateway.origin.response import OriginResponse

_FRAMING = frozenset({"content-length", "transfer-encoding"})

ERRORS: dict[ErrorKind, type[httpx.TransportError]] = {
    ErrorKind.DESTINATION_UNAVAILABLE: httpx.ConnectError,
    ErrorKind.DNS_ERROR: httpx.ConnectError,
    ErrorKind.CONNECTION_REFUSED: httpx.ConnectError,
    ErrorKind.CONNECTION_TIMEOUT: httpx.ConnectTimeout,
    ErrorKind.CONNECTION_TERMINATED: httpx.RemoteProtocolError,
    ErrorKind.CONNECTION_WRITE_TIMEOUT: httpx.WriteTimeout,
    ErrorKind.CONNECTION_LIMIT_REACHED: httpx.PoolTimeout,
    ErrorKind.TLS_PROTOCOL_ERROR: httpx.ConnectError,
    ErrorKind.TLS_CERTIFICATE_ERROR: httpx.ConnectError,
    ErrorKind.HTTP_RESPONSE_TIMEOUT: httpx.ReadTimeout,
    ErrorKind.HTTP_RESPONSE_INCOMPLETE: httpx.RemoteProtocolError,
    ErrorKind.HTTP_RESPONSE_HEADER_SECTION_SIZE: httpx.RemoteProtocolError,
    ErrorKind.HTTP_PROTOCOL_ERROR: httpx.RemoteProtocolError,
    ErrorKind.PROXY_CONFIGURATION_ERROR: httpx.ProxyError,
}
"""What a caller of httpx expects to be raised; a test holds that nothing is missing."""


class PoolTransport(httpx.AsyncBaseTransport):
    """Sends to the pool's addresses, whatever address of the same host a request names, and to nobody else."""

    def __init__(self, pool: OriginPool) -> None:
        self._pool = pool
        self._hosts = frozenset(address.host for address in pool.addresses)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.raw_host.decode("ascii").strip("[]") not in self._hosts:
            # A redirect, or an absolute address in the wrong place: origins come from the settings alone.
            raise httpx.UnsupportedProtocol(f"{url.host} is not this client's origin", request=request)
        pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw]
        pool_s, deadlines = self._timeouts(request)
        try:
            response = await self._pool.send(
                request.method,
                url.raw_path.decode("ascii"),
                Headers(pairs if _streams(request) else (pair for pair in pairs if pair[0] not in _FRAMING)),
                _body(request),
                deadlines=deadlines,
                wait_s=pool_s,
            )
        except OriginError as exc:
            raise ERRORS[exc.kind](str(exc), request=request) from exc
        return httpx.Response(
            response.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers],
            stream=_PoolStream(response, request),
            extensions={"http_version": b"HTTP/1.1"},
        )

    def _timeouts(self, request: httpx.Request) -> tuple[float, Deadlines]:
        """How long to wait for a place, and the rest, in seconds: as the caller says, for ever where it says None."""
        said = request.extensions.get("timeout")
        if not said:
            return self._pool.caps.queue_s, self._pool.deadlines
        connect_s, read_s, write_s, pool_s = (
            math.inf if said.get(name) is None else said[name] for name in ("connect", "read", "write", "pool")
        )
        return pool_s, Deadlines(connect_s, head_s=read_s, idle_s=read_s, total_s=math.inf, write_s=write_s)

    async def aclose(self) -> None:
        self._pool.close()


def _streams(request: httpx.Request) -> bool:
    return not isinstance(request.stream, httpx.ByteStream)


def _body(request: httpx.Request) -> Body:
    """What is to be sent: whole where the caller gave it whole, else in pieces as they come."""
    if not _streams(request):
        return request.content or None
    assert isinstance(request.stream, httpx.AsyncByteStream)
    return aiter(request.stream)


class _PoolStream(httpx.AsyncByteStream):
    def __init__(self, response: OriginResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._response.chunks():
                yield data
        except OriginError as exc:
            raise ERRORS[exc.kind](str(exc), request=self._request) from exc

    async def aclose(self) -> None:
        self._response.abandon()
