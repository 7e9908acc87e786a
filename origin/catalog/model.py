"""What the catalog's readers are given, and the words it is asked in. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from origin.errors import Conflict, NotFound

PAGE_SIZE: Final = 24
"""Products on one page of a listing: with their tags and the page's own it stays within 50."""


class Sort(StrEnum):
    """The orders of a listing, as `?sort=` spells them."""

    POPULAR = "popular"
    PRICE_UP = "price-up"
    PRICE_DOWN = "price-down"
    NAME = "name"
    NEWEST = "newest"

    @property
    def label(self) -> str:
        return _SORT_LABELS[self]

    @property
    def by_price(self) -> bool:
        return self in {Sort.PRICE_UP, Sort.PRICE_DOWN}


_SORT_LABELS: Final = {
    Sort.POPULAR: "Most loved",
    Sort.PRICE_UP: "Price, low to high",
    Sort.PRICE_DOWN: "Price, high to low",
    Sort.NAME: "Name",
    Sort.NEWEST: "Newest",
}


@dataclass(frozen=True, slots=True)
class Category:
    """A place in the shop. `path` is its address."""

    id: uuid.UUID
    name: str
    path: str
    level: int
    position: int

    @property
    def parent_path(self) -> str:
        return self.path.rpartition("/")[0]


class Tree:
    """The whole category tree, read in one go: a shop has hundreds of categories, not millions."""

    __slots__ = ("_by_path", "_children")

    def __init__(self, categories: Sequence[Category]) -> None:
        self._by_path = {category.path: category for category in categories}
        self._children: dict[str, list[Category]] = {}
        for category in sorted(categories, key=lambda known: (known.position, known.path)):
            self._children.setdefault(category.parent_path, []).append(category)

    def at(self, path: str) -> Category | None:
        return self._by_path.get(path)

    def departments(self) -> Sequence[Category]:
        """The categories without a parent, in their order."""
        return self._children.get("", ())

    def children(self, path: str) -> Sequence[Category]:
        return self._children.get(path, ())

    def trail(self, path: str) -> Sequence[Category]:
        """From the department down to the category at `path`, itself included."""
        return [category for ancestor in ancestors_of(path) if (category := self.at(ancestor)) is not None]

    def subtree(self, path: str) -> list[uuid.UUID]:
        """The ids of the category at `path` and of everything below it."""
        found, open_paths = [], [path]
        while open_paths:
            at = open_paths.pop()
            if (category := self.at(at)) is not None:
                found.append(category.id)
            open_paths.extend(child.path for child in self.children(at))
        return found

    def __len__(self) -> int:
        return len(self._by_path)


@dataclass(frozen=True, slots=True)
class Card:
    """What a listing shows of a product, apart from price and stock."""

    id: uuid.UUID
    sku: str
    slug: str
    name: str
    category_path: str
    """Of the first of its categories; empty when it has none."""
    colour: str
    """The product's first colour, or empty; the picture is drawn in it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One size or colour of a product."""

    sku: str
    options: Mapping[str, str]

    @property
    def label(self) -> str:
        """Its options in words, `Small, Sage`; the SKU when it has none."""
        return ", ".join(self.options.values()) or self.sku


@dataclass(frozen=True, slots=True)
class Product:
    """Everything that a product page shows, apart from price and stock."""

    id: uuid.UUID
    external_id: str
    sku: str
    slug: str
    name: str
    description: str
    """Plain text; an empty line separates paragraphs."""
    attributes: Mapping[str, Any]
    options: Sequence[Mapping[str, Any]]
    popularity: int
    version: int
    listed_at: datetime
    category_paths: Sequence[str]
    """The categories it is in, the breadcrumb's first; without their ancestors."""
    variants: Sequence[Variant]

    @property
    def card(self) -> Card:
        path = self.category_paths[0] if self.category_paths else ""
        return Card(self.id, self.sku, self.slug, self.name, path, first_colour(self.options, self.attributes))

    @property
    def paragraphs(self) -> list[str]:
        return [part for part in self.description.split("\n\n") if part.strip()]


@dataclass(frozen=True, slots=True)
class FoundProduct:
    """An answer to somebody who looks for a product by name or SKU. `sku` is the product's, also for a variant."""

    sku: str
    name: str
    slug: str


def ancestors_of(path: str) -> list[str]:
    """`a/b/c` -> `a`, `a/b`, `a/b/c`."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]


def with_ancestors(paths: Sequence[str]) -> tuple[str, ...]:
    """Every path with all above it, each once, the order kept."""
    return tuple(dict.fromkeys(ancestor for path in paths for ancestor in ancestors_of(path)))


def first_colour(options: Sequence[Mapping[str, Any]], attributes: Mapping[str, Any]) -> str:
    """The colour that a product is pictured in: the first of its options, else its attribute, else none."""
    for option in options:
        if option.get("name", "").lower() in {"colour", "color"} and option.get("values"):
            return str(option["values"][0])
    for name, value in attributes.items():
        if name.lower() in {"colour", "color"}:
            return str(value[0] if isinstance(value, list) and value else value)
    return ""


class UnknownProduct(NotFound):
    """No product has this SKU; a variant is in the shop as long as its product is."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"no product has the SKU {sku[:80]!r}; a variant goes with its product")


class AlreadySo(Conflict):
    """The product is in the shop, or out of it, already."""

    def __init__(self, sku: str, listed: bool) -> None:
        super().__init__(f"{sku} is {'in the shop' if listed else 'taken down'} already")
