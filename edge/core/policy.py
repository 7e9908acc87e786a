"""Cache policies as plain values, however they were written down, and which one a request falls under."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from cache_policies.market_values import Markets
from cache_policies.origins import Origins

ALL = ("*",)
"""In place of a list: whatever comes. For `request_fields`, `vary` and `forward_methods`."""
ALL_QUERY = ("*",)
"""`CachePolicy.query` of a route that passes the query on as received; on a stored one it is in the key as received."""


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


class Auth(StrEnum):
    """What the edge makes of a request's Authorization. Whether it is right only the origin can say."""

    NONE = "none"
    """Never reaches the origin: the default on a stored route."""
    OPTIONAL = "optional"
    """Forwarded where there is one, and such a request is answered neither from the store nor into it: the default
    on a route that is never stored."""
    SHARED = "shared"
    """Forwarded where there is one; the answer is kept for everybody only where it says so itself: `public`,
    `must-revalidate` or `s-maxage` (RFC 9111 §3.5)."""
    REQUIRED = "required"
    """A request without one is answered with 401 by the edge; only on a route that is never stored."""


class Residency(StrEnum):
    """What must happen to personal data before it leaves the edge."""

    NONE = "none"
    ROUTE = "route"
    """Sent only to an origin that lists the jurisdiction of the request's market."""
    TOKENISE = "tokenise"
    """Personal fields are replaced by tokens of the jurisdiction's vault. Without a vault: 503."""
    SEAL = "seal"
    """Personal fields are encrypted for the jurisdiction's vault. Without a vault: 503."""


class Throttle(NamedTuple):
    """How often one client may ask for a route: a token bucket for each client address, kept by each worker."""

    rate_per_s: float
    burst: int
    """Requests that may come at once."""


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
    """Default where the origin is silent; counted from the end of freshness."""
    stale_if_error_s: float = 0.0
    """The same, for when the origin fails."""
    keep_s: float = 0.0
    """After the stale windows: kept only to be validated."""
    stale_if_unreachable_s: float = 0.0
    """After freshness, served when no connection to the origin can be made or it breaks, whether or not the response
    asks for that (RFC 9111 §4.2.4); what forbids stale answers forbids these. An error answer does not count."""
    max_stale_while_revalidate_s: float = 0.0
    """Ceiling of what the origin may propose; below the default it counts as that. So for the next."""
    max_stale_if_error_s: float = 0.0
    any_status: bool = False
    """Whether every final status is stored that states its freshness, unknown ones included (RFC 9111 §3)."""
    heuristic_percent: int = 0
    """Freshness where the origin is silent and `fresh_s` is 0: this share of the time since Last-Modified, one day at
    the most (RFC 9111 §4.2.2)."""
    negative_s: tuple[tuple[int, float], ...] = ()
    """Freshness of error answers by status: (404, 10.0)."""
    query: tuple[str, ...] = ()
    """Parameters that count, in the order of the key; all others are dropped, not forwarded. Or ALL_QUERY."""
    request_fields: tuple[str, ...] = ()
    """Request fields forwarded beyond the built-in allow-list (`request_rules`), lower case; ALL: every end-to-end one,
    Cookie among them."""
    vary: tuple[str, ...] = ()
    """Fields a response may vary on, lower case; one that varies on another is not stored. ALL: any but `*`."""
    honour_request: bool = False
    """Whether the Cache-Control of requests counts (RFC 9111 §5.2.1), and Pragma where there is none."""
    cookies: bool = False
    """Whether Cookie and Set-Cookie pass; never on a stored route."""
    shows_price: bool = False
    """Leaves the edge as `viewer_cache_control` with its ETag (rule 10)."""
    on_lease_lapse: OnLeaseLapse = OnLeaseLapse.FAIL
    generation: Generation = Generation.NONE
    redirect: Redirect = Redirect.NONE
    collapse_wait_s: float = 5.0
    """How long a follower waits for the leader's forward request."""
    max_body_bytes: int = 2_000_000
    tags: tuple[str, ...] = ()
    """Cache tags added to those of the response; `{name}` stands for what the pattern captured."""
    auth: Auth = Auth.NONE
    throttle: Throttle | None = None
    """Beyond it a client is answered with 429 and Retry-After."""
    residency: Residency = Residency.NONE
    origin: str = ""
    """Name in `Origins`; empty: the default one."""
    compress: bool = False
    """Whether the edge may answer in a compressed content coding."""
    blocked_countries: tuple[str, ...] = ()
    """Visitors from there are answered with 451 (RFC 7725)."""
    _version: str = field(default="", init=False, compare=False, repr=False)

    @property
    def version(self) -> str:
        """Sixteen hex digits: equal for policies that decide alike, wherever they were written."""
        if not self._version:
            decides = [getattr(self, each.name) for each in fields(self) if each.init and each.name != "where"]
            object.__setattr__(self, "_version", _digest_of(decides))
        return self._version

    def takes(self, method: str) -> bool:
        """Whether requests with `method` are answered from the store or passed on; else 405."""
        return method in self.methods or method in self.forward_methods or self.forward_methods == ALL

    @property
    def passes_cookies(self) -> bool:
        """Whether Cookie reaches the origin, and Set-Cookie the one viewer who asked."""
        return self.cookies or self.request_fields == ALL

    @property
    def viewer_cache_control(self) -> str | None:
        """What a viewer is told in place of the origin's Cache-Control (rule 10); None: the origin's own word passes.

        A page, which is what can be stale-marked, is not even kept: a browser shows a kept page again on "back"
        without asking (edge/decisions/0004-back-button.md). JSON may be kept, to be asked about with its ETag.
        """
        if not self.shows_price:
            return None
        return "no-cache, no-store" if self.on_lease_lapse is OnLeaseLapse.STALE_MARKED else "no-cache"


class Match(NamedTuple):
    """The policy a request falls under, and the normalised path that matched."""

    policy: CachePolicy
    path: str
    market: str
    """The market in the path; empty when the pattern has none."""

    @property
    def captured(self) -> dict[str, str]:
        """What the pattern captured, by name, still percent-encoded."""
        segments = self.path[1:].split("/")
        return {
            part.name: "/".join(segments[number:]) if part.rest else segments[number]
            for number, part in enumerate(parse_pattern(self.policy.path))
            if part.name and number < len(segments)
        }


class PolicySet:
    """All policies in the order they are tried: the first whose pattern matches decides.

    Immutable. The last one must match every path (`/{rest...}`), and answers for what no pattern can match, such as
    `*`: ValueError otherwise, as for a pattern that cannot be read.
    """

    __slots__ = ("_by_first_segment", "_firsts", "markets", "origins", "policies")

    def __init__(self, policies: Iterable[CachePolicy], markets: Markets, origins: Origins | None = None) -> None:
        self.policies: tuple[CachePolicy, ...] = tuple(policies)
        self.markets = markets
        self.origins = origins or Origins()
        if not self.policies or [part.rest for part in parse_pattern(self.policies[-1].path)] != [True]:
            raise ValueError("the last policy must match every path: /{rest...}")
        firsts = {market.id for market in markets.all}
        firsts.update(part.literal for policy in self.policies if not (part := parse_pattern(policy.path)[0]).name)
        self._firsts = frozenset(firsts)
        self._by_first_segment: dict[str | None, _Alternatives] = {}
        """Filled as paths come: a Lambda handler sees few of them, and would wait for all of them when it starts."""

    @property
    def digest(self) -> str:
        """Sixteen hex digits: equal in every process that decides by the same policies, markets and origins."""
        return _digest_of(([policy.version for policy in self.policies], self.markets, self.origins))

    def match(self, path: str) -> Match:
        """The first policy whose pattern matches `path`, which is normalised (`key.normalise_path`).

        A first segment that is no known market does not match `{market}`.
        """
        end = path.find("/", 1)
        first = path[1:] if end < 0 else path[1:end]
        alternatives = self._by_first_segment.get(first) or self._alternatives(first)
        found = alternatives.regex.fullmatch(path)
        if found is None or found.lastindex is None:
            return Match(self.policies[-1], path, "")
        policy, market_group = alternatives.by_group[found.lastindex]
        return Match(policy, path, found[market_group] if market_group else "")

    def _alternatives(self, first: str) -> _Alternatives:
        known = first if first in self._firsts else None
        if known not in self._by_first_segment:
            self._by_first_segment[known] = _Alternatives(self.policies, self.markets, known)
        return self._by_first_segment[known]

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


@lru_cache(4_096)
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


class Mismatch(NamedTuple):
    """Where a path leaves a pattern."""

    segment: int
    """Counted from 1."""
    expected: str
    """Literal text, `{name}`, `{market}`; empty: nothing more, the pattern ends before this segment."""
    found: str | None
    """None: the path ends before this segment."""


def mismatch(pattern: str, path: str, markets: Markets) -> Mismatch | None:
    """The first segment in which a normalised `path` is not what `pattern` says; None: it matches.

    What `PolicySet.match` decides with one expression for many patterns, told for one of them.
    """
    parts, segments = parse_pattern(pattern), path[1:].split("/")
    for number, part in enumerate(parts):
        expected = f"{{{part.name}{'...' if part.rest else ''}}}" if part.name else part.literal
        found = segments[number] if number < len(segments) else None
        if part.rest:
            return None if "/".join(segments[number:]) else Mismatch(number + 1, expected, found)
        if not part.name:
            matches = found == part.literal
        else:
            matches = bool(found) and (part.name != "market" or markets.by_id(found or "") is not None)
        if not matches:
            return Mismatch(number + 1, expected, found)
    if len(segments) > len(parts):
        return Mismatch(len(parts) + 1, "", segments[len(parts)])
    return None


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


class _Alternatives:
    """One regex for the policies that a path with a given first segment can fall under, in their order.

    One alternation instead of a dozen attempts: the outermost group that took part is `lastindex`, because a group
    counts as last when it closes. `first` None: a segment that is no market, and that no pattern names.
    """

    __slots__ = ("by_group", "regex")

    def __init__(self, policies: Iterable[CachePolicy], markets: Markets, first: str | None) -> None:
        self.by_group: dict[int, tuple[CachePolicy, int]] = {}
        """Group of a whole pattern -> its policy, and the group of the market in it or 0."""
        patterns: list[str] = []
        group = 1
        for policy in policies:
            parts = parse_pattern(policy.path)
            if not _may_start_with(parts[0], first, markets):
                continue
            markets_before = [part.name for part in parts].count("market")
            self.by_group[group] = (policy, group + 1 if markets_before else 0)
            patterns.append("(" + "".join([_part_regex(part, markets) for part in parts]) + ")")
            group += 1 + markets_before
        self.regex = re.compile("|".join(patterns))


def _may_start_with(part: PatternPart, first: str | None, markets: Markets) -> bool:
    if part.name == "market":
        return first is not None and markets.by_id(first) is not None
    return bool(part.name) or part.literal == first


def _part_regex(part: PatternPart, markets: Markets) -> str:
    if not part.name:
        return "/" + re.escape(part.literal)
    if part.name == "market":
        return "/(" + "|".join(re.escape(market.id) for market in markets.all) + ")"
    return "/.+" if part.rest else "/[^/]+"


def _digest_of(decides: object) -> str:
    # Imported here, because a Lambda handler asks for no digest and would load OpenSSL for it.
    import hashlib

    return hashlib.sha256(repr(decides).encode()).hexdigest()[:16]
