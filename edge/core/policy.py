"""Cache policies as plain values, however they were written down, and which one a request falls under."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple

from cache_policies.markets import Markets

ALL_QUERY = ("*",)
"""`CachePolicy.query` of a route that is never stored and passes the query on as received."""


class DataClass(StrEnum):
    PUBLIC = "public"
    PERSONAL = "personal"
    """Never stored, whatever a header says."""


class OnLeaseLapse(StrEnum):
    """What a route answers when the lease has run out and the origin cannot vouch for the head (rule 5)."""

    FAIL = "fail"
    """503 with Retry-After: prices, stock and every other JSON with a price."""
    STALE_MARKED = "stale-marked"
    """The stored page with its notice filled, within stale-if-error."""


class Generation(StrEnum):
    """Which bucket's position goes into CloudFront's key (docs/freshness.md)."""

    NONE = "none"
    PRODUCT = "product"
    CATEGORY = "category"
    MARKET = "market"


class Redirect(StrEnum):
    NONE = "none"
    MARKET = "market"
    """Answered by the edge itself: 302 to the visitor's market, never stored."""


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """One route: what it matches, how long its responses live, and what its key is made of.

    Lifetimes are seconds. The origin proposes (CDN-Cache-Control); `fresh_s` and the stale windows are the
    default where it is silent, the `max_*` values the ceiling where it is generous.
    """

    id: str
    path: str
    """Pattern: literal segments, `{name}` for one segment, `{name...}` for the rest, one or more characters;
    `{market}` is a known market."""
    where: str = ""
    """file:line:column it was written at, for messages and `explain`."""
    data_class: DataClass = DataClass.PUBLIC
    methods: tuple[str, ...] = ("GET", "HEAD")
    """Methods answered from the store, if the route stores."""
    forward_methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    """Methods passed to the origin; a method in neither list is answered by 405."""
    refuse_status: int = 0
    """Answered by the edge itself with this status, never forwarded; 0: not refused."""
    store: bool = True
    fresh_s: float = 0.0
    max_fresh_s: float = 0.0
    """Ceiling of what the origin may propose; below `fresh_s` it counts as `fresh_s`."""
    stale_while_revalidate_s: float = 0.0
    """Default where the origin is silent, and ceiling; counted from the end of freshness."""
    stale_if_error_s: float = 0.0
    """The same, for when the origin fails."""
    keep_s: float = 0.0
    """After the stale windows: kept only to be validated."""
    negative_s: tuple[tuple[int, float], ...] = ()
    """Freshness of error answers by status: (404, 10.0)."""
    query: tuple[str, ...] = ()
    """Parameters that count, in the order of the key; all others are dropped, not forwarded. Or ALL_QUERY."""
    request_fields: tuple[str, ...] = ()
    """Request fields forwarded beyond the built-in allow-list (`request_rules`), lower case."""
    vary: tuple[str, ...] = ()
    """Fields a response may vary on, lower case; one that varies on another is not stored."""
    cookies: bool = False
    """Whether Cookie and Set-Cookie pass; never on a stored route."""
    shows_price: bool = False
    """Leaves the edge as `Cache-Control: no-cache` with its ETag (rule 10)."""
    on_lease_lapse: OnLeaseLapse = OnLeaseLapse.FAIL
    generation: Generation = Generation.NONE
    redirect: Redirect = Redirect.NONE
    collapse_wait_s: float = 5.0
    """How long a follower waits for the leader's forward request."""
    max_body_bytes: int = 2_000_000


class Match(NamedTuple):
    """The policy a request falls under, the normalised path that matched, and what the pattern captured."""

    policy: CachePolicy
    path: str
    captured: dict[str, str]
    """By pattern name, still percent-encoded."""

    @property
    def market(self) -> str:
        """The market in the path; empty when the pattern has none."""
        return self.captured.get("market", "")


class PolicySet:
    """All policies in the order they are tried: the first whose pattern matches decides.

    Immutable. The last one must match every path (`/{rest...}`), and answers for what no pattern can match, such as
    `*`: ValueError otherwise, as for a pattern that cannot be read.
    """

    __slots__ = ("_alternatives", "_regex", "digest", "markets", "policies")

    def __init__(self, policies: Iterable[CachePolicy], markets: Markets) -> None:
        self.policies: tuple[CachePolicy, ...] = tuple(policies)
        self.markets = markets
        if not self.policies or not re.fullmatch(r"/\{[a-z_]+\.\.\.\}", self.policies[-1].path):
            raise ValueError("the last policy must match every path: /{rest...}")
        alternatives: dict[int, tuple[CachePolicy, tuple[str, ...]]] = {}
        patterns: list[str] = []
        group = 1
        for policy in self.policies:
            names, pattern = _compile(policy.path, markets)
            alternatives[group] = (policy, names)
            patterns.append(f"({pattern})")
            group += 1 + len(names)
        self._alternatives = alternatives
        # One alternation instead of a dozen attempts: the outermost group that took part is `lastindex`, because
        # a group counts as last when it closes.
        self._regex = re.compile("|".join(patterns))
        self.digest = _digest(self.policies, markets)
        """Sixteen hex digits: equal in every process that decides by the same policies and markets."""

    def match(self, path: str) -> Match:
        """The first policy whose pattern matches `path`, which is normalised (`key.normalise_path`).

        A first segment that is no known market does not match `{market}`.
        """
        found = self._regex.fullmatch(path)
        if found is None or found.lastindex is None:
            return Match(self.policies[-1], path, {})
        group = found.lastindex
        policy, names = self._alternatives[group]
        if not names:
            return Match(policy, path, {})
        return Match(policy, path, dict(zip(names, found.groups()[group : group + len(names)], strict=True)))

    def by_id(self, policy_id: str) -> CachePolicy | None:
        return next((policy for policy in self.policies if policy.id == policy_id), None)


class PatternPart(NamedTuple):
    """One segment of a pattern: literal text, or what it captures."""

    literal: str
    """Empty for a capture; a pattern that ends in `/` has an empty last literal, too."""
    name: str = ""
    rest: bool = False
    """Takes the rest of the path, slashes included."""


_CAPTURE = re.compile(r"\{([a-z_]+)(\.\.\.)?\}")
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]*")


def parse_pattern(pattern: str) -> tuple[PatternPart, ...]:
    """The segments of a path pattern. Raises ValueError saying what is wrong with it."""
    if not pattern.startswith("/"):
        raise ValueError("a path pattern starts with /")
    parts: list[PatternPart] = []
    segments = pattern[1:].split("/")
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        capture = _CAPTURE.fullmatch(segment)
        if capture is not None:
            if capture[2] and not last:
                raise ValueError(f"{segment} takes the rest of the path, so nothing may follow it")
            if any(part.name == capture[1] for part in parts):
                raise ValueError(f"{segment} is captured a second time")
            parts.append(PatternPart("", capture[1], rest=bool(capture[2])))
        elif _LITERAL.fullmatch(segment) is None:
            raise ValueError(f"segment {segment!r} is neither plain text nor {{name}} nor {{name...}}")
        elif not segment and not last:
            raise ValueError("an empty segment matches nothing, because // is refused")
        else:
            parts.append(PatternPart(segment))
    return tuple(parts)


def covers(first: str, second: str, markets: Markets) -> bool:
    """Whether every path that `second` matches is matched by `first` as well."""
    ours, theirs = parse_pattern(first), parse_pattern(second)
    for number, part in enumerate(ours):
        if part.rest:
            return len(theirs) > number and theirs[number:] != (PatternPart(""),)
        if number >= len(theirs):
            return False
        other = theirs[number]
        if not part.name:
            if other != part:
                return False
        elif other.rest:
            return False
        elif part.name == "market":
            if other.name != "market" and markets.by_id(other.literal) is None:
                return False
        elif not other.name and not other.literal:
            return False
    return len(ours) == len(theirs)


def _compile(pattern: str, markets: Markets) -> tuple[tuple[str, ...], str]:
    text = ""
    names: list[str] = []
    for part in parse_pattern(pattern):
        if not part.name:
            text += "/" + re.escape(part.literal)
            continue
        names.append(part.name)
        if part.name == "market":
            text += "/(" + "|".join(re.escape(market.id) for market in markets.all) + ")"
        else:
            text += "/(.+)" if part.rest else "/([^/]+)"
    return tuple(names), text


def _digest(policies: tuple[CachePolicy, ...], markets: Markets) -> str:
    known = [
        [(field.name, getattr(policy, field.name)) for field in fields(policy) if field.name != "where"]
        for policy in policies
    ]
    return hashlib.sha256(repr((known, markets)).encode()).hexdigest()[:16]
