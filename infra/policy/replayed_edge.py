"""One edge of an access log, answering its requests under one set of policies: the core's decisions, on the log's time.

The model: an edge has one store, which its workers fill for each other (`edge/store/memory.py`), and one flight for a
key at a time; each request is asked when it was received. What the log does not say by itself is taken as follows.

- What a fetch brings lands after as long as this one took by the log, else after what is usual at this edge for this
  route. Who asks meanwhile waits for it, or is shown what is stale.
- The origin says what it said of this address by the log; of one that was never fetched it is taken to be silent. Its
  status is that of the line, or the last one known where that speaks of the request alone (304, 206).
- A purge is where a line says so. It tells the position of its floor: what was read later is not below it. Where a
  fetch is not in the log, its position is the highest that the log has shown by then.
- While the log shows an origin that fails, it fails for everybody.
- What an edge had before the log begins is told by the age of its first answers.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, cast

from cache_policies.fields import TAGS_FIELD, VERSION_FIELD
from cache_policies.market_values import UNKNOWN_COUNTRY
from cache_policies.positions import Position, PurgeKind
from edge.core import residency
from edge.core.floors import Floors, Lease
from edge.core.freshness import http_date
from edge.core.http import Headers, Request, Response
from edge.core.invalidation import invalidates
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path
from edge.core.policy import ALL, Auth, CachePolicy, Match, PolicySet, Redirect
from edge.core.request_rules import RefusedBecause, forward_request, passes_store, refusal
from edge.core.reuse import Absent, Decision, Fresh, MustValidate, Stale, Unsatisfiable, Why, decide_reuse, on_error
from edge.core.stored import StoredResponse
from edge.core.storing import Store, may_store
from edge.gateway.server import Refusal
from edge.store.memory import MemoryStore
from edge.store.siblings import MAX_DATAGRAM_BYTES
from infra.policy.access_log import NO_DETAILS, SILENT, AccessLog, Asked, Details, Ending, Said

NO_LIMIT = 2**62
"""Bytes of a store from which nothing has to go."""
_FOREVER_S = 1e12
_BEFORE_ALL = Position(1, 1)
_USUAL_BYTES = 1_700
"""Of an answer whose size no line tells: little more than the objects around it."""
_OWN_ANSWERS = frozenset(
    {
        Refusal.THROTTLED,
        Refusal.COUNTRY_BLOCKED,
        residency.Why.RESIDENCY,
        residency.Why.NO_VAULT,
        Why.ONLY_IF_CACHED,
        RefusedBecause.AUTHORIZATION_MISSING,
        RefusedBecause.MAX_FORWARDS,
    }
)
"""Why an edge answered by itself, where that hangs on more than policies and address: taken for so under all."""
_ANY = "any"
_CREDENTIALS = Headers([("authorization", _ANY)])
_DIRECTIVE_OF = {
    Why.REQUEST_NO_CACHE: "no-cache",
    Why.REQUEST_MAX_AGE: "max-age=0",
    Why.REQUEST_MIN_FRESH: "no-cache",
    Why.REQUEST_NO_STORE: "no-store",
    Why.REQUEST_MAX_STALE: "max-stale",
}
"""What a request must have said, by why it was answered as it was."""


class Ended(NamedTuple):
    """How a request ends."""

    route: str
    cache: str
    """As in a log line; `edge` for what the edge answers by itself."""
    origin: int = 0
    """Requests that the origin gets for it."""


class Known(NamedTuple):
    """What one address means under the policies."""

    policy: CachePolicy
    route: str
    match: Match
    key: CacheKey
    request: Request
    tag: str
    """By which a purge of what is stored for this address is told from others."""
    target: int
    """As in `Asked`."""
    hit: Ended


class Lost(Enum):
    """What a log proves to have been lost."""

    NO = "no"
    AT_THE_WORKER = "worker"
    """Another worker of the edge still had it."""
    AT_THE_EDGE = "edge"


class Addresses:
    """What the addresses of a log mean under `policies`, each worked out once."""

    def __init__(self, log: AccessLog, policies: PolicySet) -> None:
        self.policies = policies
        self._log = log
        self._known: list[Known | Ended | None] = [None] * len(log.addresses)
        self._tags: dict[tuple[str, CacheKey], str] = {}
        self._stored_like: dict[tuple[str, Said, int, Headers], tuple[StoredResponse, int] | None] = {}

    def meaning(self, number: int) -> Known | Ended:
        """Of an address that is always answered in one way, that way."""
        known = self._known[number]
        if known is None:
            known = self._known[number] = self._work_out(self._log.addresses[number])
        return known

    def _work_out(self, asked: Asked) -> Known | Ended:
        if not asked.path:
            return Ended("-", "pass", 1)
        request = Request(asked.method, asked.edge, asked.path, asked.query)
        try:
            match = self.policies.match(normalise_path(request.path))
            key = cache_key(request, match)
        except BadTarget:
            return Ended("-", "edge")
        policy = match.policy
        # Whether credentials were missing, the line says itself.
        asking = replace(request, headers=_CREDENTIALS) if policy.auth is Auth.REQUIRED else request
        if policy.redirect is not Redirect.NONE or refusal(asking, match) is not None:
            return Ended(policy.id, "edge")
        if not policy.store and not invalidates(request.method, 200):
            return Ended(policy.id, "pass", 1)
        tag = self._tags.setdefault((asked.edge, key), f"at:{len(self._tags)}")
        return Known(policy, policy.id, match, key, request, tag, asked.target, Ended(policy.id, "hit"))

    def stored_like(self, known: Known, request: Request, said: Said, status: int) -> tuple[StoredResponse, int] | None:
        """What the origin's answer to `request` would leave in a store if it came, just made and empty, at 0: a pattern
        for many, and its size. None: nothing."""
        asked = known.policy.version, said, status, request.headers
        if asked in self._stored_like:
            return self._stored_like[asked]
        fields = [*_fields_of(said), (VERSION_FIELD, str(_BEFORE_ALL)), (TAGS_FIELD, _ANY)]
        if said.unmodified_s is not None:
            fields += [("date", http_date(said.unmodified_s)), ("last-modified", http_date(0))]
        decision = may_store(
            forward_request(request, known.match, known.key, minimum=None, country=UNKNOWN_COUNTRY),
            Response(status, Headers(fields)),
            known.match,
            known.key,
            sent_at=0.0,
            received_at=0.0,
            wall_now=said.unmodified_s or 0.0,
        )
        found = (decision.stored, decision.stored.size) if isinstance(decision, Store) else None
        self._stored_like[asked] = found
        return found


class _Place(NamedTuple):
    """What one flight is enough for."""

    key: CacheKey
    variant: str
    worker: str
    """Empty where the workers of the edge share flights."""


@dataclass(frozen=True, slots=True)
class _Flight:
    place: _Place
    stored: StoredResponse | None
    """None: what comes is not stored."""
    worker: str


class ReplayedEdge:
    """One edge under one set of policies. Its times are seconds since the epoch; requests come in their order."""

    def __init__(self, name: str, log: AccessLog, addresses: Addresses, store_bytes: int = NO_LIMIT) -> None:
        self.now = 0.0
        self._name = name
        self._log = log
        self._addresses = addresses
        self._floors = Floors(max_floors=NO_LIMIT)
        self.store = MemoryStore(store_bytes, self._floors, lambda: self.now)
        self._lease, self._lapsed = Lease(_FOREVER_S), Lease(0.0)
        self._lease.renew(0.0)
        self._flights: dict[_Place, _Flight] = {}
        self._landings: list[tuple[float, int, _Flight]] = []
        """A heap: when each flight lands, and a number that tells those apart which land together."""
        self._numbers = itertools.count()
        self._holders: dict[CacheKey, set[str]] = {}
        """Of what is too large to be passed on: the workers that have fetched it."""
        self._statuses: dict[int, int] = {}
        """By target, the last status that a line has told."""
        self._head = _BEFORE_ALL
        self._aged_s = 0.0
        self._outcomes = log.failing.get(name, [])
        self._outcomes_at = [at for at, _ in self._outcomes]

    def ask(self, number: int, ending: Ending, details: Details, now: float, lost: Lost = Lost.NO) -> Ended:
        """How the request for address `number` ends at `now`, which by the log ended as `ending` says; `lost` is what
        the log proves to have been lost by then."""
        self.now = now
        if self._landings and self._landings[0][0] <= now:
            self._land(now)
        if details is NO_DETAILS and ending.cache == "hit" and (plain := self._plain_hit(number, ending)) is not None:
            return plain
        if details.position is not None or details.floor is not None:
            self._head = max(self._head, details.position or _BEFORE_ALL, details.floor or _BEFORE_ALL)
        if details.aged_s is not None:
            self._aged_s = details.aged_s
        known = self._addresses.meaning(number)
        if ending.reason in _OWN_ANSWERS:
            return Ended(known.route, "edge")
        if isinstance(known, Ended):
            return known
        if ending.status:
            self._statuses[known.target] = ending.status
        policy, request = known.policy, self._request(known, ending, details)
        if request.method not in policy.methods or not policy.store:
            if invalidates(request.method, ending.status):
                self._forget(known.key)
                self._flights = {place: each for place, each in self._flights.items() if place.key != known.key}
            return Ended(known.route, "pass", 1)
        if passes_store(request, policy):
            return Ended(known.route, "pass", 1)
        self._purge(known, ending, details)
        if lost is Lost.AT_THE_EDGE:
            self._forget(known.key)
        lease = self._lapsed if ending.reason == Why.LEASE_LAPSED else self._lease
        candidates = self.store.get(known.key)
        decision = decide_reuse(request, candidates, policy, self._floors, lease, now)
        if isinstance(decision, Unsatisfiable):
            return Ended(known.route, "edge")
        if isinstance(decision, Fresh | Stale) and (
            lost is Lost.AT_THE_WORKER or not self._holds(known.key, decision.stored, ending.worker)
        ):
            return Ended(known.route, "regional", 0 if self._log.shares_flights else 1)
        return self._carried_out(known, request, decision, ending, details)

    def would_hit(self, number: int, now: float) -> bool:
        """Whether a plain request for an address would be answered from the store."""
        self.now = now
        known = self._addresses.meaning(number)
        if isinstance(known, Ended) or not known.policy.store or known.request.method not in known.policy.methods:
            return False
        self._land(now)
        candidates = self.store.peek(known.key)
        decision = decide_reuse(known.request, candidates, known.policy, self._floors, self._lease, now)
        return isinstance(decision, Fresh | Stale)

    def begin_with(self, number: int, ending: Ending, details: Details, stored_at: float) -> None:
        """The edge had this before the log begins, unless the policies would not have stored it."""
        known = self._addresses.meaning(number)
        if isinstance(known, Known) and known.policy.store and not self.store.peek(known.key):
            request = self._request(known, ending, details)
            self.now = stored_at
            stored = self._stored(known, request, ending, _BEFORE_ALL, stored_at, 0.0)
            if stored is not None:
                self.store.put(stored)

    def finish(self) -> None:
        """What is still under way lands."""
        self._land(_FOREVER_S)

    def held(self) -> Iterator[tuple[CacheKey, tuple[StoredResponse, ...]]]:
        """What is stored."""
        for key in self.store.keys():  # noqa: SIM118  # a list of them
            yield key, self.store.peek(key)

    def _plain_hit(self, number: int, ending: Ending) -> Ended | None:
        """What most lines are, told by the same rules in less time: a hit, then and now; None: look closer."""
        known = self._addresses.meaning(number)
        if isinstance(known, Ended):
            return known
        candidates = self.store.get(known.key)
        if not candidates or known.request.method not in known.policy.methods:
            return None
        stored = candidates[0]
        if (
            self.now >= stored.fresh_until
            or stored.judged_at != self._floors.sequence
            or stored.no_cache
            or stored.vary
            or stored.policy_version != known.policy.version
            or not self._holds(known.key, stored, ending.worker)
        ):
            return None
        if ending.status:
            self._statuses[known.target] = ending.status
        return known.hit

    # -- a request -----------------------------------------------------------------------------------------------------

    def _carried_out(
        self, known: Known, request: Request, decision: Decision, ending: Ending, details: Details
    ) -> Ended:
        worker = "" if self._log.shares_flights else ending.worker
        place = _Place(known.key, details.variant, worker)
        flies = place in self._flights
        match decision:
            case Fresh():
                return Ended(known.route, "hit")
            case Stale(_, _, refresh):
                asks = refresh and not flies and not self._fails()
                if asks:
                    self._fly(known, place, request, ending, details)
                return Ended(known.route, "stale", int(asks))
            case Absent() as need if need.past_store:
                return Ended(known.route, "pass", 1)
        cache = "validated" if isinstance(decision, MustValidate) else "miss"
        if flies:
            return Ended(known.route, cache)
        if self._fails():
            policy, now = known.policy, self.now
            candidates = self.store.peek(known.key)
            shown = on_error(candidates, request, policy, self._floors, self._lease, now, unreachable=True)
            return Ended(known.route, "error" if shown is None else "stale", 1)
        self._fly(known, place, request, ending, details)
        return Ended(known.route, cache, 1)

    def _request(self, known: Known, ending: Ending, details: Details) -> Request:
        """What was asked, with what its line tells of its fields."""
        fields: list[tuple[str, str]] = []
        if details.variant:
            names = known.policy.vary if known.policy.vary != ALL else self._varies_on(known)
            fields += [(name, details.variant) for name in names]
        if ending.reason == Why.AUTHORIZATION:
            fields += _CREDENTIALS
        elif ending.reason in _DIRECTIVE_OF:
            fields.append(("cache-control", _DIRECTIVE_OF[Why(ending.reason)]))
        if not fields:
            return known.request
        return replace(known.request, headers=Headers(fields))

    def _varies_on(self, known: Known) -> tuple[str, ...]:
        said = self._log.said.get((known.target, self._statuses.get(known.target, 200)))
        return tuple(said.vary.split(",")) if said is not None and said.vary else ()

    def _purge(self, known: Known, ending: Ending, details: Details) -> None:
        """What a line says of a purge."""
        if ending.reason not in (Why.PURGED_HARD, Why.PURGED_SOFT):
            return
        if details.floor is not None:
            kind = PurgeKind.HARD if ending.reason == Why.PURGED_HARD else PurgeKind.SOFT
            self._floors.raise_to(details.floor, (known.tag,), kind)
        elif ending.reason == Why.PURGED_HARD and ending.cache in ("miss", "validated"):
            # A log that does not tell the floor: nothing stored before now is of use.
            self._forget(known.key)

    def _forget(self, key: CacheKey) -> None:
        self.store.drop(key)
        self._holders.pop(key, None)

    def _holds(self, key: CacheKey, stored: StoredResponse, worker: str) -> bool:
        """Whether this worker has what is stored at the edge: what is too large to be passed on it fetches itself."""
        if len(stored.body) < MAX_DATAGRAM_BYTES:
            return True
        holders = self._holders.setdefault(key, set())
        held = worker in holders
        holders.add(worker)
        return held

    # -- fetches -------------------------------------------------------------------------------------------------------

    def _land(self, until: float) -> None:
        """What was under way and has come by then is stored, in the order in which it came."""
        while self._landings and self._landings[0][0] <= until:
            _, _, flight = heapq.heappop(self._landings)
            if self._flights.get(flight.place) is not flight:
                continue
            del self._flights[flight.place]
            if flight.stored is not None:
                self.store.put(flight.stored)
                self._holders[flight.place.key] = {flight.worker}

    def _fly(self, known: Known, place: _Place, request: Request, ending: Ending, details: Details) -> None:
        log, takes_s = self._log, details.origin_s
        if takes_s is None:
            takes_s = log.fetch_s.get((self._name, known.route)) or log.fetch_s.get((self._name, ""), 0.0)
        lands_at = self.now + takes_s
        stored = self._stored(known, request, ending, self._head, lands_at, self._aged_s)
        flight = self._flights[place] = _Flight(place, stored, ending.worker)
        heapq.heappush(self._landings, (lands_at, next(self._numbers), flight))

    def _stored(
        self, known: Known, request: Request, ending: Ending, position: Position, at: float, aged_s: float
    ) -> StoredResponse | None:
        """What the origin's answer leaves in the store at `at`."""
        status = ending.status or self._statuses.get(known.target, 200)
        if (known.target, status) in self._log.forbidden:
            return None
        said = self._log.said.get((known.target, status), SILENT)
        found = self._addresses.stored_like(known, request, said, status)
        if found is None:
            return None
        like, size = found
        body_bytes = max(0, self._log.sizes.get(known.target, _USUAL_BYTES) - size)
        if body_bytes > known.policy.max_body_bytes:
            return None
        made_at = at - aged_s
        ends = [made_at + end for end in (like.fresh_until, like.revalidate_until, like.error_until)]
        unreachable_until = made_at + like.unreachable_until
        return StoredResponse(
            key=known.key,
            policy_version=like.policy_version,
            status=status,
            headers=like.headers,
            # All that is asked of it is its length.
            body=cast(bytes, range(body_bytes)),
            vary=like.vary,
            etag=like.etag,
            position=position,
            tags=(known.tag,),
            stored_at=at,
            initial_age_s=aged_s,
            no_cache=like.no_cache,
            fresh_until=ends[0],
            revalidate_until=ends[1],
            error_until=ends[2],
            keep_until=max(*ends, unreachable_until, at) + known.policy.keep_s,
            unreachable_until=unreachable_until,
        )

    def _fails(self) -> bool:
        """Whether the origin fails now: what it was asked last has failed, and so does what it is asked next."""
        place = bisect.bisect_right(self._outcomes_at, self.now)
        if not place or not self._outcomes[place - 1][1]:
            return False
        is_now = self._outcomes_at[place - 1] == self.now
        return is_now or place == len(self._outcomes) or self._outcomes[place][1]


def _fields_of(said: Said) -> list[tuple[str, str]]:
    """The fields of an answer with which the origin says this."""
    words = []
    if said.fresh_s is not None:
        words.append(f"max-age={said.fresh_s}")
    if said.stale_while_revalidate_s is not None:
        words.append(f"stale-while-revalidate={said.stale_while_revalidate_s}")
    if said.stale_if_error_s is not None:
        words.append(f"stale-if-error={said.stale_if_error_s}")
    if said.no_cache:
        words.append("no-cache")
    if said.no_stale:
        words.append("must-revalidate")
    fields = [("etag", f'"{_ANY}"')]
    if words:
        fields.append(("cdn-cache-control", ", ".join(words)))
    if said.vary:
        fields.append(("vary", said.vary))
    return fields
