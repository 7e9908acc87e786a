"""How long a response is fresh and how old it is (RFC 9111 §4.2). All times and lifetimes are seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import gmtime

from edge.core.directives import MAX_DELTA_S, Directives
from edge.core.http import Headers
from edge.core.policy import CachePolicy
from edge.core.stored import StoredResponse

CACHEABLE_BY_DEFAULT = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501})
"""Statuses whose freshness may be guessed (RFC 9110 §15.1, RFC 7725 §3)."""
MAX_HEURISTIC_S = 86_400.0
"""One day: what the origin did not say is not believed for longer."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a response may be reused, counted from when the origin made it."""

    fresh_s: float
    stale_while_revalidate_s: float
    """Counted from the end of freshness, like the next ones."""
    stale_if_error_s: float
    stale_if_unreachable_s: float = 0.0


def lifetimes(status: int, headers: Headers, directives: Directives, policy: CachePolicy) -> Lifetimes:
    """What the origin proposes, capped by the policy; the policy's own values where the origin is silent.

    Freshness: s-maxage, else max-age, Expires minus Date, and the policy's default or its heuristic. Error answers
    live by `negative_s` at the most; they are never served stale, nor is any other of 500 and above.
    """
    proposed = proposed_freshness(headers, directives)
    negative_s = dict(policy.negative_s).get(status)
    if negative_s is not None:
        fresh_s = negative_s if proposed is None else min(proposed, negative_s)
        return Lifetimes(0.0 if directives.no_cache else fresh_s, 0.0, 0.0)
    if proposed is not None:
        fresh_s = min(proposed, max(policy.fresh_s, policy.max_fresh_s))
    else:
        fresh_s = policy.fresh_s or heuristic_freshness(status, headers, directives, policy)
    if directives.no_cache:
        fresh_s = 0.0
    if directives.forbids_stale or status >= 500:
        return Lifetimes(fresh_s, 0.0, 0.0)
    return Lifetimes(
        fresh_s,
        _capped(
            directives.stale_while_revalidate_s, policy.stale_while_revalidate_s, policy.max_stale_while_revalidate_s
        ),
        _capped(directives.stale_if_error_s, policy.stale_if_error_s, policy.max_stale_if_error_s),
        # Not of what said nothing of its freshness, and of which nobody could guess it: it may be for one person.
        policy.stale_if_unreachable_s if fresh_s > 0 or proposed is not None else 0.0,
    )


def may_guess(status: int, directives: Directives, policy: CachePolicy) -> bool:
    """Whether a response without a stated lifetime may have one guessed (RFC 9111 §4.2.2). Never one of 500 and above,
    501 too: a failure is not kept because it did not say for how long."""
    return policy.heuristic_percent > 0 and status < 500 and (status in CACHEABLE_BY_DEFAULT or directives.public)


def heuristic_freshness(status: int, headers: Headers, directives: Directives, policy: CachePolicy) -> float:
    """The policy's share of the time since Last-Modified, as Date has it; 0 where nothing may be guessed."""
    if not may_guess(status, directives, policy):
        return 0.0
    made = parse_http_date(headers.get("date") or "")
    modified = parse_http_date(headers.get("last-modified") or "")
    if made is None or modified is None:
        return 0.0
    return min(max(0, made - modified) * policy.heuristic_percent / 100, MAX_HEURISTIC_S)


def _capped(proposed: int | None, default: float, ceiling: float) -> float:
    return default if proposed is None else min(float(proposed), max(default, ceiling))


def proposed_freshness(headers: Headers, directives: Directives) -> float | None:
    """The freshness lifetime that the response states (RFC 9111 §4.2.1); None where it states none.

    Expires counts against the response's own Date, so that a wrong clock at the origin is wrong twice; an Expires
    that is malformed, or there twice, means already stale (§5.3).
    """
    if directives.s_maxage_s is not None:
        return float(directives.s_maxage_s)
    if directives.max_age_s is not None:
        return float(directives.max_age_s)
    if directives.targeted or "expires" not in headers:
        return None
    lines = headers.lines("expires")
    expires = parse_http_date(lines[0]) if len(lines) == 1 else None
    made = parse_http_date(headers.get("date") or "")
    if expires is None or made is None:
        return 0.0
    return float(max(0, expires - made))


def initial_age(headers: Headers, *, sent_at: float, received_at: float, wall_now: float) -> float:
    """Corrected initial age (RFC 9111 §4.2.3): the larger of what Date and what Age and the forward delay say.

    `sent_at` and `received_at` are moments of the edge's clock; `wall_now` is the wall clock at `received_at`, in
    seconds since the epoch, and is only compared with Date. Never negative, even when the origin's clock runs ahead; at
    most MAX_DELTA_S, however old a Date pretends to be. A Date that cannot be read says nothing.
    """
    corrected = parse_age(headers) + max(0.0, received_at - sent_at)
    made = parse_http_date(headers.get("date") or "")
    return min(corrected if made is None else max(corrected, wall_now - made), float(MAX_DELTA_S))


def current_age(stored: StoredResponse, now: float) -> float:
    """Age of `stored` at `now` (RFC 9111 §4.2.3). Counts the Age field and the forward delay; never negative."""
    return stored.initial_age_s + max(0.0, now - stored.stored_at)


def parse_age(headers: Headers) -> int:
    """The Age field: its first member, if that is a whole number; else 0. A huge one saturates (RFC 9111 §5.1)."""
    first = (headers.get("age") or "").partition(",")[0].strip(" \t")
    if not (first.isascii() and first.isdigit()):
        return 0
    return min(int(first), MAX_DELTA_S) if len(first) <= 10 else MAX_DELTA_S


_MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6,
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_MONTH_NAMES = tuple(_MONTHS)
_DAYS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAYS_BEFORE_1970 = 719_162
"""Since the first day of the year 1, in the calendar of today reckoned backwards."""
_DAY = "(?:" + "|".join(_DAY_NAMES) + ")"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = "(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_IMF_FIXDATE = re.compile(f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT")
_RFC_850 = re.compile(f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT")
_ASCTIME = re.compile(f"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})")
_FIRST_SHORT_YEAR = 1970
"""Two digits are a year from here on: what would lie more than some fifty years ahead is past (RFC 9110 §5.6.7)."""


def parse_http_date(text: str) -> int | None:
    """Seconds since the epoch of an HTTP-date, in its form of today or one of the two obsolete ones (RFC 9110 §5.6.7);
    None for anything else.

    Strict, because a date that peers read differently must not make one of them keep a response for longer.
    """
    found = _IMF_FIXDATE.fullmatch(text) or _RFC_850.fullmatch(text) or _ASCTIME.fullmatch(text)
    if found is None:
        return None
    year, month, day = int(found["year"]), _MONTHS[found["month"]], int(found["day"])
    if len(found["year"]) == 2:
        year = _FIRST_SHORT_YEAR + (year - _FIRST_SHORT_YEAR) % 100
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if year == 0 or not 1 <= day <= _DAYS[month] + (leap and month == 2):
        return None
    past = year - 1
    before = past * 365 + past // 4 - past // 100 + past // 400 + sum(_DAYS[1:month]) + (leap and month > 2)
    days = before + day - 1 - _DAYS_BEFORE_1970
    return ((days * 24 + int(found["hour"])) * 60 + int(found["minute"])) * 60 + int(found["second"])


def http_date(seconds: float) -> str:
    """The IMF-fixdate of a moment in seconds since the epoch (RFC 9110 §5.6.7)."""
    at = gmtime(seconds)
    return (
        f"{_DAY_NAMES[at.tm_wday]}, {at.tm_mday:02} {_MONTH_NAMES[at.tm_mon - 1]} {at.tm_year:04} "
        f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT"
    )
