"""What one worker has stored, the edge's other workers on this machine get to store, too.

Each viewer's connection lands on any of the workers; without this the second reader of a page would often find it
missing. Datagrams over Unix sockets in one folder: a lost one is a miss later on, and nothing ever waits for one.

Safe by what the rules already say: a response carries its position and tags, its times are of the one clock that all
processes of this machine share, and every worker holds it against its own floors and its own lease at each serve.
Past the lease nothing stored is taken for fresh, wherever it came from, so that nobody takes part in another worker's
fill (docs/freshness.md, rule 5); what its route lets be shown stale-marked is shown, but by a worker that has not
applied the log yet, which therefore takes nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from edge.core.key import CacheKey
from edge.core.stored import StoredResponse
from edge.store.codec import Unreadable, decode, encode, key_record, key_recorded

MAX_DATAGRAM_BYTES = 200_000
"""Linux takes about this much in one; what is larger each worker fetches for itself."""
LOOK_EVERY_S = 1.0
"""How long the list of siblings is believed; who starts in between has an empty store anyway."""
AT_ONCE = 32
"""Datagrams read before viewers get their turn again."""
STORED, DROPPED = b"s", b"d"
"""What a datagram begins with: a stored response follows, or a key."""


class Siblings:
    """One worker's end. `on_stored` takes what a sibling stored, `on_dropped` the key of what one forgot because a
    write went through it (RFC 9111 §4.4).

    `version_of` gives the version of the policy that a key falls under here and now: what was stored under another one
    is not taken, for while a change of policies goes round, workers do not agree for a moment. `clock` gives seconds of
    the edge's clock.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        version_of: Callable[[CacheKey], str],
        on_stored: Callable[[StoredResponse], object],
        on_dropped: Callable[[CacheKey], object],
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._own = folder / worker
        self._version_of = version_of
        self._on_stored = on_stored
        self._on_dropped = on_dropped
        self._clock = clock
        self._others: list[str] = []
        self._looked_at = float("-inf")
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(MAX_DATAGRAM_BYTES + 1))
        self.told = 0
        self.heard = 0
        self.lost = 0
        """Datagrams that a sibling had no room for, or that could not be read."""

    def open(self) -> None:
        """Listen. Raises OSError when the folder is not this user's own, or cannot hold a socket."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(f"{self._folder} must belong to this user, and nobody else may write there")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.setblocking(False)
        try:
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                listening.setsockopt(socket.SOL_SOCKET, option, 4 * MAX_DATAGRAM_BYTES)
            listening.bind(str(self._own))
        except OSError as exc:
            listening.close()
            raise OSError(exc.errno, f"cannot listen to siblings at {self._own}: {exc.strerror}") from exc
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening.fileno(), self._read)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._own.unlink(missing_ok=True)

    def tell(self, stored: StoredResponse) -> None:
        """Offer `stored` to the others. Never waits, never raises."""
        if self._hears_anybody() and len(stored.body) < MAX_DATAGRAM_BYTES:
            message = STORED + encode(stored)
            if len(message) <= MAX_DATAGRAM_BYTES:
                self._send(message)

    def tell_dropped(self, key: CacheKey) -> None:
        """Let the others forget every variant under `key`: called before the answer to the write goes out. Never waits,
        never raises; a sibling whose socket is full keeps what it has."""
        if self._hears_anybody():
            self._send(DROPPED + key_record(key))

    def _hears_anybody(self) -> bool:
        if self._socket is None:
            return False
        self._look()
        return bool(self._others)

    def _send(self, message: bytes) -> None:
        assert self._socket is not None
        for path in list(self._others):
            try:
                self._socket.sendto(message, path)
                self.told += 1
            except (ConnectionRefusedError, FileNotFoundError):
                # Its worker ended without a word.
                Path(path).unlink(missing_ok=True)
                self._others.remove(path)
            except OSError:
                self.lost += 1

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            try:
                self._others = [str(path) for path in self._folder.iterdir() if path != self._own]
            except OSError:
                self._others = []

    def _read(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                size = self._socket.recv_into(self._buffer)
            except OSError:
                return
            try:
                self._take(bytes(self._buffer[:1]), bytes(self._buffer[1:size]))
            except Unreadable:
                self.lost += 1

    def _take(self, kind: bytes, record: bytes) -> None:
        """Raises Unreadable."""
        if kind == DROPPED:
            self.heard += 1
            self._on_dropped(key_recorded(record))
            return
        if kind != STORED:
            raise Unreadable(f"a message of kind {kind!r}")
        stored = decode(record)
        if stored.policy_version == self._version_of(stored.key):
            self.heard += 1
            self._on_stored(stored)
