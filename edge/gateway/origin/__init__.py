"""The way to the origin: a pooled HTTP/1.1 client on httptools, with one error vocabulary (RFC 9209).

Fills call `OriginPool.send`; whatever else speaks HTTP to the origin (the follower's questions) uses httpx over
`PoolTransport`, on a pool of the same kind. httpx's own pool costs about fifty times as much for a fill.
"""

from edge.gateway.origin.address import is_origin_url, tls_context
from edge.gateway.origin.connection import OnInterim
from edge.gateway.origin.errors import EdgeKeyRefused, ErrorKind, OriginError
from edge.gateway.origin.limits import READ_AHEAD_BYTES, Caps, Deadlines
from edge.gateway.origin.line import Rank
from edge.gateway.origin.pool import SAFE_METHODS, OriginPool, Turn
from edge.gateway.origin.response import OriginResponse
from edge.gateway.origin.transport import PoolTransport

SERVER_FAULTS = frozenset({500, 502, 503, 504})
"""Answers that are as good as none: stale-if-error covers them (RFC 5861 §4), and a read fails over for them."""

__all__ = [
    "READ_AHEAD_BYTES",
    "SAFE_METHODS",
    "SERVER_FAULTS",
    "Caps",
    "Deadlines",
    "EdgeKeyRefused",
    "ErrorKind",
    "OnInterim",
    "OriginError",
    "OriginPool",
    "OriginResponse",
    "PoolTransport",
    "Rank",
    "Turn",
    "is_origin_url",
    "tls_context",
]
