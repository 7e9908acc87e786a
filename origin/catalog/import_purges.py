"""What an import purges: a few products by name, more of them by their departments, and everything shown else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from origin.events.messages import Event, MarketsReplaced, ProductListed, ProductsReplaced

MOST_NAMED: Final = 50
"""Products that an import may add or change and still name each of them."""


class Changed:
    """The products that an import has added or changed so far."""

    def __init__(self) -> None:
        self._named: list[ProductListed] = []
        self._count = 0
        self._departments: dict[str, None] = {}
        self._paths: dict[str, None] = {}
        self._nowhere = False
        """Whether one of them is or was in no category: no department covers it."""

    def add(self, slug: str, shown_as: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """One product. `shown_as`: its SKU with the paths of its categories and all above them, the first one's first:
        as it is now, and as it was before if it was there."""
        skus: dict[str, None] = {}
        every_path: dict[str, None] = {}
        for sku, paths in shown_as:
            skus[sku] = None
            every_path |= dict.fromkeys(paths)
            if paths:
                self._departments[paths[0]] = None
            else:
                self._nowhere = True
        self._paths |= every_path
        self._count += 1
        if self._count <= MOST_NAMED:
            self._named += [ProductListed(sku, slug, tuple(every_path)) for sku in skus]

    def events(self, *, beside: bool) -> list[Event]:
        """What happened, for the purge-log entry. `beside`: more than products changed, categories or rates."""
        if beside or (self._nowhere and self._count > MOST_NAMED):
            return [MarketsReplaced()]
        if self._count > MOST_NAMED:
            return [ProductsReplaced(tuple(self._departments), tuple(self._paths))]
        return list(self._named)
