"""Shoppers who look where prices have just changed, at every edge, and note whatever they are told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtests import people
from loadtests.bodies import AnotherBody, Bodies
from loadtests.chaos.history import Event, Other, Seen
from loadtests.http1 import Answer, Connection, NoAnswer
from loadtests.oracle import PriceKey
from loadtests.people import Kind, Visit
from loadtests.reading import cache_status

RECONNECT_AFTER = 100
"""Requests on one connection; the next may land on the edge's other worker."""
PATIENCE_S = 6.0
"""For one answer: an edge may wait for its origin, which may be frozen."""
PAUSE_S = 0.05
"""After a request that failed."""
HEADS, CONDITIONAL = 0.05, 0.30
"""Shares of the requests: HEAD; with If-None-Match, where there is something to name."""
REMEMBERED_ETAGS = 500
LAST_CONNECTIONS = 6
"""Over which each edge is asked for every price at the end."""
PAGES = frozenset({Kind.HOME, Kind.CATEGORY, Kind.PRODUCT})


@dataclass(frozen=True, slots=True)
class Street:
    """Where watched prices are shown."""

    front: people.ShopFront
    keys: Sequence[PriceKey]

    def visit(self, key: PriceKey, rng: random.Random) -> Visit:
        """One of the places that show a price."""
        item = next(item for item in self.front.products if item.sku == key.sku)
        choices = [
            people.price(key.market, key.sku),
            people.product(key.market, item.slug),
            people.api_product(key.market, key.sku),
        ]
        if item.categories:
            choices.append(people.listing(key.market, rng.choice(item.categories), rng.choice(self.front.sorts)))
        return rng.choice(choices)

    def about(self) -> Mapping[str, PriceKey]:
        """Target -> the price that is shown there whatever else is: listings have pages, and show others as well."""
        slugs = {item.sku: item.slug for item in self.front.products}
        return {
            visit.target: key
            for key in self.keys
            for visit in (people.price(*key), people.api_product(*key), people.product(key.market, slugs[key.sku]))
        }


class Readers:
    """All shoppers of a session. `recent`: prices that changed last."""

    def __init__(
        self,
        edges: Mapping[str, str],
        street: Street,
        *,
        seed: int,
        connections: int,
        rate: float,
        note: Callable[[Event], None],
        began_at: float,
        recent: Sequence[PriceKey],
    ) -> None:
        """`connections`: to each edge. `rate`: of all together, a second."""
        self._note = note
        self._began_at = began_at
        self._street = street
        self._recent = recent
        self._pause_s = len(edges) * connections / rate
        self._places = {key: place for place, key in enumerate(street.keys)}
        self._bodies = Bodies(self._places)
        self._about = street.about()
        self._rng = random.Random(f"readers {seed}")
        self._all = [
            Reader(self, edge, url, random.Random(f"reader {seed} {edge} {number}"))
            for edge, url in edges.items()
            for number in range(connections)
        ]

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reader in self._all:
                group.create_task(reader.run(self._pause_s))

    async def look_everywhere(self, edge: str, url: str, expected: Mapping[PriceKey, int]) -> list[str]:
        """Ask an edge for each of these prices once more: in the API, and at one of the places that show it, there by
        HEAD as well; over a few connections, since it has a few workers. What is another than expected, or not there.
        """
        keys = list(expected)
        lines = [self._look(edge, url, keys[first::LAST_CONNECTIONS], expected) for first in range(LAST_CONNECTIONS)]
        return [text for found in await asyncio.gather(*lines) for text in found]

    async def _look(self, edge: str, url: str, keys: Sequence[PriceKey], expected: Mapping[PriceKey, int]) -> list[str]:
        wrong = []
        async with Connection(url, timeout_s=PATIENCE_S) as connection:
            for key in keys:
                place = self._street.visit(key, self._rng)
                for method, visit in (
                    ("GET", people.price(key.market, key.sku)),
                    ("GET", place),
                    ("HEAD", place),
                ):
                    try:
                        answer = await connection.request(method, visit.target, {"Accept": "*/*"})
                    except NoAnswer as exc:
                        wrong.append(str(exc))
                        continue
                    text = _amiss(method, visit, answer, self.answered(edge, method, visit, answer), key, expected)
                    if text:
                        wrong.append(f"{method} {visit.target}: {text}")
        return wrong

    def tell(self, key: PriceKey) -> None:
        """A change was just reported live: everybody looks there next."""
        for reader in self._all:
            reader.news.append(self._street.visit(key, self._rng))

    def somewhere(self, rng: random.Random) -> Visit:
        """Where a watched price is shown, often one that changed a moment ago."""
        key = rng.choice(self._recent) if self._recent and rng.random() < 0.6 else rng.choice(self._street.keys)
        return self._street.visit(key, rng)

    def answered(self, edge: str, method: str, visit: Visit, answer: Answer) -> Mapping[PriceKey, int] | None:
        """Note a complete answer; the watched prices that it shows as current. None: it calls none of them current, or
        hides them."""
        at, sent, page = answer.received_at - self._began_at, answer.sent_at - self._began_at, visit.kind in PAGES
        try:
            shown = self._bodies.shown(method, visit, answer)
            what = "marked" if shown is None else self._missing(method, visit, answer, dict(shown))
        except ValueError as exc:
            shown, what = exc.shown if isinstance(exc, AnotherBody) else None, f"unreadable: {exc}"
        if shown:
            prices = tuple((self._places[key], amount) for key, amount in shown)
            self._note(Seen(at, sent, edge, visit.target, prices, str(cache_status(answer.headers))))
        if what or not shown:
            self._note(Other(at, sent, edge, visit.target, answer.status, page, what))
        return None if shown is None else dict(shown)

    def _missing(self, method: str, visit: Visit, answer: Answer, shown: Mapping[PriceKey, int]) -> str:
        """`unreadable`, where an answer lacks the price that it is about: it was cut short, say; else empty."""
        key = self._about.get(visit.target) if method == "GET" and answer.status == 200 else None
        return "" if key is None or key in shown else f"unreadable: {key.sku} ({key.market}) is not shown"

    def failed(self, edge: str, visit: Visit, sent_at: float) -> None:
        """Note that there was no complete answer."""
        now = time.monotonic() - self._began_at
        self._note(Other(now, sent_at - self._began_at, edge, visit.target, 0, visit.kind in PAGES, ""))


def _amiss(
    method: str,
    visit: Visit,
    answer: Answer,
    shown: Mapping[PriceKey, int] | None,
    key: PriceKey,
    expected: Mapping[PriceKey, int],
) -> str:
    """What is wrong with an answer in a shop that is whole, where a price is looked for; empty: nothing."""
    if answer.status != 200:
        return f"status {answer.status}"
    if shown is None:
        return "its prices are being confirmed, or cannot be read"
    for each, amount in shown.items():
        if amount != expected.get(each, amount):
            return f"{each.sku} ({each.market}) is {amount}, confirmed was {expected[each]}"
    # On another page of the listing, perhaps; and a HEAD may name a body that nobody has read.
    if key not in shown and method == "GET" and visit.kind is not Kind.CATEGORY:
        return f"{key.sku} ({key.market}) is not shown"
    return ""


class Reader:
    """One connection to one edge at a time."""

    def __init__(self, readers: Readers, edge: str, url: str, rng: random.Random) -> None:
        self._readers = readers
        self._edge = edge
        self._url = url
        self._rng = rng
        self._etags: OrderedDict[str, str] = OrderedDict()
        self.news: deque[Visit] = deque(maxlen=8)

    async def run(self, pause_s: float) -> None:
        """Read until cancelled."""
        while True:
            async with Connection(self._url, timeout_s=PATIENCE_S) as connection:
                for _ in range(RECONNECT_AFTER):
                    begun = time.monotonic()
                    visit = self.news.popleft() if self.news else self._readers.somewhere(self._rng)
                    await self._one(connection, visit)
                    rest_s = begun + self._rng.uniform(0.5, 1.5) * pause_s - time.monotonic()
                    # Who has news does not rest: the moment after live is what is being watched.
                    if rest_s > 0 and not self.news:
                        await asyncio.sleep(rest_s)

    async def _one(self, connection: Connection, visit: Visit) -> None:
        method, headers = "GET", {"Accept": "*/*"}
        roll = self._rng.random()
        known = self._etags.get(visit.target)
        if roll < HEADS:
            method = "HEAD"
        elif roll < HEADS + CONDITIONAL and known is not None:
            headers["If-None-Match"] = known
        sent_at = time.monotonic()
        try:
            answer = await connection.request(method, visit.target, headers)
        except NoAnswer:
            self._readers.failed(self._edge, visit, sent_at)
            await asyncio.sleep(PAUSE_S)
            return
        if answer.status == 200 and method == "GET" and "etag" in answer.headers:
            self._etags[visit.target] = answer.headers["etag"]
            self._etags.move_to_end(visit.target)
            if len(self._etags) > REMEMBERED_ETAGS:
                self._etags.popitem(last=False)
        self._readers.answered(self._edge, method, visit, answer)
