"""Structured fields (RFC 9651): dictionaries and lists of strings, as far as caching has them."""

from __future__ import annotations

import re
from collections.abc import Iterator

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


def parse_strings(text: str) -> tuple[str, ...] | None:
    """A structured list of strings (RFC 9651 §4.2.1) without their parameters; None when it does not parse, or has a
    member that is no string."""
    try:
        return tuple(_Scanner(text.strip(" ")).strings())
    except _Invalid:
        return None


_QUOTED_PAIR = re.compile(r"\\(.)")


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
            self.next_member()
        return members

    def strings(self) -> Iterator[str]:
        while self.at < len(self.text):
            text = self.item()
            if not isinstance(text, str) or not text.startswith('"'):
                raise _Invalid
            yield _QUOTED_PAIR.sub(r"\1", text[1:-1])
            self.parameters()
            self.next_member()

    def next_member(self) -> None:
        """Past the comma to the next member, or to the end; a comma that nothing follows is invalid."""
        self.match(_BLANKS)
        if self.at == len(self.text):
            return
        self.expect(",")
        self.match(_BLANKS)
        if self.at == len(self.text):
            raise _Invalid

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
