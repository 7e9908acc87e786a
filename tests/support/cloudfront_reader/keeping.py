"""What CloudFront keeps of an answer, and for how long.

DG:Expiration, DG:HTTPStatusCodes, DG:custom-error-pages-expiration.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from tests.support.cloudfront_reader.messages import Lifetimes, OriginAnswer, joined

ALWAYS_KEPT_ERRORS = frozenset({404, 414, 500, 501, 502, 503, 504})
"""For the error caching minimum at least."""
KEPT_IF_TOLD = frozenset({400, 403, 405, 412, 415})
"""Only with max-age or s-maxage."""
OBEYS_NO_STORE = frozenset({404, 410, 414, 501})
"""The other errors are kept for the error caching minimum although the answer says no-store, no-cache or private."""
DEFAULT_ERROR_MINIMUM_S = 10.0


def directives_of(text: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for member in (text or "").split(","):
        name, _, value = member.strip().partition("=")
        if name:
            found.setdefault(name.lower(), value.strip('"'))
    return found


def lifetimes(
    answer: OriginAnswer, policy: Mapping[str, Any], error_minimum_s: float | None, wall: float
) -> Lifetimes | None:
    """None: CloudFront keeps nothing of it. `policy`: the cache policy. `error_minimum_s`: of the answer's status, as
    the distribution says; None: it says nothing."""
    said = directives_of(joined(answer.headers, "cache-control"))
    minimum_s, default_s, maximum_s = float(policy["MinTTL"]), float(policy["DefaultTTL"]), float(policy["MaxTTL"])
    forbidden = bool(said.keys() & {"no-store", "no-cache", "private"})
    told_s = _told(said, answer, wall)
    if answer.status == 206:
        return None
    if answer.status >= 400:
        fresh_s = _error(answer.status, told_s, forbidden, maximum_s, error_minimum_s)
        # A negative answer is never served past its time: only a stored success is (DG:HTTPStatusCodes).
        return Lifetimes(fresh_s, 0.0, 0.0) if fresh_s > 0 else None
    if forbidden:
        fresh_s = minimum_s
    elif told_s is None:
        fresh_s = max(minimum_s, default_s)
    else:
        fresh_s = min(max(told_s, minimum_s), maximum_s)
    if maximum_s == 0 or (forbidden and minimum_s == 0):
        return None
    # Past MaxTTL a copy is gone; the page leaves open from when on that counts, so the shorter reading is taken.
    left_s = maximum_s - fresh_s
    revalidate_s = min(_seconds(said.get("stale-while-revalidate")) or 0.0, left_s)
    error_s = _seconds(said.get("stale-if-error"))
    kept = Lifetimes(fresh_s, revalidate_s, left_s if error_s is None else min(error_s, left_s))
    return kept if kept.fresh_s or kept.revalidate_s or kept.error_s else None


def _told(said: Mapping[str, str], answer: OriginAnswer, wall: float) -> float | None:
    for name in ("s-maxage", "max-age"):
        if name in said and (seconds := _seconds(said[name])) is not None:
            return seconds
    expires = joined(answer.headers, "expires")
    if expires is None:
        return None
    try:
        return max(0.0, parsedate_to_datetime(expires).timestamp() - wall)
    except ValueError:
        return 0.0


def _error(
    status: int, told_s: float | None, forbidden: bool, maximum_s: float, error_minimum_s: float | None
) -> float:
    if status in KEPT_IF_TOLD:
        return 0.0 if told_s is None or forbidden else min(told_s, maximum_s)
    if status not in ALWAYS_KEPT_ERRORS:
        return 0.0
    if forbidden and status in OBEYS_NO_STORE:
        return 0.0
    least_s = DEFAULT_ERROR_MINIMUM_S if error_minimum_s is None else error_minimum_s
    return max(least_s, 0.0 if told_s is None or forbidden else min(told_s, maximum_s))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
