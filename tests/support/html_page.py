"""Reads a page strictly: every element closed in order, no id twice, no attribute twice, nothing inline."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
BLOCKS_IN_P = {"p", "div", "ul", "ol", "table", "section", "nav", "form", "h1", "h2", "h3", "h4"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page:
    """What a page holds, in order."""

    elements: list[Element] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        [element] = self.all(tag, **attributes)
        return element


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.open: list[Element] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        assert not any(name == "style" or name.startswith("on") for name in names), f"<{tag}> has something inline"
        element = Element(tag, {name: value or "" for name, value in attrs})
        if (identity := element.attributes.get("id")) is not None:
            assert identity not in self.ids, f"id {identity!r} twice"
            self.ids.add(identity)
        parents = [each.tag for each in self.open]
        assert not ("p" in parents and tag in BLOCKS_IN_P), f"<{tag}> inside <p>"
        assert not ("a" in parents and tag in {"a", "button"}), f"<{tag}> inside <a>"
        if tag == "li":
            assert parents[-1] in {"ul", "ol"}, f"<li> inside <{parents[-1]}>"
        self.page.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID, f"</{tag}>"
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def handle_comment(self, data: str) -> None:
        self.page.comments.append(data)


def read_page(text: str) -> Page:
    """The page, or an AssertionError that says what is wrong with it."""
    assert text.startswith("<!doctype html>")
    reader = _Strict()
    reader.feed(text)
    reader.close()
    assert not reader.open, f"not closed: {[each.tag for each in reader.open]}"
    for image in reader.page.all("img"):
        assert {"alt", "width", "height"} <= image.attributes.keys(), image
    headings = [int(each.tag[1]) for each in reader.page.elements if each.tag in {"h1", "h2", "h3", "h4"}]
    assert headings.count(1) == 1, f"one h1, not {headings.count(1)}"
    return reader.page
