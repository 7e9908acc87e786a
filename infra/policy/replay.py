"""`nearshelf policy diff --replay`: an access log answered once more, under other policies.

The model: one store for each edge, without a limit and empty at the log's first line. Each line with an address is
asked at its own time, and the core decides (match, key, reuse, storing, lifetimes) as in a gateway. What the log does
not say is taken as follows.

- The origin's answer has the status that the log says (a 304 to a viewer stands for 200), a label and an ETag, and no
  other field but a lifetime: the longest that the log shows for that address (age + ttl). Where that is the first
  policy's `fresh`, the origin is taken to be silent, so that the `fresh` of each policy counts.
- A purge is where a line says `purged-hard`: what both stores hold for that address is forgotten then. Soft purges,
  evictions, a lapsed lease and a failing origin are left out.
- Addresses of personal routes are not in a log; they are counted as passed on under both. Parameters that did not
  count when the log was written are not in it either, so that new members of `query` split no keys here; nor is any
  query of a route with `query: all`, so that all of an address count as one there.

A request answered while stale counts as a hit, and its refresh as a request to the origin.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cache_policies.fields import TAGS_FIELD, VERSION_FIELD
from cache_policies.market_values import UNKNOWN_COUNTRY
from edge.core.floors import Floors, Lease
from edge.core.freshness import http_date
from edge.core.http import Headers, Request, Response
from edge.core.key import BadTarget, CacheKey, cache_key, normalise_path
from edge.core.policy import Match, PolicySet, Redirect
from edge.core.request_rules import forward_request, passes_store, refusal
from edge.core.reuse import Absent, Fresh, MustValidate, Stale, Why, decide_reuse
from edge.core.stored import StoredResponse
from edge.core.storing import Store, may_store
from infra.errors import CommandError

_FOREVER_S = 1e12
_LATEST = 2.0**32
"""No edge writes a later time, in seconds since the epoch: there are dates for all before it."""
_ANSWERED = frozenset({"hit", "stale", "validated", "miss", "pass"})
"""How requests end that an edge answered with something of the origin's."""
_HITS = frozenset({"hit", "stale"})
_ASKED = frozenset({"validated", "miss"})


@dataclass(frozen=True, slots=True)
class Line:
    """What a line of the access log says of a request, as far as it matters here."""

    time: float
    edge: str
    method: str
    path: str
    """Empty where the log does not say it."""
    query: str
    status: int
    cache: str
    reason: str
    lifetime_s: int | None
    """Of the response that was in the store, where the line tells it."""


def read_log(path: Path) -> list[Line]:
    """The lines of an access log in the order of their times; what an edge refused or could not answer is left out.

    Raises CommandError when the file cannot be read, or holds no such line.
    """
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    line = _line(text, f"{path}:{number}")
                    if line.cache in _ANSWERED:
                        found.append(line)
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"{path} cannot be read as an access log: {exc}") from exc
    if not found:
        raise CommandError(f"{path} holds no request that an edge answered; expected lines of NEARSHELF_ACCESS_LOG")
    found.sort(key=lambda line: line.time)
    return found


def _line(text: str, where: str) -> Line:
    try:
        said = json.loads(text)
        query = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in said.get("query", {}).items()
        )
        cache, ttl, age = str(said["cache"]), said["ttl"], said["age"]
        # A response just stored has its whole life before it; a hit tells what it has lived and what is left.
        lived = age if cache in _HITS else 0 if cache in _ASKED and said.get("stored") else None
        at = float(said["time"])
        if not 0 <= at < _LATEST:
            raise ValueError(f"time {at}, expected seconds since the epoch")
        return Line(
            at,
            str(said["edge"]),
            str(said["method"]),
            str(said.get("path", "")),
            query,
            int(said["status"]),
            cache,
            str(said.get("reason", "")),
            ttl + lived if ttl is not None and lived is not None else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise CommandError(f"{where}: no line of an edge's access log ({type(exc).__name__}: {exc})") from exc


@dataclass(slots=True)
class Tally:
    """How requests ended."""

    hits: int = 0
    stale: int = 0
    """Of the hits."""
    misses: int = 0
    passed: int = 0
    origin: int = 0
    """Requests that the origin had to answer."""

    @property
    def hit_ratio(self) -> float | None:
        """hits / (hits + misses), what is passed on left out; None without any of them."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


@dataclass(slots=True)
class Simulated:
    """What became of a log under one set of policies."""

    policies: PolicySet
    all: Tally = field(default_factory=Tally)
    by_route: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    held: dict[tuple[str, CacheKey], tuple[StoredResponse, ...]] = field(default_factory=dict)
    """By edge and key, when the log ends."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log under the policies before and after."""

    lines: int
    without_address: int
    seconds: float
    recorded: Tally
    before: Simulated
    after: Simulated
    cold: int
    """Objects in the stores at the end of the log that the policies after cannot use: another key or policy."""
    objects: int
    """Objects in the stores then."""

    @property
    def extra_origin_per_s(self) -> float:
        """More requests that the origin gets a second, in the long run; negative: fewer."""
        return (self.after.all.origin - self.before.all.origin) / self.seconds


def replay(lines: list[Line], before: PolicySet, after: PolicySet) -> Replayed:
    """Answer the log under both."""
    lifetimes = _lifetimes(lines, before)
    old, new = (_simulate(lines, policies, lifetimes) for policies in (before, after))
    recorded = Tally()
    for line in lines:
        _count(recorded, line.cache)
    usable = [
        key for (_, key), variants in old.held.items() if any(lines[-1].time < each.keep_until for each in variants)
    ]
    return Replayed(
        len(lines),
        sum(not line.path for line in lines),
        max(1.0, lines[-1].time - lines[0].time),
        recorded,
        old,
        new,
        sum(_is_cold(key, before, after) for key in usable),
        len(usable),
    )


def _is_cold(key: CacheKey, before: PolicySet, after: PolicySet) -> bool:
    was, now = before.match(key.path).policy, after.match(key.path).policy
    # The order of parameters is part of the key.
    wanted = tuple((name, value) for name in now.query for known, value in key.query if known == name)
    return was.version != now.version or wanted != key.query


def _lifetimes(lines: Iterable[Line], policies: PolicySet) -> dict[str, int]:
    """By path, the freshness lifetime that the origin proposed, where it is not what the policy says by itself."""
    seen: dict[str, int] = {}
    for line in lines:
        if line.lifetime_s is not None and line.path and line.status == 200:
            seen[line.path] = max(seen.get(line.path, 0), line.lifetime_s)
    # Whole seconds rounded down, twice.
    return {path: lived_s for path, lived_s in seen.items() if abs(lived_s - policies.match(path).policy.fresh_s) > 2}


def _simulate(lines: Iterable[Line], policies: PolicySet, lifetimes: dict[str, int]) -> Simulated:
    found = Simulated(policies)
    lease = Lease(_FOREVER_S)
    lease.renew(0.0)
    floors = Floors()
    for line in lines:
        route, cache = "-", "pass"
        if line.path:
            route, cache = _answer(line, found, lifetimes.get(line.path), floors, lease)
        if cache != "edge":
            _count(found.all, cache)
            _count(found.by_route[route], cache)
    return found


def _count(tally: Tally, cache: str) -> None:
    tally.hits += cache in _HITS
    tally.stale += cache == "stale"
    tally.misses += cache in _ASKED
    tally.passed += cache == "pass"
    tally.origin += cache != "hit"


def _answer(line: Line, found: Simulated, lifetime_s: int | None, floors: Floors, lease: Lease) -> tuple[str, str]:
    """Route, and how the request ends at this moment."""
    request = Request(line.method, line.edge, line.path, line.query)
    try:
        match = found.policies.match(normalise_path(request.path))
        key = cache_key(request, match)
    except BadTarget:
        return "-", "edge"
    policy = match.policy
    if refusal(request, match) is not None or policy.redirect is not Redirect.NONE:
        return policy.id, "edge"
    if passes_store(request, policy):
        return policy.id, "pass"
    place = line.edge, key
    if line.reason == Why.PURGED_HARD:
        found.held.pop(place, None)
    reuse = decide_reuse(request, found.held.get(place, ()), policy, floors, lease, line.time)
    if isinstance(reuse, Fresh):
        return policy.id, "hit"
    if isinstance(reuse, Absent) and reuse.why is not Why.COLD:
        return policy.id, "pass"
    cache = "stale" if isinstance(reuse, Stale) else "validated" if isinstance(reuse, MustValidate) else "miss"
    stored = _stored(line, request, match, key, lifetime_s)
    if stored is not None:
        found.held[place] = (stored,)
    return policy.id, cache


def _stored(line: Line, request: Request, match: Match, key: CacheKey, lifetime_s: int | None) -> StoredResponse | None:
    """What the origin's answer leaves in the store."""
    fields = [(VERSION_FIELD, "1.1"), (TAGS_FIELD, "any"), ("etag", '"any"'), ("date", http_date(line.time))]
    if lifetime_s is not None:
        fields.append(("cdn-cache-control", f"max-age={lifetime_s}"))
    answer = Response(200 if line.status == 304 else line.status, Headers(fields))
    forward = forward_request(request, match, key, minimum=None, country=UNKNOWN_COUNTRY)
    decision = may_store(forward, answer, match, key, sent_at=line.time, received_at=line.time, wall_now=line.time)
    return decision.stored if isinstance(decision, Store) else None


# -- renderings --------------------------------------------------------------------------------------------------------


def as_json(found: Replayed) -> dict[str, Any]:
    """For programs. Ratios are between 0 and 1."""
    routes = sorted({*found.before.by_route, *found.after.by_route})
    return {
        "requests": found.lines,
        "without_address": found.without_address,
        "seconds": round(found.seconds, 3),
        "hit_ratio": {
            "recorded": found.recorded.hit_ratio,
            "before": found.before.all.hit_ratio,
            "after": found.after.all.hit_ratio,
        },
        "origin_requests_per_s": {
            "before": found.before.all.origin / found.seconds,
            "after": found.after.all.origin / found.seconds,
            "extra": found.extra_origin_per_s,
        },
        "objects": {"at_the_end": found.objects, "cold": found.cold},
        "routes": {
            route: {
                "before": found.before.by_route[route].hit_ratio,
                "after": found.after.by_route[route].hit_ratio,
                "requests": _requests(found.before.by_route[route]),
            }
            for route in routes
            if Counter(_ends(found.before.by_route[route])) != Counter(_ends(found.after.by_route[route]))
        },
    }


def _requests(tally: Tally) -> int:
    return tally.hits + tally.misses + tally.passed


def _ends(tally: Tally) -> dict[str, int]:
    return {"hits": tally.hits, "misses": tally.misses, "passed": tally.passed, "origin": tally.origin}


def lines_of_text(found: Replayed) -> Iterator[str]:
    """For people."""
    told = as_json(found)
    ratio, origin = told["hit_ratio"], told["origin_requests_per_s"]
    yield f"replayed   {found.lines:,} requests over {found.seconds:,.0f} s"
    yield f"           {found.without_address:,} of them without an address: passed on under both"
    yield f"           hit ratio {_percent(ratio['before'])} -> {_percent(ratio['after'])}"
    yield f"           recorded {_percent(ratio['recorded'])}: as far as the model is off, so are its predictions"
    yield (
        f"           origin {origin['before']:.2f} -> {origin['after']:.2f} requests a second ({origin['extra']:+.2f})"
    )
    yield f"           {found.cold:,} of {found.objects:,} stored objects go cold when the policies are taken"
    for route, each in told["routes"].items():
        change = f"{_percent(each['before'])} -> {_percent(each['after'])}"
        yield f"           {route}: {change} of {each['requests']:,} requests"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f} %"
