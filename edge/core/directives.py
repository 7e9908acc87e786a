"""Cache-Control (RFC 9111 §5.2) and the fields that are for us before it (RFC 9213), read into one value.

Where a field is ambiguous the reading is the one that keeps less: a lifetime that cannot be read is zero, `private`
and `no-cache` with field names are `private` and `no-cache`. Of a directive that is there twice the first counts in
Cache-Control (RFC 9111 §4.2.1), the last in a targeted field (RFC 9651 §3.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from edge.core.http import Headers
from edge.core.structured import parse_dictionary

TARGETED_FIELDS = ("nearshelf-cache-control", "cdn-cache-control")
"""In this order: the first that is valid replaces Cache-Control and Expires, and the other (RFC 9213 §2.2)."""
MAX_DELTA_S = 2**31
"""Longer lifetimes count as this one (RFC 9111 §1.2.2)."""


@dataclass(frozen=True, slots=True)
class Directives:
    """What a response says about its caching. Lifetimes are seconds; None where the response is silent."""

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None
    targeted: bool = False
    """Read from one of TARGETED_FIELDS: then Cache-Control and Expires do not count at all."""

    @property
    def forbids_stale(self) -> bool:
        """Whether a stale response must not be served without validation (RFC 9111 §4.2.4)."""
        return self.no_cache or self.must_revalidate or self.proxy_revalidate or self.s_maxage_s is not None

    @property
    def shares_authorised(self) -> bool:
        """Whether the answer to a request with Authorization may be kept for others (RFC 9111 §3.5)."""
        return self.public or self.must_revalidate or self.s_maxage_s is not None


def response_directives(headers: Headers) -> Directives:
    """What governs this cache: the first targeted field that is there and valid, else Cache-Control."""
    for name in TARGETED_FIELDS:
        targeted = headers.joined(name)
        if targeted is not None:
            directives = parse_targeted(targeted)
            if directives is not None:
                return directives
    return parse_cache_control(headers.lines("cache-control"))


_FLAGS = {
    "no-store": "no_store",
    "no-cache": "no_cache",
    "private": "private",
    "public": "public",
    "must-revalidate": "must_revalidate",
    "proxy-revalidate": "proxy_revalidate",
    "must-understand": "must_understand",
}
_LIFETIMES = {
    "max-age": "max_age_s",
    "s-maxage": "s_maxage_s",
    "stale-while-revalidate": "stale_while_revalidate_s",
    "stale-if-error": "stale_if_error_s",
}
# A member is split at commas outside quotes; what is then no directive is passed over alone.
_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_DIRECTIVE = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:([ \t]*=[ \t]*)("(?:[^"\\]|\\.)*"|[^\s",]*))?""")


def parse_cache_control(lines: Iterable[str]) -> Directives:
    """The directives of all Cache-Control lines, as one list.

    A lifetime may be quoted (RFC 9111 §5.2); one that is not a whole number is zero: present and unreadable means
    stale, as with Expires.
    """
    found: dict[str, bool | int] = {}
    for name, argument in cache_control_members(lines):
        if name in _FLAGS:
            found.setdefault(_FLAGS[name], True)
        elif name in _LIFETIMES:
            found.setdefault(_LIFETIMES[name], delta_seconds(argument) or 0)
    return _directives(found, targeted=False)


def cache_control_members(lines: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Names in lower case and arguments as written, of a request's Cache-Control or a response's; a member that is no
    directive is left out alone. An argument with blanks before it is none that can be read (RFC 9111 §5.2)."""
    for line in lines:
        for member in _MEMBER.findall(line):
            directive = _DIRECTIVE.fullmatch(member.strip(" \t"))
            if directive is not None:
                yield directive[1].lower(), directive[3] if directive[2] in {None, "="} else ""


def delta_seconds(argument: str | None) -> int | None:
    """The seconds that a directive's argument says, at most MAX_DELTA_S; None when it is no whole number."""
    digits = (argument or "").strip('"')
    if not (digits.isascii() and digits.isdigit()):
        return None
    return min(int(digits), MAX_DELTA_S) if len(digits) <= 10 else MAX_DELTA_S


def parse_targeted(text: str) -> Directives | None:
    """A targeted field, which is a structured dictionary (RFC 9213 §2.1); None when it is invalid or empty.

    A lifetime of another type than integer does not count. For the directives that forbid, any value but `?0` counts.
    """
    members = parse_dictionary(text)
    if not members:
        return None
    found: dict[str, bool | int] = {}
    for name, value in members.items():
        if name in _FLAGS:
            found[_FLAGS[name]] = value is not False
        elif name in _LIFETIMES and isinstance(value, int) and not isinstance(value, bool):
            found[_LIFETIMES[name]] = min(max(value, 0), MAX_DELTA_S)
    return _directives(found, targeted=True)


def _directives(found: dict[str, bool | int], *, targeted: bool) -> Directives:
    def flag(name: str) -> bool:
        return bool(found.get(name, False))

    def lifetime(name: str) -> int | None:
        value = found.get(name)
        return None if value is None else int(value)

    return Directives(
        no_store=flag("no_store"),
        no_cache=flag("no_cache"),
        private=flag("private"),
        public=flag("public"),
        must_revalidate=flag("must_revalidate"),
        proxy_revalidate=flag("proxy_revalidate"),
        must_understand=flag("must_understand"),
        max_age_s=lifetime("max_age_s"),
        s_maxage_s=lifetime("s_maxage_s"),
        stale_while_revalidate_s=lifetime("stale_while_revalidate_s"),
        stale_if_error_s=lifetime("stale_if_error_s"),
        targeted=targeted,
    )
