"""`nearshelf policy diff --replay`: access logs answered once more, under the policies before and those after.

What one edge does is in `replayed_edge`. Both sides see the same requests at the same times. An object that the edge
had lost when a line says `cold` (evicted, or a worker started anew), although the policies before would have kept it,
is lost under both; a store size may be given, else stores have no limit. Addresses of personal routes are not in a log:
they are passed on under both. A request answered while stale counts as a hit, and its refresh as a request to the
origin.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from edge.core.key import CacheKey
from edge.core.policy import ALL_QUERY, CachePolicy, PolicySet
from edge.core.reuse import Why
from infra.errors import CommandError
from infra.policy.access_log import HITS, MISSES, NO_DETAILS, AccessLog, Said
from infra.policy.replayed_edge import NO_LIMIT, Addresses, Ended, Lost, ReplayedEdge

OFF_BY = 0.02
"""A model that is off by more than this where the log knows better is said to be."""


@dataclass(slots=True)
class Tally:
    """How requests ended."""

    hits: int = 0
    stale: int = 0
    """Of the hits."""
    misses: int = 0
    passed: int = 0
    failed: int = 0
    origin: int = 0
    """Requests that the origin had to answer, refreshes behind the back of viewers among them."""

    @property
    def hit_ratio(self) -> float | None:
        """hits / (hits + misses), what is passed on or failed left out; None without any of them."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    @property
    def requests(self) -> int:
        return self.hits + self.misses + self.passed + self.failed

    def count(self, cache: str, origin: int = 0) -> None:
        if cache in HITS:
            self.hits += 1
            self.stale += cache == "stale"
        elif cache in MISSES:
            self.misses += 1
        elif cache == "pass":
            self.passed += 1
        elif cache == "error":
            self.failed += 1
        self.origin += origin

    def add(self, other: Tally) -> None:
        self.hits += other.hits
        self.stale += other.stale
        self.misses += other.misses
        self.passed += other.passed
        self.failed += other.failed
        self.origin += other.origin


@dataclass(slots=True)
class Tallies:
    """By edge and route."""

    cells: dict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))

    @property
    def all(self) -> Tally:
        return self._sums(lambda edge, route: "").get("", Tally())

    @property
    def by_route(self) -> dict[str, Tally]:
        return self._sums(lambda edge, route: route)

    @property
    def by_edge(self) -> dict[str, Tally]:
        return self._sums(lambda edge, route: edge)

    def _sums(self, name_of: Callable[[str, str], str]) -> dict[str, Tally]:
        found: dict[str, Tally] = defaultdict(Tally)
        for (edge, route), tally in self.cells.items():
            found[name_of(edge, route)].add(tally)
        return found


@dataclass(slots=True)
class Simulated:
    """What became of a log under one set of policies."""

    tallies: Tallies = field(default_factory=Tallies)
    store_bytes: int = 0
    """Of the edge that holds most, when the log ends."""

    @property
    def all(self) -> Tally:
        return self.tallies.all

    @property
    def by_route(self) -> dict[str, Tally]:
        return self.tallies.by_route


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log under the policies before and after."""

    lines: int
    without_address: int
    seconds: float
    recorded: Tallies
    before: Simulated
    after: Simulated
    cold: int
    """Objects in the stores at the end of the log that the policies after cannot use: another key or policy."""
    objects: int
    """Objects in the stores then."""
    cautions: tuple[str, ...]
    """What the log does not tell, and the prediction therefore cannot know."""

    @property
    def extra_origin_per_s(self) -> float:
        """More requests that the origin gets a second; negative: fewer."""
        return (self.after.all.origin - self.before.all.origin) / self.seconds


class Span(NamedTuple):
    """From when to when requests count, in seconds since the epoch; all of a log fills the stores."""

    since: float = 0.0
    until: float = float("inf")


ALL = Span()


def replay(
    log: AccessLog, before: PolicySet, after: PolicySet, *, store_bytes: int = NO_LIMIT, counted: Span = ALL
) -> Replayed:
    """Answer the log under both. `store_bytes`: of the store of each worker. Raises CommandError where no request is
    `counted`."""
    _guess_what_was_said(log, before)
    told, lines, without_address = Tallies(), 0, 0
    sides = [_Side(log, policies, store_bytes) for policies in (before, after)]
    was, becomes = sides
    begins_at = log.begins_at
    for place in log.order:
        number, now = log.asked[place], log.received[place]
        ending, details = log.endings[log.ended[place]], log.details.get(place, NO_DETAILS)
        edge = log.addresses[number].edge
        here, there = was.edge(edge), becomes.edge(edge)
        if ending.cache == "hit":
            first_at, age_s = log.ages[number]
            if now == first_at and age_s is not None and now - age_s < begins_at:
                here.begin_with(number, ending, details, now - age_s)
                there.begin_with(number, ending, details, now - age_s)
        lost = Lost.NO
        if (ending.reason == Why.COLD or ending.cache == "regional") and here.would_hit(number, now):
            lost = Lost.AT_THE_WORKER if ending.cache == "regional" else Lost.AT_THE_EDGE
        ends_so = here.ask(number, ending, details, now, lost)
        will_end = there.ask(number, ending, details, now, lost)
        if counted.since <= now < counted.until:
            lines += 1
            without_address += not log.addresses[number].path
            told.cells[edge, log.addresses[number].route].count(ending.cache)
            was.count(edge, ends_so)
            becomes.count(edge, will_end)
    if not lines:
        raise CommandError(
            f"no request is counted: the logs reach from {_moment(begins_at)} to {_moment(log.ends_at)}; "
            "choose other moments for --since and --until"
        )
    for side in sides:
        side.finish()
    keys = was.keys_usable_at(log.ends_at)
    return Replayed(
        lines,
        without_address,
        max(1.0, min(log.ends_at, counted.until) - max(begins_at, counted.since)),
        told,
        was.found,
        becomes.found,
        sum(_is_cold(key, before, after) for key in keys),
        len(keys),
        tuple(_cautions(log, before, after, told, was.found)),
    )


class _Side:
    """All edges under one set of policies."""

    def __init__(self, log: AccessLog, policies: PolicySet, store_bytes: int) -> None:
        self.found = Simulated()
        self._log = log
        self._store_bytes = store_bytes
        self._addresses = Addresses(log, policies)
        self._edges: dict[str, ReplayedEdge] = {}

    def edge(self, name: str) -> ReplayedEdge:
        found = self._edges.get(name)
        if found is None:
            found = self._edges[name] = ReplayedEdge(name, self._log, self._addresses, self._store_bytes)
        return found

    def count(self, edge: str, ended: Ended) -> None:
        if ended.cache != "edge":
            self.found.tallies.cells[edge, ended.route].count(ended.cache, ended.origin)

    def finish(self) -> None:
        for edge in self._edges.values():
            edge.finish()
        self.found.store_bytes = max((edge.store.stats().size_bytes for edge in self._edges.values()), default=0)

    def keys_usable_at(self, moment: float) -> list[CacheKey]:
        """Of what the stores hold that is not past its end; the same key once for each edge."""
        return [
            key
            for edge in self._edges.values()
            for key, variants in edge.held()
            if any(moment < stored.keep_until for stored in variants)
        ]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _is_cold(key: CacheKey, before: PolicySet, after: PolicySet) -> bool:
    was, now = before.match(key.path).policy, after.match(key.path).policy
    # The order of parameters is part of the key.
    wanted = tuple((name, value) for name in now.query for known, value in key.query if known == name)
    return was.version != now.version or (wanted != key.query and now.query != ALL_QUERY)


def _guess_what_was_said(log: AccessLog, policies: PolicySet) -> None:
    """For logs that do not tell it: a lifetime that is not what the policy says by itself is the origin's."""
    targets = {address.target: address.path for address in log.addresses}
    for (target, status), granted_s in log.granted_s.items():
        policy = policies.match(targets[target]).policy
        own_s = dict(policy.negative_s).get(status, policy.fresh_s)
        # Whole seconds rounded down, twice.
        if (target, status) not in log.said and abs(granted_s - own_s) > 2:
            log.said[target, status] = Said(fresh_s=granted_s)


# -- what a log does not tell ------------------------------------------------------------------------------------------


def _cautions(log: AccessLog, before: PolicySet, after: PolicySet, told: Tallies, modelled: Simulated) -> Iterator[str]:
    really, model = told.all.hit_ratio, modelled.all.hit_ratio
    if really is not None and model is not None and abs(really - model) > OFF_BY:
        yield (
            f"the log has {_percent(really)} hits where the model finds {_percent(model)} under the policies before: "
            "were they in force, and are the logs of all workers here?"
        )
    by_route: dict[tuple[str, str], set[str]] = defaultdict(set)
    asked: Counter[str] = Counter()
    elsewhere = 0
    counts = Counter(log.asked)
    for number, count in counts.items():
        address = log.addresses[number]
        if not address.path:
            continue
        was, now = before.match(address.path).policy, after.match(address.path).policy
        elsewhere += count * (address.route not in {was.id, "-"})
        asked[now.id] += count
        by_route[was.id, now.id].update(name for name, _ in parse_qsl(address.query, keep_blank_values=True))
    if elsewhere:
        yield f"{elsewhere:,} requests were answered by other routes than the policies before have for them"
    for (was_id, now_id), names in sorted(by_route.items()):
        was_policy, now_policy = before.by_id(was_id), after.by_id(now_id)
        if was_policy is None or now_policy is None:
            continue
        yield from _untold(was_policy, now_policy, names, asked[now_id])
    if log.unfinished:
        yield f"{log.unfinished} of the logs end in the middle of a line, which is left out"


def _untold(was: CachePolicy, now: CachePolicy, names: set[str], requests: int) -> Iterator[str]:
    """What the log of one route cannot say about another."""
    if not now.store:
        return
    if not was.store:
        yield (
            f"{now.id}: nothing of it was stored when the log was written, so that what the origin says is not known: "
            f"its {requests:,} requests are taken for storable, with the lifetimes of the policy"
        )
    if ALL_QUERY in (now.query, was.query):
        yield f"{now.id}: whole queries are not in a log, so that all requests for a path count as one address"
    elif unknown := [name for name in now.query if name not in was.query and name not in names]:
        yield (
            f"{now.id}: no line tells the parameter {', '.join(unknown)}, which did not count when the log was "
            "written. If requests carry it, name it in NEARSHELF_ACCESS_LOG_QUERY and gather a log with it"
        )
    if more := set(now.vary) - set(was.vary):
        yield f"{now.id}: variants by {', '.join(sorted(more))} were not told apart when the log was written"


# -- renderings --------------------------------------------------------------------------------------------------------


def as_json(found: Replayed) -> dict[str, Any]:
    """For programs. Ratios are between 0 and 1."""
    before, after = found.before.all, found.after.all
    return {
        "requests": found.lines,
        "without_address": found.without_address,
        "seconds": round(found.seconds, 3),
        "hit_ratio": {
            "recorded": found.recorded.all.hit_ratio,
            "before": before.hit_ratio,
            "after": after.hit_ratio,
        },
        "origin_requests_per_s": {
            "before": before.origin / found.seconds,
            "after": after.origin / found.seconds,
            "extra": found.extra_origin_per_s,
        },
        "objects": {"at_the_end": found.objects, "cold": found.cold},
        "store_bytes": {"before": found.before.store_bytes, "after": found.after.store_bytes},
        "routes": _by_name(found, lambda tallies: tallies.by_route),
        "edges": _by_name(found, lambda tallies: tallies.by_edge),
        "cautions": list(found.cautions),
    }


def _by_name(found: Replayed, part: Callable[[Tallies], dict[str, Tally]]) -> dict[str, Any]:
    """Hit ratios and requests by route, or by edge."""
    recorded, before, after = part(found.recorded), part(found.before.tallies), part(found.after.tallies)
    none = Tally()
    return {
        name: {
            "recorded": recorded.get(name, none).hit_ratio,
            "before": before.get(name, none).hit_ratio,
            "after": after.get(name, none).hit_ratio,
            "requests": before.get(name, after.get(name, none)).requests,
            "origin_requests_per_s": {
                "before": before.get(name, none).origin / found.seconds,
                "after": after.get(name, none).origin / found.seconds,
            },
            "changed": before.get(name, none) != after.get(name, none),
        }
        for name in sorted({*before, *after})
    }


def lines_of_text(found: Replayed) -> Iterator[str]:
    """For people."""
    told = as_json(found)
    ratio, origin = told["hit_ratio"], told["origin_requests_per_s"]
    yield f"replayed   {found.lines:,} requests over {found.seconds:,.0f} s"
    if found.without_address:
        yield f"           {found.without_address:,} of them without an address: passed on under both"
    yield f"           hit ratio {_percent(ratio['before'])} -> {_percent(ratio['after'])}"
    yield f"           recorded {_percent(ratio['recorded'])}: as far as the model is off, so are its predictions"
    yield (
        f"           origin {origin['before']:.2f} -> {origin['after']:.2f} requests a second ({origin['extra']:+.2f})"
    )
    yield f"           {found.cold:,} of {found.objects:,} stored objects go cold when the policies are taken"
    yield (
        f"           the fullest store holds {found.before.store_bytes / 1e6:.1f} -> "
        f"{found.after.store_bytes / 1e6:.1f} MB in the end"
    )
    for route, each in told["routes"].items():
        if each["changed"]:
            change = f"{_percent(each['before'])} -> {_percent(each['after'])}"
            yield f"           {route}: {change} of {each['requests']:,} requests"
    for caution in found.cautions:
        yield f"caution    {caution}"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.1f} %"
