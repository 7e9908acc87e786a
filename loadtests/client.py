"""A small blocking HTTP/1.1 client whose two moments can be believed: just before a request, just after its answer.

One connection, one request at a time. Locust patches sockets so that waiting for an answer lets others run; without
locust it blocks its thread. Cheap, because whoever makes load shares the machine with what is loaded.
"""

from __future__ import annotations

import contextlib
import socket
import time
import zlib
from collections.abc import Iterable
from typing import Self

import brotli  # type: ignore[import-untyped]

from loadtests.http1 import CONNECT_TIMEOUT_S, MAX_HEAD_BYTES, Answer, NoAnswer, parse_head, parts_of

RECEIVE_BYTES = 262_144
CODINGS = "br, gzip"
"""What `decoded` can undo, as a value of Accept-Encoding."""


class NotSent(NoAnswer):
    """There was nobody to send a request to: it certainly did nothing."""


class Connection:
    """A kept-alive connection to one authority; opened when first used, opened again after a failure."""

    def __init__(self, base_url: str, timeout_s: float = 15.0) -> None:
        host, port, authority = parts_of(base_url)
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._address = (host, port)
        self._host_line = f"Host: {authority}\r\n"
        self._socket: socket.socket | None = None
        self._unread = b""
        self._read_at = 0.0
        """When the last bytes came."""
        self._give_up_at = 0.0
        self._begun = False
        """A byte of the answer has come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        found, self._socket, self._unread = self._socket, None, b""
        if found is not None:
            with contextlib.suppress(OSError):
                found.close()

    def request(self, method: str, target: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Answer:
        """One exchange. Raises NoAnswer, NotSent; the connection is then closed and the next request opens another.

        A kept-alive connection that the other side had closed meanwhile is opened again, once, and only for a GET or
        HEAD of whose answer no byte had come; the answer then counts from the first attempt.
        """
        lines = [f"{method} {target} HTTP/1.1\r\n", self._host_line]
        lines += [f"{name}: {value}\r\n" for name, value in fields]
        if body:
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        text = "".join(lines).encode("ascii") + body
        reused = self._socket is not None
        sent_at = time.monotonic()
        self._give_up_at = sent_at + self.timeout_s
        self._begun = False
        try:
            try:
                return self._exchange(method, text, sent_at)
            except ConnectionError:
                if not reused or self._begun or method not in {"GET", "HEAD"}:
                    raise
                self.close()
                return self._exchange(method, text, sent_at)
        except TimeoutError as exc:
            self.close()
            raise NoAnswer(f"{method} {self.base_url}{target}: no answer within {self.timeout_s:g} s") from exc
        except (OSError, ValueError) as exc:
            kind = NotSent if self._socket is None else NoAnswer
            self.close()
            raise kind(f"{method} {self.base_url}{target}: {str(exc) or type(exc).__name__}") from exc
        except BaseException:
            # Whoever waits here is told to stop in the middle of an answer: its rest must not be taken for the next.
            self.close()
            raise

    def _exchange(self, method: str, text: bytes, sent_at: float) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=CONNECT_TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(self.timeout_s)
        self._socket.sendall(text)
        status, headers = parse_head(self._until(b"\r\n\r\n"))
        while 100 <= status < 200:
            status, headers = parse_head(self._until(b"\r\n\r\n"))
        keep = "close" not in headers.get("connection", "").lower()
        body = b""
        if method != "HEAD" and status not in {204, 304}:
            if headers.get("transfer-encoding", "").lower() == "chunked":
                body = self._chunked()
            elif "content-length" in headers:
                body = self._exactly(int(headers["content-length"]))
            else:
                body, keep = self._rest(), False
        if self._unread:
            raise ValueError(f"{len(self._unread)} bytes after the answer")
        received_at = self._read_at
        if not keep:
            self.close()
        return Answer(status, headers, body, sent_at, received_at)

    # --- bytes ---

    def _receive(self) -> bytes:
        """What has come next; empty at the end of the stream. Raises TimeoutError."""
        assert self._socket is not None
        found = self._socket.recv(RECEIVE_BYTES)
        self._read_at = time.monotonic()
        if self._read_at > self._give_up_at:
            raise TimeoutError
        self._begun = self._begun or bool(found)
        return found

    def _more(self) -> bytes:
        found = self._receive()
        if not found:
            raise ConnectionError("closed in the middle of an answer" if self._begun else "closed without an answer")
        return found

    def _until(self, end: bytes) -> bytes:
        """Everything up to `end`, which is left out."""
        while (place := self._unread.find(end)) < 0:
            if len(self._unread) > MAX_HEAD_BYTES:
                raise ValueError(f"no end of the head within {MAX_HEAD_BYTES} bytes")
            self._unread += self._more()
        found, self._unread = self._unread[:place], self._unread[place + len(end) :]
        return found

    def _exactly(self, size: int) -> bytes:
        missing = size - len(self._unread)
        if missing <= 0:
            found, self._unread = self._unread[:size], self._unread[size:]
            return found
        parts, self._unread = [self._unread], b""
        while missing > 0:
            part = self._receive()
            if not part:
                raise ValueError(f"closed {missing} bytes before the end of the body")
            parts.append(part)
            missing -= len(part)
        whole = b"".join(parts)
        self._unread = whole[size:]
        return whole[:size]

    def _rest(self) -> bytes:
        parts, self._unread = [self._unread], b""
        while part := self._receive():
            parts.append(part)
        return b"".join(parts)

    def _chunked(self) -> bytes:
        parts: list[bytes] = []
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            parts.append(self._exactly(size))
            if self._until(b"\r\n"):
                raise ValueError("a chunk longer than it said")
        while self._until(b"\r\n"):
            pass  # a trailer field
        return b"".join(parts)


def decoded(answer: Answer) -> bytes:
    """The body as it was before its content coding. Raises ValueError for what cannot be undone."""
    coding = answer.headers.get("content-encoding", "identity").lower()
    try:
        match coding:
            case "identity":
                return answer.body
            case "gzip":
                return zlib.decompress(answer.body, wbits=31)
            case "br":
                found: bytes = brotli.decompress(answer.body)
                return found
    except (zlib.error, brotli.error) as exc:
        raise ValueError(f"not {coding}: {exc}") from exc
    raise ValueError(f"a content coding that nobody asked for: {coding}")
