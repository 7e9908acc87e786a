"""JavaScript of our own, made smaller: comments and blanks that mean nothing are left out, lines stay lines.

No minifier: names stay as they are, so that what runs at the edge can be read beside its source.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

_TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* )
    | (?P<text> '(?:\\.|[^'\\\n])*' | `(?:\\.|[^`\\])*` )
    | (?P<word> [A-Za-z0-9_$]+ )
    | (?P<blank> \s+ )
    | (?P<mark> [^\sA-Za-z0-9_$'`] )
    """,
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")
_BEFORE_A_REGEX = frozenset("(,=:[!&|?{};")
_ONLY_WITH = re.compile(r"\s*//\?\s*([a-z]+)(\s*\{)?\s*$")
_END = re.compile(r"\s*//\?\s*\}\s*$")


def with_features(source: str, features: AbstractSet[str]) -> str:
    """`source` without what only other features need.

    A line that ends in `//? name`, and the lines from `//? name {` to the `//? }` that belongs to it, stay where
    `name` is among `features`. Raises ValueError for a block that is not closed.
    """
    kept: list[str] = []
    open_blocks: list[bool] = []
    for line in source.splitlines():
        if _END.match(line):
            if not open_blocks:
                raise ValueError("a block is closed that was not opened")
            open_blocks.pop()
            continue
        marked = _ONLY_WITH.search(line)
        if marked is not None and marked[2]:
            open_blocks.append(marked[1] in features)
        elif all(open_blocks) and (marked is None or marked[1] in features):
            kept.append(line[: marked.start()] if marked else line)
    if open_blocks:
        raise ValueError("a block is not closed")
    return "\n".join(kept) + "\n"


def squeezed(source: str) -> str:
    """The same program with fewer bytes.

    For source that ends every statement with a semicolon and holds no `/* */`, no `${}` and no regex after a `)`.
    """
    out: list[str] = []
    at = 0
    newline = blank = False
    last = ";"
    while at < len(source):
        regex = _REGEX.match(source, at) if last[-1] in _BEFORE_A_REGEX or last == "return" else None
        found = regex if regex is not None and not source.startswith("//", at) else _TOKEN.match(source, at)
        assert found is not None, f"no JavaScript of ours: {source[at : at + 20]!r}"
        at = found.end()
        kind = "regex" if found is regex else found.lastgroup
        if kind == "comment":
            continue
        if kind == "blank":
            newline, blank = newline or "\n" in found[0], True
            continue
        text = found[0]
        if newline and out and last[-1] in ";{}[,":
            out.append("\n")
        elif blank and (_are_words(last[-1], text[0]) or last == "from"):
            out.append(" ")
        out.append(text)
        last, newline, blank = text, False, False
    return "".join(out) + "\n"


def _are_words(one: str, other: str) -> bool:
    """Whether two characters would become one word, or one sign such as `++`, without a blank between them."""
    return (_is_word(one) and _is_word(other)) or (one == other and one in "+-")


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "_$"
