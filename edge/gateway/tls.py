"""TLS for viewers: one context from a certificate and its key, and another in its place when the files change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

logger = logging.getLogger("nearshelf.tls")

LOOK_EVERY_S = 2.0
HANDSHAKE_S = 10.0
"""From the connection to the end of its handshake; then it is closed."""

Look = tuple[tuple[int, int, int], ...]
"""Inode, time of change and size of each file: otherwise when a file was replaced or written to."""


class TlsUnusable(Exception):
    """Certificate and key cannot be used; the text names the file and says why."""


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A context for viewers with the chain in `cert` and its key: TLS 1.2 and later, HTTP/1.1. Raises TlsUnusable."""
    for what, path in (("certificate", cert), ("key", key)):
        try:
            path.read_bytes()
        except OSError as exc:
            raise TlsUnusable(f"the {what} {path} cannot be read: {exc.strerror}") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A client that can make the server negotiate anew can make it work for nothing.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE

    def no_passphrase() -> str:
        raise TlsUnusable(f"the key {key} is encrypted, and nobody is there to type its passphrase; decrypt it first")

    try:
        context.load_cert_chain(cert, key, no_passphrase)
    except ssl.SSLError as exc:
        raise TlsUnusable(_why(cert, key, exc)) from exc
    return context


def _why(cert: Path, key: Path, exc: ssl.SSLError) -> str:
    if exc.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} is not that of the certificate {cert}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError:
        return f"{cert} holds no certificate in PEM (-----BEGIN CERTIFICATE-----): {exc.reason or exc}"
    return f"{key} holds no usable private key in PEM (-----BEGIN PRIVATE KEY-----): {exc.reason or exc}"


class TlsFiles:
    """One listener's certificate. `context` is the listener's for as long as it lives; each handshake is led by the
    one that was read last. Raises TlsUnusable when the files cannot be used at first."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._seen = self._look()
        self.context = server_context(cert, key)
        self._current = self.context
        self.refused: str | None = None
        """Why the files as they are now are not in use; None: they are."""
        self.context.sni_callback = self._lead

    async def run(self) -> None:
        """Look at the files again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Take the files when they have changed and fit each other; else stay with what was."""
        seen = await asyncio.to_thread(self._look)
        if seen == self._seen:
            return
        try:
            context = await asyncio.to_thread(server_context, self._cert, self._key)
        except TlsUnusable as exc:
            # Not noted as seen: between two files being written they do not fit, and a moment later they do.
            if self.refused != str(exc):
                logger.error("the certificate stays as it was: %s", exc)
            self.refused = str(exc)
            return
        self._seen, self._current, self.refused = seen, context, None
        logger.info("the certificate %s was read anew", self._cert)

    def _lead(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        handshake.context = self._current

    def _look(self) -> Look:
        found = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)
