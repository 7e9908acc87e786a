"""GET over plain HTTP, for readiness and for what our own processes say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping


async def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    return await fetch(url) is not None


async def fetch(url: str, fields: Mapping[str, str] | None = None, within_s: float = 2.0) -> bytes | None:
    """The body of a 200; None for any other answer, and for none. `fields`: of the request, beside Host."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(name, int(port))
            try:
                # HTTP/1.0: the answer ends with the connection, and comes in one piece.
                lines = [f"GET /{path} HTTP/1.0", f"Host: {host}", *(f"{n}: {v}" for n, v in (fields or {}).items())]
                writer.write("\r\n".join((*lines, "", "")).encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return body if head.split(b" ")[1:2] == [b"200"] else None
