"""One cache before one origin, as the interleavings see them: viewers, changes, and what a viewer was shown."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cache_policies.positions import PurgeKind
from loadtests.http1 import Connection, NoAnswer
from loadtests.interleavings.caches import AUTHORITY, Cache, Change, Told
from loadtests.interleavings.origin import Origin, Page
from loadtests.interleavings.table import Finding, Verdict

LONG = "max-age=300, stale-while-revalidate=300, stale-if-error=300"
"""What the origin says of most pages."""
OLD_ENOUGH_S = 2.1
"""After so long an answer with a lifetime of one second is stale, whatever fraction of a second a cache drops."""
ORDER_WITHIN_S = 5.0
"""How long somebody waits for a change to be reported done: twice a lease, and some more."""
UNSEEN_S = 0.2
"""How long a request is given to be read by a cache before what it must wait for is let go. When it takes longer it is
the request of somebody who came later, for whom the same holds."""
AT_ONCE_S = 0.7
"""Who is answered within this did not wait for an origin that says nothing meanwhile."""
PATIENCE_S = 20.0
"""How long a viewer waits."""
TRIES, PAUSE_S = 200, 0.05
"""How often something is looked at that must come about, and how long after one another."""

_PRICE = re.compile(rb'<data class="price" value="(\d+)">')


@dataclass(frozen=True, slots=True)
class Shown:
    """What one viewer was shown."""

    status: int
    """0: no complete answer."""
    price: int | None
    marked: bool
    """The page says itself that its price is being confirmed."""

    @property
    def is_current_price(self) -> bool:
        """Whether a price was presented as the current one."""
        return self.status == 200 and not self.marked


class Stage:
    """`name` is that of the interleaving that is played: its pages have addresses of their own."""

    def __init__(self, origin: Origin, cache: Cache, name: str) -> None:
        self.origin = origin
        self.cache = cache
        self.name = name

    # --- pages and viewers ---

    def page(
        self,
        name: str = "",
        *,
        lives: str = LONG,
        price: int | None = 1000,
        tag: str = "",
        bytes_long: int = 0,
    ) -> Page:
        slug = f"{self.name}{name}"
        tags = (f"p:eu-eur:{slug}", *((tag,) if tag else ()))
        return self.origin.page(f"/eu-eur/products/{slug}", tags, lives, price=price, bytes_long=bytes_long)

    def price_resource(self) -> Page:
        """JSON, in which nothing could say that a price is stale."""
        return self.origin.page(f"/api/v1/eu-eur/prices/{self.name}", (f"p:eu-eur:{self.name}",), LONG)

    async def ask(self, page: Page) -> Shown:
        """One viewer, over a connection of its own."""
        async with Connection(self.cache.url, PATIENCE_S, authority=AUTHORITY) as connection:
            try:
                answer = await connection.request("GET", page.path)
            except NoAnswer:
                return Shown(0, None, False)
        found = _PRICE.search(answer.body)
        return Shown(answer.status, int(found[1]) if found else None, b'class="notice"' in answer.body)

    def asking(self, page: Page) -> asyncio.Task[Shown]:
        return asyncio.create_task(self.ask(page))

    async def stored(self, page: Page) -> None:
        """`page` is in the cache: somebody was shown it, and the origin was not asked. Raises Vacuous."""
        for _ in range(TRIES):
            before = page.fetches
            if (await self.ask(page)).status == 200 and page.fetches == before:
                return
            await asyncio.sleep(PAUSE_S)
        raise Vacuous("it does not keep what it may keep")

    async def until_answered(self, page: Page) -> None:
        """The cache has found its origin again. Raises Vacuous when it does not."""
        for _ in range(TRIES):
            if (await self.ask(page)).status == 200:
                return
            await asyncio.sleep(PAUSE_S)
        raise Vacuous("it does not find its origin again")

    # --- changes ---

    def happens(self, page: Page, kind: PurgeKind = PurgeKind.HARD) -> Change:
        """The change alone; nobody has been told."""
        tag = page.tags[0]
        return Change((page,), tag, kind, self.origin.change([page], tag, kind))

    async def change(self, page: Page, within_s: float = ORDER_WITHIN_S, kind: PurgeKind = PurgeKind.HARD) -> Told:
        return await self.cache.tell(self.happens(page, kind), within_s)

    @contextlib.asynccontextmanager
    async def messages_lost(self) -> AsyncIterator[None]:
        """While in it, nothing that concerns purges gets to the cache or from it."""
        self.cache.orders_lost = True
        self.origin.lose_questions()
        try:
            yield
        finally:
            self.cache.orders_lost = self.origin.questions_lost = False

    @contextlib.asynccontextmanager
    async def outer(self) -> AsyncIterator[Stage]:
        """The same before a second tier, which asks this cache. Raises CannotStart."""
        with TemporaryDirectory(prefix="nearshelf-interleavings-") as folder:
            outer = self.cache.outer(Path(folder))
            await outer.start()
            try:
                yield Stage(self.origin, outer, self.name)
            finally:
                await outer.end()

    # --- what came of it ---

    def judged(self, page: Page, told: Told, shown: Sequence[Shown], *, may_refuse: bool = False) -> Finding:
        """Of viewers who all asked after `told` was known: may the promise be made of this cache?

        The last of them is to be shown the new price. `may_refuse`: or be refused, or be told that the price is being
        confirmed, where nobody can know it; no answer at all is none.
        """
        old = [each for each in shown if self._is_old(page, each)]
        last = shown[-1]
        seen = said_of(page, old[0] if old else last)
        if not old:
            right = last.is_current_price or (may_refuse and (last.status >= 500 or last.marked))
            return Finding(Verdict.HOLDS if right else Verdict.FAILS, f"{seen}; {told.words}")
        if told.done:
            return Finding(Verdict.FAILS, f"{seen}, after {told.words}")
        return Finding(Verdict.CANNOT, f"{seen}; {told.words}")

    def _is_old(self, page: Page, shown: Shown) -> bool:
        """Whether what was before the last change was presented as current; a 404 of what is listed is."""
        if page.prices[-2][1] is None:
            return shown.status == 404
        return shown.is_current_price and shown.price != page.price


class Vacuous(Exception):
    """What leads up to the interleaving did not come about, so nothing can be said."""


def said_of(page: Page, shown: Shown) -> str:
    if shown.status == 404:
        return "404, as before"
    if shown.status != 200:
        return "no answer" if shown.status == 0 else str(shown.status)
    if shown.price == page.price:
        return "new price"
    return "old price, marked as being confirmed" if shown.marked else "old price"
