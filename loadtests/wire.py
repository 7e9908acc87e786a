"""One direction of a connection over a distance: what waits, what is under way, what has arrived. Pure.

A byte arrives a fixed time after it left, and no more is under way than TCP would have under way: ten segments at first
(RFC 6928 §2), then as much more as was acknowledged (slow start, RFC 5681 §3.1). Nothing is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

SEGMENT_BYTES = 1_460
FIRST_WINDOW_BYTES = 10 * SEGMENT_BYTES
WIDEST_WINDOW_BYTES = 4 << 20


class Wire:
    """Bytes on their way. Knows no clock.

    All moments are seconds of one clock, and must not go back. What happens in between two calls happens at its own
    moment, not at that of the call: whoever calls late is late by himself, and what follows is not.
    """

    __slots__ = ("_acks", "_flying", "_not_before", "_travel_s", "_under_way", "_waiting", "_window", "waiting_bytes")

    def __init__(self, travel_s: float, not_before: float = 0.0, first_window: int = FIRST_WINDOW_BYTES) -> None:
        """`not_before`: nothing leaves earlier."""
        self._travel_s = travel_s
        self._not_before = not_before
        self._window = first_window
        self._under_way = 0
        """Bytes that have left and are not yet acknowledged."""
        self._waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self._flying: deque[tuple[float, bytes]] = deque()
        """(when it arrives, bytes); no bytes are the end of the stream."""
        self._acks: deque[tuple[float, int]] = deque()
        """(when the sender hears of it, how many bytes have arrived)."""

    def send(self, data: bytes, now: float) -> None:
        """`data` is ready to leave at `now`; no bytes: the stream ends behind what was sent before."""
        self._waiting.append(data)
        self.waiting_bytes += len(data)
        self._leave(max(now, self._not_before))

    def next_at(self) -> float | None:
        """When something happens next; None: nothing is under way."""
        moments = [queue[0][0] for queue in (self._flying, self._acks) if queue]
        return min(moments, default=None)

    def arrived(self, now: float) -> Iterator[tuple[float, bytes]]:
        """What has arrived by `now` and was not yet told, in order, each with its moment."""
        while (at := self.next_at()) is not None and at <= now:
            if self._acks and self._acks[0][0] == at:
                self._acknowledged(at, self._acks.popleft()[1])
                continue
            _, data = self._flying.popleft()
            if data:
                self._acks.append((at + self._travel_s, len(data)))
            yield at, data

    def _acknowledged(self, at: float, count: int) -> None:
        # A window that was never full is not known to be too small (RFC 7661 §4.1; Linux grows to twice what was used).
        if self._window < 2 * self._under_way:
            self._window = min(self._window + count, WIDEST_WINDOW_BYTES)
        self._under_way -= count
        self._leave(at)

    def _leave(self, at: float) -> None:
        arrives = at + self._travel_s
        while self._waiting:
            data = self._waiting[0]
            room = self._window - self._under_way
            if data and room <= 0:
                return
            if len(data) > room:
                self._waiting[0], data = data[room:], data[:room]
            else:
                self._waiting.popleft()
            self.waiting_bytes -= len(data)
            self._under_way += len(data)
            self._flying.append((arrives, data))
