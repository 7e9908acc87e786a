"""What the rows work with: the pairs of edges, and how much of a corpus is wanted."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.security.edges import RFC9111_EDGE, SHOP_EDGE, Kind, Pair, running_pair
from tests.security.oracle import Tally
from tests.security.routes import Route, routes_of

T = TypeVar("T")


@dataclass
class Lab:
    """`most`: cases of each row, chosen by chance from `seed`; None: all of them."""

    folder: Path
    shop: Pair
    rfc9111: Pair
    most: int | None = None
    seed: int = 1
    routes: dict[str, list[Route]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in (SHOP_EDGE, RFC9111_EDGE):
            self.routes.setdefault(kind.name, routes_of(kind))

    @property
    def pairs(self) -> tuple[Pair, Pair]:
        return self.shop, self.rfc9111

    def of(self, kind: Kind) -> list[Route]:
        return self.routes[kind.name]

    def route(self, name: str, kind: Kind = SHOP_EDGE) -> Route:
        return next(route for route in self.of(kind) if route.id == name)

    def some(self, cases: Sequence[T]) -> list[T]:
        """As many of `cases` as are wanted, the same for the same seed."""
        if self.most is None or len(cases) <= self.most:
            return list(cases)
        return random.Random(f"{self.seed}/{len(cases)}").sample(list(cases), self.most)

    @property
    def is_whole(self) -> bool:
        return self.most is None


Row = Callable[[Lab], Awaitable[list[Tally]]]


@contextlib.asynccontextmanager
async def laboratory(folder: Path, *, most: int | None = None, seed: int = 1) -> AsyncIterator[Lab]:
    async with running_pair(folder, SHOP_EDGE) as shop, running_pair(folder, RFC9111_EDGE) as rfc9111:
        yield Lab(folder, shop, rfc9111, most, seed)
