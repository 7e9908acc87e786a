"""From what merchants' files say to what a page can show: slugs, plain text, readable names. No I/O."""

from __future__ import annotations

import html
import re
import unicodedata
from html.parser import HTMLParser
from typing import Final

_NOT_SLUG: Final = re.compile(r"[^a-z0-9]+")
_BLANKS: Final = re.compile(r"[^\S\n]+")
_MANY_BREAKS: Final = re.compile(r"\n{3,}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028\u2029]")
_STRAY_STARS: Final = re.compile(r"^[\s*]+|[\s*]+$")
# Letters that Unicode does not take apart into a Latin letter and a mark.
_LATIN: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i"}
)

_BLOCKS: Final = frozenset(
    ("address", "blockquote", "div", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "section", "table", "ul")
)
_LINES: Final = frozenset({"br", "dd", "dt", "li", "tr"})
_UNSEEN: Final = frozenset({"head", "noscript", "script", "style", "template", "title"})


def slugify(text: str, longest: int = 120) -> str:
    """`text` in lower case ASCII letters, digits and single dashes, cut at a dash; may be empty."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(_LATIN)).replace("'", "").replace("’", "")
    slug = _NOT_SLUG.sub("-", plain.encode("ascii", "ignore").decode()).strip("-")
    if len(slug) <= longest:
        return slug
    return slug[: longest + 1].rpartition("-")[0].strip("-") or slug[:longest]


def tidy_name(text: str) -> str:
    """A name as a shop would print it: entities read, blanks single, stray stars gone, capitals calmed.

    A name without one lower case letter becomes title case ("VINTAGE PAPER BAG" -> "Vintage Paper Bag");
    words with digits and words of up to three letters without a vowel keep their capitals.
    """
    name = _BLANKS.sub(" ", _CONTROL.sub(" ", html.unescape(text).replace("\n", " ")))
    name = _STRAY_STARS.sub("", name)
    if any(character.islower() for character in name) or not any(character.isupper() for character in name):
        return name[:1].upper() + name[1:]
    words = [_calm(word, first=at == 0) for at, word in enumerate(name.split(" "))]
    return " ".join(words)


def _calm(word: str, *, first: bool) -> str:
    if any(character.isdigit() for character in word) or (len(word) <= 3 and not set(word) & set("AEIOUY")):
        return word
    if not first and word in {"A", "AND", "AT", "BY", "FOR", "FROM", "IN", "OF", "ON", "OR", "THE", "TO", "WITH"}:
        return word.lower()
    return "-".join(part[:1] + part[1:].lower() for part in word.split("-"))


def plain_text(text: str) -> str:
    """A description without its markup: paragraphs separated by an empty line, list items and breaks by a new line.

    Tags are dropped and entities read; what scripts and styles hold is not text. A bare `<` stays what it is.
    """
    if "<" in text:
        reader = _TextOnly()
        reader.feed(text)
        reader.close()
        text = "".join(reader.parts)
    else:
        text = html.unescape(text)
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    lines = [_BLANKS.sub(" ", line).strip() for line in text.split("\n")]
    return _MANY_BREAKS.sub("\n\n", "\n".join(lines)).strip()


class _TextOnly(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _BLOCKS:
            self.parts.append("\n\n")
        elif tag in _LINES:
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LINES:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            # In HTML a line break in the text is a blank.
            self.parts.append(data.replace("\n", " "))
