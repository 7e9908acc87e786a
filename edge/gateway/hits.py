"""The short way of a hit: a plain GET for a known address, answered from the store in one buffer.

Whatever is not certainly that goes the long way (`exchange.py`), which decides by the same rules and answers the same.
What costs time is done once: what an address means is remembered, and so is the head of an answer while its age and
its time to live, in whole seconds, stay what they are. What a hit is held against is not: floors, lease and freshness
are looked at each time, after the request was read.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import lru_cache

from edge.core.compression import coding_for
from edge.core.delivery import form_head
from edge.core.floors import Floors, Lease
from edge.core.freshness import current_age
from edge.core.http import Request
from edge.core.key import CacheKey, query_text
from edge.core.policy import ALL_QUERY, CachePolicy
from edge.core.reuse import Fresh, Stale, decide_reuse
from edge.core.stored import Form, StoredResponse
from edge.durations import BOUNDS_S
from edge.gateway.coder import Coder
from edge.gateway.counters import Tally
from edge.gateway.handover import AT_ONCE_BYTES
from edge.gateway.plain import read_plain
from edge.gateway.record import ExchangeRecord, RecordBook
from edge.gateway.retold import noted_names
from edge.gateway.server import Parsed, Quick, ViewerConnection
from edge.store.base import Place, Store
from edge.store.untracked import untrack

MAX_KNOWN_ADDRESSES = 50_000
MAX_KNOWN_TARGETS = 20_000
MAX_KNOWN_TARGET_BYTES = 512
"""Addresses whose policy and key are remembered, and spellings of them: some 40 MB at the most."""
MAX_SPELLINGS_OF_HOSTS = 1_000
IN_PIECES_BYTES = 12_000
"""From here on head and body are not joined: the kernel gathers them for less than another copy costs."""
FIRST_BOUND_S = BOUNDS_S[0]
REFRESH_AGAIN_S = 1.0
"""What is stale is shown the short way for so long after the long way saw to its refresh; then that looks again."""


class Known:
    """What an address means, worked out once by the long way."""

    __slots__ = ("about", "compress", "hits", "key", "place", "policy", "policy_version", "refreshing_until")

    def __init__(self, key: CacheKey, policy: CachePolicy, about: bytes, hits: Tally) -> None:
        self.key = key
        self.policy = policy
        self.policy_version = policy.version
        self.compress = policy.compress
        self.about = about
        """The request's part of the access log's line."""
        self.hits = hits
        """Where its hits are counted that tell of success, as nearly all do."""
        self.place: Place | None = None
        """Where the store has it, as found last."""
        self.refreshing_until = float("-inf")
        """Until when somebody sees to a refresh (`Hits.refreshing`)."""

    def request(self) -> Request:
        """Without fields: asked only about responses that vary on none."""
        return Request("GET", self.key.authority, self.key.path, query_text(self.key))


_Counted = tuple[tuple[bytes, int], ...]


@lru_cache(maxsize=1_024)
def _counted(names: tuple[str, ...]) -> _Counted | None:
    return None if names == ALL_QUERY else tuple([(f"&{name}".encode(), len(name) + 1) for name in names])


class _Path:
    """One path as spelt, with what is known under it by the parameters that count there."""

    __slots__ = ("counted", "known")

    def __init__(self, counted: _Counted | None) -> None:
        self.counted = counted
        """Names of parameters with `&` before, in the order of the key, and their lengths; None: the query counts as it
        is."""
        self.known: dict[bytes | tuple[bytes | None, ...], Known] = {}

    def spelt(self, query: bytes) -> bytes | tuple[bytes | None, ...] | None:
        """What of `query` tells addresses with this path apart, as a key of `known`; None: it takes more than a glance.

        Reads what `key.normalise_query` reads, in bytes that no request line is without: no blanks, no controls. Where
        something is percent-encoded, or a name that counts begins several parameters, that is left to the long way.
        """
        counted = self.counted
        if not counted or not query:
            return query if counted is None else b""
        if b"%" in query or b"+" in query:
            return None
        text = b"&" + query
        values: list[bytes | None] = []
        some = False
        for name, length in counted:
            begins = text.find(name)
            if begins < 0:
                values.append(None)
                continue
            some = True
            ends = begins + length
            if text.find(name, ends) >= 0:
                return None
            after = text[ends : ends + 1]
            if after == b"=":
                following = text.find(b"&", ends)
                values.append(text[ends + 1 : following] if following >= 0 else text[ends + 1 :])
            elif after:
                # Another parameter, whose name begins alike; or one without a value, which is rare.
                return None
            else:
                values.append(b"")
        return tuple(values) if some else b""


class Site:
    """One authority that this edge serves, with the addresses already seen under it."""

    __slots__ = ("_noted", "_paths", "_size", "_spelt", "authority")

    def __init__(self, authority: str, noted: tuple[str, ...] = ()) -> None:
        self.authority = authority
        self._noted = noted
        self._paths: dict[bytes, _Path] = {}
        self._size = 0
        self._spelt: dict[bytes, Known] = {}
        """By the whole target: what was asked for lately needs not be read again."""

    def known(self, target: bytes) -> Known | None:
        """What a GET for `target` means; None: nobody has asked for it yet, or it takes the long way to say."""
        known = self._spelt.get(target)
        if known is not None:
            return known
        path, _, query = target.partition(b"?")
        found = self._paths.get(path)
        if found is None:
            return None
        spelt = found.spelt(query)
        known = None if spelt is None else found.known.get(spelt)
        if known is not None and len(target) <= MAX_KNOWN_TARGET_BYTES:
            if len(self._spelt) >= MAX_KNOWN_TARGETS:
                self._spelt.clear()
            self._spelt[target] = known
        return known

    def remember(self, target: bytes, known: Known) -> None:
        """`known` is what a GET for `target` means. Not for one that has to be read with care each time."""
        if len(target) > MAX_KNOWN_TARGET_BYTES or not target.startswith(b"/"):
            return
        if self._size >= MAX_KNOWN_ADDRESSES:
            # All at once, which costs the next request for each a few microseconds, rather than a queue to keep.
            self.forget()
        path, _, query = target.partition(b"?")
        found = self._paths.get(path)
        if found is None:
            found = _Path(_counted(noted_names(known.policy, self._noted)))
        spelt = found.spelt(query)
        if spelt is not None:
            self._paths[path] = found
            self._size += spelt not in found.known
            found.known[spelt] = known
            self._spelt.pop(target, None)
            # Tens of thousands, as long-lived as what is stored (edge/store/untracked.py).
            for held in (self._paths, found, found.known, known, known.key):
                untrack(held)

    def forget(self) -> None:
        self._paths.clear()
        self._spelt.clear()
        self._size = 0


Elsewhere = Callable[[bytes, bytes, bytes, float, ViewerConnection], "asyncio.Future[None] | None"]
"""Another short way for a plain request: its bytes, target and Host, when it was read, and whose it is."""


class Hits:
    """One worker's. `authorities`: every Host that is served, lower case; `noted`: parameters that the access log tells
    although no policy counts them."""

    def __init__(
        self,
        *,
        edge: str,
        authorities: Iterable[str],
        noted: tuple[str, ...],
        store: Store,
        floors: Floors,
        lease: Lease,
        book: RecordBook,
        coder: Coder,
        elsewhere: Elsewhere,
        clock: Callable[[], float],
    ) -> None:
        self._cache_name = f"nearshelf-{edge}".encode()
        self._find = store.get
        self._place = store.place
        self._floors = floors
        self._lease = lease
        self._book = book
        self._coder = coder
        self._elsewhere = elsewhere
        self._clock = clock
        self._sites: dict[bytes, Site] = {}
        self._by_authority = {authority: Site(authority, noted) for authority in authorities}

    def site_of(self, host: bytes) -> Site | None:
        """The site of a Host field as spelt; None: not served here. Spellings of known ones are remembered."""
        site = self._sites.get(host)
        if site is None:
            site = self._by_authority.get(host.strip(b" \t").decode("latin-1").lower())
            if site is not None and len(self._sites) < MAX_SPELLINGS_OF_HOSTS:
                self._sites[host] = site
        return site

    def forget_addresses(self) -> None:
        """The policies are others: what an address means is worked out anew."""
        for site in self._by_authority.values():
            site.forget()

    def quick(self, data: bytes, now: float, viewer: ViewerConnection) -> Quick:
        """Answer bytes that are one plain request, where there is a fresh response for it; None: parse them in full.
        `now`: a moment of the edge's clock after they were read."""
        found = read_plain(data)
        if found is None:
            return None
        target, host, accept_encoding = found.groups()
        site = self._sites.get(host)
        if site is None:
            return None
        known = site.known(target)
        if known is None:
            # Nothing of it is stored; it may be for an address of which nothing ever is.
            return self._elsewhere(data, target, host, now, viewer)
        place = known.place
        if place is None or place.gone:
            place = known.place = self._place(known.key)
            if place is None:
                return None
        place.used = True
        stored = place.value[0]
        coding = _coding_for(accept_encoding) if accept_encoding and known.compress else ""
        form = stored.form(coding) if coding else stored.received
        if (
            form is None
            # Told is what was fresh, for a second at the most; what `decide_reuse` asks besides is asked here.
            or now >= form.told_until
            or now >= self._lease.until
            or stored.judged_at != self._floors.sequence
            or stored.policy_version != known.policy_version
            or not form.body
        ):
            form = self._form(known, accept_encoding, now)
            if form is None:
                return None
        else:
            stored.hits += 1
        head, body = form.start + form.told, form.body
        size = len(head) + len(body)
        transport = viewer.transport
        assert transport is not None
        if size < IN_PIECES_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        if self._book.log is None and not form.reason and form.status < 300:
            # What `Tally.add` does, without the calls.
            took_s = self._clock() - now
            tally = known.hits
            tally.seconds += took_s
            tally.bytes_sent += size
            tally.counts[0 if took_s <= FIRST_BOUND_S else bisect_left(BOUNDS_S, took_s)] += 1
        else:
            self._note(known, form, now, size)
        return True

    def refreshing(self, parsed: Parsed, now: float) -> None:
        """Somebody sees to a refresh of what `parsed` asks for: meanwhile what is stale may go the short way."""
        site = self._sites.get(parsed.host)
        known = None if site is None else site.known(parsed.target)
        if known is not None:
            known.refreshing_until = now + REFRESH_AGAIN_S

    def answer(self, parsed: Parsed, site: Site, now: float) -> bytes | None:
        """The same for a request that was parsed in full."""
        if not parsed.plain or parsed.method != b"GET":
            return None
        known = site.known(parsed.target)
        form = None if known is None else self._form(known, _accept_encoding(parsed.fields), now)
        if known is None or form is None:
            return None
        told = form.told if parsed.keep_alive else form.told[:-2] + b"connection: close\r\n\r\n"
        answer = form.start + told + form.body
        self._note(known, form, parsed.received_at, len(answer))
        return answer

    def _form(self, known: Known, accept_encoding: bytes | None, now: float) -> Form | None:
        """The form to answer in, its head told for `now`; None: there is nothing fresh that fits the short way."""
        candidates = self._find(known.key)
        if any(candidate.vary for candidate in candidates):
            return None
        decision = decide_reuse(known.request(), candidates, known.policy, self._floors, self._lease, now)
        if type(decision) is Fresh:
            reason, until = "", decision.stored.fresh_until
        elif type(decision) is Stale and now < known.refreshing_until:
            reason, until = decision.why.value, min(known.refreshing_until, decision.stored.revalidate_until)
        else:
            return None
        stored = decision.stored
        coding = _coding_for(accept_encoding) if accept_encoding and known.compress else ""
        form = stored.form(coding) if coding else stored.received
        if form is None or not form.body:
            form = self._coder.form_of(stored, known.policy, coding)
        untold = now >= form.told_until or form.reason != reason
        if untold and not self._tell(stored, form, known.policy, now, reason, until):
            return None
        stored.hits += 1
        return form

    def _tell(
        self, stored: StoredResponse, form: Form, policy: CachePolicy, now: float, reason: str, until: float
    ) -> bool:
        """Render the head for `now`, and for how long after it, `until` at most; false for a body too long for one
        buffer."""
        start, own = form.start, form.told[: form.kept]
        if not start:
            if len(form.body) > AT_ONCE_BYTES:
                return False
            start, own = form_head(stored, policy, form.coding, len(form.body))
        age_s = current_age(stored, now)
        age, ttl = int(age_s), int(stored.fresh_until - now)
        why = b"; detail=%b" % reason.encode() if reason else b""
        rest = b"age: %d\r\ncache-status: %b; hit; ttl=%d%b\r\n\r\n" % (age, self._cache_name, ttl, why)
        # A moment's seconds are counted towards zero, so that those before and after the end of freshness are alike.
        ticks = stored.fresh_until - ttl + (now >= stored.fresh_until)
        form.tell(start, own, rest, min(now + (age + 1 - age_s), ticks, until))
        form.age, form.ttl, form.status, form.reason = age, ttl, stored.status, reason
        return True

    def _note(self, known: Known, form: Form, received_at: float, size: int) -> None:
        route, status = known.policy.id, form.status
        if not form.reason:
            tally = known.hits if status < 300 else self._book.counters.exchange(route, "hit", "", status)
            self._book.hit(known.about, tally, received_at, status, form.ttl, form.age, size)
            return
        record = ExchangeRecord(received_at, known.about, route, "stale", form.reason)
        record.status, record.ttl_s, record.age_s, record.bytes_sent = status, form.ttl, form.age, size
        self._book.note(record)


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
