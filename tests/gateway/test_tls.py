"""Viewers over TLS: versions, ALPN, what goes wrong, and a certificate that changes while it is in use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from edge.gateway import tls as tls_module
from edge.gateway.tls import TlsFiles, TlsUnusable, server_context
from tests.support.certificates import self_signed
from tests.support.edge_shop import EdgeShop
from tests.support.raw_http import RawViewer
from tests.support.scripted_origin import page

PAGE = "/eu-eur/products/lamp"


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    (folder / name).mkdir()
    return self_signed(folder / name, f"DNS:{name}.example", "IP:127.0.0.1")


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Viewer:
    """A connection over TLS, and what it speaks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.raw = RawViewer(reader, writer)
        self.object: ssl.SSLObject = writer.get_extra_info("ssl_object")

    @property
    def certificate(self) -> bytes | None:
        return self.object.getpeercert(binary_form=True)

    @classmethod
    async def open(cls, shop: EdgeShop, context: ssl.SSLContext | None = None) -> Viewer:
        return cls(*await asyncio.open_connection(*shop.gateway.address, ssl=context or trusting()))

    async def get(self, shop: EdgeShop, target: str = PAGE, *lines: str):
        self.raw.get(target, shop.host, *lines)
        return await self.raw.response()

    async def close(self) -> None:
        await hang_up(self.raw.writer)


@pytest.fixture
async def shop(tmp_path: Path):
    cert, key = pair(tmp_path, "first")
    async with EdgeShop(tmp_path, settings={"tls_cert": cert, "tls_key": key}) as shop:
        shop.origin.on(PAGE, page())
        yield shop


async def test_viewers_are_answered_and_origins_hear_that_they_speak_https(shop):
    viewer = await Viewer.open(shop)
    assert (await viewer.get(shop)).status == 200
    hit = await viewer.get(shop)
    assert "; hit" in hit.headers["cache-status"]
    assert shop.origin.last(PAGE).headers["x-forwarded-proto"] == "https"
    await viewer.close()


async def test_a_large_body_comes_whole(shop):
    body = os.urandom(700_000)
    shop.origin.on(PAGE, page(body))
    viewer = await Viewer.open(shop)
    for _ in range(2):
        assert (await viewer.get(shop)).body == body
    await viewer.close()


async def test_http_1_1_is_what_is_agreed_on(shop):
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    viewer = await Viewer.open(shop, context)
    assert viewer.object.selected_alpn_protocol() == "http/1.1"
    assert viewer.object.version() == "TLSv1.3"
    await viewer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_versions_are_refused(shop, version):
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Viewer.open(shop, context)


async def test_plain_http_on_the_tls_port_is_hung_up_on(shop):
    reader, writer = await asyncio.open_connection(*shop.gateway.address)
    writer.write(f"GET {PAGE} HTTP/1.1\r\nHost: {shop.host}\r\n\r\n".encode())
    answered = b""
    with contextlib.suppress(ConnectionError):
        answered = await asyncio.wait_for(reader.read(), 5)
    assert b"HTTP/" not in answered
    assert shop.origin.count(PAGE) == 0
    await hang_up(writer)


async def test_a_handshake_on_the_plain_port_is_answered_with_400(tmp_path):
    async with EdgeShop(tmp_path) as shop:
        reader, writer = await asyncio.open_connection(*shop.gateway.address)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = trusting().wrap_bio(incoming, outgoing, server_hostname="first.example")
        with pytest.raises(ssl.SSLWantReadError):
            handshake.do_handshake()
        writer.write(outgoing.read())
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400 ")
        await hang_up(writer)


async def test_who_never_finishes_the_handshake_is_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr("edge.gateway.app.HANDSHAKE_S", 0.2)
    cert, key = pair(tmp_path, "first")
    async with EdgeShop(tmp_path, settings={"tls_cert": cert, "tls_key": key}) as shop:
        reader, writer = await asyncio.open_connection(*shop.gateway.address)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await hang_up(writer)


# --- a certificate that changes ---


async def test_a_new_certificate_is_for_new_connections_and_old_ones_go_on(shop, tmp_path):
    before = await Viewer.open(shop)
    cert, key = pair(tmp_path, "second")
    files = shop.gateway._tls
    assert files is not None
    shutil.copy(cert, shop.gateway.settings.tls_cert)
    await files.look()
    assert files.refused is not None
    assert "is not that of the certificate" in files.refused
    between = await Viewer.open(shop)
    assert between.certificate == before.certificate
    shutil.copy(key, shop.gateway.settings.tls_key)
    await files.look()
    assert files.refused is None
    after = await Viewer.open(shop)
    assert after.certificate == ssl.PEM_cert_to_DER_cert(cert.read_text())
    assert after.certificate != before.certificate
    for viewer in (before, between, after):
        assert (await viewer.get(shop)).status == 200
        await viewer.close()


async def test_files_that_have_not_changed_are_not_read(tmp_path, monkeypatch):
    files = TlsFiles(*pair(tmp_path, "first"))
    monkeypatch.setattr(tls_module, "server_context", lambda *_: pytest.fail("nothing has changed"))
    await files.look()


# --- what cannot be used ---


def test_a_file_that_is_not_there_is_named(tmp_path):
    cert, key = pair(tmp_path, "first")
    with pytest.raises(TlsUnusable, match=r"the certificate .*/nowhere.pem cannot be read: No such file"):
        server_context(tmp_path / "nowhere.pem", key)
    with pytest.raises(TlsUnusable, match=r"the key .*/nowhere.pem cannot be read: No such file"):
        server_context(cert, tmp_path / "nowhere.pem")


def test_a_key_of_another_certificate_is_told_from_one_that_is_none(tmp_path):
    cert, _ = pair(tmp_path, "first")
    _, other = pair(tmp_path, "second")
    with pytest.raises(TlsUnusable, match="is not that of the certificate"):
        server_context(cert, other)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("hello\n")
    with pytest.raises(TlsUnusable, match=r"garbage\.pem holds no usable private key in PEM"):
        server_context(cert, garbage)
    with pytest.raises(TlsUnusable, match=r"garbage\.pem holds no certificate in PEM"):
        server_context(garbage, other)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(tmp_path):
    cert, key = pair(tmp_path, "first")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    with pytest.raises(TlsUnusable, match=r"locked\.pem is encrypted"):
        server_context(cert, locked)
