"""SVG as a tree of function calls: whatever is not Markup already is text, and is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable

from markupsafe import Markup, escape

Child = Markup | str | None
"""None is left out."""


def join(children: Iterable[Child]) -> Markup:
    return Markup("").join(child for child in children if child is not None)


def el(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. `_` at the end of an attribute's name is dropped (`class_`), in the middle it is `-`; None is left
    out. Numbers are coordinates: a tenth of a pixel is enough of them."""
    written = Markup("").join(
        Markup(' {}="{}"').format(
            attribute.rstrip("_").replace("_", "-"), px(value) if isinstance(value, int | float) else value
        )
        for attribute, value in attributes.items()
        if value is not None
    )
    if not children:
        return Markup("<{}{}/>").format(name, written)
    return Markup("<{}{}>{}</{}>").format(name, written, join(children), name)


def px(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def path_of(points: Iterable[tuple[float, float] | None]) -> str:
    """The `d` of a line through points; None lifts the pen."""
    parts: list[str] = []
    pen = "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{px(point[0])} {px(point[1])}")
        pen = "L"
    return "".join(parts)


def text(x: float, y: float, content: str, *, look: str = "", anchor: str | None = None) -> Markup:
    return el("text", escape(content), x=x, y=y, class_=look or None, text_anchor=anchor)


def slug(words: str) -> str:
    """Words as the name of an element: the same words, the same name."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
