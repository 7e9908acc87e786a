"""What was compiled for CloudFront, read back by code that the compiler knows nothing of, does as the gateway does.

The same generated requests go to a running worker over sockets and to tests/support/cloudfront_reader, which takes the
compiled files. Wherein the two may differ is in ALLOWED, as the compiler's report or docs/aws.md announce it: whatever
else is found is a fault of one of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.policy_files import load_policies
from tests.treaty.generated_requests import generated_requests
from tests.treaty.two_edges import Both, Difference, TwoEdges, compiled, differences, lifetimes_of

FULL = Path(__file__).parents[1] / "support" / "policies_full"
REQUESTS = 5_000
"""With each of the two sets of policies."""

# --- where the two may differ ---------------------------------------------------------------------------------------

PRICE_BOUND_S, LONGEST_S = 60.0, 31_536_000.0
KEPT_ERRORS = frozenset({404, 414, 500, 501, 502, 503, 504, 400, 403, 405, 412, 415})
EXPLANATIONS = frozenset({400, 401, 405, 421, 451, 503})


@dataclass(frozen=True)
class Allowed:
    what: str
    """Regular expression for `Difference.what`."""
    why: str
    """As the report or docs/aws.md have it."""
    holds: Callable[[Both, Difference], bool] = lambda both, found: True


def _methods_of_cloudfront(both: Both, found: Difference) -> bool:
    refused = both.theirs.by == "cloudfront" and both.theirs.status == 403
    return refused and (both.ours.line["cache"] == "edge" or both.strays)


def _first_origin_only(both: Both, found: Difference) -> bool:
    """CloudFront asks one origin where a behaviour takes writes, our gateway two for a read."""
    takes_writes = bool({"POST", "PUT", "PATCH", "DELETE"} & {*both.policy.methods, *both.policy.forward_methods})
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
    fresh = min(fresh, bound)
    expected = (fresh, min(revalidate, bound - fresh), min(error, bound - fresh))
    return lived is not None and expected == (lived.fresh_s, lived.revalidate_s, lived.error_s)


def _said_to_whom_no_function_answers(both: Both, found: Difference) -> bool:
    told = ", ".join(found.theirs)  # type: ignore[arg-type]
    return both.theirs.status >= 400 and ("no-store" in told or told.startswith("max-age=0, s-maxage="))


def _named_in_another_order(both: Both, found: Difference) -> bool:
    ours, theirs = [sorted(str(each).split("; ")) for side in (found.ours, found.theirs) for each in side]  # type: ignore[attr-defined]
    return ours == theirs


ALLOWED = (
    Allowed(
        "status|who answers|origins asked|body|kept|tags|to viewer: .*",
        "methods that a behaviour does not take are CloudFront's own 403",
        _methods_of_cloudfront,
    ),
    Allowed("at origin: (via|x-forwarded-proto)", "Via and X-Forwarded-Proto are CloudFront's to write"),
    Allowed(
        "at origin: (nearshelf-generation|cloudfront-viewer-country)",
        "stay for the second origin of a group, where the handler runs again",
    ),
    Allowed(
        "at origin: min-catalog-version", "the generation of the route's bucket, where there is one", _by_generation
    ),
    Allowed("at origin: accept-encoding", "in CloudFront's spelling", lambda both, found: both.policy.store),
    Allowed("at origin: cookie", "a Function has cookies by name", _named_in_another_order),
    Allowed("method at origin", "HEAD is asked for as HEAD", lambda both, found: both.request.method == "HEAD"),
    Allowed(
        "at origin: .*",
        "what a stored route only forwards takes fewer fields along",
        lambda both, found: both.policy.store and both.request.method not in both.policy.methods,
    ),
    Allowed(
        "status|origins asked|body|kept|tags|to viewer: .*",
        "reads fail over only where a behaviour takes no writes",
        _first_origin_only,
    ),
    Allowed("origins asked", "residency: the same origin is asked again", _the_same_origin_again),
    Allowed(
        "kept",
        "price routes 60 s, others a year, stale windows included; errors of the statuses that CloudFront keeps",
        _as_long_as_cloudfront_may,
    ),
    Allowed("to viewer: cache-control", "no Function runs for errors: stricter", _said_to_whom_no_function_answers),
    Allowed("to viewer: vary", "names that it does not forward are taken out by CloudFront"),
    Allowed(
        "to viewer: (content-encoding|etag)",
        "br, 403, 404 and what is not kept are compressed, too",
        lambda both, found: both.policy.compress and both.theirs.by == "origin",
    ),
    Allowed(
        "to viewer: content-type", "an unknown host is told nothing more", lambda both, found: both.theirs.status == 421
    ),
    Allowed("at origin: .*", "paths of one route in another's behaviour", lambda both, found: both.strays),
    Allowed("status|body|to viewer: .*", "304 instead of 200 in another's behaviour", _confirmed_in_another_behaviour),
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


# --- ten thousand requests ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["shipped", "full"])
def chosen(request: pytest.FixtureRequest) -> Path | None:
    return FULL if request.param == "full" else None


def kinds_of(both: Both) -> list[str]:
    ours = both.ours
    kinds = [f"{both.request.method} of {both.policy.id}", f"{ours.line['cache']} {ours.response.status}"]
    kinds += [f"status {ours.response.status}", f"route {ours.line['route']}", f"by {both.theirs.by}"]
    if ours.stored is not None:
        kinds += ["kept" if ours.stored.status < 400 else "kept negative", f"kept of {both.policy.id}"]
    if both.strays:
        kinds.append("in another's behaviour")
    if len(both.theirs.asked) == 2:
        kinds.append("failed over")
    return kinds


async def test_generated_requests_are_decided_alike_by_gateway_functions_handlers_and_template(chosen, tmp_path):
    policies = load_policies(chosen)
    folder = compiled(chosen, tmp_path / "out")
    used: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    keys = Keys()
    wrong: list[str] = []
    async with TwoEdges(policies, folder, tmp_path) as edges:
        for sent in generated_requests(policies, REQUESTS, seed=7):
            both = await edges.ask(sent)
            wrong += [f"{sent}: {found}" for found in [*unexplained(both, used), *keys.faults(both)]]
            kinds.update(kinds_of(both))
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*/*.*s")) + sorted(folder.glob("*/*.zip"))}
    print(f"{REQUESTS} requests, {len(wrong)} differences; {sizes}; announced: {dict(used)}")
    assert wrong[:5] == []
    assert {policy.id for policy in policies.policies} <= {kind.removeprefix("route ") for kind in kinds}
