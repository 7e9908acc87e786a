"""TLS to origins: who vouches for them is verified, and for which host."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from edge.core.http import Headers
from edge.gateway.origin import Deadlines, ErrorKind, OriginError, OriginPool, tls_context
from tests.support.certificates import self_signed, server_context
from tests.support.clock import ManualClock
from tests.support.raw_origin import RawOrigin

HOST = Headers((("host", "shop"),))
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 8192\r\n\r\n" + b"x" * 8_192


def pool_to(url: str, ca: Path | None) -> OriginPool:
    tls = None if ca is None else tls_context(str(ca))
    return OriginPool((url,), ManualClock(), deadlines=Deadlines(5, 5, 5, 5), tls=tls)


async def test_an_origin_that_a_given_authority_vouches_for_is_spoken_to(tmp_path):
    cert, key = self_signed(tmp_path, "IP:127.0.0.1")
    async with RawOrigin(tls=server_context(cert, key)) as origin:
        pool = pool_to(origin.url, cert)
        accepting = asyncio.create_task(origin.accepted())
        for _ in range(2):
            asking = asyncio.create_task(pool.send("GET", "/a", HOST))
            connection = await accepting
            assert connection.writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}
            await connection.answer(OK)
            assert await (await asking).read(10_000) == b"x" * 8_192
        assert origin.connections == 1
        pool.close()


async def test_the_host_of_the_address_is_the_one_that_is_named(tmp_path):
    cert, key = self_signed(tmp_path, "DNS:localhost")
    named: list[str] = []
    context = server_context(cert, key)
    context.sni_callback = lambda connection, name, _: named.append(name)
    async with RawOrigin(tls=context) as origin:
        pool = pool_to(f"https://localhost:{origin.port}", cert)
        asking = asyncio.create_task(pool.send("GET", "/a", HOST))
        await (await origin.accepted()).answer(OK)
        (await asking).abandon()
        assert named == ["localhost"]
        pool.close()


@pytest.mark.parametrize("trusted", [False, True])
async def test_nothing_is_said_to_whom_nobody_vouches_for(tmp_path, trusted):
    """Neither to one without a known authority, nor to one with a certificate for another host."""
    cert, key = self_signed(tmp_path, "DNS:elsewhere.example" if trusted else "IP:127.0.0.1")
    context = server_context(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def heard() -> bytes:
            """All that comes over a connection, once it is encrypted."""
            accepted, _ = listener.accept()
            with accepted:
                try:
                    with context.wrap_socket(accepted, server_side=True) as encrypted:
                        return encrypted.recv(1_000)
                except (ssl.SSLError, ConnectionError):
                    return b""

        hearing = asyncio.create_task(asyncio.to_thread(heard))
        pool = pool_to(f"https://127.0.0.1:{listener.getsockname()[1]}", cert if trusted else None)
        with pytest.raises(OriginError) as found:
            await pool.send("POST", "/a", HOST, b"secret")
        assert found.value.kind is ErrorKind.TLS_CERTIFICATE_ERROR
        assert await hearing == b""
        pool.close()


async def test_an_origin_that_does_not_speak_tls():
    async with RawOrigin() as origin:
        pool = pool_to(origin.url.replace("http:", "https:"), None)
        asking = asyncio.create_task(pool.send("GET", "/a", HOST))
        connection = await origin.accepted()
        connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(OriginError) as found:
            await asking
        assert found.value.kind is ErrorKind.TLS_PROTOCOL_ERROR
        pool.close()
