"""The short way of a hit: a plain GET for a known address, answered from the store in one buffer.

Whatever is not certainly that goes the long way (`exchange.py`), which decides by the same rules and answers the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from edge.core.compression import coding_for
from edge.core.delivery import form_head
from edge.core.floors import Floors, Lease
from edge.core.freshness import current_age
from edge.core.http import Request
from edge.core.key import CacheKey
from edge.core.policy import Match
from edge.core.reuse import Fresh, decide_reuse
from edge.core.stored import StoredResponse
from edge.gateway.coder import Coder
from edge.gateway.handover import AT_ONCE_BYTES
from edge.gateway.record import RecordBook
from edge.gateway.server import Parsed
from edge.store.base import Store

MAX_KNOWN_TARGETS = 20_000
MAX_KNOWN_TARGET_BYTES = 512
"""Addresses whose policy and key are remembered: some 40 MB at the most."""


class Known:
    """What one spelling of an address means, worked out once."""

    __slots__ = ("about", "guarded", "key", "match", "request")

    def __init__(self, request: Request, match: Match, key: CacheKey, about: bytes, guarded: bool) -> None:
        self.request = request
        """Without fields: only asked about responses that vary on none."""
        self.match = match
        self.key = key
        self.about = about
        """The request's part of the access log's line."""
        self.guarded = guarded
        """Whether it matters who asks: the route is throttled, or closed to some countries."""


class Site:
    """One authority that this edge serves, with the addresses already seen under it."""

    __slots__ = ("authority", "known")

    def __init__(self, authority: str) -> None:
        self.authority = authority
        self.known: dict[bytes, Known] = {}


Guard = Callable[[Known, Parsed, float], bytes | None]
"""The answer to a visitor whom a guarded address does not serve; None: go on."""


class Hits:
    """One worker's. `authorities`: every Host that is served, lower case. `guard` is asked before a guarded hit."""

    def __init__(
        self,
        *,
        edge: str,
        authorities: Iterable[str],
        store: Store,
        floors: Floors,
        lease: Lease,
        book: RecordBook,
        coder: Coder,
        guard: Guard,
    ) -> None:
        self._cache_name = f"nearshelf-{edge}".encode()
        self._store = store
        self._floors = floors
        self._lease = lease
        self._book = book
        self._coder = coder
        self._guard = guard
        self._sites: dict[bytes, Site] = {}
        self._by_authority = {authority: Site(authority) for authority in authorities}

    def site_of(self, host: bytes) -> Site | None:
        """The site of a Host field as spelt; None: not served here. Spellings of known ones are remembered."""
        site = self._sites.get(host)
        if site is None:
            site = self._by_authority.get(host.strip(b" \t").decode("latin-1").lower())
            if site is not None and len(self._sites) < MAX_KNOWN_TARGETS:
                self._sites[host] = site
        return site

    def answer(self, parsed: Parsed, site: Site, now: float) -> bytes | None:
        """The whole answer to a plain GET for a known address with a fresh response; None: go the long way."""
        if not parsed.plain or parsed.method != b"GET":
            return None
        known = site.known.get(parsed.target)
        if known is None:
            return None
        decision = decide_reuse(
            known.request, self._store.get(known.key), known.match.policy, self._floors, self._lease, now
        )
        if type(decision) is not Fresh:
            return None
        if known.guarded:
            if len(decision.stored.body) > AT_ONCE_BYTES:
                return None
            turned_away = self._guard(known, parsed, now)
            if turned_away is not None:
                return turned_away
        return self._hit(decision.stored, known, parsed, now)

    def _hit(self, stored: StoredResponse, known: Known, parsed: Parsed, now: float) -> bytes | None:
        policy = known.match.policy
        coding = _coding_for(_accept_encoding(parsed.fields)) if policy.compress else ""
        coding, form = self._coder.form_of(stored, policy, coding)
        if not form.head:
            if len(form.body) > AT_ONCE_BYTES:
                # Written piece by piece. It never gets a head here, so that others need not be asked for their length.
                return None
            form.head = form_head(stored, policy, coding, len(form.body))
        age = int(current_age(stored, now))
        ttl = int(stored.fresh_until - now)
        answer = b"%bage: %d\r\ncache-status: %b; hit; ttl=%d\r\n%b\r\n%b" % (
            form.head,
            age,
            self._cache_name,
            ttl,
            b"" if parsed.keep_alive else b"connection: close\r\n",
            form.body,
        )
        self._book.hit(known.about, parsed.received_at, stored.status, ttl, age, len(answer))
        return answer

    @staticmethod
    def remember(
        site: Site, target: bytes, request: Request, match: Match, key: CacheKey, about: bytes, guarded: bool
    ) -> None:
        """What a GET for `target` means, for a public route that is stored and varies on no field of the request."""
        if len(target) > MAX_KNOWN_TARGET_BYTES:
            return
        if len(site.known) >= MAX_KNOWN_TARGETS:
            # All at once, which costs the next request for each a few microseconds, rather than a queue to keep.
            site.known.clear()
        bare = Request(request.method, request.authority, request.path, request.query)
        site.known[target] = Known(bare, match, key, about, guarded)

    def forget_addresses(self) -> None:
        """The policies are others: what an address means is worked out anew."""
        for site in self._by_authority.values():
            site.known.clear()


def _accept_encoding(fields: list[tuple[bytes, bytes]]) -> bytes:
    """The field of a request that is still bytes; several lines are one list."""
    found = b""
    for name, value in fields:
        # The length first: most fields are told apart by it.
        if len(name) == 15 and name.lower() == b"accept-encoding":
            found = found + b"," + value if found else value
    return found


@lru_cache(maxsize=256)
def _coding_for(accept_encoding: bytes) -> str:
    """Browsers know a handful of spellings; 256 of the longest that a head can hold are 4 MB."""
    return coding_for(accept_encoding.decode("latin-1"))
