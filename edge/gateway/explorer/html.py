"""HTML as a tree of function calls: whatever is not Html already is text, and is escaped. There is no other way in."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "input", "link", "meta"})


class Html(str):
    """Text that is HTML already. Made by `tag` and `join` alone."""

    __slots__ = ()


Content = Html | str | int | float | None
"""None is left out."""


def text_of(content: Content) -> Html:
    if content is None:
        return Html("")
    return content if isinstance(content, Html) else Html(escape(str(content)))


def join(contents: Iterable[Content], between: str = "") -> Html:
    return Html(escape(between).join([text_of(content) for content in contents]))


def tag(name: str, /, *contents: Content, **attributes: str | int | bool | None) -> Html:
    """An element. Attributes: `_` at the end is dropped (`class_`), in the middle it is `-`; True stands alone, None
    and False are left out."""
    written = "".join(
        f" {attribute.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for attribute, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(contents)}</{name}>")
