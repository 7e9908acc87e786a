"""Wherein CloudFront may differ from the gateway: nothing that the compiler's report does not announce."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.treaty.two_edges import Both, Difference, differences, lifetimes_of

PRICE_BOUND_S, LONGEST_S = 60.0, 31_536_000.0
KEPT_ERRORS = frozenset({404, 414, 500, 501, 502, 503, 504, 400, 403, 405, 412, 415})
EXPLANATIONS = frozenset({400, 401, 405, 421, 451, 503})


@dataclass(frozen=True)
class Allowed:
    what: str
    """Regular expression for `Difference.what`."""
    field: str
    """Under which the compiler's report says so."""
    why: str
    holds: Callable[[Both, Difference], bool] = lambda both, found: True


def _methods_of_cloudfront(both: Both, found: Difference) -> bool:
    refused = both.theirs.by == "cloudfront" and both.theirs.status == 403
    return refused and (both.ours.line["cache"] == "edge" or both.strays)


def _first_origin_only(both: Both, found: Difference) -> bool:
    """CloudFront asks one origin where a behaviour takes writes, our gateway two for a read."""
    takes_writes = any(both.policy.takes(method) for method in ("POST", "PUT", "PATCH", "DELETE"))
    return (takes_writes or both.strays) and (len(both.ours.asked), len(both.theirs.asked)) == (2, 1)


def _by_generation(both: Both, found: Difference) -> bool:
    if both.is_nameless:
        return found.theirs == ["head"]
    generation = dict(both.theirs.key or ()).get("nearshelf-generation", "none")
    return found.theirs == ([generation] if generation[0].isdigit() else [])


def _the_same_origin_again(both: Both, found: Difference) -> bool:
    """The second member of a group is not placed there either, so that the handler leads back to the first."""
    asked = [name for name, _ in both.ours.asked]
    return both.policy.residency == "route" and found.theirs == asked * 2


def _confirmed_in_another_behaviour(both: Both, found: Difference) -> bool:
    return both.strays and both.theirs.status == 304 and both.ours.response.status == 200


def _as_long_as_cloudfront_may(both: Both, found: Difference) -> bool:
    stored, lived = both.ours.stored, both.theirs.lifetimes
    if stored is None or both.is_nameless:
        return stored is not None
    fresh, revalidate, error = lifetimes_of(stored)
    if stored.status >= 400 and stored.status not in KEPT_ERRORS:
        return lived is None
    bound = PRICE_BOUND_S if both.policy.shows_price else LONGEST_S
    if both.policy.shows_price:
        error = 0.0
    if stored.status >= 400:
        revalidate = error = 0.0
    fresh = min(fresh, bound)
    expected = (fresh, min(revalidate, bound - fresh), min(error, bound - fresh))
    return lived is not None and expected == (lived.fresh_s, lived.revalidate_s, lived.error_s)


def _said_to_whom_no_function_answers(both: Both, found: Difference) -> bool:
    told = ", ".join(found.theirs)  # type: ignore[arg-type]
    return both.theirs.status >= 400 and ("no-store" in told or told.startswith("max-age=0, s-maxage="))


def _with_credentials(both: Both, found: Difference) -> bool:
    return both.policy.auth == "shared" and "authorization" in both.request.headers and found.theirs is None


def _of_a_request(both: Both, found: Difference) -> bool:
    return both.policy.honour_request and both.ours.line["reason"] == "only-if-cached"


def _says_country(both: Both, found: Difference) -> bool:
    everything = not both.policy.store and both.policy.request_fields == ("*",)
    return everything and "country" in found.what and found.theirs == []


def _named_in_another_order(both: Both, found: Difference) -> bool:
    ours = both.request.headers.get("cookie") or ""
    return found.ours == [ours] and [sorted(ours.split("; "))] == [sorted(each.split("; ")) for each in found.theirs]  # type: ignore[attr-defined]


EVERYTHING_AFTER = "status|who answers|origins asked|body|kept|tags|to viewer: .*"

ALLOWED = (
    Allowed(
        EVERYTHING_AFTER, "methods", "methods that a behaviour does not take are its own 403", _methods_of_cloudfront
    ),
    Allowed("at origin: x-forwarded-proto", "X-Forwarded-Proto", "not for functions to write"),
    Allowed(
        "at origin: (via|nearshelf-generation|cloudfront-viewer-country)",
        "fields of the edge",
        "stay for the second origin of a group",
    ),
    Allowed("at origin: min-catalog-version", "generation", "what the route's bucket says", _by_generation),
    Allowed("at origin: accept-encoding", "Accept-Encoding", "in its spelling", lambda both, found: both.policy.store),
    Allowed("at origin: cookie", "Cookie", "a Function has cookies by name", _named_in_another_order),
    Allowed("method at origin", "HEAD", "asked for as HEAD", lambda both, found: both.request.method == "HEAD"),
    Allowed(
        "at origin: .*",
        "forward_methods",
        "what a stored route only forwards takes fewer fields along",
        lambda both, found: both.policy.store and both.request.method not in both.policy.methods,
    ),
    Allowed(EVERYTHING_AFTER, "origin", "reads fail over only where a behaviour takes no writes", _first_origin_only),
    Allowed("origins asked", "residency", "the same origin is asked again", _the_same_origin_again),
    Allowed("kept", "auth", "what Authorization was sent for is kept by nobody", _with_credentials),
    Allowed(EVERYTHING_AFTER, "request_directives", "only-if-cached is forwarded", _of_a_request),
    Allowed("at origin: .*", "request_fields", "who says country is not believed", _says_country),
    Allowed("kept", "fresh", "60 s of a price, a year of others; errors of some statuses", _as_long_as_cloudfront_may),
    Allowed("to viewer: cache-control", "errors", "no Function runs for errors", _said_to_whom_no_function_answers),
    Allowed("to viewer: accept-ranges", "Range", "not said for the origin", lambda both, found: found.theirs == []),
    Allowed(
        "to viewer: cdn-cache-control",
        "CDN-Cache-Control",
        "a 304 has what it must have",
        lambda both, found: (both.theirs.status, found.theirs) == (304, []),
    ),
    Allowed(
        "to viewer: cdn-cache-control",
        "path",
        "what is in the behaviour of a price is not for other caches",
        lambda both, found: both.strays and found.theirs == [],
    ),
    Allowed("to viewer: vary", "Vary", "names that it does not forward are taken out"),
    Allowed(
        "to viewer: (content-encoding|etag)",
        "compress",
        "br, 403, 404 and what is not kept are compressed, too",
        lambda both, found: (both.policy.compress or both.strays) and both.theirs.by == "origin",
    ),
    Allowed(
        "to viewer: content-type", "unknown host", "told nothing more", lambda both, found: both.theirs.status == 421
    ),
    Allowed("at origin: .*", "path", "paths of one route in another's behaviour", lambda both, found: both.strays),
    Allowed("status|body|to viewer: .*", "path", "304 in another's behaviour", _confirmed_in_another_behaviour),
)


def unexplained(both: Both, used: Counter[str]) -> list[Difference]:
    """Differences that nothing announces; counts those that something does."""
    left = []
    for found in differences(both):
        why = next(
            (each.why for each in ALLOWED if re.fullmatch(each.what, found.what) and each.holds(both, found)), None
        )
        if why is None:
            left.append(found)
        else:
            used[why] += 1
    return left


# --- who shares with whom -------------------------------------------------------------------------------------------


class Keys:
    """Two requests find the same stored response at one edge if, and only if, they do at the other."""

    def __init__(self) -> None:
        self._theirs: dict[object, object] = {}
        self._ours: dict[object, object] = {}
        self.shared: Counter[object] = Counter()

    def faults(self, both: Both) -> list[Difference]:
        if not both.theirs.uri:
            return []
        theirs = self._read(both)
        shared = None if both.is_nameless else both.shared_key
        if shared is None:
            if theirs is None:
                return []
            again = theirs in self._ours
            self._ours.setdefault(theirs, None)
            return [Difference("key: shared there only", None, theirs)] if again or not both.is_for_once else []
        ours = (shared[0], tuple((name, _spelled(name, value)) for name, value in shared[1]))
        if theirs is None or both.is_for_once:
            return [Difference("key: shared here only", ours, theirs)]
        self.shared[ours] += 1
        found = []
        if self._theirs.setdefault(ours, theirs) != theirs:
            found.append(Difference("key: one here, two there", ours, (self._theirs[ours], theirs)))
        if self._ours.setdefault(theirs, ours) != ours:
            found.append(Difference("key: two here, one there", (self._ours[theirs], ours), theirs))
        return found

    @staticmethod
    def _read(both: Both) -> object:
        """CloudFront's key: fields of `vary` in one spelling, without the copy for each coding that it makes itself."""
        if both.theirs.key is None:
            return None
        left = [
            (name, value) for name, value in both.theirs.key if not (both.policy.compress and name == "accept-encoding")
        ]
        return tuple((name, _spelled(name, value) if name in both.policy.vary else value) for name, value in left)


def _spelled(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    members = [member.strip().lower() for member in value.split(",")]
    if name == "accept-encoding":
        return ",".join(sorted({"br", "gzip"} & set(members))) or None
    return ",".join(members)


# --- rate rules -----------------------------------------------------------------------------------------------------


def rate_faults(both: Both) -> list[Difference]:
    """The web ACL counts a request for its route's throttle, and for no other's: it matches paths that the gateway
    serves, spelled as the viewer spells them."""
    if both.match is None:
        return []
    expected = (f"rate-{both.policy.id}",) if both.policy.throttle else ()
    if both.theirs.rate_rules == expected or (not expected and both.policy is both.policies.policies[-1]):
        # Markets that do not exist count, too.
        return []
    return [Difference("rate rules", expected, both.theirs.rate_rules)]
