"""How long, how much and how many: every bound on the way to the origin. Bytes, seconds and counts."""

from __future__ import annotations

from dataclasses import dataclass

MAX_RESPONSE_HEAD_BYTES = 32_768
"""CloudFront refuses an origin response whose head is longer; what we accept here must be accepted there."""
MAX_RESPONSE_FIELDS = 256
MAX_INTERIM_RESPONSES = 8
"""1xx responses before the final one. An origin that sends more says nothing at all."""
MAX_CHUNK_OVERHEAD_BYTES = 16_384
"""What a chunked body may hold besides its data and CHUNK_LINE_BYTES for each chunk: extensions and trailer fields."""
CHUNK_LINE_BYTES = 16
KEEP_IDLE_S = 60.0
"""Shorter than our origin keeps a connection (75 s). Another may hang up earlier: a read is then sent once more."""
UNSAFE_REUSE_S = 1.0
"""An unsafe request takes only a connection used this recently: it could not be repeated if the origin hung up."""
READ_BYTES = 65_536
"""Read from an origin at a time."""
READ_AHEAD_BYTES = 262_144
"""Body bytes held for a slow reader before the origin is asked to wait."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the origin may take, in seconds; `math.inf` for ever."""

    connect_s: float = 2.0
    """Name, TCP and TLS."""
    head_s: float = 5.0
    """From the request's last byte to the end of the response's head."""
    idle_s: float = 10.0
    """Between two pieces of a response's body."""
    total_s: float = 30.0
    """For a response that is read whole; streams are bounded by `idle_s` alone."""
    write_s: float = 10.0
    """For the connection to take a piece of a request's body."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How much of one origin a worker takes: so that a slow one holds its own requests up, and no others."""

    connections: int = 64
    """Requests under way at once, for each of its addresses."""
    queue: int = 128
    """Requests that wait for one of those to end (`line.py`); one more is refused at once, and one for which something
    is shown meanwhile when half as many wait."""
    queue_s: float = 1.0
    """How long each of them waits."""
    tag_connections: int = 32
    """Fills under way at once for what the purge of one tag took away, at all of its addresses together: the rest is
    left for everything else."""
