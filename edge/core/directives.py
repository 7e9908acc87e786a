"""Cache-Control (RFC 9111 §5.2) and CDN-Cache-Control (RFC 9213), read into one value.

Where a field is ambiguous the reading is the one that keeps less: a lifetime that cannot be read is zero, `private`
with field names is `private`, and `no-store` next to anything, `must-understand` too, is `no-store`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edge.core.http import Headers

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
    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None
    targeted: bool = False
    """Read from CDN-Cache-Control: then Cache-Control and Expires do not count at all."""

    @property
    def forbids_stale(self) -> bool:
        """Whether a stale response must not be served without validation (RFC 9111 §4.2.4)."""
        return self.no_cache or self.must_revalidate or self.proxy_revalidate or self.s_maxage_s is not None


def response_directives(headers: Headers) -> Directives:
    """What governs this cache: CDN-Cache-Control when it is there and valid, else Cache-Control (RFC 9213 §2.2)."""
    targeted = headers.joined("cdn-cache-control")
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
}
_LIFETIMES = {
    "max-age": "max_age_s",
    "s-maxage": "s_maxage_s",
    "stale-while-revalidate": "stale_while_revalidate_s",
    "stale-if-error": "stale_if_error_s",
}
# A member is split at commas outside quotes; what is then no directive is passed over alone.
_MEMBER = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_DIRECTIVE = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s",]*))?""")


def parse_cache_control(lines: Iterable[str]) -> Directives:
    """The directives of all Cache-Control lines, as one list.

    Names without regard to case; of duplicates the first counts; a member that is no directive is ignored. A lifetime
    may be quoted (RFC 9111 §5.2); one that is not a whole number is zero: present and unreadable means stale, as
    with Expires.
    """
    found: dict[str, bool | int] = {}
    for line in lines:
        for member in _MEMBER.findall(line):
            directive = _DIRECTIVE.fullmatch(member.strip(" \t"))
            if directive is None:
                continue
            name, argument = directive[1].lower(), directive[2]
            if name in _FLAGS:
                found.setdefault(_FLAGS[name], True)
            elif name in _LIFETIMES:
                found.setdefault(_LIFETIMES[name], _delta_seconds(argument))
    return _directives(found, targeted=False)


def _delta_seconds(argument: str | None) -> int:
    digits = (argument or "").strip('"')
    if not (digits.isascii() and digits.isdigit()):
        return 0
    return min(int(digits), MAX_DELTA_S) if len(digits) <= 10 else MAX_DELTA_S


def parse_targeted(text: str) -> Directives | None:
    """CDN-Cache-Control as a structured dictionary (RFC 9213 §2.1); None when it is invalid or empty.

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
        max_age_s=lifetime("max_age_s"),
        s_maxage_s=lifetime("s_maxage_s"),
        stale_while_revalidate_s=lifetime("stale_while_revalidate_s"),
        stale_if_error_s=lifetime("stale_if_error_s"),
        targeted=targeted,
    )


_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_BARE_ITEM = re.compile(
    r"""
      (?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9]))
    | (?P<integer>-?[0-9]{1,15}(?![0-9.]))
    | (?P<boolean>\?[01])
    | (?P<other>
        "(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"
      | :[A-Za-z0-9+/]*={0,2}:
      | @-?[0-9]{1,15}(?![0-9.])
      | %"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"
      | [A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*
      )
    """,
    re.VERBOSE,
)
_BLANKS = re.compile(r"[ \t]*")

Item = bool | int | str
"""A boolean or an integer as such; the text of every other type, which no directive has."""


class _Invalid(ValueError):
    """Not a structured field: ignored as a whole (RFC 9651 §4.2)."""


def parse_dictionary(text: str) -> dict[str, Item] | None:
    """A structured dictionary (RFC 9651 §4.2.2) without its parameters; None when it does not parse.

    Of equal keys the last counts. An inner list reads as its text, which is no value of any directive.
    """
    try:
        return _Scanner(text.strip(" ")).dictionary()
    except _Invalid:
        return None


class _Scanner:
    """Reads one field from left to right; every method starts at `at` and leaves it behind what it read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def dictionary(self) -> dict[str, Item]:
        members: dict[str, Item] = {}
        while self.at < len(self.text):
            name = self.key()
            value: Item = self.member() if self.skip("=") else True
            self.parameters()
            # The last of equal keys, and at its place.
            members.pop(name, None)
            members[name] = value
            self.match(_BLANKS)
            if self.at == len(self.text):
                break
            self.expect(",")
            self.match(_BLANKS)
            if self.at == len(self.text):
                raise _Invalid
        return members

    def member(self) -> Item:
        if not self.skip("("):
            return self.item()
        start = self.at
        while True:
            blanks = self.match(re.compile(" *"))
            if self.skip(")"):
                return self.text[start : self.at - 1]
            if self.at > start and not blanks:
                raise _Invalid
            self.item()
            self.parameters()

    def item(self) -> Item:
        found = _BARE_ITEM.match(self.text, self.at)
        if found is None:
            raise _Invalid
        self.at = found.end()
        if found["integer"] is not None:
            return int(found["integer"])
        if found["boolean"] is not None:
            return found["boolean"] == "?1"
        return found[0]

    def parameters(self) -> None:
        while self.skip(";"):
            self.match(re.compile(" *"))
            self.key()
            if self.skip("="):
                self.item()

    def key(self) -> str:
        return self.match(_KEY) or self.fail()

    def fail(self) -> str:
        raise _Invalid

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def skip(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False

    def expect(self, character: str) -> None:
        if not self.skip(character):
            raise _Invalid
